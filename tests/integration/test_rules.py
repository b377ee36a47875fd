"""The recording rules and alerts, tried by Prometheus' own tool; their pages, and the metrics that both name."""

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.core import errors
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.replicas import ReplicaMetrics
from gateway.telemetry.router_watch import RouterMetrics
from gateway.telemetry.vitals import Vitals
from tests.integration.rule_cases import CASES, HOUR, RECORDED, Case, Recorded

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "postern" / "files" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
RUNBOOK_BASE = "https://github.com/postern/postern/blob/main/docs/runbooks"
FILES = {path: yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yaml"))}
ALL = [rule for content in FILES.values() for group in content["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in ALL if "alert" in rule]
RECORDS = {rule["record"] for rule in ALL if "record" in rule}
ALERT_NAMES = sorted({rule["alert"] for rule in ALERTS})
PLACES = {"a server": {"job": "postern"}, "a cluster": {"cluster": "eu", "namespace": "ml", "job": "postern"}}
"""The labels that a server attaches to what it scrapes."""

METRIC = re.compile(
    r"(?<![\w./-])((?:job\w*:)?(?:postern|gen_ai_client|gen_ai_server|process)_[a-z0-9_]*[a-z0-9](?::\w+)?)(?![\w-]|\.\w|/)"
)


@pytest.fixture(autouse=True)
def need_promtool():
    """Skip without promtool; in CI its absence is a failure."""
    if shutil.which("promtool"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail("promtool is missing: install the Debian package prometheus")
    pytest.skip("needs promtool, of the Debian package prometheus")


def promtool(*arguments: str) -> None:
    run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{run.stdout[-6000:]}\n{run.stderr[-6000:]}"


def written(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


def places_for(case: Case | Recorded) -> list[dict[str, str]]:
    """Return where a case is tried: short ones with all labels and with few, long ones with all."""
    return list(PLACES.values()) if case.at_m <= 12 * HOUR else [PLACES["a cluster"]]


def inputs(case: Case | Recorded, place: dict[str, str]) -> dict[str, object]:
    """Return a case's beginning as promtool takes it."""
    series = [{"series": name.replace("@", written(place)), "values": values} for name, values in case.series.items()]
    return {"name": case.name, "interval": "1m", "input_series": series}


def annotations(case: Case, description: str) -> dict[str, str]:
    (summary,) = {rule["annotations"]["summary"] for rule in ALERTS if rule["alert"] == case.alert}
    return {"summary": summary, "description": description, "runbook_url": f"{RUNBOOK_BASE}/{case.alert}.md"}


def alert_test(case: Case, place: dict[str, str]) -> dict[str, object]:
    told = [
        {
            "exp_labels": {**place, **fires.labels, "severity": fires.severity},
            "exp_annotations": annotations(case, fires.description),
        }
        for fires in case.fires
    ]
    asked = {"eval_time": f"{case.at_m}m", "alertname": case.alert, "exp_alerts": told}
    return {**inputs(case, place), "alert_rule_test": [asked]}


def record_test(case: Recorded, place: dict[str, str]) -> dict[str, object]:
    samples = [
        {"labels": f"{{{written({**place, **value.labels})}}}", "value": round(value.value, 6)} for value in case.values
    ]
    # Rounded: the last digits of a quotient are not what is tried.
    asked = {"expr": f"round({case.record}, 0.000001)", "eval_time": f"{case.at_m}m", "exp_samples": samples}
    return {**inputs(case, place), "promql_expr_test": [asked]}


def needed(name: str) -> set[str]:
    """Return the rules that a rule is reckoned from, itself included."""
    found, waiting = set(), {name}
    while waiting:
        found |= waiting
        exprs = " ".join(rule["expr"] for rule in ALL if rule_name(rule) in waiting)
        waiting = {record for record in RECORDS if re.search(rf"{record}(?!\w)", exprs)} - found
    return found


def rule_name(rule: dict[str, str]) -> str:
    return rule.get("record") or rule["alert"]


def run_tests(folder: Path, name: str, at_m: int, tests: list[dict[str, object]]) -> None:
    """Try a rule, and of the others only those that it needs, more seldom if for long: a week of all takes minutes."""
    wanted = needed(name)
    groups = [
        {"name": group["name"], "rules": [rule for rule in group["rules"] if rule_name(rule) in wanted]}
        for content in reversed(FILES.values())
        for group in content["groups"]
    ]
    groups = [group for group in groups if group["rules"]]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    content = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "5m" if at_m > 12 * HOUR else "1m",
        "group_eval_order": [group["name"] for group in groups],
        "tests": tests,
    }
    (folder / "tests.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    promtool("test", "rules", str(folder / "tests.yaml"))


def test_the_rules_are_well_formed():
    promtool("check", "rules", *map(str, FILES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.name}")
def test_an_alert_fires_when_it_should_and_not_when_it_nearly_should(tmp_path, case):
    run_tests(tmp_path, case.alert, case.at_m, [alert_test(case, place) for place in places_for(case)])


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: f"{case.record}-{case.name}")
def test_a_recording_rule_tells_what_its_name_says(tmp_path, case):
    run_tests(tmp_path, case.record, case.at_m, [record_test(case, place) for place in places_for(case)])


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_every_alert_is_tried_on_what_fires_it_and_on_what_nearly_does(name):
    assert {bool(case.fires) for case in CASES if case.alert == name} == {True, False}


def test_every_window_of_a_budget_is_tried():
    fired = {(case.alert, tuple(fires.labels.items())) for case in CASES for fires in case.fires}
    windows = [rule for rule in ALERTS if "long" in rule["labels"]]
    assert len(windows) == 8
    for rule in windows:
        labels = rule["labels"]
        assert (rule["alert"], (("short", labels["short"]), ("long", labels["long"]))) in fired


def test_every_recording_rule_is_tried_on_what_gives_it_a_value():
    assert {case.record for case in RECORDED if case.values} == RECORDS


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels'].get('long', '')}")
def test_an_alert_says_how_severe_it_is_what_it_means_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "$labels.job" in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOK_BASE}/{rule['alert']}.md"
    assert rule["for"]


def test_every_alert_has_its_page_and_every_page_its_alert():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERT_NAMES)


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_a_page_answers_what_somebody_who_was_woken_asks(name):
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Meaning", "Who notices", "First look", "Usual causes", "What to do", "When to ignore it"]
    assert f"]({name}.md)" in (RUNBOOKS / "README.md").read_text()


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_a_page_asks_in_promql(tmp_path, name):
    blocks = re.findall(r"```promql\n(.*?)```", (RUNBOOKS / f"{name}.md").read_text(), re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines()]
    assert queries
    rules = [{"record": f"query:{place}", "expr": query} for place, query in enumerate(queries)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "queries.yaml"))


def metrics_told() -> set[str]:
    """Return every name that a gateway's metrics port can tell."""
    metrics = Metrics()
    ReplicaMetrics(metrics)
    RouterMetrics(metrics)
    Vitals(metrics).redis_teller(lambda is_open: None)
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {f"{family.name}{ending}" for family in metrics.registry.collect() for ending in endings[family.type]}


@pytest.mark.parametrize("path", [*FILES, *sorted(RUNBOOKS.glob("*.md"))], ids=lambda path: path.name)
def test_every_metric_named_is_told_by_the_gateway_or_recorded(path):
    named = set(METRIC.findall(path.read_text()))
    assert named - metrics_told() - RECORDS == set()
    assert named or path.suffix == ".md"


def codes_of(kind: type[errors.PosternError]) -> set[str]:
    return {kind.code, *itertools.chain.from_iterable(codes_of(one) for one in kind.__subclasses__())}


def test_a_code_counts_as_the_clients_fault_exactly_where_its_error_says_so():
    clients = (errors.InvalidRequestError, errors.AuthenticationError, errors.ForbiddenError, errors.NotFoundError)
    faults = set().union(*(codes_of(one) for one in clients))
    records = {rule["record"]: rule["expr"] for rule in ALL if "record" in rule}
    for record, others in (("requests", {"cancelled"}), ("errors", {"ok", "cancelled"})):
        (excluded,) = re.findall(r'status!~"([^"]+)"', records[f"job:postern_slo_{record}:rate5m"])
        assert set(excluded.split("|")) == faults | others
