"""The dashboard *Routing*: what the router says, what follows from it, and whether it is right."""

from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.board import Board, Panel
from deploy.grafana.look import (
    GREEN,
    NUMBER,
    ORANGE,
    RED,
    REQUESTS_PER_S,
    SECONDS,
    SHARE,
    YELLOW,
    bars,
    bounded,
    cells,
    curves,
    figure,
    heat,
    histogram,
    layers,
    now,
    query,
)
from deploy.grafana.scope import ROUTE, increase, or_zero, quantile, rate, ratio, series

REQUESTS = series("postern_requests_total", ROUTE)
ANSWERS = series("postern_requests_total", ROUTE, 'status="ok"', 'tier!="none"')
STRONG = series("postern_requests_total", ROUTE, 'status="ok"', 'tier="strong"')
SCORES = series("postern_score_bucket", ROUTE)
THRESHOLD = series("postern_threshold", ROUTE)
DECIDING = series("postern_router_requests_total", ROUTE, 'mode!="shadow"', 'decision=~"weak|strong"')
DECIDED_STRONG = series("postern_router_requests_total", ROUTE, 'mode!="shadow"', 'decision="strong"')
AGREEMENT = series("postern_router_agreement_total", ROUTE)
AGREES = series("postern_router_agreement_total", ROUTE, 'agrees="true"')
MARKS = series("postern_feedback_total", ROUTE)
GOOD = series("postern_feedback_total", ROUTE, 'verdict="good"')
DRIFT = series("postern_drift_psi")
CALIBRATION_ERROR = series("postern_calibration_error")
CALIBRATION_BIAS = series("postern_calibration_bias")
CONFIDENCES = series("postern_cascade_confidence_bucket", ROUTE)
ESCALATED = series("postern_requests_total", ROUTE, 'reason="escalated"')
CASCADED = series("postern_cascade_confidence_count", ROUTE)
CLASSIFY = "postern_classify_seconds"
SURE = {0.1: YELLOW, 0.25: RED}
"""From 0.1 on a population stability index is worth a look, from 0.25 on the population is another one."""


def strong_share() -> Panel:
    """The share of the answers that the strongest model of a route gave, whatever the reason.

    Normal: near what the threshold, or `strong_share`, aims at; forced, pinned and fallback answers come on top.

    Do: see below which reason it is, where it is off by more than a few points.
    """
    panel = figure("Strong share", SHARE).min(0).max(1)
    return panel.with_target(query(ratio(or_zero(rate(STRONG)), rate(ANSWERS))))


def threshold_now() -> Panel:
    """The score from which the strongest model serves, as it stands; the mean over routes and gateways.

    Normal: as configured; with `strong_share` it moves slowly, so that the share holds.

    Do: at 0 or 1 the share asked for can't be reached: look at the scores.
    """
    panel = figure("Threshold", NUMBER, {0.02: GREEN, 0.98: ORANGE}, ORANGE)
    return panel.decimals(3).with_target(query(f"avg({THRESHOLD})"))


def mean_score() -> Panel:
    """The mean of the scores, 0 (the weak model does as well) to 1 (only the strong one will do).

    Normal: steady for the same traffic. It is the first to move when another kind of prompt comes.

    Do: look at drift below where it has moved by 0.1 and stays.
    """
    scores = series("postern_score_sum", ROUTE)
    count = series("postern_score_count", ROUTE)
    return figure("Mean score", NUMBER).decimals(3).with_target(query(ratio(rate(scores), rate(count))))


def worst_drift() -> Panel:
    """How far live prompts are from those the router was trained on: the largest index of all signals.

    Normal: under 0.1. It is told from 200 judged requests on.

    Do: above 0.25 adapt the router to your traffic (`postern adapt`): its scores mean less than they did.
    """
    panel = figure("Drift, the worst signal", NUMBER, SURE).decimals(2)
    return panel.with_target(query(f"max({DRIFT})"))


def worst_calibration() -> Panel:
    """How far the router's chances are from what users say of the answers, in the mean.

    Normal: under 0.1; chance alone gives 0.08 at 200 marks, before which nothing is told.

    Do: above 0.2 run `postern calibrate` on marked answers; without feedback this stays empty.
    """
    panel = figure("Calibration error", NUMBER, {0.1: YELLOW, 0.2: RED}).decimals(3)
    return panel.with_target(query(f"max({CALIBRATION_ERROR})"))


def good_share() -> Panel:
    """The share of marks that call an answer good (`POST /v1/feedback`).

    Normal: above 0.8; those who are displeased mark more often.

    Do: compare weak and strong below. Where only the weak side is bad, lower the threshold.
    """
    panel = figure("Marked good", SHARE, {0.6: ORANGE, 0.8: GREEN}, RED).max(1)
    return panel.with_target(query(ratio(or_zero(rate(GOOD)), rate(MARKS))))


def agreement_now() -> Panel:
    """How often routers in shadow would have decided as the one that serves.

    Normal: 0.8 to 0.95 for a new version; 1 means that it changes nothing.

    Do: look at what they differ in before a shadow is given a share.
    """
    panel = figure("Shadows agree", SHARE).max(1)
    return panel.with_target(query(ratio(or_zero(rate(AGREES)), rate(AGREEMENT))))


def unjudged() -> Panel:
    """Requests a second that no router judged because it failed: the strong model answers them.

    Normal: 0.

    Do: anything else costs money at once: see the runbook of fail-open, and `router_refused` in the log.
    """
    failed = series("postern_fail_open_total", 'stage="classify"')
    return figure("Judging failed", REQUESTS_PER_S, {0.000001: RED}).with_target(query(or_zero(rate(failed))))


def score_heat() -> Panel:
    """Scores over time: the brighter, the more requests have this score.

    Normal: two bands, easy prompts low and hard ones high, at the same height from day to day.

    Do: a band that moves or a new one is another kind of traffic: look at drift, and at the share it changes.
    """
    return heat("Scores over time", NUMBER).with_target(cells(f"sum by (le) (increase({SCORES}[$__rate_interval]))"))


def score_histogram() -> Panel:
    """How many requests of the time shown have which score; a bar's name is its upper bound.

    Normal: most of them left of the threshold.

    Do: where many lie close to the threshold, a small change of it moves much money: change it in small steps.
    """
    asked = now(increase(SCORES, "le"), "{{le}}").format(PromQueryFormat.HEATMAP)
    return histogram("Scores in the time shown").with_target(asked)


def score_quantiles() -> Panel:
    """A tenth, half and nine tenths of the requests have a score under these.

    Normal: level curves; the threshold stands where the share of strong answers asks for it.

    Do: where the median has passed the threshold, most requests are strong: is that what is paid for?
    """
    return (
        curves("Scores and threshold", NUMBER)
        .max(1)
        .with_target(query(quantile(0.9, SCORES), "90 %"))
        .with_target(query(quantile(0.5, SCORES), "median"))
        .with_target(query(quantile(0.1, SCORES), "10 %"))
        .with_target(query(f"avg by (route) ({THRESHOLD})", "threshold of {{route}}"))
    )


def share_by_route() -> Panel:
    """The share of strong decisions among those that the score took, route by route, beside the share that is wanted.

    Normal: with `strong_share` within a point of what is wanted after some 500 requests; else what the threshold gives.

    Do: where it stays off, all gateways must reach the same Redis: they hold the share together.
    """
    wanted = f"avg by (route) ({series('postern_strong_share_wanted', ROUTE)})"
    return (
        curves("Strong share by route, against the one wanted", SHARE)
        .max(1)
        .with_target(query(ratio(rate(DECIDED_STRONG, "route"), rate(DECIDING, "route")), "{{route}}"))
        .with_target(query(wanted, "wanted of {{route}}"))
    )


def reasons() -> Panel:
    """Why the model that answered was chosen: the score, or what came before it.

    Normal: `score` and `cache` lead. `capability` and `context` are requests that only some models can serve.

    Do: `fallback` means failing upstreams, `classifier_unavailable` a failing router, both cost more than they need.
    """
    return layers("Reasons", REQUESTS_PER_S, 8).with_target(query(rate(REQUESTS, "reason"), "{{reason}}"))


def tiers() -> Panel:
    """Requests by the place on the ladder of the model that answered; `none`: no model did.

    Normal: the same mix from day to day.

    Do: a growing `none` is errors: see *Service*.
    """
    return layers("Weak, middle, strong", REQUESTS_PER_S, 8).with_target(query(rate(REQUESTS, "tier"), "{{tier}}"))


def drift() -> Panel:
    """The population stability index of the score and of every signal that the router reads, against its training.

    Normal: under 0.1. Signals of language and length move first.

    Do: from the yellow line on look which signal it is; from the red one on adapt the router.
    """
    panel = bounded(curves("Drift by signal", NUMBER, 8), SURE).decimals(2)
    return panel.with_target(query(f"max by (router, signal) ({DRIFT})", "{{router}}: {{signal}}"))


def calibration() -> Panel:
    """The mean distance between the chance that the router gave an answer and the marks it got.

    Normal: under 0.1, for both tiers.

    Do: where one tier is off, calibrate anew on its marks.
    """
    panel = bounded(curves("Calibration error", NUMBER, 8), {0.1: YELLOW, 0.2: RED}).decimals(3)
    return panel.with_target(query(f"max by (router, tier) ({CALIBRATION_ERROR})", "{{router}}: {{tier}}"))


def bias() -> Panel:
    """By how much the router's chances are above the marks: over 0 it trusts the models too much.

    Normal: between -0.1 and 0.1.

    Do: far above 0 on the weak tier users are let down: lower the threshold. Far under 0 money is given away.
    """
    panel = bounded(curves("Calibration bias", NUMBER, 8), {-0.1: "transparent", 0.1: RED}, RED)
    panel = panel.min(-1).max(1).decimals(3).axis_centered_zero(True)
    # Of a router that was replaced NaN is told, which would make the mean over gateways NaN.
    asked = f"avg by (router, tier) ({CALIBRATION_BIAS} >= -1)"
    return panel.with_target(query(asked, "{{router}}: {{tier}}"))


def marks() -> Panel:
    """Marks a second by verdict and tier.

    Normal: few, and mostly good.

    Do: without marks calibration can't be watched: have clients send `POST /v1/feedback`.
    """
    return layers("Feedback", REQUESTS_PER_S, 8).with_target(
        query(rate(MARKS, "tier, verdict"), "{{tier}} {{verdict}}")
    )


def good_by_tier() -> Panel:
    """The share of good marks by the tier that answered.

    Normal: weak a few points under strong: that is what the threshold trades for money.

    Do: widen or narrow that distance by the threshold, not by taste: `postern calibrate` reckons it.
    """
    panel = curves("Marked good by tier", SHARE, 8).max(1)
    return panel.with_target(query(ratio(rate(GOOD, "tier"), rate(MARKS, "tier")), "{{tier}}"))


def learning_rows() -> Panel:
    """Rows of the learning log by what became of them (`learning_log` in the configuration; off by default).

    Normal: `written` leads; `personal` rows are left out on purpose.

    Do: `full` or `failed`: the disk is slow, or full. Training on what is left is biased.
    """
    rows = series("postern_learning_log_rows_total")
    return curves("Learning log", REQUESTS_PER_S, 8).with_target(query(rate(rows, "outcome"), "{{outcome}}"))


def routers() -> Panel:
    """Requests that each router judged: as `main`, for its `share`, or in `shadow`, and the side that it took.

    Normal: shares as configured; a shadow sees as much as the router that serves.

    Do: compare the sides before a candidate takes over.
    """
    judged = series("postern_router_requests_total", ROUTE)
    return layers("Routers side by side", REQUESTS_PER_S, 8).with_target(
        query(rate(judged, "router, mode, decision"), "{{router}} {{mode}} {{decision}}")
    )


def agreement() -> Panel:
    """How often each shadow would have decided as the router that serves, route by route.

    Normal: level.

    Do: a fall at the same shadow means that the traffic has changed, not the router.
    """
    by = "route, router"
    panel = curves("Shadows that agree", SHARE, 8).max(1)
    return panel.with_target(query(ratio(rate(AGREES, by), rate(AGREEMENT, by)), "{{router}} on {{route}}"))


def shadow_dropped() -> Panel:
    """Requests a second that a shadow did not get to: it never holds up the ones that are served.

    Normal: 0.

    Do: where it stays above 0, the shadow is too slow for the traffic, and its figures are of a part only.
    """
    dropped = rate(series("postern_shadow_dropped_total"), "router")
    seen = rate(series("postern_router_requests_total", 'mode="shadow"'), "router")
    return curves("Shadows left behind", REQUESTS_PER_S, 8).with_target(query(f"{dropped} or 0 * {seen}", "{{router}}"))


def confidence() -> Panel:
    """How sure weaker models began, where a cascade judged their first tokens; bright: many.

    Normal: most of it high; what lies under the bound is given up and asked again.

    Do: set `min_confidence` where the lower band ends, or `escalate_share` and let it move by itself.
    """
    return heat("Confidence of first tokens", NUMBER, 8).with_target(
        cells(f"sum by (le) (increase({CONFIDENCES}[$__rate_interval]))")
    )


def escalated() -> Panel:
    """The share of the judged answers that were given up for a stronger model's.

    Normal: near `escalate_share`, or 0.1 to 0.3 with a fixed bound. Each one is paid twice.

    Do: above 0.5 the weak model is asked in vain: raise the bound, or send such prompts to the strong one at once.
    """
    panel = bounded(curves("Escalated by the cascade", SHARE, 8).max(1), {0.5: RED})
    return panel.with_target(query(ratio(rate(ESCALATED, "route"), rate(CASCADED, "route")), "{{route}}"))


def classify_time() -> Panel:
    """How long judging takes, half and 99 of a hundred requests, by router.

    Normal: 0.1 to 0.3 ms with the router that ships; a shadow's time holds up nobody.

    Do: above 2 ms the machine is short of CPU, or prompts are far longer than usual.
    """
    buckets = series(f"{CLASSIFY}_bucket")
    return (
        curves("Time to judge", SECONDS, 8)
        .with_target(query(quantile(0.99, buckets, "router"), "p99 {{router}}"))
        .with_target(query(quantile(0.5, buckets, "router"), "p50 {{router}}"))
    )


def models_by_route() -> Panel:
    """Answers of the time shown, by route and the model that gave them.

    Normal: the weak model of each route leads.

    Do: a model that no route uses any more can be taken out of the configuration.
    """
    answers = increase(series("postern_requests_total", ROUTE, 'status="ok"', 'model!="none"'), "route, model")
    return bars("Answers by route and model", NUMBER, 8).decimals(0).with_target(now(answers, "{{route}}: {{model}}"))


ROUTING = Board(
    name="routing",
    title="Routing",
    description="What the router says of the traffic, what is decided by it, and whether users find it right.",
    rows=[
        (
            "At a glance",
            [
                strong_share,
                threshold_now,
                mean_score,
                worst_drift,
                worst_calibration,
                good_share,
                agreement_now,
                unjudged,
            ],
        ),
        ("Scores", [score_heat, score_histogram, score_quantiles, share_by_route]),
        ("Decisions", [reasons, tiers, models_by_route]),
        ("Is the router right?", [drift, calibration, bias, marks, good_by_tier, learning_rows]),
        ("Routers side by side", [routers, agreement, shadow_dropped]),
        ("Cascade, and what judging costs", [confidence, escalated, classify_time]),
    ],
)
