"""Who is recorded, and spans of what a whole gateway seldom shows."""

import pytest

from gateway.core.clock import LapRecorder, Stage, Stopwatch
from gateway.core.context import Caller
from gateway.core.errors import MethodError
from gateway.settings.models import BackendKind
from gateway.settings.tracing import TracingSettings
from gateway.telemetry.spans import Kind
from gateway.telemetry.traces import PROVIDERS, Tracer, pass_on
from tests.builders import FakeClock, context, decided_context, model

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def parent(flags="01", trace_id=TRACE):
    return {"traceparent": f"00-{trace_id}-{SPAN}-{flags}", "tracestate": "v=1"}


class Office:
    def __init__(self, **settings):
        self.offered = []
        self.tracer = Tracer(TracingSettings(**settings), {"small": model()}, self.offer)

    def offer(self, trace_id, spans):
        self.offered.append((trace_id, {span.name: span for span in spans}))

    def begun(self, headers=None, **facts):
        ctx = context(**facts)
        self.tracer.begin(ctx, headers or {})
        return ctx


@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("flags", [None, "00", "01"])
def test_who_is_recorded(follows, ratio, flags):
    ctx = Office(sample_ratio=ratio, follow_parent=follows).begun(parent(flags) if flags else None)
    is_recorded = flags == "01" if follows and flags else ratio == 1.0
    assert ctx.trace.is_recorded is is_recorded
    assert isinstance(ctx.stopwatch, LapRecorder) is is_recorded
    if flags is None:
        assert (ctx.trace.trace_id != TRACE, ctx.trace.parent_id, ctx.trace.flags) == (True, "", int(is_recorded))
    elif is_recorded:
        assert (ctx.trace.trace_id, ctx.trace.parent_id, ctx.trace.flags & 1) == (TRACE, SPAN, 1)
        assert ctx.trace.span_id != SPAN
    else:
        assert ctx.trace.headers() == parent(flags)


def test_all_who_see_a_trace_decide_alike_and_the_share_holds():
    one, other = Office(sample_ratio=0.25, follow_parent=False), Office(sample_ratio=0.25, follow_parent=False)
    ids = [one.begun().trace.trace_id for _ in range(4_000)]
    verdicts = [office.begun(parent("00", trace_id)).trace.is_recorded for trace_id in ids for office in (one, other)]
    assert verdicts[::2] == verdicts[1::2]
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.3


def test_what_is_not_recorded_is_not_told():
    office = Office(sample_ratio=0)
    ctx = office.begun()
    ctx.stopwatch.stop()
    office.tracer.record(ctx)
    off = context()
    pass_on(off, parent())
    office.tracer.record(off)
    office.tracer.record(context())
    assert not office.offered


def test_off_a_trace_is_passed_on_and_garbage_is_not():
    ctx = context()
    pass_on(ctx, parent("00"))
    assert ctx.trace.headers() == parent("00")
    for headers in ({}, {"traceparent": "garbage", "tracestate": "v=1"}):
        ctx = context()
        pass_on(ctx, headers)
        assert ctx.trace is None


def test_a_caller_and_who_pays_are_told_by_their_names_in_the_configuration():
    office = Office()
    ctx = office.begun(caller=Caller("alice", "client:alice", team="search"))
    ctx.stopwatch.stop()
    office.tracer.record(ctx)
    ((_, spans),) = office.offered
    attributes = spans["POST /v1/chat/completions"].attributes
    assert (attributes["postern.caller"], attributes["postern.team"]) == ("alice", "search")


def test_a_method_that_is_none_here_is_not_told():
    office = Office()
    ctx = office.begun(failure=MethodError("Use POST here."))
    ctx.stopwatch.stop()
    office.tracer.record(ctx)
    ((_, spans),) = office.offered
    (root,) = spans.values()
    assert (root.name, root.kind) == ("HTTP /v1/chat/completions", Kind.SERVER)
    assert root.attributes["http.request.method"] == "_OTHER"
    assert root.attributes["http.response.status_code"] == 405


def test_stages_lie_where_they_were_and_the_gaps_between_are_nobodys():
    clock = FakeClock(5.0)
    office = Office()
    ctx = decided_context(stopwatch=Stopwatch(clock))
    clock.pass_s(1)
    office.tracer.begin(ctx, {})
    clock.pass_s(1)
    ctx.stopwatch.lap(Stage.AUTH)
    clock.pass_s(2)
    ctx.stopwatch.skip()
    clock.pass_s(3)
    ctx.stopwatch.lap(Stage.GATEWAY, "receive")
    clock.pass_s(4)
    ctx.stopwatch.lap(Stage.GATEWAY)
    ctx.stopwatch.stop()
    office.tracer.record(ctx)
    ((_, spans),) = office.offered
    began_ns = ctx.trace.began_ns
    at = {name: ((one.began_ns - began_ns) / 1e9, (one.ended_ns - began_ns) / 1e9) for name, one in spans.items()}
    assert at == {
        "POST /v1/chat/completions": (0, pytest.approx(11)),
        "auth": (pytest.approx(0), pytest.approx(2)),
        "receive": (pytest.approx(4), pytest.approx(7)),
    }
    assert ctx.stopwatch.durations_s == {Stage.AUTH: 2.0, Stage.GATEWAY: 7.0}


def test_an_answer_given_up_by_the_pipeline_still_ends_its_call():
    office = Office()
    ctx = office.begun(is_cancelled=True)
    attempt = ctx.trace.begin("gone", "grpc://h:8001")
    ctx.stopwatch.stop()
    office.tracer.record(ctx)
    ((_, spans),) = office.offered
    span = spans["chat gone"]
    assert span.ended_ns >= span.began_ns
    assert span.attributes["error.type"] == "cancelled"
    assert (span.attributes["server.address"], span.attributes["server.port"]) == ("h", 8001)
    assert "gen_ai.provider.name" not in span.attributes
    assert attempt.ended_s is None


def test_every_kind_of_backend_is_a_provider():
    assert set(PROVIDERS) == set(BackendKind)
