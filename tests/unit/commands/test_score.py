"""`postern score`: each line's win rate, in order, whatever else is in the file."""

import io
import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import ROUTERS
from gateway.classify.onnx import OnnxClassifier
from gateway.commands import main
from gateway.offline import counted, score_lines

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


def test_a_count_is_told_twice_a_second_and_at_the_end():
    ticks, out = iter([0.0, 0.2, 0.6, 0.9, 1.3, 2.0]), io.StringIO()
    assert list(counted(["a", "b", "c", "d"], out, lambda: next(ticks))) == ["a", "b", "c", "d"]
    assert out.getvalue().split("\r")[1:] == ["2 lines, 3 a second", "4 lines, 3 a second", "4 lines, 2 a second\n"]


def test_a_quick_file_gets_no_count():
    out = io.StringIO()
    assert list(counted(["a"], out, lambda: 0.0)) == ["a"]
    assert list(counted([], out, lambda: 0.0)) == []
    assert out.getvalue() == ""


def test_whoever_writes_line_by_line_gets_each_score_at_once():
    command = [sys.executable, "-m", "gateway", "score", "-"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=buffered) as process:
        for prompt in PROMPTS[:2]:
            process.stdin.write(line(prompt) + "\n")
            process.stdin.flush()
            assert 0 <= json.loads(process.stdout.readline())["score"] <= 1
        process.stdin.close()
        assert process.wait(10) == 0
        assert process.stdout.read() == ""


@pytest.mark.parametrize("words", [12, 160])
@pytest.mark.parametrize("form", ["prompt", "messages"])
def test_two_thousand_lines_take_less_than_a_second_of_cpu(words, form):
    prompts = [" ".join(f"word{(number * 7 + place) % 900}" for place in range(words)) for number in range(1000)]
    rows = [
        {"prompt": one} if form == "prompt" else {"messages": [{"role": "user", "content": one}]} for one in prompts
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    started = time.process_time()
    found = score(text)
    assert time.process_time() - started < 0.5
    assert len(found.stdout.splitlines()) == 1000
