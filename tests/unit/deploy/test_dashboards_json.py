"""The dashboards as files: fresh, sound for Grafana, and each panel explained. There is no Grafana here to ask."""

import functools
import inspect
import itertools
import json
import re

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import ProcessCollector

from deploy.grafana import __main__ as build
from deploy.grafana.__main__ import BOARDS, FOLDER
from deploy.grafana.scope import CLIENTS_FAULT, NO_FAILURE
from gateway.core.errors import PosternError, UpstreamError
from gateway.telemetry.local import LocalFamily
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.replicas import ReplicaMetrics
from gateway.telemetry.router_watch import RouterMetrics
from gateway.telemetry.vitals import Vitals

NAMES = [board.name for board in BOARDS]
VARIABLES = {"datasource", "cluster", "namespace", "job", "instance", "route", "model"}
BUILT_IN = {"__range", "__rate_interval", "__interval"}
UNITS = {
    *("currencyUSD", "s", "percentunit", "watth", "watt", "reqps", "cps", "ops", "bytes", "short", "dtdurations"),
}
METRIC = r"\b(?:postern_|gen_ai_(?:client|server)_|process_|nv_|vllm:|DCGM_)[\w:]+(.)"
COUNTER = r"\b(?!nv_inference_pending_request_count)[\w:]+_(?:total|bucket|sum|count)\{[^}]*\}(.?)"
SCRAPED = {"cluster", "namespace", "job", "instance"}
ADDED_UP = (
    r"(?:sum|count)(?: by \([^)]*\))? ?\(postern_(?:upstream_(?:ready|waiting|running|kv)"
    r"|threshold|strong_share_wanted|drift|calibration)\w*"
)
"""A sum over gateways of what each of them tells of the same thing."""
every_board = pytest.mark.parametrize("name", NAMES)


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def panels_of(name):
    return [panel for panel in read(name)["panels"] if panel["type"] != "row"]


PANELS = [pytest.param(name, panel, id=f"{name}: {panel['title']}") for name in NAMES for panel in panels_of(name)]
every_panel = pytest.mark.parametrize(("name", "panel"), PANELS)


def walk(value):
    """Every object inside of a value."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def lost(told, again, path=""):
    """What one has and the other has not; the types add defaults of their own."""
    if isinstance(told, dict) and isinstance(again, dict):
        for key, value in told.items():
            yield from lost(value, again.get(key), f"{path}/{key}")
    elif isinstance(told, list) and isinstance(again, list) and len(told) == len(again):
        for place, (one, other) in enumerate(zip(told, again, strict=True)):
            yield from lost(one, other, f"{path}/{place}")
    elif told != again:
        yield path


def test_the_files_are_what_the_code_says():
    assert build.stale() == [], "make dashboards"


def test_a_file_that_was_changed_and_one_of_no_dashboard_are_stale(tmp_path):
    assert build.stale(tmp_path) == sorted(f"{name}.json" for name in NAMES)
    for board in BOARDS:
        (tmp_path / f"{board.name}.json").write_text(build.written(board))
    assert build.stale(tmp_path) == []
    (tmp_path / "money.json").write_text(build.written(BOARDS[0]).replace("Saved", "Lost"))
    (tmp_path / "old.json").write_text("{}")
    assert build.stale(tmp_path) == ["money.json", "old.json"]


@every_board
def test_the_types_of_grafana_read_all_of_it(name):
    register_default_plugins()
    told = read(name)
    again = json.loads(json.dumps(Dashboard.from_json(told), cls=JSONEncoder))
    assert list(lost(told, again)) == []


@every_board
def test_its_head_is_what_grafana_asks_for(name):
    told = read(name)
    assert told["uid"] == f"postern-{name}"
    assert told["tags"] == ["postern"]
    assert told["schemaVersion"] >= 39
    assert told["description"]
    assert "id" not in told, "a number of one Grafana's own"


@every_board
def test_numbers_are_unique_and_no_two_panels_overlap(name):
    panels = read(name)["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(set(numbers)) == len(numbers)
    for panel in panels:
        place = panel["gridPos"]
        assert place["w"] > 0
        assert place["h"] > 0
        assert 0 <= place["x"] <= 24 - place["w"]
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        is_apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert is_apart, (one, other)


@every_board
def test_rows_are_full_to_the_right(name):
    lines = {}
    for panel in panels_of(name):
        place = panel["gridPos"]
        lines.setdefault(place["y"], []).append(place)
    last_lines = {max(y for y in lines if y < row) for row in [*row_lines(name)[1:], 10**6]}
    for y, places in lines.items():
        assert y in last_lines or sum(place["w"] for place in places) == 24
        assert len({place["h"] for place in places}) == 1


def row_lines(name):
    return [panel["gridPos"]["y"] for panel in read(name)["panels"] if panel["type"] == "row"]


@every_board
def test_every_data_source_is_the_one_chosen_above(name):
    told = read(name)
    sources = [each["datasource"] for each in walk(told) if "datasource" in each]
    assert sources
    assert {json.dumps(source) for source in sources} == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    (chooser,) = [one for one in told["templating"]["list"] if one["type"] == "datasource"]
    assert (chooser["name"], chooser["query"]) == ("datasource", "prometheus")


@every_board
def test_variables_let_everything_through_until_one_is_chosen(name):
    variables = [one for one in read(name)["templating"]["list"] if one["type"] == "query"]
    assert {one["name"] for one in variables} == VARIABLES - {"datasource"}
    for one in variables:
        assert (one["includeAll"], one["allValue"], one["multi"]) == (True, ".*", True)
        assert one["current"]["value"] == ["$__all"]


@every_board
def test_it_links_to_all_others_at_the_same_time_and_choice(name):
    (link,) = read(name)["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["postern"])
    assert link["keepTime"]
    assert link["includeVars"]


@every_panel
def test_a_panel_says_what_it_shows_what_is_normal_and_what_to_do(name, panel):
    shows, *more = panel["description"].split("\n\n")
    assert shows.endswith(".")
    assert [text.partition(":")[0] for text in more] == ["Normal", "Do"]
    assert all(len(text) > 8 for text in more)


@every_panel
def test_a_panel_has_a_unit_a_text_for_no_data_and_lettered_queries(name, panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["noValue"]
    units = {prop["value"] for each in panel["fieldConfig"]["overrides"] for prop in each["properties"]}
    if panel["type"] == "heatmap":
        units = {panel["options"]["yAxis"]["unit"]}
    elif panel["type"] not in ("table", "state-timeline"):
        units = {defaults["unit"]}
    assert units <= UNITS
    assert units or panel["type"] == "state-timeline"
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == [chr(ord("A") + place) for place in range(len(letters))]


@every_panel
def test_a_query_uses_known_variables_only_and_is_narrowed_by_them(name, panel):
    for target in panel["targets"]:
        used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", target["expr"]))
        assert used <= VARIABLES | BUILT_IN
        selectors = re.findall(METRIC, target["expr"])
        assert selectors
        assert set(selectors) == {"{"}, "a selector without a matcher"
        assert target["expr"].count('cluster=~"$cluster"') == len(selectors)


@every_panel
def test_rates_span_what_grafana_says_and_counters_are_never_shown_bare(name, panel):
    for target in panel["targets"]:
        spans = re.findall(r"\[([^\]]+)\]", target["expr"])
        assert set(spans) <= {"$__range", "$__rate_interval"}
        assert ("$__range" in spans) <= target.get("instant", False), "a total is asked for once, not a curve of it"
        for found in re.finditer(COUNTER, target["expr"]):
            assert found[1] == "[", found[0]


@every_panel
def test_what_every_gateway_tells_alike_is_not_added_up(name, panel):
    """Three gateways that watch two replicas are not six replicas."""
    for target in panel["targets"]:
        assert not re.findall(ADDED_UP, target["expr"])


@every_panel
def test_a_query_asks_for_labels_that_its_metrics_have(name, panel):
    for target in panel["targets"]:
        asked = re.findall(r"\b((?:postern|gen_ai|process)_\w+)\{([^}]*)\}", target["expr"])
        made = re.findall(r'label_replace\(.*?, "(\w+)", "\$1"', target["expr"])
        there = {*SCRAPED, *made}
        for metric, matchers in asked:
            labels = {*labels_told()[re.sub("_(?:total|bucket|sum|count)$", "", metric)], *SCRAPED}
            assert set(re.findall(r"(\w+)[=!]", re.sub('"[^"]*"', "", matchers))) <= labels
            there |= labels | ({"le"} if metric.endswith("_bucket") else set())
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
        assert not asked or grouped <= there


@functools.cache
def labels_told():
    """The labels of each metric of the gateway, by its name without endings."""
    metrics = Metrics()
    ReplicaMetrics(metrics)
    RouterMetrics(metrics)
    Vitals(metrics).redis_teller(lambda is_open: None)
    own = [one for one in metrics.registry.collectors if not isinstance(one, ProcessCollector)]
    told = {one.name: one.label_names for one in own if isinstance(one, LocalFamily)}
    told |= {one._name: one._labelnames for one in own if not isinstance(one, LocalFamily)}
    told |= {family.name: () for family in ProcessCollector(registry=None).collect()}
    return {re.sub("_total$", "", name): labels for name, labels in told.items()}


def test_a_panel_is_one_function_and_a_dashboard_reads_like_its_table_of_contents():
    for board in BOARDS:
        functions = [function for _, panels in board.rows for function in panels]
        assert len(set(functions)) == len(functions)
        assert all(not inspect.signature(function).parameters for function in functions)
        assert len(functions) == len(panels_of(board.name))


def test_whose_fault_a_status_is_says_the_tree_of_errors():
    told = {code for code in CLIENTS_FAULT.split("|") if code != "cancelled"}
    tree = list(errors_below(PosternError))
    of_clients = {one.code for one in tree if one.status < 500 and not issubclass(one, UpstreamError)}
    assert told == of_clients


def errors_below(error):
    """Every class of the tree."""
    for one in error.__subclasses__():
        yield one
        yield from errors_below(one)


def test_dashboards_and_rules_count_the_same_as_failures():
    rules = (FOLDER.parent / "rules" / "recording.yaml").read_text()
    assert f'status!~"{CLIENTS_FAULT}"' in rules
    assert f'status!~"ok|{CLIENTS_FAULT}"' in rules
    assert f'outcome!~"{NO_FAILURE}"' in rules
