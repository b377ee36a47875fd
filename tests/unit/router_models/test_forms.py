"""Each published form, on tiny samples of ours: columns as their publishers name them."""

import gzip
import json
import pickle

import msgspec
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from gateway.schema.conversation import Turn
from gateway.telemetry.learning_log import FeedbackRow, RequestRow
from router_models.data import DataError, Pair, load, load_prompts

PAIR = Pair(("small",), ("large",))
BATTLES = [
    {"id": 1, "model_a": "small", "model_b": "large", "prompt": '["hi", "and then?"]', "response_a": '["x"]',
     "response_b": '["y"]', "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
    {"id": 2, "model_a": "large", "model_b": "small", "prompt": '["tie\\nhere"]', "response_a": "[null]",
     "response_b": '["y"]', "winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1},
    {"id": 3, "model_a": "small", "model_b": "other", "prompt": '["no pair"]', "response_a": '["x"]',
     "response_b": '["y"]', "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
    {"id": 4, "model_a": "small", "model_b": "large", "prompt": '["weak wins"]', "response_a": '["x"]',
     "response_b": '["y"]', "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
]  # fmt: skip
BENCH = [
    {"sample_id": "mmlu.1", "prompt": "['Which?']", "eval_name": "mmlu", "small": 0.0, "large": 1.0, "other": 0.5,
     "small|model_response": "A", "large|model_response": "B", "other|model_response": "C",
     "small|total_cost": 1e-5, "large|total_cost": 1e-3, "other|total_cost": 1e-4,
     "oracle_model_to_route_to": "large"},
    {"sample_id": "gsm8k.2", "prompt": "How many?", "eval_name": "gsm8k", "small": 1.0, "large": 1.0, "other": 0.0,
     "small|model_response": "A", "large|model_response": "B", "other|model_response": "C",
     "small|total_cost": 2e-5, "large|total_cost": 2e-3, "other|total_cost": 1e-4,
     "oracle_model_to_route_to": "small"},
]  # fmt: skip
JUDGED = [
    {"prompt": "easy", "source": ["ShareGPT"], "gpt4_response": "a", "mixtral_response": "b", "mixtral_score": 5},
    {"prompt": "hard", "source": ["ShareGPT"], "gpt4_response": "a", "mixtral_response": "b", "mixtral_score": 2},
]


def as_parquet(path, rows):
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_csv(path, rows):
    csv.write_csv(pa.Table.from_pylist(rows), path)
    return path


def as_jsonl(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def as_gzip(path, rows):
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


FILES = [(as_parquet, "x.parquet"), (as_csv, "x.csv"), (as_jsonl, "x.jsonl"), (as_gzip, "x.jsonl.gz")]


@pytest.mark.parametrize(("write", "name"), [one for one in FILES if one[0] is not as_csv])
def test_judged_prompts_take_gpt4_as_the_strong_side(tmp_path, write, name):
    easy, hard = load(write(tmp_path / name, JUDGED))
    assert (easy.weak, easy.strong, easy.win, easy.bench) == (1.0, 1.0, 0.0, "ShareGPT")
    assert (hard.weak, hard.strong, hard.win, hard.prompt) == (0.25, 1.0, 1.0, "hard")


@pytest.mark.parametrize(("write", "name"), FILES)
def test_battles_of_a_pair_are_cut_out_whichever_side_each_stood_on(tmp_path, write, name):
    first, tie, weak_wins = load(write(tmp_path / name, BATTLES), PAIR)
    assert (first.prompt, first.weak, first.strong, first.win) == ("and then?", 0.0, 1.0, 1.0)
    assert (tie.prompt, tie.weak, tie.strong, tie.win) == ("tie\nhere", 0.5, 0.5, 0.0)
    assert (weak_wins.weak, weak_wins.strong, weak_wins.win) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("write", "name"), FILES)
def test_routerbench_gives_scores_and_costs_of_the_pair(tmp_path, write, name):
    first, second = load(write(tmp_path / name, BENCH), PAIR)
    assert (first.prompt, first.bench, first.weak, first.strong, first.win) == ("Which?", "mmlu", 0.0, 1.0, 1.0)
    assert (first.weak_cost_usd, first.strong_cost_usd) == (pytest.approx(1e-5), pytest.approx(1e-3))
    assert (second.prompt, second.win) == ("How many?", 0.0)


def test_several_models_on_a_side_are_averaged(tmp_path):
    first, _ = load(as_parquet(tmp_path / "x.parquet", BENCH), Pair(("small", "other"), ("large",)))
    assert (first.weak, first.win, first.weak_cost_usd) == (0.25, 1.0, pytest.approx(5.5e-5))


@pytest.mark.parametrize("rows", [BATTLES, BENCH])
def test_many_models_without_a_pair_name_the_models(tmp_path, rows):
    path = as_jsonl(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match=r"--weak MODEL --strong MODEL, of: .*large") as told:
        load(path)
    assert "small" in str(told.value)
    with pytest.raises(DataError, match=r"of: .*small"):
        load(path, Pair(("small",), ("unheard-of",)))


@pytest.mark.parametrize("change", [{"mixtral_score": 0}, {"mixtral_score": None}, {"prompt": None}])
def test_a_judged_row_out_of_bounds_is_named(tmp_path, change):
    with pytest.raises(DataError, match=r"x\.jsonl:2: "):
        load(as_jsonl(tmp_path / "x.jsonl", [JUDGED[0], JUDGED[1] | change]))


@pytest.mark.parametrize("rows", [BATTLES, BENCH])
@pytest.mark.parametrize("prompt", [None, 5, "[]"])
def test_a_row_without_a_prompt_is_named(tmp_path, rows, prompt):
    bad = [rows[0] | {"prompt": prompt}]
    with pytest.raises(DataError, match=r"x\.jsonl:1: expected a `prompt`"):
        load(as_jsonl(tmp_path / "x.jsonl", bad), PAIR)


def test_a_prompt_that_only_looks_like_a_list_is_taken_as_it_stands(tmp_path):
    rows = [BENCH[0] | {"prompt": "[1, 2"}, BENCH[1] | {"prompt": "[a](b) is a link"}]
    assert [one.prompt for one in load(as_jsonl(tmp_path / "x.jsonl", rows), PAIR)] == ["[1, 2", "[a](b) is a link"]


def test_a_row_of_routerbench_without_a_score_is_left_out(tmp_path):
    assert len(load(as_jsonl(tmp_path / "x.jsonl", [BENCH[0], BENCH[1] | {"large": None}]), PAIR)) == 1


def test_a_score_over_one_is_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.jsonl:2: .*scores from 0 to 1"):
        load(as_jsonl(tmp_path / "x.jsonl", [BENCH[0], BENCH[1] | {"large": 10.0}]), PAIR)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(JUDGED[0]).encode() + b"\r\n" + json.dumps(JUDGED[1]).encode())
    assert len(load(path)) == 2


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_pickle_is_never_read(tmp_path):
    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"to_csv"):
        load(path)


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.jsonl", "x.jsonl.gz"])
def test_what_is_no_such_file_is_a_message(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x00\xff\x00")
    with pytest.raises(DataError, match=name):
        load(path)


def test_own_rows_may_tell_scores_of_many_models_domain_language_and_costs(tmp_path):
    rows = [
        {"prompt": "a", "scores": {"small": 0.2, "large": 0.9, "other": 0.5}, "domain": "math", "language": "de",
         "weak_cost_usd": 1e-6, "strong_cost_usd": 1e-4},
        {"prompt": "b", "scores": {"small": 0.2}},
    ]  # fmt: skip
    (found,) = load(as_jsonl(tmp_path / "x.jsonl", rows), PAIR)
    assert (found.weak, found.strong, found.win) == (0.2, 0.9, 1.0)
    assert (found.domain, found.language, found.weak_cost_usd, found.strong_cost_usd) == ("math", "de", 1e-6, 1e-4)
    with pytest.raises(DataError, match=r"x\.jsonl:1: name a pair .* large, other, small"):
        load(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match=r"no row has scores of both sides; .* of: small, large, other"):
        load(tmp_path / "x.jsonl", Pair(("x",), ("large",)))


def test_own_rows_may_be_parquet_with_nulls_for_what_they_lack(tmp_path):
    rows = [{"prompt": "a", "weak": 0.0, "strong": 1.0, "scores": None, "bench": None},
            {"prompt": "b", "weak": 1.0, "strong": 1.0, "scores": {"x": 0.5}, "bench": "y"}]  # fmt: skip
    first, second = load(as_parquet(tmp_path / "x.parquet", rows))
    assert (first.prompt, first.bench, first.win, second.bench) == ("a", "own", 1.0, "y")


def test_a_conversation_is_read_whole_and_its_last_user_turn_is_the_prompt(tmp_path):
    messages = [{"role": "user", "content": "plan"}, {"role": "assistant", "content": "ok"},
                {"role": "user", "content": [{"type": "text", "text": "go on"}]}]  # fmt: skip
    path = as_jsonl(tmp_path / "x.jsonl", [{"messages": messages, "weak": 0, "strong": 1}])
    (found,) = load(path)
    assert found.prompt == "go on"
    assert [turn.text for turn in found.asked.turns] == ["plan", "ok", "go on"]
    assert load_prompts(path) == [found.asked]


@pytest.mark.parametrize("row", [{"messages": []}, {"messages": [{}]}, {"prompt": 5}, {}])
def test_what_was_not_asked_is_named(tmp_path, row):
    path = as_jsonl(tmp_path / "x.jsonl", [row | {"weak": 0, "strong": 1}])
    for read in (load, load_prompts):
        with pytest.raises(DataError, match=r"x\.jsonl:1: "):
            read(path)


def test_prompts_need_no_scores(tmp_path):
    found = load_prompts(as_jsonl(tmp_path / "x.jsonl", [{"prompt": "a"}, {"prompt": "b", "weak": 7}]))
    assert [one.turns for one in found] == [(Turn("user", "a"),), (Turn("user", "b"),)]


def test_the_pool_gives_any_pair_of_its_models_and_a_subject(tmp_path):
    row = {"source": "mmlu_pro", "bench": "mmlu_pro/law", "id": "1", "prompt": "p", "weak": 0.0, "strong": 0.0,
           "scores": json.dumps({"gemma-7b": 0.0, "Qwen1.5-110B": 1.0})}  # fmt: skip
    path = as_parquet(tmp_path / "x.parquet", [row])
    (found,) = load(path, Pair(("gemma-7b",), ("Qwen1.5-110B",)))
    assert (found.win, found.domain, found.strong) == (1.0, "law", 1.0)
    with pytest.raises(DataError, match=r"of: gemma-7b, Qwen1\.5-110B"):
        load(path, PAIR)


def log_of(marks, tier="weak", start=0, prompt="p"):
    rows = []
    for number, mark in enumerate(marks, start):
        rows.append({"kind": "request", "request_id": f"r{number}", "tier": tier, "model": f"m-{tier}",
                     "route": "auto", "router": "default", "score": 0.4, "prompt": f"{prompt}{number}"})  # fmt: skip
        if mark is not None:
            rows.append({"kind": "feedback", "request_id": f"r{number}", "mark": mark})
    return rows


def test_a_log_sets_weak_marks_against_the_mean_of_the_strong_side(tmp_path):
    rows = log_of([1.0, 0.0, None]) + log_of([1.0] * 15 + [0.6] * 5, "strong", 100)
    path = as_jsonl(tmp_path / "x.jsonl", rows)
    good, bad = load(path)
    assert (good.weak, good.strong, good.win) == (1.0, pytest.approx(0.9), 0.0)
    assert (bad.weak, bad.win, bad.source) == (0.0, pytest.approx(0.9), "log")
    assert load(path, Pair(("m-weak",), ("m-strong",))) == [good, bad]
    assert len(load_prompts(path)) == 23


def test_a_prompt_that_both_sides_answered_counts_by_its_own_marks(tmp_path):
    both = [
        *log_of([0.5]),
        {"kind": "request", "request_id": "s", "tier": "strong", "prompt": "p0"},
        {"kind": "feedback", "request_id": "s", "mark": 1},
    ]
    (found,) = load(as_jsonl(tmp_path / "x.jsonl", both + log_of([0.2] * 19, "strong", 100)))
    assert (found.weak, found.strong, found.win) == (0.5, 1.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (log_of([None, None]), "no answer of the weak side has a mark"),
        (log_of([1.0] * 5), "0 marks of the strong side, 20 are needed"),
        (log_of([7]), "expected a `mark` from 0 to 1"),
        ([*log_of([1.0]), {"kind": "request", "request_id": "r0", "tier": "weak", "messages": [{}]}], r"x\.jsonl:3: "),
    ],
)
def test_a_log_that_teaches_nothing_says_why(tmp_path, rows, told):
    with pytest.raises(DataError, match=told):
        load(as_jsonl(tmp_path / "x.jsonl", rows))


def test_ids_in_a_log_are_each_tenants_own_and_the_last_mark_stands(tmp_path):
    both = [
        {"kind": "request", "tenant": tenant, "request_id": "same", "tier": "weak", "prompt": f"of {tenant}"}
        for tenant in ("a", "b")
    ] + [
        {"kind": "feedback", "tenant": "a", "request_id": "same", "mark": 0.0},
        {"kind": "feedback", "tenant": "a", "request_id": "same", "mark": 1.0},
    ]
    (found,) = load(as_jsonl(tmp_path / "x.jsonl", both + log_of([1.0] * 20, "strong", 100)))
    assert (found.prompt, found.weak) == ("of a", 1.0)


def test_what_the_gateway_writes_is_read(tmp_path):
    rows = []
    for number in range(21):
        tier = "strong" if number else "weak"
        messages = [{"role": "user", "content": f"p{number}"}]
        rows += [
            RequestRow(time=1.0, tenant="t", request_id=f"r{number}", route="auto", model="m", tier=tier,
                       prompt_tokens=1, completion_tokens=2, messages=messages),
            FeedbackRow(time=2.0, tenant="t", request_id=f"r{number}", mark=0.5),
        ]  # fmt: skip
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    (found,) = load(path)
    assert (found.prompt, found.weak, found.strong) == ("p0", 0.5, 0.5)


def test_a_row_of_token_ids_is_left_out_and_tools_count(tmp_path):
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    rows = [
        {"kind": "request", "request_id": "t", "tier": "weak"},
        {"kind": "feedback", "request_id": "t", "mark": 1},
        {"kind": "request", "request_id": "u", "tier": "weak", "tools": [tool],
         "messages": [{"role": "user", "content": "p"}]},
        {"kind": "feedback", "request_id": "u", "mark": 1},
    ]  # fmt: skip
    path = as_jsonl(tmp_path / "x.jsonl", rows + log_of([1.0] * 20, "strong", 100))
    (found,) = load(path)
    assert found.asked.tool_count == 1
    assert load_prompts(path)[0] == found.asked
    assert len(load_prompts(path)) == 21


@pytest.mark.parametrize(
    ("sound", "faulty"),
    [(JUDGED[0], {"prompt": "no mark"}), (BATTLES[0], {"model_a": "small", "prompt": "x"}),
     (BATTLES[0], BATTLES[1] | {"winner_tie": 0, "winner_model_a": "yes"})],
)  # fmt: skip
def test_a_row_that_lacks_what_the_first_has_is_named(tmp_path, sound, faulty):
    with pytest.raises(DataError, match=r":2: expected"):
        load(as_jsonl(tmp_path / "rows.jsonl", [sound, faulty]), PAIR)
