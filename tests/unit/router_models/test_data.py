import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from router_models.data import POOL_NAME, DataError, Example, load, weigh
from router_models.sides import STRONG_SIDE, WEAK_SIDE, win_rate


def row(**changes):
    scores = {"llama": 0.2, "alpaca-13b": 0.4, "bard": 0.8, "gpt35": 0.3, "vicuna-13b": 0.9}
    return {"source": "vicuna80", "bench": "vicuna80/math", "id": "1", "prompt": "p", "weak": 0.3, "strong": 0.55,
            "scores": json.dumps(scores)} | changes  # fmt: skip


def pool(tmp_path, *rows):
    parquet.write_table(pa.Table.from_pylist(list(rows)), tmp_path / POOL_NAME)
    return tmp_path


def test_the_win_rate_is_over_pairs_of_the_two_sides_only(tmp_path):
    (example,) = load(pool(tmp_path, row()))
    # bard beats both weak models, gpt35 beats llama only: 3 of 4 pairs.
    assert example.win == 0.75
    assert (example.weak, example.strong) == (pytest.approx(0.3), pytest.approx(0.55))
    assert (example.bench, example.source) == ("vicuna80", "vicuna80")


def test_a_tie_is_no_win():
    assert win_rate([1.0, 0.0], [1.0]) == 0.5


def test_a_folder_and_its_file_are_the_same(tmp_path):
    assert load(pool(tmp_path, row())) == load(tmp_path / POOL_NAME)


def test_sides_that_do_not_give_the_columns_are_refused(tmp_path):
    with pytest.raises(DataError, match="not the columns' means"):
        load(pool(tmp_path, row(weak=0.5)))


def test_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(DataError, match="'new' has no sides"):
        load(pool(tmp_path, row(source="new")))


def test_no_model_is_on_both_sides():
    assert WEAK_SIDE.keys() == STRONG_SIDE.keys()
    assert not any(WEAK_SIDE[source] & STRONG_SIDE[source] for source in WEAK_SIDE)


def test_jsonl_takes_means_and_an_optional_bench(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(
        '{"prompt": "a", "weak": 0.25, "strong": 0.5}\n\n{"prompt": "b", "weak": 0, "strong": 1, "bench": "x"}\n'
    )
    first, second = load(path)
    assert first == Example("a", "own", "own", 0.25, 0.5, 0.375)
    assert (second.bench, second.win, second.gap) == ("x", 1.0, 1.0)


@pytest.mark.parametrize("line", ['{"prompt": "a"}', '{"prompt": "a", "weak": 2, "strong": 1}', "no json"])
def test_a_faulty_line_is_named_by_number(tmp_path, line):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "a", "weak": 0, "strong": 1}\n' + line + "\n")
    with pytest.raises(DataError, match=r"own\.jsonl:2: "):
        load(path)


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no examples"):
        load(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match=f"no such file; give a folder with {POOL_NAME}"):
        load(tmp_path)


def test_four_times_the_rows_weigh_twice_as_much():
    examples = [Example("p", "big", "own", 0, 1, 1)] * 4 + [Example("p", "small", "llmrouter", 0, 1, 1)]
    weights = weigh(examples)
    assert sum(weights[:4]) == pytest.approx(2 * weights[4])
    assert sum(weights) == pytest.approx(len(weights))


def test_benches_of_one_benchmark_are_one_family():
    def family(bench, source):
        return Example("p", bench, source, 0, 1, 1).family

    assert family("llmrouter/math", "llmrouter") == family("zeroeval/math-l5", "zeroeval")
    assert family("mmlu_pro/math", "mmlu_pro") == family("mmlu_pro/physics", "mmlu_pro")
    assert family("llmrouter/mbpp", "llmrouter") != family("llmrouter/gpqa", "llmrouter")


@pytest.mark.parametrize(
    ("change", "told"),
    [({"prompt": None}, "prompt"), ({"scores": None}, "scores"), ({"scores": '{"llama":'}, "truncated"),
     ({"scores": '{"llama": 7}'}, "<= 1"), ({"weak": None}, "weak"), ({"scores": '{"bard": 1}'}, "sides.py")],
)  # fmt: skip
def test_a_faulty_row_of_the_pool_is_named(tmp_path, change, told):
    with pytest.raises(DataError, match=told):
        load(pool(tmp_path, row(**change)))
