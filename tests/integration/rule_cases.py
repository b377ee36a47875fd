"""What each alert and recording rule is tried on: series as promtool takes them, and what is to come of them.

`@` in a series stands for the labels that a server attaches to what it scrapes: job, and in a cluster more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

HOUR, DAY = 60, 24 * 60

Series = dict[str, str]
Labels = dict[str, str]


@dataclass(frozen=True)
class Fires:
    """What is told: the labels beside those of `@`, the description, and how severe it is."""

    description: str
    labels: Labels = field(default_factory=dict)
    severity: str = "warning"


@dataclass(frozen=True)
class Case:
    """An alert on some series, looked at after `at_m` minutes: it fires so, or not at all."""

    alert: str
    name: str
    at_m: int
    series: Series
    fires: tuple[Fires, ...] = ()


@dataclass(frozen=True)
class Value:
    """A recorded series: its labels beside those of `@`, and its value."""

    value: float
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """A recording rule on some series, looked at after `at_m` minutes."""

    record: str
    name: str
    at_m: int
    series: Series
    values: tuple[Value, ...] = ()


def metric(name: str, **labels: str) -> str:
    """Return a series' name with the labels of `@` and others."""
    written = ",".join(["@", *(f'{label}="{value}"' for label, value in labels.items())])
    return f"{name}{{{written}}}"


def rising(*parts: tuple[float, int]) -> str:
    """Return a counter that rises by so much a minute for so many minutes, one part after the other."""
    value, written = 0.0, ["0"]
    for by, minutes in parts:
        written.append(f"{value + by:.12g}+{by:.12g}x{minutes - 1}")
        value += by * minutes
    return " ".join(written)


def flat(*parts: tuple[float, int]) -> str:
    """Return a gauge that holds a value for so many minutes, one part after the other."""
    return " ".join(f"{value:.12g}+0x{minutes - 1}" for value, minutes in parts)


def requests(status: str, *parts: tuple[float, int], tier: str = "weak", reason: str = "score") -> Series:
    """Return requests of a status, so many a minute."""
    labels = {"route": "auto", "model": "m", "tier": tier, "reason": reason, "status": status}
    return {metric("postern_requests_total", **labels): rising(*parts)}


Parts = list[tuple[float, int]]
Make = Callable[[Parts, int], Series]
"""Makes series of which none is bad for so many minutes, then shares of them for so many each."""


def streams(parts: Parts, before: int, total: float = 1000) -> Series:
    """Return streams, of which shares begin late after a while of none."""
    name = "gen_ai_server_time_to_first_token_seconds"
    labels = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "auto", "gen_ai_response_model": "m"}
    minutes = sum(minutes for _, minutes in parts)
    early = [(total * (1 - share), minutes) for share, minutes in parts]
    return {
        metric(f"{name}_count", **labels): rising((total, before + minutes)),
        metric(f"{name}_bucket", le="2.5", **labels): rising((total, before), *early),
        metric(f"{name}_bucket", le="+Inf", **labels): rising((total, before + minutes)),
    }


def failing(parts: Parts, before: int, total: float = 1000) -> Series:
    """Return requests, of which shares fail after a while of none; clients' faults beside them."""
    minutes = sum(minutes for _, minutes in parts)
    good = [(total * (1 - share), minutes) for share, minutes in parts]
    bad = [(total * share, minutes) for share, minutes in parts]
    return {
        **requests("ok", (total, before), *good),
        **requests("upstream_error", (0, before), *bad, tier="none"),
        **requests("invalid_api_key", (total, before + minutes), tier="none", reason="none"),
        **requests("cancelled", (total, before + minutes)),
    }


@dataclass(frozen=True)
class Burning:
    """How a budget burns so that one pair of windows fires, and two ways in which one of the two is nearly over.

    Each is a share of requests that fail for so many minutes, after `before` of none.
    """

    before: int
    fires: tuple[float, int]
    value: str
    long_nearly: tuple[float, int]
    short_nearly: tuple[tuple[float, int], ...]


WINDOWS = {
    ("5m", "1h", "14.4", "critical"): Burning(6 * HOUR, (0.1, 50), "7.869%", (0.085, 50), ((0.1, 50), (0.07, 6))),
    ("30m", "6h", "6", "critical"): Burning(
        2 * DAY, (0.04, 6 * HOUR), "3.945%", (0.04, 260), ((0.04, 6 * HOUR), (0.029, 36))
    ),
    ("2h", "1d", "3", "warning"): Burning(
        3 * DAY, (0.02, 20 * HOUR), "1.661%", (0.02, 17 * HOUR), ((0.017, 1290), (0.014, 130))
    ),
    ("6h", "3d", "1", "warning"): Burning(
        1, (0.006, 3 * DAY), "0.5999%", (0.006, 3450), ((0.006, 3 * DAY), (0.0049, 370))
    ),
}
SPANS = {"1h": "an hour", "6h": "six hours", "1d": "a day", "3d": "three days"}


def burnt(alert: str, told: str, objective: str, scale: int, make: Make) -> list[Case]:
    """Return the cases of an error budget, `scale` times one of half a percent."""
    cases = []
    for (short, long, times, severity), burning in WINDOWS.items():
        over = "over what" if times == "1" else f"over {times} times what"
        value = f"{float(burning.value[:-1]) * scale:.4g}%"
        description = f"{value} {told.format(SPANS[long])} That is {over} an objective of {objective} allows."
        fires = Fires(description, {"short": short, "long": long}, severity)
        ways = {
            f"burns in {long}": (burning.fires,),
            f"burns in {short}, nearly in {long}": (burning.long_nearly,),
            f"burnt in {long}, nearly over in {short}": burning.short_nearly,
        }
        for name, parts in ways.items():
            before = 3 * DAY - parts[0][1] if parts == (burning.long_nearly,) and long == "3d" else burning.before
            series = make([(share * scale, minutes) for share, minutes in parts], before)
            at_m = before + sum(minutes for _, minutes in parts)
            cases.append(Case(alert, name, at_m, series, (fires,) if parts == (burning.fires,) else ()))
    return cases


ERRORS, TTFT = "PosternErrorBudgetBurn", "PosternTTFTBudgetBurn"
NINE = ((9.2 / 30, 30), (0.001, 20)), ((9.2 / 30, 30), (0.001, 270))
"""Hardly more than nine in half an hour, and next to none after it."""
BEGINNINGS = {"1h": (6 * HOUR, 1.0, 8), "6h": (2 * DAY, 0.06, 190), "1d": (3 * DAY, 0.02, 1110), "3d": (1, 0.006, 120)}
"""Minutes of none, and a share for some minutes: over the bounds, and not yet for as long as an alert waits."""


def late_only(*parts: tuple[float, int]) -> Series:
    """Return streams, so many a minute, that all begin late."""
    name = "gen_ai_server_time_to_first_token_seconds"
    minutes = sum(minutes for _, minutes in parts)
    return {metric(f"{name}_count"): rising(*parts), metric(f"{name}_bucket", le="2.5"): rising((0, minutes))}


BUDGETS = [
    *burnt(
        ERRORS, "of the requests to postern in {} were failed by the gateway or its upstreams.", "99.5 %", 1, failing
    ),
    *burnt(TTFT, "of the streams of postern in {} began after more than 2.5 s.", "95 %", 10, streams),
    *(
        Case(
            ERRORS,
            f"a handful in {sum(m for _, m in parts)} minutes",
            60 + sum(m for _, m in parts),
            requests("upstream_error", (0, 60), *parts),
        )
        for parts in NINE
    ),
    *(
        Case(
            TTFT,
            f"a handful in {sum(m for _, m in parts)} minutes",
            60 + sum(m for _, m in parts),
            late_only((0, 60), *parts),
        )
        for parts in NINE
    ),
    *(
        Case(ERRORS, f"begins to burn in {long}", before + minutes, failing([(share, minutes)], before))
        for long, (before, share, minutes) in BEGINNINGS.items()
    ),
    *(
        Case(TTFT, f"begins to burn in {long}", before + minutes, streams([(min(1.0, 10 * share), minutes)], before))
        for long, (before, share, minutes) in BEGINNINGS.items()
        if long != "1h"
    ),
    # Burning 14.4 times as fast as 5 % an hour takes most of the hour.
    Case(TTFT, "begins to burn in 1h", 6 * HOUR + 47, streams([(1.0, 47)], 6 * HOUR)),
]

BUILD = metric("postern_build_info", instance="a:8081", version="1")
UP, UP_B = metric("up", instance="a:8081"), metric("up", instance="b:8081")
BUILD_B = metric("postern_build_info", instance="b:8081", version="1")
OVERLOADED = metric("postern_shed_total", reason="overloaded", instance="a:8081")


REFUSED = {metric("postern_config_last_reload_successful", instance="a:8081", pod="a"): flat((1, 10), (0, 11))}
LEFT = requests("cancelled", (20, 20), tier="none")
DRAINING = {metric("postern_shed_total", reason="draining"): rising((50, 20))}


def shedding(shed: float, served: float) -> Series:
    """Return requests a minute that are sent away, and others."""
    return {
        OVERLOADED: rising((shed, 20)),
        **requests("ok", (served, 20)),
        **requests("overloaded", (shed, 20), tier="none"),
    }


def lag(late: float, minutes: int, *, by: str = "0.25") -> Series:
    """Return a loop looked at 240 times a minute, so many of them late: by 0.1 to 0.25 s, or by 0.05 to 0.1."""
    labels = {"instance": "a:8081", "pod": "a"}
    name = "postern_event_loop_lag_seconds_bucket"
    ends = {"0.001": 240 - late, "0.05": 240 - late, "0.1": 240 - late * (by == "0.25"), "0.25": 240.0, "+Inf": 240.0}
    return {metric(name, le=end, **labels): rising((rate, minutes)) for end, rate in ends.items()}


def attempts(ok: float, failed: float, minutes: int, outcome: str = "upstream_timeout") -> Series:
    """Return attempts a minute at one model."""
    name = "postern_upstream_attempts_total"
    return {
        metric(name, model="m", outcome="ok"): rising((ok, minutes)),
        metric(name, model="m", outcome=outcome): rising((failed, minutes)),
    }


def ready(a: float, b: float, minutes: int) -> Series:
    """Return two replicas of one model, ready or not."""
    return {
        metric("postern_upstream_ready", model="m", url=url): flat((1, 5), (value, minutes))
        for url, value in (("http://a", a), ("http://b", b))
    }


def routed(weak: float, strong: float, minutes: int, threshold: float = 0.3, wanted: float | None = None) -> Series:
    """Return requests that the route chose for, and others that say nothing of it. `wanted`: the share it holds."""
    held = {} if wanted is None else {metric("postern_strong_share_wanted", route="auto"): flat((wanted, minutes + 1))}
    return {
        **held,
        metric("postern_threshold", route="auto"): flat((threshold, minutes + 1)),
        **requests("ok", (weak, minutes), tier="weak"),
        **requests("ok", (strong, minutes), tier="strong"),
        **requests("ok", (50, minutes), tier="weak", reason="forced"),
        **requests("ok", (50, minutes), tier="strong", reason="cache"),
    }


NO_WEAK = (
    "For half an hour the route auto of postern has sent no request to a weaker model. It costs what it would without "
    "a gateway."
)
NO_STRONG = (
    "For an hour the route auto of postern has sent no request to its strongest model. Hard ones get weak answers."
)


def overheads(slow: float, quick: float, minutes: int, *, stage: str = "classify", by: str = "0.025") -> Series:
    """Return a stage's times a minute: in 0.1 ms, and slower: over 10 ms, or in 3 to 5."""
    name = "postern_overhead_seconds"
    total = quick + slow
    ends = {"0.0001": quick, "0.003": quick, "0.005": quick + slow * (by == "0.005"), "0.01": quick, "0.025": total}
    ends["0.01"] = max(ends["0.005"], quick)
    found = {metric(f"{name}_bucket", stage=stage, le=end): rising((rate, minutes)) for end, rate in ends.items()}
    found[metric(f"{name}_bucket", stage=stage, le="+Inf")] = rising((total, minutes))
    return {**found, metric(f"{name}_count", stage=stage): rising((total, minutes))}


def spent(usual: float, today: float, *, days: int = 7, before: float | None = None, asked: float = 10) -> Series:
    """Return USD a minute: as usual for days, then for two hours otherwise. `before`: of the first day."""
    first = usual if before is None else before
    cost = rising((first, 2 * HOUR), (usual, days * DAY - 2 * HOUR), (today, 2 * HOUR))
    return {
        metric("postern_request_cost_usd_total", route="auto", model="m"): cost,
        **requests("ok", (asked, days * DAY + 2 * HOUR)),
    }


WEEK = 7 * DAY + 2 * HOUR


def counted(name: str, by: float, minutes: int, **labels: str) -> Series:
    """Return one counter that rises by so much a minute."""
    return {metric(name, **labels): rising((by, minutes))}


CASES = [
    *BUDGETS,
    Case(
        "PosternDown",
        "none answers",
        20,
        {BUILD: flat((1, 11)) + " stale", UP: flat((1, 11), (0, 10))},
        (Fires("Of postern no gateway answers its metrics port; within a day there were 1.", severity="critical"),),
    ),
    Case(
        "PosternDown",
        "all are gone",
        20,
        {BUILD: flat((1, 11)) + " stale", UP: flat((1, 11)) + " stale"},
        (Fires("Of postern no gateway answers its metrics port; within a day there were 1.", severity="critical"),),
    ),
    Case(
        "PosternDown",
        "one answers",
        20,
        {BUILD: flat((1, 11)) + " stale", UP: flat((0, 21)), BUILD_B: flat((1, 21)), UP_B: flat((1, 21))},
    ),
    Case(
        "PosternDown",
        "only another pod of the same job answers",
        20,
        {BUILD: flat((1, 11)) + " stale", UP: flat((1, 11), (0, 10)), UP_B: flat((1, 21))},
        (Fires("Of postern no gateway answers its metrics port; within a day there were 1.", severity="critical"),),
    ),
    Case("PosternDown", "for a minute", 20, {BUILD: flat((1, 21)), UP: flat((1, 19), (0, 2))}),
    Case("PosternDown", "some other job", 20, {UP: flat((0, 21))}),
    Case(
        "PosternTargetDown",
        "one does not answer",
        20,
        {BUILD: flat((1, 11)) + " stale", UP: flat((1, 11), (0, 10)), BUILD_B: flat((1, 21)), UP_B: flat((1, 21))},
        (Fires("The gateway a:8081 of postern has not answered a scrape for five minutes.", {"instance": "a:8081"}),),
    ),
    Case("PosternTargetDown", "for four minutes", 20, {BUILD: flat((1, 17)) + " stale", UP: flat((1, 16), (0, 5))}),
    Case(
        "PosternTargetDown", "some other target", 20, {BUILD_B: flat((1, 21)), UP_B: flat((1, 21)), UP: flat((0, 21))}
    ),
    Case(
        "PosternReloadRefused",
        "refused",
        20,
        {metric("postern_config_last_reload_successful", instance="a:8081", pod="a"): flat((1, 10), (0, 11))},
        (
            Fires(
                "The gateway a:8081 of postern serves the configuration from before the last change, which is at "
                "fault.",
                {"instance": "a:8081", "pod": "a"},
            ),
        ),
    ),
    Case(
        "PosternReloadRefused",
        "mended in four minutes",
        20,
        {metric("postern_config_last_reload_successful", instance="a:8081"): flat((1, 10), (0, 4), (1, 7))},
    ),
    Case(
        "PosternShedding",
        "two in a hundred",
        20,
        {OVERLOADED: rising((20, 20)), **requests("ok", (980, 20)), **requests("overloaded", (20, 20), tier="none")},
        (
            Fires(
                "postern has answered 2% of its requests with 503: more are in flight than limits.max_in_flight.",
                severity="critical",
            ),
        ),
    ),
    Case(
        "PosternShedding",
        "one in two hundred",
        20,
        {OVERLOADED: rising((5, 20)), **requests("ok", (995, 20)), **requests("overloaded", (5, 20), tier="none")},
    ),
    Case(
        "PosternShedding",
        "a handful",
        20,
        {OVERLOADED: rising((1, 20)), **requests("ok", (1, 20)), **requests("overloaded", (1, 20), tier="none")},
    ),
    Case(
        "PosternShedding",
        "drained",
        20,
        {
            metric("postern_shed_total", reason="draining"): rising((20, 20)),
            **requests("draining", (20, 20), tier="none"),
        },
    ),
    Case(
        "PosternClientsGiveUp",
        "one in five",
        20,
        {**counted("postern_cancelled_total", 20, 20, phase="upstream"), **requests("ok", (80, 20)), **LEFT},
        (
            Fires(
                "20% of the requests to postern were given up by their clients while a model had not begun to answer.",
            ),
        ),
    ),
    Case(
        "PosternClientsGiveUp",
        "one in five, while they read",
        20,
        {**counted("postern_cancelled_total", 20, 20, phase="relay"), **requests("ok", (80, 20)), **LEFT},
    ),
    Case(
        "PosternClientsGiveUp",
        "one in twelve",
        20,
        {**counted("postern_cancelled_total", 20, 20, phase="upstream"), **requests("ok", (220, 20)), **LEFT},
    ),
    Case(
        "PosternClientsGiveUp",
        "a handful",
        20,
        {**counted("postern_cancelled_total", 1, 20, phase="upstream"), **requests("ok", (1, 20))},
    ),
    Case(
        "PosternClientsGiveUp",
        "for four minutes",
        4,
        {**counted("postern_cancelled_total", 20, 4, phase="upstream"), **requests("ok", (80, 4)), **LEFT},
    ),
    Case(
        "PosternEventLoopStalled",
        "three looks in a hundred are late",
        20,
        lag(7.2, 20),
        (
            Fires(
                "In the gateway a:8081 of postern one step in a hundred begins 200ms late; every request waits so "
                "long, several times.",
                {"instance": "a:8081", "pod": "a"},
            ),
        ),
    ),
    Case("PosternEventLoopStalled", "one look in two hundred is", 20, lag(1.2, 20)),
    Case(
        "PosternRedisDown",
        "to one of two",
        20,
        {
            metric("postern_redis_up", instance="a:8081"): flat((1, 10), (0, 11)),
            metric("postern_redis_up", instance="b:8081"): flat((1, 21)),
        },
        (
            Fires(
                "At least one gateway of postern gets no answer from Redis. Requests are served; what Redis shares "
                "is missed."
            ),
        ),
    ),
    Case(
        "PosternRedisDown", "for a minute", 20, {metric("postern_redis_up", instance="a:8081"): flat((1, 19), (0, 2))}
    ),
    Case(
        "PosternFailingOpen",
        "the cache",
        20,
        counted("postern_fail_open_total", 2, 20, stage="cache"),
        (
            Fires(
                "In postern the stage cache has failed 20 times in ten minutes. Requests were served without it.",
                {"stage": "cache"},
            ),
        ),
    ),
    Case(
        "PosternFailingOpen",
        "nine times",
        20,
        {metric("postern_fail_open_total", stage="classify"): rising((0, 8), (1, 9), (0, 3))},
    ),
    Case(
        "PosternFailingOpen",
        "what is not passed by in a request",
        20,
        counted("postern_fail_open_total", 2, 20, stage="metrics"),
    ),
    Case(
        "PosternRecordsFailing",
        "metrics",
        20,
        counted("postern_fail_open_total", 2, 20, stage="metrics"),
        (
            Fires(
                "In postern the part metrics has failed on 20 finished requests in ten minutes. What it would have "
                "told of them is missing.",
                {"stage": "metrics"},
            ),
        ),
    ),
    Case(
        "PosternRecordsFailing",
        "nine times",
        20,
        {metric("postern_fail_open_total", stage="log"): rising((0, 8), (1, 9), (0, 3))},
    ),
    Case(
        "PosternLearningLogFailing",
        "a full disk",
        20,
        counted("postern_learning_log_rows_total", 2, 20, outcome="failed"),
        (Fires("In postern 20 rows of the learning log were lost in ten minutes: failed.", {"outcome": "failed"}),),
    ),
    Case(
        "PosternLearningLogFailing",
        "nine rows",
        20,
        {metric("postern_learning_log_rows_total", outcome="full"): rising((0, 8), (1, 9), (0, 3))},
    ),
    Case(
        "PosternLearningLogFailing",
        "what is left out on purpose",
        20,
        counted("postern_learning_log_rows_total", 20, 20, outcome="personal"),
    ),
    Case(
        "PosternUpstreamFailing",
        "a fifth",
        20,
        attempts(80, 20, 20),
        (
            Fires(
                "In postern 20% of the calls to m fail. Fallbacks may hide it from clients, at their price.",
                {"model": "m"},
            ),
        ),
    ),
    Case("PosternUpstreamFailing", "nearly a tenth", 20, attempts(91, 9, 20)),
    Case("PosternUpstreamFailing", "a handful", 20, attempts(1, 1.8, 20)),
    Case("PosternUpstreamFailing", "clients' faults", 20, attempts(80, 20, 20, "upstream_rejected")),
    Case(
        "PosternUpstreamReplicaNotReady",
        "one of two",
        20,
        ready(1, 0, 16),
        (
            Fires(
                "At least one gateway of postern is told that http://b (m) takes no requests, or can't ask it.",
                {"model": "m", "url": "http://b"},
            ),
        ),
    ),
    Case("PosternUpstreamReplicaNotReady", "for nine minutes", 14, ready(1, 0, 16)),
    Case(
        "PosternModelNotReady",
        "both",
        9,
        ready(0, 0, 16),
        (Fires("To no gateway of postern any replica of m is ready.", {"model": "m"}, "critical"),),
    ),
    Case("PosternModelNotReady", "one of two", 20, ready(1, 0, 16)),
    Case("PosternModelNotReady", "for a minute", 6, ready(0, 0, 16)),
    Case(
        "PosternNoWeakTraffic",
        "none for half an hour",
        60,
        routed(0, 10, 60),
        (Fires(NO_WEAK, {"route": "auto"}),),
    ),
    Case(
        "PosternNoWeakTraffic",
        "one",
        60,
        {**routed(0, 10, 60), **requests("ok", (0, 45), (1, 1), (0, 14), tier="weak")},
    ),
    Case("PosternNoWeakTraffic", "a threshold of 0, as configured", 60, routed(0, 10, 60, 0)),
    Case("PosternNoWeakTraffic", "a strong share of 1, as configured", 60, routed(0, 10, 60, 0, 1)),
    Case(
        "PosternNoWeakTraffic",
        "a share that has moved the threshold to 0",
        60,
        routed(0, 10, 60, 0, 0.3),
        (Fires(NO_WEAK, {"route": "auto"}),),
    ),
    Case("PosternNoWeakTraffic", "a handful in all", 60, routed(0, 6, 60)),
    Case(
        "PosternNoStrongTraffic",
        "none for an hour",
        90,
        routed(10, 0, 90),
        (Fires(NO_STRONG, {"route": "auto"}),),
    ),
    Case(
        "PosternNoStrongTraffic",
        "one",
        90,
        {**routed(10, 0, 90), **requests("ok", (0, 60), (1, 1), (0, 29), tier="strong")},
    ),
    Case("PosternNoStrongTraffic", "a threshold of 1, as configured", 90, routed(10, 0, 90, 1)),
    Case("PosternNoStrongTraffic", "a strong share of 0, as configured", 90, routed(10, 0, 90, 1, 0)),
    Case(
        "PosternNoStrongTraffic",
        "a share that has moved the threshold to 1",
        90,
        routed(10, 0, 90, 1, 0.3),
        (Fires(NO_STRONG, {"route": "auto"}),),
    ),
    Case("PosternNoStrongTraffic", "a handful in all", 90, routed(8, 0, 90)),
    Case(
        "PosternRouterDrift",
        "for two hours",
        3 * HOUR,
        {
            metric("postern_drift_psi", router="r", signal="score", instance="a:8081"): flat((0.1, 30), (0.25, 160)),
            metric("postern_drift_psi", router="r", signal="score", instance="b:8081"): "NaN+0x190",
        },
        (
            Fires(
                "In postern the signal score of the router r has moved from its training: PSI 0.25.",
                {"router": "r", "signal": "score"},
            ),
        ),
    ),
    Case(
        "PosternRouterDrift",
        "a little",
        3 * HOUR,
        {metric("postern_drift_psi", router="r", signal="score"): flat((0.19, 190))},
    ),
    Case(
        "PosternRouterDrift",
        "for less than two hours",
        3 * HOUR,
        {metric("postern_drift_psi", router="r", signal="score"): flat((0.1, 65), (0.9, 120))},
    ),
    Case(
        "PosternRouterMiscalibrated",
        "for two hours",
        3 * HOUR,
        {metric("postern_calibration_error", router="r", tier="weak"): flat((0.1, 30), (0.2, 160))},
        (
            Fires(
                "In postern the chances that the router r gives answers of the weak tier are off by 0.20 in the mean.",
                {"router": "r", "tier": "weak"},
            ),
        ),
    ),
    Case(
        "PosternRouterMiscalibrated",
        "a little",
        3 * HOUR,
        {metric("postern_calibration_error", router="r", tier="weak"): flat((0.14, 190))},
    ),
    Case(
        "PosternClassifySlow",
        "two in a hundred",
        30,
        overheads(2, 98, 30),
        (
            Fires(
                "In postern one request in a hundred waits 17.5ms or longer to be judged; a tenth of a millisecond "
                "is usual."
            ),
        ),
    ),
    Case("PosternClassifySlow", "one in two hundred", 30, overheads(0.5, 99.5, 30)),
    Case("PosternClassifySlow", "a handful", 30, overheads(10, 9, 30)),
    Case(
        "PosternCostOverUsual",
        "twice",
        WEEK,
        spent(0.1, 0.2),
        (Fires("For an hour postern has cost 2.0 times what this hour of the day usually does."),),
    ),
    Case("PosternCostOverUsual", "nearly one and a half times", WEEK, spent(0.1, 0.148)),
    Case("PosternCostOverUsual", "as a week ago", WEEK, spent(0.1, 0.2, before=0.15)),
    Case("PosternCostOverUsual", "nearly, though far over a week ago", WEEK, spent(0.1, 0.13, before=0.05)),
    Case("PosternCostOverUsual", "for twenty minutes", WEEK - 2 * HOUR + 50, spent(0.1, 0.2)),
    Case("PosternCostOverUsual", "cents", WEEK, spent(0.01, 0.02)),
    Case("PosternCostOverUsual", "a handful of requests", WEEK, spent(0.1, 0.2, asked=1.5)),
    Case("PosternCostOverUsual", "two days old", 2 * DAY + 2 * HOUR, spent(0.1, 0.2, days=2)),
    Case("PosternCostOverUsual", "a first Monday, after a weekend", 4 * DAY + 2 * HOUR, spent(0.02, 0.2, days=4)),
    Case("PosternEventLoopStalled", "a little late", 20, lag(7.2, 20, by="0.1")),
    Case("PosternEventLoopStalled", "for four minutes", 4, lag(7.2, 20)),
    Case("PosternClassifySlow", "a little slow", 30, overheads(2, 98, 30, by="0.005")),
    Case("PosternClassifySlow", "for nine minutes", 9, overheads(2, 98, 30)),
    Case(
        "PosternClassifySlow", "another stage", 30, {**overheads(0, 100, 30), **overheads(50, 50, 30, stage="limits")}
    ),
    Case(
        "PosternClassifySlow",
        "a handful among others",
        30,
        {**overheads(9, 1, 30), **overheads(0, 1000, 30, stage="limits")},
    ),
    Case("PosternReloadRefused", "for three minutes", 13, REFUSED),
    Case("PosternShedding", "for four minutes", 4, shedding(20, 980)),
    Case("PosternShedding", "few of them among what is drained", 20, {**shedding(5, 995), **DRAINING}),
    Case("PosternShedding", "a handful among what is drained", 20, {**shedding(1, 1), **DRAINING}),
    Case("PosternFailingOpen", "for three minutes", 8, counted("postern_fail_open_total", 2, 20, stage="cache")),
    Case("PosternRecordsFailing", "for three minutes", 8, counted("postern_fail_open_total", 2, 20, stage="metrics")),
    Case(
        "PosternRecordsFailing",
        "what is passed by in a request",
        20,
        counted("postern_fail_open_total", 2, 20, stage="cache"),
    ),
    Case(
        "PosternLearningLogFailing",
        "for three minutes",
        8,
        counted("postern_learning_log_rows_total", 2, 20, outcome="failed"),
    ),
    Case("PosternUpstreamFailing", "for four minutes", 4, attempts(80, 20, 20)),
    Case("PosternNoWeakTraffic", "for a few minutes", 27, routed(0, 10, 60)),
    Case("PosternNoStrongTraffic", "for a few minutes", 63, routed(10, 0, 90)),
    Case(
        "PosternRouterMiscalibrated",
        "for less than two hours",
        3 * HOUR,
        {metric("postern_calibration_error", router="r", tier="weak"): flat((0.1, 65), (0.9, 120))},
    ),
]


def by_window(metric_name: str, ratios: tuple[float, ...], make: Make) -> list[Recorded]:
    """Return what a ratio's longer windows are tried on: a share that began an hour ago, after a day of none."""
    spans = ("30m", "1h", "2h", "6h", "1d", "3d")
    return [
        Recorded(
            f"job:{metric_name}:ratio_rate{span}",
            "began an hour ago",
            DAY + HOUR,
            make([(0.1, HOUR)], DAY),
            (Value(ratio),),
        )
        for span, ratio in zip(spans, ratios, strict=True)
    ]


HALF_FAIL = failing([(0.5, 10)], 1, total=60)
HALF_SLOW = streams([(0.5, 10)], 1, total=60)
THIRD_FAIL = {
    **attempts(40, 20, 10),
    **counted("postern_upstream_attempts_total", 60, 10, model="m", outcome="cancelled"),
}
THIRD_STRONG = routed(40, 20, 10)
RATIOS = (0.1, 0.1 * 12 / 13, 0.1 * 12 / 25, 0.1 * 12 / 73, 0.1 * 12 / 289, 0.1 * 12 / 300)
"""Of the looks every five minutes, the last twelve."""

NEVER_FAILED = counted("postern_upstream_attempts_total", 60, 10, model="m", outcome="ok")
NEVER_STRONG = {metric("postern_threshold", route="auto"): flat((0.3, 11)), **requests("ok", (60, 10))}
NONE_OF_M, NONE_OF_AUTO = Value(0.0, {"model": "m"}), Value(0.0, {"route": "auto"})

RECORDED = [
    Recorded("job:postern_slo_requests:rate5m", "not clients' faults", 11, HALF_FAIL, (Value(1.0),)),
    Recorded("job:postern_slo_errors:rate5m", "not clients' faults", 11, HALF_FAIL, (Value(0.5),)),
    Recorded("job:postern_slo_errors:rate5m", "0 where none ever failed", 11, requests("ok", (60, 11)), (Value(0.0),)),
    Recorded("job:postern_slo_errors:ratio_rate5m", "half", 11, HALF_FAIL, (Value(0.5),)),
    Recorded("job:postern_slo_errors:ratio_rate5m", "of nothing", 11, requests("ok", (0, 11))),
    *by_window("postern_slo_errors", RATIOS, failing),
    Recorded("job:postern_ttft_requests:rate5m", "all", 11, HALF_SLOW, (Value(1.0),)),
    Recorded("job:postern_ttft_slow:rate5m", "half", 11, HALF_SLOW, (Value(0.5),)),
    Recorded("job:postern_ttft_slow:ratio_rate5m", "half", 11, HALF_SLOW, (Value(0.5),)),
    *by_window("postern_ttft_slow", RATIOS, streams),
    Recorded(
        "job_model:postern_upstream_attempts:rate5m",
        "without what was given up",
        10,
        THIRD_FAIL,
        (Value(1.0, {"model": "m"}),),
    ),
    Recorded("job_model:postern_upstream_failures:rate5m", "a third", 10, THIRD_FAIL, (Value(1 / 3, {"model": "m"}),)),
    Recorded(
        "job_model:postern_upstream_failures:rate5m",
        "clients' faults",
        10,
        attempts(40, 20, 10, "upstream_rejected"),
        (Value(0.0, {"model": "m"}),),
    ),
    Recorded(
        "job_model:postern_upstream_failures:ratio_rate5m", "a third", 10, THIRD_FAIL, (Value(1 / 3, {"model": "m"}),)
    ),
    Recorded(
        "job_route:postern_routed_requests:rate5m",
        "without forced and cached",
        10,
        THIRD_STRONG,
        (Value(1.0, {"route": "auto"}),),
    ),
    Recorded("job_route:postern_routed_requests:rate5m", "no router", 10, requests("ok", (60, 10))),
    Recorded(
        "job_route:postern_routed_strong_requests:rate5m",
        "a third",
        10,
        THIRD_STRONG,
        (Value(1 / 3, {"route": "auto"}),),
    ),
    Recorded("job_route:postern_strong:ratio_rate5m", "a third", 10, THIRD_STRONG, (Value(1 / 3, {"route": "auto"}),)),
    Recorded("job:postern_request_cost_usd:rate5m", "a second", 10, spent(0.6, 0.6, days=1), (Value(0.01),)),
    Recorded("job:postern_request_cost_usd:rate1h", "a second", DAY, spent(0.6, 0.6, days=1), (Value(0.01),)),
    Recorded(
        "job:postern_request_cost_usd:usual_rate1h",
        "of three days",
        3 * DAY + 2 * HOUR,
        spent(0.6, 6, days=3),
        (Value(0.01),),
    ),
    Recorded("job:postern_request_cost_usd:usual_rate1h", "of two days", 2 * DAY + 2 * HOUR, spent(0.6, 6, days=2)),
    *(
        Recorded(f"job:postern_slo_errors:ratio_rate{span}", "of nothing", 11, requests("ok", (0, 11)))
        for span in ("30m", "1h", "2h", "6h", "1d", "3d")
    ),
    *(
        Recorded(f"job:postern_ttft_slow:ratio_rate{span}", "of nothing", 11, streams([(0, 10)], 1, total=0))
        for span in ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
    ),
    Recorded("job_model:postern_upstream_failures:ratio_rate5m", "of nothing", 10, attempts(0, 0, 10)),
    Recorded("job_model:postern_upstream_failures:rate5m", "0 where none ever failed", 10, NEVER_FAILED, (NONE_OF_M,)),
    Recorded("job_route:postern_strong:ratio_rate5m", "of nothing", 10, routed(0, 0, 10)),
    Recorded(
        "job_route:postern_routed_strong_requests:rate5m", "no router", 10, requests("ok", (60, 10), tier="strong")
    ),
    Recorded(
        "job_route:postern_routed_strong_requests:rate5m", "0 where none ever was", 10, NEVER_STRONG, (NONE_OF_AUTO,)
    ),
]
