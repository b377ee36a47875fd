"""`postern evaluate` from outside: what it prints, writes, refuses; and that it changes no router."""

import json
import random

import pytest
from click.testing import CliRunner

from gateway.app import ROUTERS
from router_models.commands import evaluate as module
from router_models.commands.evaluate import evaluate


def run(*arguments):
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path):
    rng, lines = random.Random(1), []
    for number in range(120):
        is_hard = number % 2
        prompt = f"Prove that {number} divides {number * 7} for all n." if is_hard else f"Who wrote book {number}?"
        weak = round((0.2 if is_hard else 0.9) + rng.random() / 20, 3)
        lines.append({"prompt": prompt, "weak": weak, "strong": 0.95, "bench": f"b{number % 3}",
                      "scores": {"small": weak, "large": 0.95}})  # fmt: skip
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_the_report_has_router_baselines_curve_and_assumptions(data):
    found = run("--data", data)
    assert found.exit_code == 0
    for told in (
        "| default | 120 |",
        "| prompt length | 120 |",
        "| random | 120 | 0.500 [0.500, 0.500]",
        "always weak",
        "always strong",
        "PGR",
        "x default",
        "Reliability, ECE",
        "| b1 | 40 |",
        "no costs",
    ):
        assert told in found.stdout
    assert "RouterArena |" in found.stdout


def test_json_holds_the_same_and_several_routers_stand_side_by_side(data):
    found = json.loads(run("--data", data, "--router", "default", "--router", f"{ROUTERS}/default", "--json").stdout)
    first, second = found["routers"]
    assert first["all"] == second["all"]
    assert first["all"]["order"]["apgr"]["value"] > 0.6
    assert [one["name"] for one in found["baselines"]] == ["prompt length", "random"]
    assert found["always_strong"]["quality"] == pytest.approx(0.95)
    assert len(first["curve"]) == 101


def test_a_folder_gets_the_report_and_a_png_and_the_router_stays_as_it_was(data, tmp_path):
    before = {path.name: path.read_bytes() for path in (ROUTERS / "default").iterdir()}
    found = run("--data", data, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["curve.png", "report.json"]
    prices = ("--price", "weak=1/2", "--price", "strong=3/4")
    assert run("--data", data, "--out", tmp_path / "out", *prices).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "curve.png",
        "quality-cost.png",
        "report.json",
    ]
    for name in ("curve.png", "quality-cost.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "report.json").read_bytes())["rows"] == 120
    assert {path.name: path.read_bytes() for path in (ROUTERS / "default").iterdir()} == before


def test_prices_give_costs_and_the_arenas_score(data):
    prices = ("--price", "weak=0.05/0.10", "--price", "strong=2.5/10", "--output-tokens", 100)
    found = json.loads(run("--data", data, *prices, "--threshold", 1, "--json").stdout)
    point = found["routers"][0]["at_threshold"]
    assert (point["strong_share"], point["threshold"]) == (0.0, 1.0)
    assert point["usd_per_1000"] == pytest.approx(found["always_weak"]["usd_per_1000"])
    assert 0.01 < found["always_weak"]["usd_per_1000"] < 0.02 < 1 < found["always_strong"]["usd_per_1000"] < 1.1
    assert found["routers"][0]["best_arena"]["arena"] >= point["arena"]
    assert any("100 tokens" in line for line in found["assumptions"])


def test_a_pair_is_cut_from_the_scores(data):
    found = json.loads(run("--data", data, "--weak", "large", "--strong", "small", "--json").stdout)
    assert found["strong"] < found["weak"] == pytest.approx(0.95)
    assert found["routers"][0]["all"]["order"] is None
    assert "nothing to route for" in run("--data", data, "--weak", "large", "--strong", "small").stdout


def test_robustness_joins_on_request(data, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 1)
    found = run("--data", data, "--robustness")
    assert "## Hard to fool: default" in found.stdout
    assert "| searched gadget |" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--weak", "small"], "name both sides"),
        (["--weak", "small", "--strong", "small"], "on both sides: small"),
        (["--weak", "x", "--strong", "large"], "of: small, large"),
        (["--price", "weak=1/2"], "both sides"),
        (["--price", "weak=1"], "expected weak=IN/OUT"),
        (["--price", "weak=a/b"], "expected weak=IN/OUT"),
        (["--price", "weak=-1/nan"], "expected weak=IN/OUT"),
        (["--router", "nobody"], "nobody"),
        (["--out", "/dev/null/x"], "/dev/null"),
    ],
)
def test_what_cannot_be_done_says_what_to_do_with_exit_2(data, arguments, told):
    found = run("--data", data, *arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    assert told in found.stderr


def test_too_few_examples_and_no_file_are_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "weak": 0, "strong": 1}\n')
    assert "1 examples" in run("--data", path).stderr
    assert "no such file" in run("--data", tmp_path / "none").stderr
