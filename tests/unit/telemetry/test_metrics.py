"""Metrics of finished requests, counted by hand; labels come from closed sets."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.clock import Stage
from gateway.core.context import Bill, CacheOutcome, Caller, Charge, Phase, Reason, Usage, Verdict
from gateway.core.errors import DrainingError, InvalidJsonError, ModelNotFoundError, OverloadedError
from gateway.core.judgement import Judgement
from gateway.telemetry import names
from gateway.telemetry.metrics import Metrics, merged_registry, render
from tests.builders import context, decided_context, request

GATEWAY = Path(__file__).parents[3] / "gateway"


@pytest.fixture
def metrics():
    found = Metrics(CollectorRegistry())
    found.know({"auto", "small", "large"})
    return found


def finished(**facts):
    known = {"model": "small", "reason": Reason.SCORE, "cache_outcome": CacheOutcome.MISS, "judgement": Judgement(0.23)}
    return decided_context(**{**known, **facts})


def samples(metrics):
    """Every sample that is not zero, by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.value
    }


def test_a_finished_request_is_counted_once_with_all_that_is_known(metrics):
    for _ in range(3):
        metrics.record(finished())
    found = samples(metrics)
    assert found["postern_requests_total", "auto", "small", "weak", "score", "ok"] == 3
    assert found["postern_cache_requests_total", "auto", "miss"] == 3
    assert found["postern_score_count", "auto"] == 3
    assert found["gen_ai_client_operation_duration_seconds_count", "chat", "auto", "small", ""] == 3


def test_a_bill_is_added_up(metrics):
    for _ in range(2):
        metrics.record(finished(usage=Usage(100, 50), bill=Bill(0.25, 1.0, energy_wh=3.0)))
    metrics.record(finished(model="large", usage=Usage(100, 50), bill=Bill(1.5, 1.0)))
    found = samples(metrics)
    assert found["postern_request_cost_usd_total", "auto", "small"] == 0.5
    assert found["postern_request_cost_usd_total", "auto", "large"] == 1.5
    assert found["postern_baseline_cost_usd_total", "auto"] == 3.0
    assert found["postern_saved_usd_total", "auto"] == 1.5
    assert found["postern_energy_wh_total", "small"] == 6.0
    assert found["gen_ai_client_token_usage_sum", "chat", "auto", "small", "input"] == 200
    assert found["gen_ai_client_token_usage_sum", "chat", "auto", "small", "output"] == 100


def test_what_a_team_costs_adds_up_to_what_all_costs(metrics):
    charge = Charge("small", Usage(100, 16), cost_usd=0.25)
    metrics.record(finished(usage=Usage(1, 1), bill=Bill(0.5, 1.0), caller=Caller("a", "client:a", team="search")))
    metrics.record(finished(usage=Usage(1, 1), bill=Bill(0.75, 1.0, charge=charge), caller=Caller("b", "client:b")))
    metrics.record(finished(model=None, bill=Bill(0.25, charge=charge), caller=None))
    found = samples(metrics)
    assert found["postern_team_cost_usd_total", "search"] == 0.5
    assert found["postern_team_cost_usd_total", "none"] == 1.0
    assert found["postern_team_baseline_cost_usd_total", "search"] == 1.0
    assert found["postern_team_baseline_cost_usd_total", "none"] == 1.0
    assert sum(value for name, value in found.items() if name[0] == "postern_request_cost_usd_total") == 1.5


def test_what_has_not_happened_yet_is_told_as_0_so_that_its_first_time_is_a_rise(metrics):
    metrics.foresee(["small", "large"], {"search", None})
    text = render(metrics.registry)[0].decode().splitlines()
    for stage in names.FAIL_OPEN_STAGES:
        assert f'postern_fail_open_total{{stage="{stage}"}} 0.0' in text
    for phase in Phase:
        assert f'postern_cancelled_total{{phase="{phase}"}} 0.0' in text
    for reason in ("overloaded", "draining"):
        assert f'postern_shed_total{{reason="{reason}"}} 0.0' in text
    for model in ("small", "large"):
        assert f'postern_in_flight{{model="{model}"}} 0.0' in text
    for team in ("search", "none"):
        assert f'postern_team_cost_usd_total{{team="{team}"}} 0.0' in text
        assert f'postern_team_baseline_cost_usd_total{{team="{team}"}} 0.0' in text


def test_every_stage_that_fails_open_is_foreseen():
    told = "".join(path.read_text() for path in (GATEWAY / "app.py", GATEWAY / "pipeline.py"))
    counted = {
        *re.findall(r'_count_fail_open\("(\w+)"\)', told),
        *re.findall(r'^\w+_STAGE = "(\w+)"', told, re.MULTILINE),
    }
    recorded = {
        *re.findall(r'(?:at_once|together)\["(\w+)"\]', told),
        *re.findall(r'"(\w+)": [\w.]+\.(?:record|remember)\b', told),
    }
    assert counted | recorded == set(names.FAIL_OPEN_STAGES)


def test_what_was_given_up_is_counted_at_the_model_that_had_begun_it(metrics):
    charge = Charge("small", Usage(100, 16), cost_usd=0.25, energy_wh=1.0)
    bill = Bill(1.25, 1.0, energy_wh=3.0, charge=charge)
    metrics.record(finished(model="large", reason=Reason.ESCALATED, usage=Usage(100, 50), bill=bill, charge=charge))
    found = samples(metrics)
    assert found["postern_requests_total", "auto", "large", "strong", "escalated", "ok"] == 1
    assert found["postern_request_cost_usd_total", "auto", "small"] == 0.25
    assert found["postern_request_cost_usd_total", "auto", "large"] == 1.0
    assert found["postern_energy_wh_total", "small"] == 1.0
    assert found["postern_energy_wh_total", "large"] == 2.0
    assert found["gen_ai_client_token_usage_sum", "chat", "auto", "small", "output"] == 16
    assert found["gen_ai_client_token_usage_sum", "chat", "auto", "large", "output"] == 50


def test_what_was_given_up_is_counted_where_no_answer_came(metrics):
    charge = Charge("small", Usage(100, 16), cost_usd=0.25)
    metrics.record(finished(model=None, is_cancelled=True, bill=Bill(0.25, charge=charge), charge=charge))
    assert samples(metrics)["postern_request_cost_usd_total", "auto", "small"] == 0.25


def test_a_loss_is_made_good_before_anything_counts_as_saved(metrics):
    for cost_usd in (1.5, 0.75, 0.5):
        metrics.record(finished(usage=Usage(1, 1), bill=Bill(cost_usd, 1.0)))
    assert samples(metrics)["postern_saved_usd_total", "auto"] == pytest.approx(3.0 - 1.5 - 0.75 - 0.5)


@pytest.mark.parametrize(
    ("confidence", "outcome", "count"),
    [(0.4, CacheOutcome.MISS, 1), (0.4, CacheOutcome.SHARED, 0), (None, CacheOutcome.MISS, 0)],
)
def test_confidence_is_counted_once_a_trial(metrics, confidence, outcome, count):
    metrics.record(finished(verdict=Verdict(confidence), cache_outcome=outcome))
    assert samples(metrics).get(("postern_cascade_confidence_count", "auto"), 0) == count


def test_time_to_the_first_token_and_time_per_token_after_it(metrics):
    streamed = {"request": request(stream=True), "bill": Bill()}
    metrics.record(finished(**streamed, usage=Usage(10, 5), first_token_s=0.5, last_token_s=2.5))
    metrics.record(finished(**streamed, usage=Usage(10, 1), first_token_s=0.25, last_token_s=0.25))
    found = samples(metrics)
    assert found["gen_ai_server_time_to_first_token_seconds_sum", "chat", "auto", "small"] == 0.75
    assert found["gen_ai_server_time_per_output_token_seconds_sum", "chat", "auto", "small"] == 0.5  # 2 s / 4
    assert found["gen_ai_server_time_per_output_token_seconds_count", "chat", "auto", "small"] == 1


def test_an_answer_that_comes_whole_tells_no_tokens_time(metrics):
    metrics.record(finished(usage=Usage(10, 5), bill=Bill(), first_token_s=3.0, last_token_s=3.0))
    assert not {name for name, *_ in samples(metrics) if "time_to_first" in name or "time_per_output" in name}


def test_overhead_is_measured_by_stage_and_as_a_whole_without_the_upstream(metrics):
    ctx = finished(router="default")
    ctx.stopwatch.durations_s = {Stage.AUTH: 0.25, Stage.CLASSIFY: 0.5, Stage.UPSTREAM: 8.0, Stage.GATEWAY: 1.0}
    metrics.record(ctx)
    found = samples(metrics)
    assert found["postern_overhead_seconds_sum", "auth"] == 0.25
    assert found["postern_overhead_seconds_sum", "classify"] == 0.5
    assert found["postern_overhead_seconds_sum", "gateway"] == 1.75
    assert ("postern_overhead_seconds_count", "upstream") not in found
    assert found["postern_classify_seconds_sum", "default"] == 0.5


def test_names_the_client_made_up_are_one_label(metrics):
    for number in range(50):
        ctx = context(request=request(model=f"made-up-{number}"), failure=ModelNotFoundError("no"))
        metrics.record(ctx)
    found = samples(metrics)
    assert found["postern_requests_total", "other", "none", "none", "none", "model_not_found"] == 50
    assert not any("made-up" in str(name) for name in found)


def test_a_request_that_never_named_a_model_has_none_as_labels(metrics):
    metrics.record(context(failure=InvalidJsonError("no")))
    found = samples(metrics)
    assert found["postern_requests_total", "none", "none", "none", "none", "invalid_json"] == 1
    assert not any(name[0].startswith("postern_cache") for name in found)


def test_names_are_unknown_until_they_are_configured_and_after_they_no_longer_are(metrics):
    metrics.know({"auto"})
    assert (metrics.label("auto"), metrics.label("small"), metrics.label(None)) == ("auto", "other", "none")


@pytest.mark.parametrize(
    ("error", "reason"), [(OverloadedError("full"), "overloaded"), (DrainingError("by"), "draining")]
)
def test_what_is_shed_is_counted_by_its_reason(metrics, error, reason):
    metrics.record(context(failure=error))
    assert samples(metrics)["postern_shed_total", reason] == 1


def test_a_client_that_went_away_is_counted_by_where_the_request_stood(metrics):
    metrics.record(finished(is_cancelled=True, phase=Phase.RELAY))
    found = samples(metrics)
    assert found["postern_cancelled_total", "relay"] == 1
    assert found["postern_requests_total", "auto", "small", "weak", "score", "cancelled"] == 1
    assert found["gen_ai_client_operation_duration_seconds_count", "chat", "auto", "small", "cancelled"] == 1


def test_a_score_falls_into_one_of_twenty_buckets(metrics):
    metrics.record(finished(judgement=Judgement(0.23)))
    text = render(metrics.registry)[0].decode()
    assert text.count("postern_score_bucket{") == 21  # and +Inf
    assert 'postern_score_bucket{le="0.2",route="auto"} 0.0' in text
    assert 'postern_score_bucket{le="0.25",route="auto"} 1.0' in text


def test_requests_at_a_model_come_and_go(metrics):
    for change in (1, 1, -1):
        metrics.track("small", change)
    assert samples(metrics)["postern_in_flight", "small"] == 1


def test_two_sets_of_metrics_share_nothing():
    one, other = Metrics(), Metrics()
    one.record(finished())
    assert samples(other) == {}


def test_workers_metrics_merge_from_an_empty_folder_to_nothing(tmp_path):
    assert render(merged_registry(str(tmp_path)))[0] == b""
