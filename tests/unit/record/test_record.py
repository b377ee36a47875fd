"""The account of a finished request and of a mark that comes after it."""

import pytest

from gateway.accounting.feedback import AnswerMemory
from gateway.core.clock import Stage
from gateway.core.context import Caller, Decision, Reason
from gateway.core.errors import UpstreamUnavailableError
from gateway.core.judgement import Judgement
from gateway.core.step import IN_STEP
from gateway.record import AnswerRecord, Feedback, Recorder, RouterRecord, Tray, chance_of
from gateway.routing.routes import build_routes
from gateway.settings.feedback import FeedbackSettings
from gateway.settings.root import Settings
from gateway.settings.routes import PolicySettings, RouteSettings, TrialSettings
from gateway.stores.memory import MemoryStore
from tests.builders import decided_context, ladder, model

JUDGED = Judgement(0.2, weak_chance=0.6, strong_chance=0.9)


class RouterMetrics:
    def __init__(self):
        self.marks, self.judged, self.shadowed, self.dropped, self.seconds = [], [], [], [], []

    def count_mark(self, *labels):
        self.marks.append(labels)

    def count_judged(self, *labels):
        self.judged.append(labels)

    def count_shadow(self, *labels):
        self.shadowed.append(labels)

    def count_dropped(self, router):
        self.dropped.append(router)

    def observe_shadow(self, router, seconds):
        self.seconds.append((router, seconds))


class Watch:
    def __init__(self, version="v1"):
        self.version = version
        self.seen, self.marks = [], []

    def observe(self, judgement):
        self.seen.append(judgement)

    def mark(self, *facts):
        self.marks.append(facts)


class Shadows:
    """Shadows that judge at once."""

    def __init__(self):
        self.is_full = False

    def offer(self, router, judge, conversation, told):
        if not self.is_full:
            told(judge.judge_blocking(conversation), 0.25)
        return not self.is_full


class Shadow:
    def __init__(self, judgement):
        self.judgement = judgement

    def judge_blocking(self, conversation):
        return self.judgement


class Office:
    """A recorder and its feedback, over fakes."""

    def __init__(self, shadow=None, **trials):
        self.metrics, self.watches, self.fail_open = RouterMetrics(), {"default": Watch(), "next": Watch()}, []
        self.measured, self.shadows = [], Shadows()
        self.answers = AnswerMemory(MemoryStore(100), FeedbackSettings(), lambda: self.fail_open.append("feedback"))
        models = {"small": model(), "large": model()}
        route = RouteSettings(("small", "large"), PolicySettings(routers=trials))
        routes = build_routes(Settings(models=models, routes={"auto": route}))
        watch_of = self.watches.get
        routers = RouterRecord(routes, {"next": Shadow(shadow)}, watch_of, self.metrics, self.shadows)
        answers = AnswerRecord(self.answers, watch_of)
        parts = {"metrics": self.measured.append, "routers": routers.record, "feedback": answers.record}
        self.recorder = Recorder(parts, self.fail_open.append)
        self.feedback = Feedback(self.answers, self.metrics, watch_of)

    @property
    def watch(self):
        return self.watches["default"]


def finished(**facts):
    ctx = decided_context(**{"model": "small", "router": "default", "judgement": JUDGED, **facts})
    ctx.stopwatch.durations_s[Stage.CLASSIFY] = 1e-4
    return ctx


@pytest.fixture
async def office():
    found = Office()
    yield found
    await found.feedback.close()


async def test_a_finished_request_is_measured_watched_and_remembered(office):
    office.recorder.record([finished()])
    assert len(office.measured) == 1
    assert office.metrics.judged == [("auto", "default", "main", "weak")]
    assert office.watch.seen == [JUDGED]
    marked = await office.feedback.take("client:me", "req-1", 0.0)
    assert (marked.answered.model, marked.answered.tier, marked.answered.route) == ("small", "weak", "auto")
    assert office.metrics.marks == [("auto", "small", "weak", 0.0)]
    assert office.watch.marks == [("weak", pytest.approx(0.6), 0.0)]


async def test_a_judgement_that_came_with_a_cached_answer_is_no_live_traffic(office):
    ctx = finished()
    del ctx.stopwatch.durations_s[Stage.CLASSIFY]
    office.recorder.record([ctx])
    assert (office.watch.seen, office.metrics.judged) == ([], [])


@pytest.mark.parametrize(
    ("facts", "judged"),
    [
        ({"judgement": None}, [("auto", "default", "main", None)]),
        ({"decision": None}, []),
        ({"router": None}, []),
        ({"router": "unwatched"}, [("auto", "unwatched", "share", "weak")]),
    ],
)
async def test_what_nobody_judged_or_decided_is_watched_by_nobody(office, facts, judged):
    office.recorder.record([finished(**facts)])
    assert (office.watch.seen, office.metrics.judged) == ([], judged)


@pytest.mark.parametrize("facts", [{"judgement": None}, {"router": None}, {"router": "unwatched"}])
async def test_a_mark_counts_where_no_router_gave_a_chance_but_tells_nothing_of_routers(office, facts):
    office.recorder.record([finished(**facts)])
    await office.feedback.take("client:me", "req-1", 1.0)
    assert (office.watch.marks, len(office.metrics.marks)) == ([], 1)


async def test_a_router_that_decides_for_a_share_is_counted_as_such():
    office = Office(next=TrialSettings(share=0.5))
    office.recorder.record([finished(router="next", judgement=Judgement(0.5))])
    assert office.metrics.judged == [("auto", "next", "share", "strong")]
    assert (len(office.watches["next"].seen), office.watch.seen) == (1, [])


@pytest.mark.parametrize(
    ("live", "shadow", "told"),
    [
        (JUDGED, Judgement(0.3), ("weak", "weak")),
        (JUDGED, Judgement(0.9), ("strong", "weak")),
        (JUDGED, None, (None, "weak")),
        (None, Judgement(0.9), ("strong", None)),
    ],
)
async def test_a_shadow_is_set_against_what_was_decided(live, shadow, told):
    office = Office(shadow, next=TrialSettings(shadow=True))
    office.recorder.record([finished(judgement=live)])
    assert office.metrics.shadowed == [("auto", "next", *told)]
    assert office.metrics.seconds == [("next", 0.25)]
    assert office.watches["next"].seen == ([] if shadow is None else [shadow])


async def test_a_shadow_that_lags_is_counted_and_costs_nothing_else():
    office = Office(JUDGED, next=TrialSettings(shadow=True))
    office.shadows.is_full = True
    office.recorder.record([finished()])
    assert (office.metrics.dropped, office.metrics.shadowed, office.fail_open) == (["next"], [], [])


async def test_a_route_that_knows_no_threshold_has_no_sides():
    decision = Decision("small", Reason.PINNED, None, ())
    office = Office(JUDGED, next=TrialSettings(shadow=True))
    office.recorder.record([finished(decision=decision)])
    assert office.metrics.judged == [("auto", "default", "main", None)]


NO_ANSWER = ({"failure": UpstreamUnavailableError("away")}, {"model": None}, {"is_cancelled": True})


@pytest.mark.parametrize("facts", NO_ANSWER)
async def test_a_request_without_an_answer_cannot_be_marked(office, facts):
    office.recorder.record([finished(**facts)])
    assert office.answers._pending == {}


async def test_only_the_first_mark_counts(office):
    office.recorder.record([finished()])
    assert (await office.feedback.take("client:me", "req-1", 1.0)).previous is None
    assert (await office.feedback.take("client:me", "req-1", 0.0)).previous == 1.0
    assert [mark for *_, mark in office.metrics.marks] == [1.0]
    assert len(office.watch.marks) == 1


async def test_a_mark_says_nothing_of_a_version_that_did_not_judge_it(office):
    office.recorder.record([finished()])
    office.watch.version = "v2"
    await office.feedback.take("client:me", "req-1", 1.0)
    assert (len(office.metrics.marks), office.watch.marks) == (1, [])


async def test_a_fallback_from_outside_the_ladder_has_no_tier_and_no_chance(office):
    office.recorder.record([finished(model="elsewhere")])
    marked = await office.feedback.take("client:me", "req-1", 1.0)
    assert (marked.answered.tier, marked.answered.chance, office.watch.marks) == (None, None, [])


async def test_each_part_fails_open_by_itself(office):
    broken = Recorder({"metrics": lambda _: 1 / 0, **office.recorder.parts, "last": lambda _: 1 / 0},
                      office.fail_open.append)  # fmt: skip
    broken.record([finished()])
    assert office.fail_open == ["last"]
    Recorder(
        {"metrics": lambda _: 1 / 0, "feedback": office.recorder.parts["feedback"]}, office.fail_open.append
    ).record([finished()])
    assert office.fail_open == ["last", "metrics"]
    assert (await office.feedback.take("client:me", "req-1", 1.0)).mark == 1.0


async def test_an_anonymous_answer_is_marked_by_its_own_stranger(office):
    office.recorder.record([finished(caller=Caller("anonymous", "stranger:"))])
    assert (await office.feedback.take("stranger:", "req-1", 1.0)).mark == 1.0
    office.recorder.record([finished(caller=None)])
    assert (await office.feedback.take("", "req-1", 1.0)).mark == 1.0


def test_the_chance_is_that_of_the_models_ability():
    rungs = ladder("small", "medium", "large")
    found = [chance_of(finished(ladder=rungs, model=model), model) for model in rungs.models]
    assert found[0] == pytest.approx(0.6)
    assert found[0] < found[1] < found[2] == pytest.approx(0.9)
    assert chance_of(finished(judgement=Judgement(0.2)), "small") is None


async def test_what_ends_in_one_turn_is_taken_down_together_part_by_part_after_it():
    taken = []
    parts = {name: lambda ctx, name=name: taken.append((name, ctx.request_id)) for name in ("metrics", "log")}
    at_once = Recorder({"session": lambda ctx: taken.append(("session", ctx.request_id))}, taken.append)
    tray = Tray(at_once, Recorder(parts, taken.append))
    first, second, third = (decided_context() for _ in range(3))
    first.request_id, second.request_id, third.request_id = "req-0", "req-1", "req-2"
    tray.put(first)
    tray.put(second)
    assert taken == [("session", "req-0"), ("session", "req-1")]
    await IN_STEP
    assert taken[2:] == [("metrics", "req-0"), ("metrics", "req-1"), ("log", "req-0"), ("log", "req-1")]
    tray.put(third)
    await IN_STEP
    assert taken[6:] == [("session", "req-2"), ("metrics", "req-2"), ("log", "req-2")]


def fail():
    raise UpstreamUnavailableError("gone")


async def test_a_failure_is_cut_loose_from_the_request_once_it_is_taken_down():
    seen = []
    log = Recorder({"log": lambda ctx: seen.append(ctx.failure.__traceback__ is not None)}, seen.append)
    tray = Tray(Recorder({}, seen.append), log)
    ctx = decided_context()
    with pytest.raises(UpstreamUnavailableError) as caught:
        fail()
    ctx.failure = failure = caught.value
    tray.put(ctx)
    await IN_STEP
    assert (seen, ctx.failure, failure.__traceback__) == ([True], None, None)
