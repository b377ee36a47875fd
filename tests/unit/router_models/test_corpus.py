"""The written prompts: their form, their labels' bounds, and that none is a benchmark's."""

import os
import re
from pathlib import Path

import msgspec
import pytest

from gateway.core.judgement import DOMAINS
from router_models.corpus import PROMPTS, Written, load_domains, load_kinds
from router_models.data import load

KINDS, SUBJECTS = load_kinds(), load_domains()
# Benchmarks' questions, read by path: they are no part of this project.
POOL = Path(os.environ.get("POSTERN_ROUTING_POOL", "../shared/data/routing_pool.parquet"))
RUN = 8


def test_every_written_line_is_read():
    lines = [line for file in (PROMPTS / "kinds").glob("*.jsonl") for line in file.read_text().split("\n") if line]
    assert len(KINDS) == len(lines) > 1000
    assert {file.stem.replace("_", " ") for file in (PROMPTS / "domains").iterdir()} == set(DOMAINS)
    assert {domain for _, domain in SUBJECTS} == set(DOMAINS)


def test_labels_are_in_their_ranges():
    for row in KINDS:
        assert 0 <= row.weak <= 1
        assert row.strong <= 1
        assert row.strong >= row.weak - 0.02, row.prompt
        assert 1 <= row.output_tokens <= 16_384
        assert row.domain in DOMAINS
        assert re.fullmatch("[a-z]{2}", row.language)
        assert row.kind
        assert 0 <= row.win <= 1


@pytest.mark.parametrize("change", [{"weak": 1.1}, {"strong": -0.1}, {"output_tokens": 0}, {"prompt": None}])
def test_a_line_out_of_range_is_refused(tmp_path, change):
    (tmp_path / "kinds").mkdir()
    line = msgspec.to_builtins(KINDS[0]) | change
    (tmp_path / "kinds" / "a.jsonl").write_bytes(msgspec.json.encode(line))
    with pytest.raises(msgspec.ValidationError):
        load_kinds(tmp_path)


def test_no_prompt_is_there_twice():
    prompts = [" ".join(text.lower().split()) for text in (*(row.prompt for row in KINDS), *(q for q, _ in SUBJECTS))]
    assert all(prompts)
    assert {text for text in prompts if prompts.count(text) > 1} == set()


def test_languages_beside_english_are_there():
    assert {"en", "de", "fr", "es", "pt", "zh", "ja"} <= {row.language for row in KINDS}


def test_the_win_rate_lies_between_errors_that_coincide_and_independent_ones():
    row = Written("p", "k", 0.6, 0.9, 10, "chat")
    assert row.gap == pytest.approx(0.3)
    assert row.win == pytest.approx((0.3 + 0.9 * 0.4) / 2)
    assert Written("p", "k", 0.9, 0.89, 10, "chat").win == pytest.approx(0.89 * 0.1 / 2)


def test_a_folder_of_ones_own_is_read_in_order(tmp_path):
    (tmp_path / "domains").mkdir()
    (tmp_path / "domains" / "computer_science.txt").write_text("a\\nb\n\n c\n")
    assert load_domains(tmp_path) == [("a\nb", "computer science"), (" c", "computer science")]
    (tmp_path / "kinds").mkdir()
    for name, prompt in (("b", "2"), ("a", "1")):
        row = msgspec.structs.replace(KINDS[0], prompt=prompt)
        (tmp_path / "kinds" / f"{name}.jsonl").write_bytes(msgspec.json.encode(row) + b"\n\n")
    assert [row.prompt for row in load_kinds(tmp_path)] == ["1", "2"]


def runs(text):
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


def test_a_run_of_words_in_common_is_found():
    text = "one two three four five six seven eight nine"
    assert runs(text) & runs("so: One, two three four five six seven -- eight!")
    assert not runs(text) & runs("two three four five six seven eight ten")


@pytest.mark.skipif(not POOL.is_file(), reason="no routing pool: set POSTERN_ROUTING_POOL")
def test_no_written_prompt_shares_eight_words_in_a_row_with_the_pool():
    known = {}
    for text in (*(row.prompt for row in KINDS), *(question for question, _ in SUBJECTS)):
        known |= dict.fromkeys(runs(text), text)
    shared = {known[run] for example in load(POOL) for run in runs(example.prompt) & known.keys()}
    assert shared == set()
