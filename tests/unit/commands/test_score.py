"""`postern score`: each line's win rate, in order, whatever else is in the file."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.__main__ import main
from gateway.app import ROUTERS
from gateway.classify.onnx import OnnxClassifier
from gateway.offline import score_lines

PROMPTS = [
    "What is the capital of France?",
    "Prove that every finite group of order p^2 is abelian.",
    "",
    "Write a lock-free queue in C++ and argue why it is linearisable.",
    "é 証明 😀",
]
BAD = ["", "{", "[]", "{}", '"text"', '{"prompt": 5}', '{"prompt": null}', '{"messages": []}', '{"messages": [{}]}']
DEEP = '{"messages": [' + "[" * 100_000 + "]" * 100_000 + "]}"
CLASSIFIER = OnnxClassifier.load(ROUTERS / "default")


def line(prompt):
    return json.dumps({"prompt": prompt})


def score(text, *arguments):
    return CliRunner().invoke(main, ["score", *arguments, "-"], input=text)


def scores(lines):
    return [json.loads(row)["score"] for row in score("".join(one + "\n" for one in lines)).stdout.splitlines()]


def test_each_line_gets_its_score_in_order():
    found = scores(map(line, PROMPTS))
    assert len(found) == len(PROMPTS)
    assert all(0 <= one <= 1 for one in found)
    assert found == [scores([line(prompt)])[0] for prompt in PROMPTS]
    assert len(set(found)) > 2


def test_a_prompt_and_the_same_prompt_as_messages_get_the_same_score():
    as_messages = [json.dumps({"messages": [{"role": "user", "content": prompt}]}) for prompt in PROMPTS]
    assert scores(as_messages) == scores(map(line, PROMPTS))
    in_parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPTS[1]}]}]}
    assert scores([json.dumps(in_parts)]) == scores([line(PROMPTS[1])])


def test_other_fields_of_a_line_change_nothing():
    assert scores([json.dumps({"id": 7, "prompt": PROMPTS[1], "label": "hard"})]) == scores([line(PROMPTS[1])])


@pytest.mark.parametrize("bad", [*BAD, DEEP], ids=lambda text: text[:20])
def test_a_bad_line_gets_an_error_in_its_place_and_the_others_their_scores(bad):
    found = score(f"{line(PROMPTS[0])}\n{bad}\n{line(PROMPTS[1])}\n")
    assert found.exit_code == 2
    rows = [json.loads(row) for row in found.stdout.splitlines()]
    assert [rows[0]["score"], rows[2]["score"]] == scores([line(PROMPTS[0]), line(PROMPTS[1])])
    assert rows[1]["score"] is None
    assert rows[1]["error"]
    assert set(rows[0]) == {"score"}


def test_bytes_that_are_no_utf8_do_not_stop_the_file():
    found = CliRunner().invoke(main, ["score", "-"], input=b'{"prompt": "\xff"}\n' + line(PROMPTS[0]).encode())
    assert len(found.stdout.splitlines()) == 2


def test_sound_lines_exit_0_and_an_empty_file_prints_nothing():
    assert score(line(PROMPTS[0])).exit_code == 0
    assert (score("").exit_code, score("").stdout) == (0, "")


def test_a_router_may_be_named_or_be_a_folder_and_an_unknown_one_exits_2():
    text = line(PROMPTS[1])
    assert score(text, "--router", "default").stdout == score(text, "--router", f"{ROUTERS}/default").stdout
    found = score(text, "--router", "nobody")
    assert (found.exit_code, found.stdout) == (2, "")


def test_a_file_is_read_as_standard_input_is(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(line, PROMPTS)))
    assert CliRunner().invoke(main, ["score", str(path)]).stdout == score(path.read_text()).stdout


LINES = st.lists(st.sampled_from([*map(line, PROMPTS), *BAD]), max_size=6)


@given(LINES, LINES, st.text(max_size=50))
def test_nothing_about_the_rest_of_the_file_changes_a_score(before, after, prompt):
    alone = next(score_lines(CLASSIFIER, [line(prompt)])).score
    among = [one.score for one in score_lines(CLASSIFIER, [*before, line(prompt), *after])]
    assert len(among) == len(before) + 1 + len(after)
    assert among[len(before)] == alone
