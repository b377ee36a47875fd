"""Every panel and every rule, asked of a real Prometheus that scrapes a gateway under traffic of every kind.

What is made up here says tests/mixed_load.py: the model servers beside Triton, their vLLM pages, and a GPU's page.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from deploy.grafana.__main__ import BOARDS, FOLDER
from deploy.grafana.ask import Answer, Asker, AskError, Window
from tests.integration.redis_server import need_redis
from tests.mixed_load import RULES, Traffic, World, is_calibrated, world
from tests.prometheus import need_prometheus, sides_of
from tests.triton_server import TritonServer, need_triton

pytestmark = [
    need_prometheus,
    need_redis,
    need_triton,
    pytest.mark.xdist_group("triton"),
    pytest.mark.asyncio(loop_scope="module"),
]

LOAD_S, MOST_LOAD_S = 18.0, 85.0
"""Long enough for rates over four scrapes; longer, where this machine is slow, until calibration is told."""
CLIENTS, BURST = 12, 80
NAMES = [board.name for board in BOARDS]
EMPTY_BY_DESIGN = {"PosternLearningLogFailing": 'outcome=~"failed|full|unreadable"'}
"""Alerts on what has not happened in this world, and the matcher without which there is something to see."""


ZERO_BY_DESIGN = {
    *("Judging failed", "Shadows left behind", "Failing open", "Failing open by stage", "Replicas not ready"),
    *("Waiting", "Waiting by replica", "Triton: requests", "Triton: pending", "TensorRT-LLM: KV cache"),
    *("vLLM: requests", "vLLM: preemptions"),
}
"""Panels of faults and queues that this world has none of. Elsewhere 0 would be the answer of a label misspelt."""


def is_zero(answer: Answer) -> bool:
    """Tell whether every number of an answer is 0."""
    return not any(number for curve in answer.curves for number in curve.numbers)


def dashboard(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def panels_of(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def variables_of(name: str) -> list[dict[str, Any]]:
    return [one for one in dashboard(name)["templating"]["list"] if one["type"] == "query"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(one_triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Give a world that has seen everything."""
    async with world(tmp_path_factory.mktemp("world"), one_triton) as made:
        traffic = Traffic(made)
        began_s = time.monotonic()
        half_s, whole_s = began_s + LOAD_S / 2, began_s + LOAD_S
        await traffic.burst(BURST)  # twice: of a series that begins with its first events, no rate sees those
        await traffic.clients(CLIENTS, lambda: time.monotonic() > half_s)
        made.gateway.write(made.config | {"limits": {"max_in_flight": 24}})
        await traffic.burst(BURST)
        while time.monotonic() < whole_s or not await is_calibrated(made):
            assert time.monotonic() - began_s < MOST_LOAD_S, "both tiers were not marked often enough"
            until_s = time.monotonic() + 2
            await traffic.clients(CLIENTS, lambda until_s=until_s: time.monotonic() > until_s)
        yield made


@pytest.fixture
def asker(watched: World) -> Asker:
    """Ask for the time of the load, everything chosen."""
    return Asker(watched.prometheus.url, Window(watched.began_s, time.time(), watched.prometheus.scrape_s))


async def test_the_traffic_was_of_every_kind_and_everything_is_scraped(watched: World) -> None:
    await asyncio.to_thread(watched.prometheus.wait_until, lambda: not watched.prometheus.unhealthy_targets())
    rows = [row for row in watched.gateway.log if row["event"] == "request"]
    assert {"ok", "cancelled", "overloaded", "model_not_found", "invalid_json", "invalid_api_key"} <= {
        row["status"] for row in rows
    }
    assert {"score", "pinned", "fallback", "escalated", "cache"} <= {row.get("reason") for row in rows}
    assert {"weak", "middle", "strong"} <= {row.get("tier") for row in rows}
    faults = {"internal_error", "reload_refused", "unreadable", "router_refused", "learning_log_failed"}
    assert [row for row in watched.gateway.log if row["event"] in faults] == []


@pytest.mark.parametrize("name", NAMES)
async def test_every_query_of_every_panel_returns_numbers(asker: Asker, name: str) -> None:
    empty = []
    for panel in panels_of(name):
        answers = await asyncio.to_thread(asker.panel, panel)
        assert answers, panel["title"]
        empty += [(panel["title"], one.expression) for one in answers if not one.has_numbers]
        if panel["title"] not in ZERO_BY_DESIGN:
            empty += [(panel["title"], one.expression) for one in answers if is_zero(one)]
    assert empty == []


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_0_is_counted_and_not_made_up_for_what_is_not_there(asker: Asker, name: str) -> None:
    for panel in panels_of(name):
        if panel["title"] in ZERO_BY_DESIGN:
            bare = [{**target, "expr": target["expr"].replace(" or vector(0)", "")} for target in panel["targets"]]
            answers = await asyncio.to_thread(asker.panel, {"targets": bare})
            assert all(one.has_numbers for one in answers), panel["title"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_legend_names_labels_that_the_curves_have(asker: Asker, name: str) -> None:
    for panel in panels_of(name):
        answers = await asyncio.to_thread(asker.panel, panel)
        for target, answer in zip(panel["targets"], answers, strict=True):
            named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            has_all = all(named <= curve.labels.keys() for curve in answer.curves)
            assert has_all or panel["title"] in ZERO_BY_DESIGN, panel["title"]


@pytest.mark.parametrize("name", NAMES)
async def test_variables_offer_what_is_there_and_a_choice_of_all_of_it_changes_nothing(asker: Asker, name: str) -> None:
    offered = {one["name"]: await asyncio.to_thread(asker.variable, one) for one in variables_of(name)}
    assert offered.pop("cluster") == offered.pop("namespace") == [], "compose has neither"
    assert offered["job"] == ["postern"]
    assert {"auto", "held", "careful", "shaky", "on-triton", "other"} <= set(offered["route"])
    assert {"phi-4-mini", "gpt-5", "mistral-vllm", "none"} <= set(offered["model"])
    chosen = replace(asker, chosen=offered)
    for panel in panels_of(name):
        all_of_it = await asyncio.to_thread(asker.panel, panel)
        picked = await asyncio.to_thread(chosen.panel, panel)
        assert [len(one.curves) for one in picked] == [len(one.curves) for one in all_of_it], panel["title"]


async def test_a_choice_narrows(asker: Asker) -> None:
    (panel,) = [one for one in panels_of("money") if one["title"] == "Spent an hour by model"]
    chosen = replace(asker, chosen={"route": ["held", "auto"], "model": ["qwen-32b"]})
    (answer,) = await asyncio.to_thread(chosen.panel, panel)
    assert [curve.legend for curve in answer.curves] == ["qwen-32b"]
    assert answer.has_numbers


async def test_figures_agree_with_what_the_gateway_has_counted(watched: World, asker: Asker) -> None:
    """A total over the time shown can't be exact, as Prometheus extrapolates; it must not be another figure."""
    (panel,) = [one for one in panels_of("money") if one["title"] == "Cost"]
    (answer,) = await asyncio.to_thread(asker.panel, panel)
    counted = await asyncio.to_thread(watched.prometheus.numbers, "sum(postern_request_cost_usd_total)")
    assert answer.curves[0].numbers[0] == pytest.approx(counted[0], rel=0.35)


@pytest.mark.parametrize("name", NAMES)
async def test_marks_on_the_time_axis_are_asked_for_soundly(asker: Asker, name: str) -> None:
    (mark,) = dashboard(name)["annotations"]["list"]
    found = await asyncio.to_thread(
        asker.get,
        "query_range",
        query=asker.fill(mark["expr"]),
        start=f"{asker.window.start_s}",
        end=f"{asker.window.end_s}",
        step="1",
    )
    assert len(found["result"]) == 1, "the reload in the middle"


async def test_every_recording_rule_has_a_value_and_every_rule_is_evaluated(watched: World) -> None:
    assert RULES
    rules = await asyncio.to_thread(watched.prometheus.rules)
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert [name for name in recorded if not await asyncio.to_thread(watched.prometheus.numbers, name)] == []


async def test_what_alerts_compare_are_numbers(watched: World) -> None:
    """An alert that does not fire has no value by design; each side of each of its comparisons has."""
    rules = [rule for rule in await asyncio.to_thread(watched.prometheus.rules) if rule["type"] == "alerting"]
    assert {rule["name"] for rule in rules} >= EMPTY_BY_DESIGN.keys()
    empty = []
    for rule in rules:
        for side in sides_of(rule["query"]):
            told = await asyncio.to_thread(watched.prometheus.numbers, side)
            if not told and rule["name"] in EMPTY_BY_DESIGN:
                wider = side.replace(EMPTY_BY_DESIGN[rule["name"]], "")
                assert wider != side
                told = await asyncio.to_thread(watched.prometheus.numbers, wider)
            empty += [] if told else [(rule["name"], side)]
    assert empty == []


async def test_a_wrong_name_is_noticed(asker: Asker) -> None:
    """The test's own teeth: a metric that is not there is empty, and a broken query is an error."""
    wrong = {
        "targets": [{"expr": 'sum(rate(postern_reqests_total{cluster=~"$cluster"}[$__rate_interval]))', "refId": "A"}]
    }
    (answer,) = await asyncio.to_thread(asker.panel, wrong)
    assert not answer.has_numbers
    with pytest.raises(AskError, match="parse error"):
        await asyncio.to_thread(asker.panel, {"targets": [{"expr": "sum(", "refId": "A"}]})
