"""The dashboard *Service*: how much is asked, how well it is answered, and what the gateway itself takes for it."""

from deploy.grafana.board import Board, Panel
from deploy.grafana.look import (
    NUMBER,
    RED,
    REQUESTS_PER_S,
    SECONDS,
    SHARE,
    YELLOW,
    bounded,
    cells,
    curves,
    figure,
    heat,
    layers,
    now,
    query,
)
from deploy.grafana.scope import ANSWERED, ASKED, CLIENTS_FAULT, MODEL, ROUTE, or_zero, quantile, rate, ratio, series
from deploy.grafana.vitals import (
    cpu,
    loop_lag,
    memory,
    open_files,
    redis_rate,
    redis_state,
    redis_times,
    reload_age,
    reload_state,
)

REQUESTS = series("postern_requests_total", ROUTE, MODEL)
JUDGED = series("postern_requests_total", ROUTE, MODEL, f'status!~"{CLIENTS_FAULT}"')
FAILED = series("postern_requests_total", ROUTE, MODEL, f'status!~"ok|{CLIENTS_FAULT}"')
ROUTE_JUDGED = series("postern_requests_total", ROUTE, f'status!~"{CLIENTS_FAULT}"')
ROUTE_FAILED = series("postern_requests_total", ROUTE, f'status!~"ok|{CLIENTS_FAULT}"')
REFUSED = series("postern_requests_total", ROUTE, MODEL, 'status!~"ok|cancelled"')
TTFT = series("gen_ai_server_time_to_first_token_seconds_bucket", ASKED, ANSWERED)
TPOT = series("gen_ai_server_time_per_output_token_seconds_bucket", ASKED, ANSWERED)
DURATION = series("gen_ai_client_operation_duration_seconds_bucket", ASKED, ANSWERED, 'error_type=""')
OVERHEAD = series("postern_overhead_seconds_bucket")
GATEWAY = series("postern_overhead_seconds_bucket", 'stage="gateway"')
CACHE = series("postern_cache_requests_total", ROUTE)
HITS = series("postern_cache_requests_total", ROUTE, 'outcome=~"hit|shared"')
LOOKED_UP = series("postern_cache_requests_total", ROUTE, 'outcome!="bypass"')


def request_rate() -> Panel:
    """Requests that ended, a second, errors too.

    Normal: the shape of your working day.

    Do: 0 while clients call means that nothing reaches the gateway: look at the ingress.
    """
    return figure("Requests", REQUESTS_PER_S).with_target(query(rate(REQUESTS)))


def error_share() -> Panel:
    """The share of requests that failed by the gateway's fault or a model server's.

    Normal: under 0.1 %. What clients did wrong, or gave up, is left out.

    Do: see below which code it is; `upstream_*` goes on in *Upstreams*.
    """
    panel = figure("Failed", SHARE, {0.001: YELLOW, 0.01: RED}).decimals(2)
    return panel.with_target(query(ratio(or_zero(rate(FAILED)), rate(JUDGED))))


def ttft_now() -> Panel:
    """Time to the first token that 95 of a hundred streams stay under; answers that come whole have none.

    Normal: 0.2 to 2 s, as the models and the prompts are.

    Do: above your objective see below which model it is; then its queue in *Upstreams*.
    """
    panel = figure("TTFT p95", SECONDS, {2.5: YELLOW, 10.0: RED})
    return panel.with_target(query(quantile(0.95, TTFT)))


def overhead_now() -> Panel:
    """The gateway's own time in a request, upstreams left out, that 99 of a hundred requests stay under.

    Normal: 0.3 to 3 ms.

    Do: above 10 ms the process has too little CPU or Redis is slow: both are below.
    """
    panel = figure("Overhead p99", SECONDS, {0.01: YELLOW, 0.05: RED})
    return panel.with_target(query(quantile(0.99, GATEWAY)))


def hit_ratio_now() -> Panel:
    """The share of requests that were answered from the cache or shared another's call, of those that may be.

    Normal: 5 to 40 %, as alike as the prompts are; 0 where `cache` is not configured.

    Do: 0 with a cache: clients send `Cache-Control: no-cache`, or Redis is down.
    """
    return figure("Cache hits", SHARE).with_target(query(ratio(or_zero(rate(HITS)), rate(LOOKED_UP))))


def in_flight_now() -> Panel:
    """Requests that are at models at this moment.

    Normal: requests a second times their mean duration.

    Do: near `limits.max_in_flight` times the gateways requests are about to be shed: add gateways.
    """
    return figure("In flight", NUMBER).decimals(0).with_target(query(f"sum({series('postern_in_flight', MODEL)})"))


def fail_open_now() -> Panel:
    """Stages a second that failed and were passed by: answers were given, worse or dearer than they could be.

    Normal: 0.

    Do: anything else has an alert with a runbook; by stage below.
    """
    panel = figure("Failing open", REQUESTS_PER_S, {0.000001: RED})
    return panel.with_target(query(or_zero(rate(series("postern_fail_open_total")))))


def version() -> Panel:
    """Gateways by the version that they run.

    Normal: one version; two while a new one is rolled out.

    Do: two for longer than that: a rollout is stuck.
    """
    asked = now(f"count by (version) ({series('postern_build_info')})", "{{version}}")
    return figure("Gateways by version", NUMBER).decimals(0).with_target(asked)


def rate_by_route() -> Panel:
    """Requests a second by the route that was asked for; `other`: names that are none of ours, `none`: no body came.

    Normal: the shape of your working day.

    Do: a growing `other` is a client with a wrong model name.
    """
    return layers("Requests by route", REQUESTS_PER_S).with_target(query(rate(REQUESTS, "route"), "{{route}}"))


def rate_by_model() -> Panel:
    """Requests a second by the model that answered; `none`: no model did.

    Normal: the weak models lead.

    Do: see *Routing* for why it is another one.
    """
    return layers("Requests by model", REQUESTS_PER_S).with_target(query(rate(REQUESTS, "model"), "{{model}}"))


def errors_by_code() -> Panel:
    """Requests a second that were not answered, by the code that the client got: its own faults and ours.

    Normal: a few `invalid_*` and `model_not_found`, which are clients' mistakes.

    Do: `upstream_*`: *Upstreams*. `overloaded`: add gateways. `invalid_api_key`: a key was revoked, or someone tries.
    """
    return layers("Errors by code", REQUESTS_PER_S).with_target(query(rate(REFUSED, "status"), "{{status}}"))


def errors_by_route() -> Panel:
    """The share of each route's requests that failed by the gateway's fault or a model server's.

    Normal: under the first line, 0.1 %.

    Do: at the second, 1 %, a month's budget of 0.5 % is gone in two weeks: see the alert's runbook.
    """
    failed = f"({rate(ROUTE_FAILED, 'route')} or 0 * {rate(ROUTE_JUDGED, 'route')})"
    panel = bounded(curves("Failed by route", SHARE), {0.001: YELLOW, 0.01: RED})
    return panel.with_target(query(ratio(failed, rate(ROUTE_JUDGED, "route")), "{{route}}"))


def ttft() -> Panel:
    """Time from the request's arrival to the first byte of a stream. Answers that come whole are in the duration only.

    Normal: the median 0.1 to 1 s; p99 up to ten times that.

    Do: all three up: models are slow or their queues full. p99 only: long prompts, or fallbacks.
    """
    return spread("Time to the first token", TTFT)


def tpot() -> Panel:
    """Time a token of a stream after the first one: how fast an answer is read out.

    Normal: 10 to 50 ms; people read at some 200 ms a word.

    Do: rising with the requests that run: the model's batch is full; add a replica.
    """
    return spread("Time per output token", TPOT)


def duration() -> Panel:
    """Time from the request's arrival to the end of a good answer.

    Normal: the first token, and tokens times the time a token takes.

    Do: compare with the tokens a request in *Money*: answers may just have grown.
    """
    return spread("Duration", DURATION)


def spread(title: str, buckets: str) -> Panel:
    """Draw three quantiles of a histogram."""
    panel = curves(title, SECONDS, 8)
    for share, name in ((0.99, "p99"), (0.95, "p95"), (0.5, "p50")):
        panel = panel.with_target(query(quantile(share, buckets), name))
    return panel


def ttft_heat() -> Panel:
    """Times to the first token; the brighter, the more streams.

    Normal: a band for each model, level.

    Do: a second band high above: cold starts, queues, or a fallback after a time-out.
    """
    return heat("Times to the first token", SECONDS).with_target(
        cells(f"sum by (le) (increase({TTFT}[$__rate_interval]))")
    )


def ttft_by_model() -> Panel:
    """Time to the first token that 95 of a hundred streams stay under, by the model that answered.

    Normal: small models under large ones.

    Do: one model up and others not: see its replicas in *Upstreams*.
    """
    by = "gen_ai_response_model"
    return curves("TTFT p95 by model", SECONDS).with_target(
        query(quantile(0.95, TTFT, by), "{{gen_ai_response_model}}")
    )


def overhead_median() -> Panel:
    """The gateway's own time, half of the requests, by stage; `gateway` is all of them together.

    Normal: 0.15 to 0.5 ms in all, most of it to judge.

    Do: this is the price of the gateway: a stage that grows is a fault worth a report.
    """
    return curves("Overhead by stage, p50", SECONDS).with_target(query(quantile(0.5, OVERHEAD, "stage"), "{{stage}}"))


def overhead_worst() -> Panel:
    """The gateway's own time that 99 of a hundred requests stay under, by stage.

    Normal: under 3 ms in all.

    Do: `cache` up: Redis or the way to it. All up: too little CPU, or something holds the loop (its lag is below).
    """
    return curves("Overhead by stage, p99", SECONDS).with_target(query(quantile(0.99, OVERHEAD, "stage"), "{{stage}}"))


def cache_outcomes() -> Panel:
    """What the cache did: `hit`, `shared` (another's call under way), `miss`, or `bypass` (not asked).

    Normal: mostly misses in chats; many hits with fixed prompts.

    Do: all `bypass`: no cache is configured, or clients forbid it.
    """
    return layers("Cache", REQUESTS_PER_S, 8).with_target(query(rate(CACHE, "outcome"), "{{outcome}}"))


def hit_ratio() -> Panel:
    """The share of requests that were answered from the cache or shared another's call, by route.

    Normal: level for each route.

    Do: a fall: the entries' time has run out (`cache.exact.ttl_s`), or Redis evicts them (`maxmemory`).
    """
    hits = f"({rate(HITS, 'route')} or 0 * {rate(LOOKED_UP, 'route')})"
    panel = curves("Cache hits by route", SHARE, 8).max(1)
    return panel.with_target(query(ratio(hits, rate(LOOKED_UP, "route")), "{{route}}"))


def in_flight() -> Panel:
    """Requests at each model.

    Normal: follows the requests a second.

    Do: climbing at a steady rate of requests: that model has slowed down.
    """
    asked = f"sum by (model) ({series('postern_in_flight', MODEL)})"
    return layers("In flight by model", NUMBER, 8).with_target(query(asked, "{{model}}"))


def shed() -> Panel:
    """Requests a second refused with 503: too many at once (`overloaded`), or a gateway that stops (`draining`).

    Normal: 0.

    Do: `overloaded`: add gateways or raise `limits.max_in_flight`. `draining`: the load balancer is late to notice.
    """
    return curves("Shed", REQUESTS_PER_S, 8).with_target(
        query(rate(series("postern_shed_total"), "reason"), "{{reason}}")
    )


def cancelled() -> Panel:
    """Requests a second whose client went away, by where they stood; the model is freed at once.

    Normal: a few in `relay`: users who have read enough.

    Do: many in `upstream`: clients give up waiting; compare their time-outs with the time to the first token.
    """
    return curves("Clients gone", REQUESTS_PER_S, 8).with_target(
        query(rate(series("postern_cancelled_total"), "phase"), "{{phase}}")
    )


def fail_open() -> Panel:
    """Stages a second that failed and were passed by.

    Normal: 0.

    Do: `classify`: the router, and money. `cache`, `session`, `feedback`, `strong_share`: Redis. `cascade`: no log
    probabilities came. `metrics`, `log`: a fault of ours.
    """
    return curves("Failing open by stage", REQUESTS_PER_S, 8).with_target(
        query(rate(series("postern_fail_open_total"), "stage"), "{{stage}}")
    )


SERVICE = Board(
    name="service",
    title="Service",
    description="How much is asked, how well and how fast it is answered, and what the gateway itself takes for it.",
    shown="now-1h",
    rows=[
        (
            "At a glance",
            [request_rate, error_share, ttft_now, overhead_now, hit_ratio_now, in_flight_now, fail_open_now, version],
        ),
        ("Traffic and errors", [rate_by_route, rate_by_model, errors_by_code, errors_by_route]),
        ("Latency", [ttft, tpot, duration, ttft_heat, ttft_by_model]),
        ("The gateway's own time", [overhead_median, overhead_worst]),
        ("Cache and load", [cache_outcomes, hit_ratio, in_flight, shed, cancelled, fail_open]),
        ("Redis", [redis_state, redis_times, redis_rate]),
        ("Process", [cpu, memory, open_files, loop_lag, reload_state, reload_age]),
    ],
)
