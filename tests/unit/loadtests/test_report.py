"""What is told of a run: ratios of the same round, marks, goals, and whether anything has worsened."""

import json

import pytest

from loadtests import baseline, report
from loadtests.counting import Reading, Shares, shares_between
from loadtests.figures import Estimate
from loadtests.goals import judge
from loadtests.results import Result, Results, load, save
from loadtests.scenarios import SCENARIOS, without_peers
from loadtests.turns import Turn

BUSY = Shares(0.97, 0.02, 0.2, 0.1, 0.5, 0.2)
HALF_IDLE = BUSY._replace(subject_idle=0.5)


def turn(name, cpu_us, shares=BUSY):
    return Turn(name, {"cpu_us": cpu_us, "rate_per_s": 100.0, "p50_ms": 1.0, "p99_ms": 2.0}, shares)


def run_of(*rounds, missing=None, shares=BUSY):
    turns = [{name: turn(name, cpu_us, shares) for name, cpu_us in one.items()} for one in rounds]
    machine = {"date": "2026-01-01", "code": "abc", "processor": "one, 2 cores", "memory": "8 GiB"}
    machine |= {"command": "python -m loadtests.bench --only saturation", "system": "Linux 6", "programs": "nginx 1.22"}
    machine |= {"pythons": "Postern ran on Python 3.11.2, built with PGO."}
    return Results(machine, {"saturation": Result(SCENARIOS["saturation"], turns, missing or {})})


RUN = run_of(
    {"nginx": 20, "postern-whole": 200}, {"nginx": 40, "postern-whole": 400}, {"nginx": 10, "postern-whole": 90}
)


def test_a_ratio_is_of_one_round_not_of_medians():
    assert RUN.scenarios["saturation"].against("postern-whole") == Estimate(10, 9, 10)


def test_a_round_without_a_subject_counts_for_the_others_only():
    result = run_of({"nginx": 20}, {"nginx": 10, "postern-whole": 50}).scenarios["saturation"]
    assert result.against("postern-whole") == Estimate(5, 5, 5)
    assert result.against("litellm") is None


def test_the_report_tells_the_command_the_goals_and_who_used_the_cores():
    told = report.markdown(RUN)
    assert "`python -m loadtests.bench --only saturation`" in told
    assert "| the whole walk, CPU a request " in told
    assert "| 10.0 times nginx's | yes" in told
    assert "| Postern, the whole walk | 200 " in told
    assert "used 20% of a core in the mean" in told
    assert "\n\nPostern ran on Python 3.11.2, built with PGO.\n\n" in told


def test_a_report_of_a_run_from_before_pythons_were_told_still_reads():
    old = RUN._replace(machine={name: text for name, text in RUN.machine.items() if name != "pythons"})
    assert "Postern ran on" not in report.markdown(old)


def test_a_goal_that_was_not_measured_is_neither_met_nor_told():
    verdicts = {(one.goal.text, one.goal.base): one for one in judge(RUN)}
    assert verdicts["the whole walk, CPU a request", "nginx"].is_met
    assert not verdicts["the whole walk, CPU a request", "litellm"].is_met
    assert "LiteLLM" not in report.goals(RUN)


def test_a_goal_against_a_slow_peer_reads_as_a_fraction():
    run = run_of({"nginx": 20, "postern-whole": 200, "litellm": 10_000})
    assert "1/50 of LiteLLM proxy" in report.goals(run)


def test_a_subject_that_was_not_the_limit_is_marked():
    assert "(a)" not in report.figures(RUN)
    assert "| nginx, a bare proxy (a) " in report.figures(run_of({"nginx": 20}, shares=HALF_IDLE))


def test_a_missing_peer_is_told_and_fails_nothing_a_missing_subject_of_ours_does():
    run = run_of({"nginx": 20}, missing={"litellm": "not installed"})
    assert "LiteLLM proxy" in report.missing(run)
    assert "not installed" in report.missing(run)
    assert run.fails() == []
    assert run_of({"nginx": 20}, missing={"postern-whole": "502"}).fails() == ["postern-whole"]


def test_results_are_read_as_they_were_written(tmp_path):
    save(RUN, tmp_path)
    assert load(tmp_path) == RUN
    report.write(load(tmp_path), tmp_path)
    assert (tmp_path / "report.png").stat().st_size > 5000


def baseline_of(tmp_path, run):
    path = tmp_path / "baseline.json"
    baseline.write(run, path)
    return path


@pytest.mark.parametrize(("cpu_us", "status"), [(200, 0), (225, 0), (260, 1), (100, 0)])
def test_a_check_fails_when_a_ratio_is_over_15_percent_worse(tmp_path, capsys, cpu_us, status):
    path = baseline_of(tmp_path, RUN)
    now = run_of(*({"nginx": 20, "postern-whole": cpu_us + extra} for extra in (0, 1, 2)))
    assert baseline.check(now, lambda _: None, path) == status
    assert ("WORSE" in capsys.readouterr().out) is bool(status)


def test_what_looks_worse_is_measured_again_before_it_fails(tmp_path):
    path = baseline_of(tmp_path, RUN)
    now = run_of({"nginx": 20, "postern-whole": 190}, {"nginx": 20, "postern-whole": 290})
    asked = []

    def measure_again(name):
        asked.append(name)
        now.scenarios[name].rounds.extend(
            {"nginx": turn("nginx", 20), "postern-whole": turn("postern-whole", 200)} for _ in "ab"
        )

    assert baseline.check(now, measure_again, path) == 0
    assert asked == ["saturation"]


def test_a_baseline_keeps_ratios_of_what_is_ours(tmp_path):
    run = run_of({"nginx": 20, "postern-whole": 200, "litellm": 9000})
    run.scenarios["keys"] = Result(SCENARIOS["keys"], [{"nginx": turn("nginx", 20), "postern-keys": turn("", 50)}], {})
    kept = json.loads(baseline_of(tmp_path, run).read_text())
    assert kept["ratios"] == {"saturation": {"postern-whole": [10, 10, 10]}}
    assert without_peers(SCENARIOS["saturation"]).subjects[-1] == "postern-whole"


def test_shares_say_what_is_left_for_others():
    before = Reading(10.0, 5.0, 1.0, 1.0, 100.0, 100.0)
    after = Reading(12.0, 6.8, 1.4, 1.2, 100.0, 100.6)
    assert shares_between(before, after) == pytest.approx(Shares(0.9, 0.0, 0.2, 0.1, 0.3, 0.5))
