"""The contract as an operator sees it: headers, metrics, logs, health, keys. What it names is pinned here."""

import asyncio
import json
import re

import httpx2
import pytest

from gateway.auth.keys import hash_key
from gateway.telemetry.names import FAIL_OPEN_STAGES
from tests.running import RunningGateway
from tests.upstream import Answer, DropConnection, Error, Hang

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALICE, BOB, FIXED = "pk-alice-SECRET", "pk-bob-SECRET", "pk-fixed-SECRET"
SECTIONS = {
    "cache": {"exact": {"ttl_s": 60}},
    "keys": {
        "required": True,
        "clients": {
            "alice": {"sha256": hash_key(ALICE), "threshold_min": 0.2, "threshold_max": 0.8},
            "bob": {"sha256": hash_key(BOB)},
            "fixed": {"sha256": hash_key(FIXED), "threshold_min": None, "threshold_max": None},
        },
    },
}
CHAT = {"model": "auto", "messages": [{"role": "user", "content": "PROMPT-SECRET: say hello."}]}
REASONS = {
    *("score", "pinned", "forced", "capability", "context", "domain", "private", "session", "escalated"),
    *("fallback", "budget", "brownout", "classifier_unavailable", "cache", "none"),
}
STAGES = {"auth", "limits", "cache", "classify", "upstream", "gateway"}
# name: type and labels, as the contract has them; postern_upstream_state is not built yet.
METRICS = {
    "postern_requests_total": ("counter", {"route", "model", "tier", "reason", "status"}),
    "postern_request_cost_usd_total": ("counter", {"route", "model"}),
    "postern_baseline_cost_usd_total": ("counter", {"route"}),
    "postern_saved_usd_total": ("counter", {"route"}),
    "postern_energy_wh_total": ("counter", {"model"}),
    "postern_overhead_seconds": ("histogram", {"stage"}),
    "postern_classify_seconds": ("histogram", {"router"}),
    "postern_score": ("histogram", {"route"}),
    "postern_cache_requests_total": ("counter", {"route", "outcome"}),
    "postern_upstream_attempts_total": ("counter", {"model", "outcome"}),
    "postern_in_flight": ("gauge", {"model"}),
    "postern_shed_total": ("counter", {"reason"}),
    "postern_fail_open_total": ("counter", {"stage"}),
    "postern_cancelled_total": ("counter", {"phase"}),
    "postern_redis_seconds": ("histogram", {"operation"}),
    "gen_ai_client_token_usage": ("histogram", None),
    "gen_ai_client_operation_duration_seconds": ("histogram", None),
    "gen_ai_server_time_to_first_token_seconds": ("histogram", None),
    "gen_ai_server_time_per_output_token_seconds": ("histogram", None),
}
NEVER_SEEN_HERE = {"postern_shed_total", "postern_fail_open_total", "postern_redis_seconds"}


def key(text: str = BOB, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"} | {name.replace("_", "-"): value for name, value in headers.items()}


async def ask(house, headers=None, **changes) -> httpx2.Response:
    return await house.post(json=CHAT | changes, headers=headers or key())


async def wait_for_log(house, since=0, **fields):
    return await house.gateway.wait_for("request", since=since, **fields)


async def test_a_miss_carries_every_header(house):
    response = await ask(house, seed=1)
    headers = response.headers
    assert headers["x-request-id"].startswith("req-")
    assert headers["x-postern-route"] == "auto"
    assert headers["x-postern-model"] in {"small", "large"}
    assert headers["x-postern-tier"] == {"small": "weak", "large": "strong"}[headers["x-postern-model"]]
    assert re.fullmatch(r"[01]\.\d{4}", headers["x-postern-score"])
    assert 0 <= float(headers["x-postern-threshold"]) <= 1
    is_strong = float(headers["x-postern-score"]) >= float(headers["x-postern-threshold"])
    assert headers["x-postern-tier"] == ("strong" if is_strong else "weak")
    assert headers["x-postern-reason"] == "score"
    assert headers["x-postern-cache"] == "miss"
    assert float(headers["x-postern-cost-usd"]) > 0
    assert headers["x-postern-attempts"] == "1"
    assert "x-postern-fleet" not in headers


async def test_server_timing_names_every_stage_and_adds_up(house):
    house.weak.script(Answer(ttft_s=0.1))
    response = await ask(house, key(x_postern_threshold="1"), seed=2)
    timing = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"])}
    assert set(timing) == STAGES
    assert timing["upstream"] >= 99
    parts = ("auth", "limits", "cache", "classify")
    assert sum(timing[part] for part in parts) <= timing["gateway"] + 0.01
    assert timing["gateway"] < timing["upstream"]


@pytest.mark.parametrize(
    ("control", "outcomes"),
    [
        ("", ["miss", "hit", "hit"]),
        ("no-cache", ["bypass", "bypass", "hit"]),
        ("no-store", ["bypass", "bypass", "miss"]),
        ("max-age=100", ["miss", "hit", "hit"]),
        ("NO-STORE", ["bypass", "bypass", "miss"]),
    ],
)
async def test_cache_control_is_minded(house, control, outcomes):
    asked = key(cache_control=control)
    seen = [await ask(house, headers, user=f"control {control}") for headers in (asked, asked, key())]
    assert [one.headers["x-postern-cache"] for one in seen] == outcomes


async def test_what_is_not_known_is_not_said(house):
    response = await house.post(content=b"{", headers=key())
    assert [name for name in response.headers if name.startswith("x-postern")] == []
    assert response.headers["x-request-id"]


async def test_an_upstreams_failure_tells_its_attempts(house):
    house.weak.script(Error(500))
    house.strong.script(Error(500))
    response = await ask(house, seed=3)
    assert (response.status_code, response.headers["x-postern-attempts"]) == (502, "2")


async def test_route_explains_and_calls_no_model(house):
    response = await house.post("/v1/route", json=CHAT, headers=key(x_postern_threshold="1"))
    told = response.json()
    assert told["route"] == "auto"
    assert (told["model"], told["tier"], told["reason"], told["threshold"]) == ("small", "weak", "score", 1.0)
    assert 0 <= told["score"] <= 1
    assert [one["model"] for one in told["candidates"]] == ["small", "large"]
    assert all(one["can_serve"] for one in told["candidates"])
    # The router tells how many tokens the answer will have: the same for both models.
    weak, strong = (one["estimated_cost_usd"] for one in told["candidates"])
    assert told["prompt_tokens"] * 1e-6 < weak < (told["prompt_tokens"] + 256 * 2) * 1e-6
    assert strong == pytest.approx(10 * weak)
    assert house.weak.requests == house.strong.requests == []


async def test_route_decides_as_the_request_would(house):
    for prompt in ("hi", "Prove that there are infinitely many primes, step by step, and give two proofs."):
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
        told = (await house.post("/v1/route", json=body, headers=key())).json()
        headers = (await house.post(json=body, headers=key(cache_control="no-store"))).headers
        assert told["model"] == headers["x-postern-model"]
        assert f"{told['score']:.4f}" == headers["x-postern-score"]


async def test_health_needs_no_key(house):
    for path, status in (("/health/live", "live"), ("/health/ready", "ready")):
        response = await house.get(path)
        assert (response.status_code, response.json()) == (200, {"status": status})
    assert (await house.http.get(house.gateway.admin_url + "/health/live")).status_code == 200


async def test_metrics_and_admin_are_on_the_admin_port_only(house):
    assert (await house.http.get(house.gateway.admin_url + "/metrics")).status_code == 200
    assert (await house.http.get(house.gateway.admin_url + "/admin/config")).status_code == 200
    for path in ("/metrics", "/admin/config", "/admin"):
        assert (await house.get(path, headers=key())).status_code == 404
    for path in ("/v1/models", "/v1/chat/completions"):
        assert (await house.http.get(house.gateway.admin_url + path, headers=key())).status_code == 404


async def test_the_configuration_shown_hides_keys(house):
    text = (await house.http.get(house.gateway.admin_url + "/admin/config")).text
    assert "SECRET" not in text
    assert "auto" in json.loads(text)["routes"]


MADE_UP = ["made-up-model-XYZ", "made-up-path-XYZ", "made-up-id-XYZ", "SECRET", "made-up-tier-XYZ", "made-up-field-XYZ"]


async def load(house) -> None:
    """Mixed traffic: good, cached, streamed, refused, failing, cancelled; with names that a client made up."""
    house.weak.script(Answer("ANSWER-SECRET one two"))
    house.strong.script(Answer("ANSWER-SECRET one two"))
    for _ in range(2):
        await ask(house, key(x_request_id="made-up-id-XYZ"), seed=10)
        await ask(house, seed=11, stream=True)
    await house.post("/v1/embeddings", json={"model": "auto", "input": "PROMPT-SECRET"}, headers=key())
    await ask(house, model="made-up-model-XYZ")
    await ask(house, key("pk-made-up-SECRET"))
    await ask(house, key(x_postern_tier="made-up-tier-XYZ"))
    await ask(house, key(x_postern_session="SESSION-SECRET"), **{"made-up-field-XYZ": "SECRET", "user": "USER-SECRET"})
    await house.get("/v1/made-up-path-XYZ", headers=key())
    await house.get("/v1/models/made-up-model-XYZ", headers=key())
    house.weak.script(Error(500, {"error": {"message": "UPSTREAM-SECRET"}}), DropConnection(before_headers=True))
    await ask(house, model="small", seed=12)
    await ask(house, model="small", seed=13)
    house.weak.script(Hang())
    with pytest.raises(httpx2.ReadTimeout):
        await house.post(json=CHAT | {"model": "small", "seed": 14}, headers=key(), timeout=0.3)
    await wait_for_log(house, status="cancelled")


async def test_every_metric_of_the_contract_is_there(house):
    await load(house)
    text = await house.metrics()
    for name, (kind, labels) in METRICS.items():
        # prometheus_client's text format keeps a counter's `_total` in its TYPE line.
        assert f"# TYPE {name} {kind}" in text
        if labels is None or name in NEVER_SEEN_HERE:
            continue
        sample = re.search(rf"^{name}(?:_bucket|_count)?\{{(.*?)\}} ", text, re.MULTILINE)
        assert sample, name
        assert set(re.findall(r'(\w+)="', sample[1])) - {"le"} == labels


async def test_buckets_begin_where_the_contract_says(house):
    await load(house)
    text = await house.metrics()
    for name, first in (("postern_overhead_seconds", "5e-05"), ("postern_classify_seconds", "2e-05")):
        bounds = re.findall(rf'^{name}_bucket{{le="(.*?)"', text, re.MULTILINE)
        assert bounds[0] == first
    scores = set(re.findall(r'^postern_score_bucket{le="(.*?)"', text, re.MULTILINE))
    assert len(scores - {"+Inf"}) == 20


async def test_labels_are_closed_sets(house):
    await load(house)
    values: dict[str, set[str]] = {}
    for line in (await house.metrics()).splitlines():
        if not line.startswith("#"):
            for name, value in re.findall(r'(\w+)="(.*?)"', line):
                values.setdefault(name, set()).add(value)
    configured = {"auto", "small", "large"}
    assert values["route"] <= configured | {"other", "none"}
    assert values["model"] <= configured | {"none"}
    assert values["reason"] <= REASONS | {"overloaded", "draining"}
    assert values["tier"] <= {"weak", "strong", "middle", "none"}
    assert values["stage"] <= STAGES | set(FAIL_OPEN_STAGES)
    assert values["gen_ai_operation_name"] == {"chat", "embeddings"}
    assert "ok" in values["status"]
    assert {"cancelled", "model_not_found", "invalid_api_key", "upstream_error"} <= values["status"]


async def test_nothing_a_client_said_is_in_metrics_or_log(house):
    await load(house)
    await wait_for_log(house, status="invalid_value")
    metrics, log = await house.metrics(), json.dumps(house.gateway.log)
    assert [word for word in MADE_UP if word in metrics] == []
    # The request's id is in the log by contract; nothing else is.
    assert [word for word in MADE_UP if word in log.replace("made-up-id-XYZ", "")] == []
    assert not any(event["event"] == "unreadable" for event in house.gateway.log)


async def test_every_request_has_one_line_in_the_log(house):
    since = len(house.gateway.log)
    house.weak.script(Answer("one two", prompt_tokens=1000, completion_tokens=500))
    response = await ask(house, key(ALICE, x_request_id="log-1"), model="small", seed=20)
    row = await wait_for_log(house, since, request_id="log-1")
    assert response.headers["x-request-id"] == "log-1"
    facts = {name: row[name] for name in ("operation", "caller", "route", "model", "reason", "cache", "status")}
    assert facts == {
        "operation": "chat",
        "caller": "alice",
        "route": "small",
        "model": "small",
        "reason": "pinned",
        "cache": "miss",
        "status": "ok",
    }
    assert (row["prompt_tokens"], row["completion_tokens"], row["attempts"]) == (1000, 500, 1)
    assert row["cost_usd"] == pytest.approx(0.002)
    await asyncio.sleep(0.05)
    lines = [one["event"] for one in house.gateway.log if one.get("request_id") == "log-1"]
    assert lines == ["request"]


async def test_a_request_refused_for_its_head_has_its_line_too(house):
    since = len(house.gateway.log)
    await ask(house, {"Authorization": "Bearer nobody", "x-request-id": "log-2"})
    row = await wait_for_log(house, since, request_id="log-2")
    assert (row["status"], row["caller"], row["route"]) == ("invalid_api_key", None, None)


V1 = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/route"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/small"),
    ("GET", "/v1/models/nobody"),
]
NO_KEYS = [
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": ALICE},
    {"Authorization": f"Basic {ALICE}"},
    {"Authorization": f"Bearer {ALICE}x"},
    {"Authorization": f"Bearer {hash_key(ALICE)}"},
    {"Authorization": "Bearer"},
    {"x-api-key": ALICE},
]


@pytest.mark.parametrize(("method", "path"), V1)
async def test_without_a_key_every_endpoint_is_closed(house, method, path):
    for headers in NO_KEYS:
        response = await house.http.request(method, house.gateway.root + path, json=CHAT, headers=headers)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (401, "invalid_api_key"), headers
        assert "SECRET" not in response.text
    assert house.weak.requests == house.strong.requests == []


async def test_a_key_opens_whatever_its_scheme_is_spelled_like(house):
    for scheme in ("Bearer", "bearer", "BEARER"):
        response = await house.get("/v1/models", headers={"Authorization": f"{scheme} {ALICE}"})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("caller", "threshold", "status"),
    [
        *[(ALICE, "0.2", 200), (ALICE, "0.8", 200), (ALICE, "0.19", 403), (ALICE, "0.81", 403)],
        *[(BOB, "0", 200), (BOB, "1", 200), (FIXED, "0.5", 403), (FIXED, None, 200)],
    ],
)
async def test_a_key_bounds_the_threshold(house, caller, threshold, status):
    headers = key(caller) | ({"x-postern-threshold": threshold} if threshold else {})
    for path in ("/v1/chat/completions", "/v1/route"):
        response = await house.post(path, json=CHAT, headers=headers)
        assert response.status_code == status
        if status == 403:
            assert response.json()["error"]["code"] == "threshold_forbidden"


@pytest.mark.parametrize(("caller", "status"), [(ALICE, 403), (FIXED, 403), (BOB, 200)])
async def test_a_forced_tier_is_no_way_around_the_bounds(house, caller, status):
    for tier in ("weak", "strong"):
        response = await ask(house, key(caller, x_postern_tier=tier))
        assert response.status_code == status


async def test_tenants_never_share_an_answer(house):
    house.weak.script(Answer("for alice"), Answer("for bob"))
    texts = []
    for caller in (ALICE, BOB, ALICE, BOB):
        response = await ask(house, key(caller), model="small", seed=30)
        assert response.status_code == 200, response.text
        texts.append((response.json()["choices"][0]["message"]["content"], response.headers["x-postern-cache"]))
    assert texts == [("for alice", "miss"), ("for bob", "miss"), ("for alice", "hit"), ("for bob", "hit")]


async def test_the_built_in_fleet_says_that_it_is_simulated(house, tmp_path):
    async with RunningGateway(None, tmp_path, OLLAMA_HOST="http://127.0.0.1:1") as gateway:
        await gateway.wait_for("simulated_fleet")
        answer = await house.http.post(gateway.url + "/chat/completions", json=CHAT)
        models = (await house.http.get(gateway.url + "/models")).json()["data"]
    assert (answer.status_code, answer.headers["x-postern-fleet"]) == (200, "simulated")
    assert [one["id"] for one in models if one["postern"].get("simulated")] == ["simulated-small", "simulated-large"]
