import json
import random

import pytest

from gateway.backends.engine import Sampling
from gateway.backends.onnx.inbox import MAX_TOGETHER, Inbox
from gateway.backends.onnx.lanes import BatchLane, Model, SoloLane, Turn, TurnError, lanes_for, warm_up
from gateway.backends.onnx.wire import Begin, Failed, Fault, Options
from tests.tiny_model import FOR_EVER

PROMPTS = ["hello", "what is not known yet, and what is?", "a", "measure before you choose " * 5, "so"]
CALL = {
    "type": "object",
    "properties": {
        "name": {"enum": ["door", "window"]},
        "count": {"type": "integer"},
        "note": {"type": "string", "pattern": "^[\\u4e00-\\u9fff]{4}$"},
    },
    "required": ["name", "count", "note"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(tiny):
    return Model(Options(str(tiny), threads=1))


def turn(model, prompt="hello", *, number=1, is_streaming=True, max_tokens=30, **sampling):
    return Turn(model, Begin(number, prompt, Sampling(max_tokens, **sampling), is_streaming))


def run(lanes, steps=3000):
    """What is told of each task until all is done."""
    lanes = list(lanes)
    told = {}
    for _ in range(steps):
        for lane in lanes:
            lane.step(lambda report: told.setdefault(report.task, []).append(report))
        lanes = [lane for lane in lanes if lane.turns]
    return told


def answer(model, *args, **sampling):
    """The whole text, and the last report."""
    failed = []
    lanes = list(lanes_for(model, [turn(model, *args, **sampling)], failed.append))
    reports = failed or run(lanes)[1]
    return "".join(report.text for report in reports), reports[-1]


def test_the_window_is_what_the_models_folder_says(model):
    assert model.window_tokens == 2048


def test_turns_in_one_engine_say_what_each_says_alone(model):
    alone = [answer(model, prompt, temperature=0.0)[0] for prompt in PROMPTS]
    turns = [turn(model, prompt, number=place, temperature=0.0) for place, prompt in enumerate(PROMPTS)]
    lanes = list(lanes_for(model, turns, pytest.fail))
    assert [len(lane.turns) for lane in lanes] == [MAX_TOGETHER, 1]
    told = run(lanes)
    assert ["".join(report.text for report in told[place]) for place in range(len(PROMPTS))] == alone
    assert len(set(alone)) == len(PROMPTS)


def test_a_newcomer_speaks_while_others_do(model):
    told = {}
    tell = lambda report: told.setdefault(report.task, []).append(report)  # noqa: E731
    first, second = BatchLane(model), BatchLane(model)
    first.begin(turn(model, number=1, **FOR_EVER, max_tokens=500))
    for _ in range(5):
        first.step(tell)
    second.begin(turn(model, number=2, **FOR_EVER, max_tokens=500))
    for _ in range(3):
        first.step(tell)
        second.step(tell)
    assert (len(told[1]), len(told[2])) == (8, 3)


def test_a_dropped_turn_says_no_more_and_the_others_do(model):
    lane, told = BatchLane(model), {}
    turns = [turn(model, number=place, **FOR_EVER) for place in range(3)]
    for one in turns:
        lane.begin(one)
    lane.step(lambda report: None)
    lane.drop(turns[1])
    assert len(lane.turns) == 2
    told = run([lane])
    assert {place: reports[-1].finish_reason for place, reports in told.items()} == {0: "length", 2: "length"}


def test_a_dropped_turn_is_not_computed_any_more(model):
    lane = BatchLane(model)
    kept, dropped = turn(model, number=1, max_tokens=3), turn(model, number=2, **FOR_EVER, max_tokens=1000)
    lane.begin(kept)
    lane.begin(dropped)
    lane.step(lambda report: None)
    requests = [entry[1] for entry in lane._live]  # not let go: the engine would stop what nobody holds
    lane.drop(dropped)
    run([lane])
    assert requests
    assert not lane._engine.has_pending_requests()


def test_counts_are_true_and_told_once(model):
    prompt = model.vocabulary.encode("hello there")
    told = run(lanes_for(model, [turn(model, "hello there", max_tokens=7, **FOR_EVER)], pytest.fail))[1]
    assert sum(report.token_count for report in told) == 7
    assert [report.prompt_tokens for report in told] == [None] * (len(told) - 1) + [len(prompt)]
    assert [report.finish_reason for report in told] == [None] * (len(told) - 1) + ["length"]


@pytest.mark.parametrize("seed", [None, 5])
def test_what_is_not_streamed_is_told_at_once(model, seed):
    lanes = list(lanes_for(model, [turn(model, is_streaming=False, seed=seed, min_tokens=10)], pytest.fail))
    (whole,) = run(lanes)[1]
    assert whole.text
    assert whole.token_count >= 10


@pytest.mark.parametrize("seed", [None, 5])
def test_an_answer_that_ends_by_itself_stops(model, seed):
    _, last = answer(model, seed=seed, max_tokens=2000)
    assert last.finish_reason == "stop"


@pytest.mark.parametrize("seed", [None, 5])
def test_a_stop_string_ends_an_answer_before_it(model, seed):
    whole, _ = answer(model, seed=seed, temperature=0.0)
    stop = whole[5:9]
    turns = [turn(model, seed=seed, temperature=0.0, stop=(stop, "never said"))]
    reports = run(lanes_for(model, turns, pytest.fail))[1]
    assert "".join(report.text for report in reports) == whole[: whole.index(stop)]
    assert reports[-1].finish_reason == "stop"
    assert sum(report.token_count for report in reports) < 10


def test_the_same_seed_says_the_same_and_another_something_else(model):
    said = [answer(model, seed=seed, min_tokens=10)[0] for seed in (7, 7, 8, -1, -1, 2**63, 2**63)]
    assert said[0] == said[1] != said[2]
    assert said[3] == said[4]
    assert said[5] == said[6]
    unseeded = {answer(model, min_tokens=10)[0] for _ in range(4)}
    assert len(unseeded) == 4


@pytest.mark.parametrize("is_seeded", [True, False])
def test_what_makes_the_choice_certain_makes_the_answer_the_same(model, is_seeded):
    seeds = iter(range(10)) if is_seeded else iter([None] * 10)
    greedy = {
        answer(model, seed=next(seeds), **choice)[0]
        for choice in (
            {"temperature": 0.0},
            {"temperature": 0.0, "top_p": 0.9},
            {"top_k": 1},
            {"top_p": 0.0},
            {"top_p": 1e-5},
        )
    }
    assert len(greedy) == 1
    assert answer(model, seed=next(seeds), temperature=0.0, repetition_penalty=2.0)[0] not in greedy
    assert len({answer(model, seed=next(seeds), temperature=1.5, top_k=-1, top_p=0.99)[0] for _ in range(3)}) == 3


@pytest.mark.parametrize("seed", [None, 5])
def test_a_schema_is_followed_by_a_model_of_random_weights(model, seed):
    for _ in range(10):
        text, last = answer(model, seed=seed, max_tokens=400, min_tokens=300, schema=json.dumps(CALL).encode())
        assert last.finish_reason == "stop"
        told = json.loads(text)
        assert json.dumps(told, ensure_ascii=False) == text, "no blanks but between"
        assert set(told) == {"name", "count", "note"}
        assert told["name"] in {"door", "window"}
        assert len(told["note"]) == 4


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"schema": b'{"type": "nonsense"}'}, "nonsense"),
        ({"schema": b"{"}, "not JSON"),
        ({"schema": b'{"type": "array", "items": {"type": "null"}, "maxItems": 10001}'}, "maxItems"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan"), "seed": 1}, "temperature"),
        ({"top_p": 1.1, "seed": 1}, "top_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": 0.0, "seed": 1}, "repetition_penalty"),
    ],
)
def test_what_the_model_does_not_take_is_the_requests_fault(model, asked, says):
    failed = []
    lanes = list(lanes_for(model, [turn(model, **asked)], failed.append))
    assert not any(lane.turns for lane in lanes)
    (found,) = failed
    assert found.fault is Fault.REQUEST
    assert says in found.message


def test_a_prompt_must_leave_room_for_an_answer_and_the_answer_fills_it(model):
    token = " measure"
    with pytest.raises(TurnError) as caught:
        turn(model, token * 2048)
    assert caught.value.fault is Fault.WINDOW
    assert turn(model, token * 2040, max_tokens=100).max_tokens == 8
    _, last = answer(model, token * 2040, max_tokens=100, temperature=0.0, min_tokens=100)
    assert (last.finish_reason, last.prompt_tokens) == ("length", 2040)


def test_a_prompt_without_a_token_is_the_requests_fault(model):
    with pytest.raises(TurnError) as caught:
        turn(model, "")
    assert caught.value.fault is Fault.REQUEST


@pytest.mark.parametrize("seed", [None, 5])
def test_a_model_that_breaks_fails_its_turns_without_telling_their_text(model, seed):
    one = turn(model, "hello", seed=seed)
    one.prompt = [99_999]
    (lane,) = lanes_for(model, [one], pytest.fail)
    assert run([lane], steps=3)[1] == [Failed(1, Fault.MODEL, "The model failed to compute.")]
    assert not lane.turns


def test_a_solo_lane_is_empty_once_its_turn_is_dropped(model):
    one = turn(model, seed=1)
    lane = SoloLane(model, one)
    lane.drop(one)
    assert not lane.turns
    assert run([lane], steps=2) == {}


def test_in_a_crowd_engines_are_shared(model):
    """Were places given one by one, 1.1 tokens would come of an engine's step."""
    inbox, lengths, lanes = Inbox(max_batch=8), random.Random(1), []
    for number in range(40):
        count = lengths.randint(10, 60)
        inbox.put(Begin(number, "hello", Sampling(count, temperature=0.0, min_tokens=count)))
    finished = tokens = steps = 0
    while finished < 40:
        begun, _ = inbox.take(sum(len(lane.turns) for lane in lanes))
        lanes = [lane for lane in lanes if lane.turns]
        lanes += lanes_for(model, [Turn(model, begin) for begin in begun], pytest.fail)
        told = []
        for lane in lanes:
            lane.step(told.append)
        steps += len(lanes)
        tokens += sum(report.token_count for report in told)
        finished += sum(report.finish_reason is not None for report in told)
    assert tokens / steps > 2


def test_a_model_that_loads_and_does_not_compute_is_found_by_warming_it_up(tiny):
    model = Model(Options(str(tiny), threads=1))
    warm_up(model)
    model.vocabulary.encode = lambda prompt: [99_999]
    with pytest.raises(RuntimeError, match="computes nothing"):
        warm_up(model)
