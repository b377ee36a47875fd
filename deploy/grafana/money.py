"""The dashboard *Money*: what answers cost, what routing saves, and where it goes."""

from deploy.grafana.board import Board, Panel
from deploy.grafana.look import (
    GREEN,
    NUMBER,
    ORANGE,
    PER_S,
    RED,
    SHARE,
    USD,
    WATT_HOURS,
    WATTS,
    bars,
    column,
    curves,
    figure,
    layers,
    now,
    query,
    sheet,
)
from deploy.grafana.scope import (
    ANSWERED,
    ASKED,
    DAY_S,
    HOUR_S,
    MODEL,
    ROUTE,
    increase,
    or_zero,
    rate,
    ratio,
    series,
)

COST = series("postern_request_cost_usd_total", ROUTE, MODEL)
ROUTE_COST = series("postern_request_cost_usd_total", ROUTE)
BASELINE = series("postern_baseline_cost_usd_total", ROUTE)
SAVED = series("postern_saved_usd_total", ROUTE)
TEAM_COST = series("postern_team_cost_usd_total")
TEAM_BASELINE = series("postern_team_baseline_cost_usd_total")
ENERGY = series("postern_energy_wh_total", MODEL)
ANSWERS = series("postern_requests_total", ROUTE, MODEL, 'status="ok"')
ROUTE_ANSWERS = series("postern_requests_total", ROUTE, 'status="ok"', 'tier!="none"')
WEAK = series("postern_requests_total", ROUTE, 'status="ok"', 'tier="weak"')
TOKENS = series("gen_ai_client_token_usage_sum", ASKED, ANSWERED)
THOUSAND = 1_000


def cost() -> Panel:
    """USD that the answers in the time shown cost, by the prices in the configuration.

    Normal: follows the traffic. An answer from the cache costs nothing.

    Do: compare it with the provider's bill now and then; where they differ, mend `models.*.price`.
    """
    return figure("Cost", USD).with_target(now(increase(COST)))


def baseline() -> Panel:
    """USD that the same tokens would have cost, had the strongest candidate of each route answered all.

    Normal: above the cost. The same where a route has one model only.

    Do: nothing; it is what the savings are measured against. It does not heed the choice of models.
    """
    return figure("Cost without routing", USD).with_target(now(increase(BASELINE)))


def saved() -> Panel:
    """USD saved by routing and the cache: the cost without routing, less the cost.

    Normal: grows. A loss (a cascade that asked twice) is first made good by later savings, so it never falls.

    Do: where it stands still while requests come, look at *Routing*: nothing may be going to the weak model.
    """
    return figure("Saved", USD, {0.0: GREEN}, RED).with_target(now(increase(SAVED)))


def saved_share() -> Panel:
    """The share of the cost without routing that was saved.

    Normal: what `postern calibrate` foretold for the threshold; 40 to 90 % is usual with a price ratio of ten or more.

    Do: under 10 % routing hardly pays: look at the threshold and at the scores in *Routing*.
    """
    panel = figure("Saved share", SHARE, {0.1: ORANGE, 0.3: GREEN}, RED).min(0).max(1)
    return panel.with_target(now(ratio(increase(SAVED), increase(BASELINE))))


def forecast() -> Panel:
    """USD for the whole of this month at the pace of the time shown.

    Normal: steady when the time shown is a day or a week; at an hour it follows the time of day.

    Do: show the last seven days to plan with it. Time before the first scrape counts as without cost, and it knows
    nothing of what is still to come.
    """
    month = f"sum(rate({COST}[$__range])) * {DAY_S} * days_in_month()"
    return figure("Month at this pace", USD).with_target(now(month))


def weak_share() -> Panel:
    """The share of the answers that the weakest model of a route gave.

    Normal: one less the strong share that the threshold aims at; on routes of one model there is no weak one.

    Do: 0 on a route of several models means a stuck router: see the alert's runbook, and fail-open in *Service*.
    """
    panel = figure("Weak share", SHARE, {0.05: ORANGE, 0.2: GREEN}, RED).min(0).max(1)
    return panel.with_target(now(ratio(or_zero(increase(WEAK)), increase(ROUTE_ANSWERS))))


def energy() -> Panel:
    """Energy that answers took, by `models.*.energy` in the configuration: an estimate, not a meter.

    Normal: follows the traffic. Models without `energy` are not in it.

    Do: set `energy` from a measured watt-hour a thousand tokens, to compare models by it.
    """
    return figure("Energy", WATT_HOURS).with_target(now(increase(ENERGY)))


def request_cost() -> Panel:
    """USD of the mean answer in the time shown.

    Normal: steady for the same kind of traffic; between the weak model's and the strong one's.

    Do: where it rises while the strong share stays, prompts or answers have grown: see the tokens below.
    """
    return figure("Cost a request", USD).decimals(6).with_target(now(ratio(increase(COST), increase(ANSWERS))))


def cost_over_time() -> Panel:
    """What is spent an hour, and what would be without routing. The space between the two is saved.

    Normal: the cost well under the other curve, both with the shape of the traffic.

    Do: where the two meet, routing has stopped to save: look at the share of the weak model.
    """
    return (
        curves("Spent an hour, with and without routing", USD)
        .with_target(query(f"{rate(BASELINE)} * {HOUR_S}", "without routing"))
        .with_target(query(f"{rate(ROUTE_COST)} * {HOUR_S}", "with routing"))
    )


def saved_over_time() -> Panel:
    """The share that is saved, route by route.

    Normal: a level line for each route; it swings where few requests come.

    Do: a fall that begins at a purple line came with a new configuration; else look at drift in *Routing*.
    """
    panel = curves("Saved share by route", SHARE).max(1)
    return panel.with_target(query(ratio(rate(SAVED, "route"), rate(BASELINE, "route")), "{{route}}"))


def cost_by_route() -> Panel:
    """What is spent an hour, by the route that was asked for; `other`: a name that is none of ours.

    Normal: the same routes lead from day to day.

    Do: choose the route above that has grown, and see which model and which team it is.
    """
    return layers("Spent an hour by route", USD, 8).with_target(query(f"{rate(COST, 'route')} * {HOUR_S}", "{{route}}"))


def cost_by_model() -> Panel:
    """What is spent an hour, by the model that answered.

    Normal: strong models take most of it even with few requests: a price ratio of twenty does that.

    Do: where a strong model's part has grown, look at reasons in *Routing*: fallbacks and escalations cost too.
    """
    return layers("Spent an hour by model", USD, 8).with_target(query(f"{rate(COST, 'model')} * {HOUR_S}", "{{model}}"))


def cost_by_team() -> Panel:
    """What is spent an hour, by the team of the client's key (`keys.clients.*.team`); `none`: keys without one.

    Normal: the teams that build on the gateway, and little under `none`.

    Do: give keys a team; ask a team whose part has doubled. It does not heed the choices of route and model.
    """
    return layers("Spent an hour by team", USD, 8).with_target(
        query(f"{rate(TEAM_COST, 'team')} * {HOUR_S}", "{{team}}")
    )


def teams() -> Panel:
    """What each team spent and saved in the time shown, for passing the bill on.

    Normal: the sum of the costs is the cost above, if neither route nor model is chosen.

    Do: a team that saves little sends hard prompts, or names strong models itself.
    """
    columns = [("Cost", USD), ("Without routing", USD), ("Saved", SHARE)]
    share = ratio(
        f"({increase(TEAM_BASELINE, 'team')} - {increase(TEAM_COST, 'team')})", increase(TEAM_BASELINE, "team")
    )
    return (
        sheet("Teams", "team", columns, 8)
        .with_target(column(increase(TEAM_COST, "team")))
        .with_target(column(increase(TEAM_BASELINE, "team")))
        .with_target(column(share))
    )


def models() -> Panel:
    """What each model did in the time shown, and what a thousand of its tokens cost, read and written together.

    Normal: a strong model's thousand tokens cost ten to fifty times a weak one's.

    Do: a price of 0 on a model that is not free means that `models.*.price` is missing.
    """
    tokens = (
        f'label_replace({increase(TOKENS, "gen_ai_response_model")}, "model", "$1", "gen_ai_response_model", "(.*)")'
    )
    tokens = f"sum by (model) ({tokens})"
    columns = [("Cost", USD), ("Answers", NUMBER), ("Tokens", NUMBER), ("Per 1k tokens", USD)]
    return (
        sheet("Models", "model", columns, 8)
        .with_target(column(increase(COST, "model")))
        .with_target(column(increase(ANSWERS, "model")))
        .with_target(column(tokens))
        .with_target(column(f"{THOUSAND} * {ratio(increase(COST, 'model'), tokens)}"))
    )


def saved_by_route() -> Panel:
    """USD saved in the time shown, by route.

    Normal: routes with much easy traffic lead. A route of one model, or a model by its name, saves by the cache only.

    Do: move clients that name a strong model to a route, where their traffic is easy.
    """
    return bars("Saved by route", USD).with_target(now(increase(SAVED, "route"), "{{route}}"))


def request_cost_by_route() -> Panel:
    """USD of the mean answer, route by route.

    Normal: level. It falls with the share of cached answers and with that of the weak model.

    Do: a rise at the same traffic: longer prompts, a lower threshold, or failing weak upstreams.
    """
    panel = curves("Cost a request by route", USD, 8)
    return panel.with_target(query(ratio(rate(COST, "route"), rate(ANSWERS, "route")), "{{route}}"))


def tokens_by_model() -> Panel:
    """Tokens a second that models read (input) and wrote (output).

    Normal: several times more read than written in chats; the other way round in long answers.

    Do: plan the capacity of your own models by it; a provider's limits are in tokens a minute.
    """
    by = "gen_ai_response_model, gen_ai_token_type"
    return layers("Tokens by model", PER_S, 8).with_target(
        query(rate(TOKENS, by), "{{gen_ai_response_model}} {{gen_ai_token_type}}")
    )


def tokens_a_request() -> Panel:
    """Tokens of the mean request, read and written.

    Normal: level. Conversations that grow raise what is read.

    Do: where reading grows, look for clients that send whole documents or never cut a conversation.
    """
    count = series("gen_ai_client_token_usage_count", ASKED, ANSWERED)
    by = "gen_ai_token_type"
    return curves("Tokens a request", NUMBER, 8).with_target(
        query(ratio(rate(TOKENS, by), rate(count, by)), "{{gen_ai_token_type}}")
    )


def power() -> Panel:
    """Power that the models draw for these answers, by `models.*.energy`.

    Normal: follows the tokens; a large model draws about ten times a small one's for the same ones.

    Do: compare it with the GPUs' own power in *Upstreams*: far under it, GPUs idle most of the time.
    """
    return layers("Power by model", WATTS).with_target(query(f"{rate(ENERGY, 'model')} * {HOUR_S}", "{{model}}"))


def energy_by_model() -> Panel:
    """Energy that each model's answers took in the time shown.

    Normal: strong models take most of it, as with the cost.

    Do: weigh it against the cost: a cheap model on an old GPU can be the thirstier one.
    """
    return bars("Energy by model", WATT_HOURS, 12).with_target(now(increase(ENERGY, "model"), "{{model}}"))


MONEY = Board(
    name="money",
    title="Money",
    description="What answers cost, what routing and the cache save, and which route, model and team it goes to.",
    shown="now-24h",
    rows=[
        ("What routing saves", [cost, baseline, saved, saved_share, forecast, weak_share, energy, request_cost]),
        ("Over time", [cost_over_time, saved_over_time]),
        ("Where it goes", [cost_by_route, cost_by_model, cost_by_team, saved_by_route, models, teams]),
        ("A request", [request_cost_by_route, tokens_by_model, tokens_a_request]),
        ("Energy", [power, energy_by_model]),
    ],
)
