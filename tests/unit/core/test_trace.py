"""W3C's trace context: what is read of it, and that nothing else gets through."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.headers import read_headers
from gateway.core.trace import Trace, read_parent, trace_headers

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOUND = f"00-{TRACE}-{SPAN}-01"
hex_ids = st.text("0123456789abcdef", min_size=32, max_size=32).filter(lambda text: text.strip("0"))
span_ids = st.text("0123456789abcdef", min_size=16, max_size=16).filter(lambda text: text.strip("0"))


@given(hex_ids, span_ids, st.integers(0, 255))
def test_what_is_written_is_read_again(trace_id, span_id, flags):
    headers = trace_headers(trace_id, span_id, flags, "a=1")
    parent = read_parent(headers)
    assert (parent.trace_id, parent.span_id, parent.flags, parent.state) == (trace_id, span_id, flags & 3, "a=1")
    assert parent.is_sampled is bool(flags & 1)


@given(st.text())
def test_no_text_breaks_the_reading_and_what_is_read_is_hex(text):
    for headers in ({"traceparent": text}, {"traceparent": SOUND, "tracestate": text}):
        parent = read_parent(headers)
        if parent is not None:
            assert re.fullmatch(r"[0-9a-f]{32}", parent.trace_id)
            assert re.fullmatch(r"[0-9a-f]{16}", parent.span_id)
            assert parent.state.isascii()
            assert not parent.state or parent.state.isprintable()


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        SOUND.upper(),
        SOUND[:-1],
        SOUND + "0",
        f"{SOUND}-more",
        f"{SOUND}\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"0g-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"{SOUND},{SOUND}",
        f"01-{TRACE}-{SPAN}-01more",
    ],
)
def test_what_the_standard_does_not_allow_is_no_parent(given):
    assert read_parent({"traceparent": given, "tracestate": "a=1"}) is None


def test_a_later_version_is_read_as_far_as_it_is_known():
    parent = read_parent({"traceparent": f" 42-{TRACE}-{SPAN}-ff-what-comes-later\t"})
    assert (parent.trace_id, parent.span_id, parent.flags) == (TRACE, SPAN, 3)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a=1", "a=1"),
        ("a=1 ,\t,b@c=2 3", "a=1,b@c=2 3"),
        ("a=" + "x" * 256, "a=" + "x" * 256),
        ("a=" + "x" * 257, ""),
        (",".join(f"k{n}={n}" for n in range(32)), ",".join(f"k{n}={n}" for n in range(32))),
        (",".join(f"k{n}={n}" for n in range(33)), ""),
        ("a=" + ",b=".join("x" * 170 for _ in range(3)), ""),
        ("A=1", ""),
        ("a=1=2", ""),
        ("a", ""),
        ("a=1\r\nx-evil: 1", ""),
        ("a=é", ""),
    ],
)
def test_a_state_goes_on_whole_or_not_at_all(given, kept):
    assert read_parent({"traceparent": SOUND, "tracestate": given}).state == kept


@given(st.text(string.printable))
def test_a_state_never_holds_the_end_of_a_line(text):
    assert not set(read_parent({"traceparent": SOUND, "tracestate": text}).state) & set("\r\n\t\x0b\x0c")


def test_a_state_without_a_parent_says_nothing():
    assert read_parent({"tracestate": "a=1"}) is None


def test_an_attempt_that_nobody_records_has_no_span_and_passes_the_parent_on():
    trace = Trace(TRACE, SPAN, 0, "a=1")
    assert trace.begin("small", "http://h/v1") is None
    assert trace.headers() == {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "a=1"}


async def test_an_attempts_end_is_its_first_close():
    trace = Trace(TRACE, SPAN, 1, is_recorded=True, draw_id=lambda: "b" * 16)
    attempt = trace.begin("small", "http://h/v1")
    closed = []

    async def close():
        closed.append(attempt.ended_s)

    end = attempt.answer(close, lambda: ["stop"])
    assert (attempt.outcome, attempt.ended_s, attempt.finish_reasons) == ("ok", None, ())
    await end()
    await end()
    assert closed == [attempt.ended_s] * 2
    assert attempt.began_s <= attempt.answered_s <= attempt.ended_s
    assert attempt.finish_reasons == ["stop"]


def test_of_several_parents_none_is_read_and_several_lines_of_state_are_one():
    raw = [(b"traceparent", SOUND.encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    parent = read_parent(read_headers(raw))
    assert (parent.trace_id, parent.state) == (TRACE, "a=1,b=2")
    assert read_parent(read_headers([*raw, raw[0]])) is None
