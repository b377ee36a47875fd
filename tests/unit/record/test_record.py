"""The account of a finished request and of a mark that comes after it."""

import pytest

from gateway.accounting.feedback import AnswerMemory
from gateway.core.clock import Stage
from gateway.core.context import Caller
from gateway.core.errors import UpstreamUnavailableError
from gateway.core.judgement import Judgement
from gateway.record import Feedback, Recorder, chance_of
from gateway.settings.feedback import FeedbackSettings
from gateway.stores.memory import MemoryStore
from tests.builders import decided_context, ladder

JUDGED = Judgement(0.2, weak_chance=0.6, strong_chance=0.9)


class Metrics:
    def __init__(self):
        self.recorded, self.marks, self.fault = [], [], None

    def record(self, ctx):
        if self.fault is not None:
            raise self.fault
        self.recorded.append(ctx)

    def count_mark(self, *labels):
        self.marks.append(labels)


class Watch:
    def __init__(self, version="v1"):
        self.version = version
        self.seen, self.marks = [], []

    def observe(self, judgement):
        self.seen.append(judgement)

    def mark(self, *facts):
        self.marks.append(facts)


class Office:
    """A recorder and its feedback, over fakes."""

    def __init__(self):
        self.metrics, self.watch, self.fail_open = Metrics(), Watch(), []
        self.answers = AnswerMemory(MemoryStore(100), FeedbackSettings(), lambda: self.fail_open.append("feedback"))
        watches = {"default": self.watch}
        self.recorder = Recorder(self.metrics, watches.get, self.answers, self.fail_open.append)
        self.feedback = Feedback(self.answers, self.metrics, watches.get)


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
    office.recorder.record(finished())
    assert len(office.metrics.recorded) == 1
    assert office.watch.seen == [JUDGED]
    marked = await office.feedback.take("client:me", "req-1", 0.0)
    assert (marked.answered.model, marked.answered.tier, marked.answered.route) == ("small", "weak", "auto")
    assert office.metrics.marks == [("auto", "small", "weak", 0.0)]
    assert office.watch.marks == [("weak", pytest.approx(0.6), 0.0)]


async def test_a_judgement_that_came_with_a_cached_answer_is_no_live_traffic(office):
    ctx = finished()
    del ctx.stopwatch.durations_s[Stage.CLASSIFY]
    office.recorder.record(ctx)
    assert office.watch.seen == []


@pytest.mark.parametrize("facts", [{"judgement": None}, {"router": None}, {"router": "unwatched"}])
async def test_what_nobody_judged_is_watched_by_nobody(office, facts):
    office.recorder.record(finished(**facts))
    assert office.watch.seen == []
    await office.feedback.take("client:me", "req-1", 1.0)
    assert office.watch.marks == []
    assert len(office.metrics.marks) == 1


@pytest.mark.parametrize(
    "facts", [{"failure": UpstreamUnavailableError("away")}, {"model": None}, {"is_cancelled": True}]
)
async def test_a_request_without_an_answer_cannot_be_marked(office, facts):
    office.recorder.record(finished(**facts))
    assert office.answers._pending == {}


async def test_only_the_first_mark_counts(office):
    office.recorder.record(finished())
    assert (await office.feedback.take("client:me", "req-1", 1.0)).previous is None
    assert (await office.feedback.take("client:me", "req-1", 0.0)).previous == 1.0
    assert [mark for *_, mark in office.metrics.marks] == [1.0]
    assert len(office.watch.marks) == 1


async def test_a_mark_says_nothing_of_a_version_that_did_not_judge_it(office):
    office.recorder.record(finished())
    office.watch.version = "v2"
    await office.feedback.take("client:me", "req-1", 1.0)
    assert (len(office.metrics.marks), office.watch.marks) == (1, [])


async def test_a_fallback_from_outside_the_ladder_has_no_tier_and_no_chance(office):
    office.recorder.record(finished(model="elsewhere"))
    marked = await office.feedback.take("client:me", "req-1", 1.0)
    assert (marked.answered.tier, marked.answered.chance, office.watch.marks) == (None, None, [])


async def test_each_part_fails_open_by_itself(office):
    office.metrics.fault = ValueError("no such label")
    office.recorder.record(finished())
    assert office.fail_open == ["metrics"]
    assert (await office.feedback.take("client:me", "req-1", 1.0)).mark == 1.0
    office.metrics.fault = None
    office.answers.remember = lambda _: 1 / 0
    office.recorder.record(finished())
    assert office.fail_open == ["metrics", "feedback"]
    assert len(office.metrics.recorded) == 1


async def test_feedback_that_is_turned_off_remembers_nothing():
    office = Office()
    Recorder(office.metrics, lambda _: None, None, office.fail_open.append).record(finished(caller=None))
    assert (len(office.metrics.recorded), office.fail_open, office.answers._pending) == (1, [], {})


async def test_an_anonymous_answer_is_marked_by_its_own_stranger(office):
    office.recorder.record(finished(caller=Caller("anonymous", "stranger:")))
    assert (await office.feedback.take("stranger:", "req-1", 1.0)).mark == 1.0


def test_the_chance_is_that_of_the_models_ability():
    rungs = ladder("small", "medium", "large")
    found = [chance_of(finished(ladder=rungs, model=model), model) for model in rungs.models]
    assert found[0] == pytest.approx(0.6)
    assert found[0] < found[1] < found[2] == pytest.approx(0.9)
    assert chance_of(finished(judgement=Judgement(0.2)), "small") is None
