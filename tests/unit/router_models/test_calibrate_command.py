"""`postern calibrate` from outside: each rule, the YAML it prints, what it refuses."""

import json
import random

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from gateway.commands import main
from router_models.commands.calibrate import calibrate

PRICES = ("--price", "weak=0.05/0.10", "--price", "strong=2.5/10")


def run(*arguments):
    return CliRunner().invoke(calibrate, [str(argument) for argument in arguments])


def prompts(count):
    rng = random.Random(1)
    for number in range(count):
        is_hard = rng.random() < 0.4
        text = f"Prove that {number} divides {number * 7}." if is_hard else f"Who wrote book {number} of {count}?"
        # Their lengths differ, so that scores do and a threshold can cut anywhere.
        yield text + " Please." * (number % 40), is_hard


@pytest.fixture
def traffic(tmp_path):
    path = tmp_path / "traffic.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text}) for text, _ in prompts(300)))
    return path


@pytest.fixture
def labels(tmp_path):
    rows = [{"prompt": text, "weak": 0.1 if is_hard else 0.95, "strong": 0.95} for text, is_hard in prompts(900)]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def scores_of(path):
    found = CliRunner().invoke(main, ["score", str(path)])
    return np.array([json.loads(line)["score"] for line in found.stdout.splitlines()])


def test_a_share_needs_no_labels_and_its_yaml_can_be_pasted(traffic, tmp_path):
    found = run("--traffic", traffic, "--strong-share", "30%")
    assert found.exit_code == 0
    policy = yaml.safe_load(found.stdout)["routes"]["auto"]["policy"]
    assert (policy["kind"], policy["router"]) == ("complexity", "default")
    assert np.mean(scores_of(traffic) >= policy["threshold"]) == pytest.approx(0.3, abs=0.02)
    config = "models: {a: {backend: simulated}, b: {backend: simulated}}\n" + found.stdout.replace(
        "auto:\n", "auto:\n    models: [a, b]\n"
    )
    (tmp_path / "postern.yaml").write_text(config)
    assert CliRunner().invoke(main, ["check-config", str(tmp_path / "postern.yaml")]).exit_code == 0


def test_a_budget_is_kept(traffic):
    found = json.loads(run("--traffic", traffic, "--budget-share", "40%", *PRICES, "--json").stdout)
    assert 0.0 < found["chosen"]["share_of_all_strong_cost"] <= 0.4
    usd = found["chosen"]["usd_per_1000"]
    again = json.loads(run("--traffic", traffic, "--budget-usd", usd + 1e-9, *PRICES, "--json").stdout)
    assert again["chosen"] == found["chosen"]


def test_a_bounded_loss_is_certified_from_labels_and_its_share_told_of_traffic(labels, traffic):
    found = run("--data", labels, "--max-quality-loss", "2%")
    assert found.exit_code == 0, found.output
    assert "lose at most 2.00% against always strong, confidence 95.0%" in found.stdout
    both = json.loads(run("--data", labels, "--traffic", traffic, "--max-quality-loss", "2%", "--json").stdout)
    assert both["certified"]["labels"] == 900
    assert both["certified"]["observed_loss"] <= 0.02
    assert both["chosen"]["prompts"] == 300
    assert both["chosen"]["threshold"] == yaml.safe_load(found.stdout)["routes"]["auto"]["policy"]["threshold"]


def test_too_few_labels_exit_2_with_the_number_needed(labels, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(labels.read_text().splitlines()[:80]))
    found = run("--data", few, "--max-quality-loss", "2%")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "80 labels can't show" in found.stderr
    assert "about " in found.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give one rule"),
        (["--strong-share", "0.3", "--budget-usd", "1"], "give one rule"),
        (["--strong-share", "130%"], "expected a share"),
        (["--strong-share", "lots"], "expected a share"),
        (["--budget-usd", "1"], "needs prices"),
        (["--budget-usd", "0", *PRICES], "cheapest mix is"),
        (["--max-quality-loss", "2%"], "needs labels: --data FILE"),
        (["--strong-share", "0.3", "--router", "nobody"], "nobody"),
    ],
)
def test_what_cannot_be_done_says_what_to_do(traffic, arguments, told):
    found = run("--traffic", traffic, *arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    assert told in found.stderr


def test_prompts_are_needed_and_enough_of_them(tmp_path, labels):
    assert "give prompts" in run("--strong-share", "0.3").stderr
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "a", "weak": 0, "strong": 1}\n')
    for option in ("--data", "--traffic"):
        assert "1 prompts; fewer than" in run(option, path, "--strong-share", "0.3").stderr
    for wrong in (("0%", "95%"), ("2%", "100%"), ("2%", "10%")):
        assert (
            "expected a loss" in run("--data", labels, "--max-quality-loss", wrong[0], "--confidence", wrong[1]).stderr
        )


def test_a_share_that_equal_scores_forbid_is_said_to_be_missed(tmp_path):
    path = tmp_path / "same.jsonl"
    path.write_text("\n".join([json.dumps({"prompt": "hello"})] * 200))
    told = run("--traffic", path, "--strong-share", "30%").stdout
    assert "30.0% can't be reached" in told
    assert "`strong_share: 0.3` instead" in told


def test_nothing_seen_is_not_nothing_to_come(traffic):
    told = json.loads(run("--traffic", traffic, "--strong-share", "0", "--json").stdout)
    assert told["share_error"] == pytest.approx(1.96**2 / (300 + 1.96**2))


def test_a_highest_threshold_hopes_for_no_higher_one(tmp_path):
    path = tmp_path / "alike.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Say {row}", "weak": 1, "strong": 1}) for row in range(300)))
    told = run("--data", path, "--max-quality-loss", "2%").stdout
    assert "threshold: 1" in told
    assert "more labels" not in told
