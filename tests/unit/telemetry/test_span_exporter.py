"""How spans get to a collector: bounded, in batches, tried again, and never in a request's way."""

import asyncio

import pytest

from gateway.telemetry import span_exporter
from gateway.telemetry.span_exporter import BATCH_SPANS, UNREACHABLE, SpanExporter, Told
from gateway.telemetry.spans import Kind, Span

SPAN = Span("auth", Kind.INTERNAL, b"b" * 8, b"", 1, 2)


class Batch:
    def __init__(self):
        self.span_count = 0

    def add(self, trace_id, spans):
        self.span_count += len(spans)

    def encode(self):
        return b"%d" % self.span_count


class Encoding:
    content_type = "text/plain"
    rejected = 0

    def open_batch(self):
        return Batch()

    def count_rejected(self, answer):
        return self.rejected


class Office:
    """An exporter, what it sent and what it counted. `answers`: one a request, the last one for all others."""

    def __init__(self, *answers, max_queued_spans=10_000):
        self.answers = list(answers) or [Told(200)]
        self.sent, self.counts, self.encoding = [], {}, Encoding()
        self.exporter = SpanExporter(self.encoding, self.send, self.count, max_queued_spans)

    async def send(self, body):
        self.sent.append(int(body))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.Event().wait()
        return answer

    def count(self, outcome, spans):
        self.counts[outcome] = self.counts.get(outcome, 0) + spans

    def offer(self, spans=1):
        self.exporter.offer("a" * 32, [SPAN] * spans)

    async def until(self, count):
        async with asyncio.timeout(5):
            while sum(self.counts.values()) < count:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(span_exporter, "BATCH_S", 0.02)
    monkeypatch.setattr(span_exporter, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(span_exporter, "LAST_PAUSE_S", 0.02)


async def test_spans_wait_for_others_but_not_for_long():
    office = Office()
    for _ in range(3):
        office.offer(4)
    assert not office.sent
    await office.until(12)
    assert (office.sent, office.counts) == ([12], {"exported": 12})
    await office.exporter.close()


async def test_a_full_batch_is_sent_at_once():
    office = Office()
    office.offer(BATCH_SPANS)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert office.sent == [BATCH_SPANS]
    await office.exporter.close()


async def test_what_finds_no_room_is_dropped_whole_and_counted():
    office = Office(None, max_queued_spans=10)
    office.offer(6)
    office.offer(6)
    office.offer(4)
    assert office.counts == {"queue_full": 6}
    await asyncio.sleep(0.05)
    assert office.sent == [10]


async def test_room_is_free_again_once_spans_are_sent():
    office = Office(max_queued_spans=6)
    for _ in range(3):
        office.offer(6)
        await office.until(6)
        office.counts.clear()
    assert office.sent == [6, 6, 6]
    await office.exporter.close()


@pytest.mark.parametrize("status", [UNREACHABLE, 429, 502, 503, 504])
async def test_what_may_pass_is_tried_again(status):
    office = Office(Told(status), Told(status), Told(200))
    office.offer(2)
    await office.until(2)
    assert (office.sent, office.counts) == ([2, 2, 2], {"exported": 2})
    await office.exporter.close()


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500])
async def test_what_will_not_pass_is_dropped(status):
    office = Office(Told(status), Told(200))
    office.offer(2)
    await office.until(2)
    assert (office.sent, office.counts) == ([2], {"collector": 2})
    await office.exporter.close()


async def test_a_batch_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(span_exporter, "GIVE_UP_S", 0.03)
    office = Office(Told(503))
    office.offer(2)
    await office.until(2)
    assert office.counts == {"collector": 2}
    assert 2 <= len(office.sent) < 10
    await office.exporter.close()


async def test_a_collector_says_when_it_wants_to_be_asked_again():
    office = Office(Told(503, wait_s=0.2), Told(200))
    office.offer()
    await asyncio.sleep(0.1)
    assert len(office.sent) == 1
    await office.until(1)
    await office.exporter.close()


async def test_a_collector_can_not_ask_to_be_asked_without_end(monkeypatch):
    """`Retry-After: 0` with every refusal had one batch sent 6,000 times a second."""
    monkeypatch.setattr(span_exporter, "GIVE_UP_S", 0.1)
    office = Office(Told(429, wait_s=0.0))
    office.offer(3)
    await office.until(3)
    assert len(office.sent) < 12
    await office.exporter.close()


async def test_spans_that_a_collector_did_not_take_are_not_counted_as_taken():
    office = Office()
    office.encoding.rejected = 3
    office.offer(5)
    await office.until(5)
    assert office.counts == {"exported": 2, "collector": 3}
    await office.exporter.close()


async def test_closing_sends_what_is_left_also_what_was_under_way():
    office = Office(None, Told(200))
    office.offer(BATCH_SPANS)
    await asyncio.sleep(0.01)
    office.offer(2)
    await office.exporter.close()
    assert office.sent == [BATCH_SPANS, BATCH_SPANS, 2]
    assert office.counts == {"exported": BATCH_SPANS + 2}
    office.offer(3)
    assert office.counts["stopped"] == 3


@pytest.mark.parametrize("answer", [None, Told(503)], ids=["hangs", "fails"])
async def test_closing_does_not_wait_for_a_collector_that_is_away(answer, monkeypatch):
    monkeypatch.setattr(span_exporter, "FLUSH_S", 0.05)
    office = Office(answer)
    office.offer(2)
    async with asyncio.timeout(1):
        await office.exporter.close()
    assert office.counts == {"stopped": 2}


async def test_closing_what_never_had_a_span_does_nothing():
    office = Office()
    await office.exporter.close()
    assert (office.sent, sum(office.counts.values())) == ([], 0)


async def test_a_collectors_failing_is_logged_once_and_so_is_its_return(monkeypatch):
    events = []
    monkeypatch.setattr(span_exporter, "log", lambda event, **fields: events.append((event, fields.get("problem"))))
    office = Office(Told(503), Told(UNREACHABLE), Told(200))
    office.offer()
    await office.until(1)
    office.offer()
    await office.until(2)
    assert events == [("tracing_failing", "status 503"), ("tracing_recovered", None)]
    await office.exporter.close()
