"""The life of tracing in a whole gateway: what is sampled, collectors that fail, reloads, workers, stops."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.collector import WEAK, Client, Collector, Took, config_of
from tests.faults.wire import ask, call, eventually, scrape
from tests.integration.redis_server import RedisServer, need_redis
from tests.running import RunningGateway, two_models
from tests.upstream import Upstream, refused_url


async def test_a_share_of_new_traces_is_recorded_and_upstreams_are_told_which(tmp_path: Path) -> None:
    async with (
        Collector() as collector,
        Upstream() as weak,
        RunningGateway(config_of(collector, weak, weak, sample_ratio=0.5), tmp_path) as gateway,
    ):
        for number in range(60):
            await call(gateway.url, ask(f"share {number}", "auto"), **WEAK)
        told = [request.headers["traceparent"].split("-") for request in weak.requests]
        recorded = {trace_id for _, trace_id, _, flags in told if flags == "01"}
        assert len({trace_id for _, trace_id, _, _ in told}) == 60
        assert 10 < len(recorded) < 50
        await eventually(lambda: {span.trace_id for span in collector.spans} == recorded, 5.0)


async def test_a_client_that_is_not_followed_does_not_decide(tmp_path: Path) -> None:
    async with Collector() as collector, Upstream() as weak:
        tracing = {"sample_ratio": 0, "follow_parent": False}
        async with RunningGateway(config_of(collector, weak, weak, **tracing), tmp_path) as gateway:
            client = Client()
            await call(gateway.url, ask("not followed", "auto"), **WEAK, **client.headers)
            assert weak.requests[-1].headers["traceparent"] == client.headers["traceparent"]
        assert not collector.requests


async def test_without_tracing_a_clients_trace_is_passed_on_as_it_came(tmp_path: Path) -> None:
    async with Upstream() as weak, RunningGateway(two_models(weak.url, weak.url), tmp_path) as gateway:
        client = Client(state="v=1")
        await call(gateway.url, ask("hi", "auto"), **client.headers, baggage="user=secret")
        sent = weak.requests[-1].headers
        assert (sent["traceparent"], sent["tracestate"]) == (client.headers["traceparent"], "v=1")
        assert "baggage" not in sent
        await call(gateway.url, ask("hi", "auto"))
        assert "traceparent" not in weak.requests[-1].headers
        assert await gateway.wait_for("request", trace_id=client.trace_id)
        assert [row for row in gateway.log if row["event"] == "request" and "trace_id" not in row]


async def test_the_environments_collector_is_taken_where_the_configuration_names_none(tmp_path: Path) -> None:
    async with Collector() as collector, Upstream() as weak:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b",
            "OTEL_SERVICE_NAME": "front",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod",
        }
        async with RunningGateway(two_models(weak.url, weak.url), tmp_path, **environ) as gateway:
            await call(gateway.url, ask("hi", "auto"))
            await eventually(lambda: bool(collector.spans), 5.0)
        resource = collector.spans[0].resource
        assert (resource["service.name"], resource["deployment.environment.name"]) == ("front", "prod")
        assert collector.requests[0].headers["x-key"] == "a b"


async def test_a_stop_sends_what_is_left(tmp_path: Path) -> None:
    async with (
        Collector() as collector,
        Upstream() as weak,
        RunningGateway(config_of(collector, weak, weak), tmp_path) as gateway,
    ):
        client = Client()
        await call(gateway.url, ask("last", "auto"), **client.headers)
        gateway.signal(signal.SIGTERM)
        await gateway.process.wait()
        assert await collector.trace(client.trace_id)


@pytest.mark.parametrize("behaviour", [None, Took(503), Took(delay_s=60)], ids=["dead", "failing", "hanging"])
async def test_a_collector_that_is_away_slows_no_request_and_no_stop(tmp_path: Path, behaviour: Took | None) -> None:
    async with Collector() as collector, Upstream() as weak:
        config = config_of(collector, weak, weak, max_queued_spans=512)
        if behaviour is None:
            config["tracing"]["endpoint"] = refused_url()
        else:
            collector.script(behaviour)
        async with RunningGateway(config, tmp_path) as gateway:
            slowest_s = 0.0
            for number in range(120):
                began_s = time.perf_counter()
                answer = await call(gateway.url, ask(f"away {number}", "small"), **WEAK)
                assert answer.status == 200
                slowest_s = max(slowest_s, time.perf_counter() - began_s)
            assert slowest_s < 1.0
            dropped = (await scrape(gateway.admin_url)).sum("postern_spans_total", outcome="queue_full")
            assert dropped > 0
            if behaviour is None or behaviour.status == 503:
                assert await gateway.wait_for("tracing_failing")
            began_s = time.perf_counter()
            gateway.signal(signal.SIGTERM)
            await gateway.process.wait()
            assert time.perf_counter() - began_s < 5.0


async def test_a_collector_that_comes_back_gets_what_waited(tmp_path: Path) -> None:
    async with Collector() as collector, Upstream() as weak:
        collector.script(Took(503), Took(429, headers={"retry-after": "0"}), Took())
        async with RunningGateway(config_of(collector, weak, weak), tmp_path) as gateway:
            client = Client()
            await call(gateway.url, ask("waits", "auto"), **client.headers)
            assert await gateway.wait_for("tracing_failing", 8.0)
            assert await gateway.wait_for("tracing_recovered", 8.0)
            first, *others = [request.body for request in collector.requests]
            assert len(others) == 2
            assert set(others) == {first}


async def test_a_reload_takes_another_collector_and_can_turn_tracing_off(tmp_path: Path) -> None:
    async with Collector() as one, Collector() as other, Upstream() as weak:
        async with RunningGateway(config_of(one, weak, weak), tmp_path) as gateway:
            before, after, off = Client(), Client(), Client()
            await call(gateway.url, ask("before", "auto"), **WEAK, **before.headers)
            gateway.write(config_of(other, weak, weak))
            await gateway.wait_for("reloaded")
            await call(gateway.url, ask("after", "auto"), **WEAK, **after.headers)
            await one.trace(before.trace_id)
            await other.trace(after.trace_id)
            since = len(gateway.log)
            gateway.write(two_models(weak.url, weak.url))
            await gateway.wait_for("reloaded", since=since)
            await call(gateway.url, ask("off", "auto"), **WEAK, **off.headers)
            assert weak.requests[-1].headers["traceparent"] == off.headers["traceparent"]
        assert {span.trace_id for span in other.spans} == {after.trace_id}
        assert {span.trace_id for span in one.spans} == {before.trace_id}


@need_redis
async def test_each_worker_sends_its_own_spans(tmp_path: Path) -> None:
    async with Collector() as collector, Upstream() as weak:
        with RedisServer(tmp_path) as redis:
            config = config_of(collector, weak, weak) | {"redis": {"url": redis.url}}
            async with RunningGateway(config, tmp_path, "--workers", "2") as gateway:
                async with asyncio.timeout(30):
                    while len({span.resource["service.instance.id"] for span in collector.spans}) < 2:
                        await asyncio.gather(*(call(gateway.url, ask("each", "auto"), **WEAK) for _ in range(20)))
                        await asyncio.sleep(0.2)
