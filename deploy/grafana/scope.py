"""What panels ask Prometheus: the expressions that all four dashboards are written in.

Every series of the gateway is narrowed by the dashboard's variables. `All` stands for `.*`, which a label that is not
there matches too: the same dashboard serves Kubernetes, compose and a Prometheus on a laptop.
"""

CLUSTER = 'cluster=~"$cluster"'
SCOPE = (CLUSTER, 'namespace=~"$namespace"', 'job=~"$job"', 'instance=~"$instance"')
ROUTE = 'route=~"$route"'
MODEL = 'model=~"$model"'
ASKED = 'gen_ai_request_model=~"$route"'
ANSWERED = 'gen_ai_response_model=~"$model"'

CLIENTS_FAULT = (
    "cancelled|invalid_request|invalid_json|invalid_value|unsupported_parameter|context_length_exceeded|personal_data"
    "|upstream_rejected|request_timeout|request_too_large|invalid_api_key|threshold_forbidden|not_found"
    "|model_not_found|method_not_allowed"
)
"""Statuses that count neither for nor against the service; what is neither these nor `ok` is ours. As in the rules."""
NO_FAILURE = "ok|cancelled|upstream_rejected|unsupported_parameter|context_length_exceeded|invalid_value"
"""What becomes of calls to a model server that works, as in the rules."""

SHOWN = "$__range"
"""The whole time that the dashboard shows: for totals."""
RECENT = "$__rate_interval"
"""As short as the scrape interval and the width of the screen allow: for curves."""
HOUR_S = 3_600
DAY_S = 86_400


def series(name: str, *matchers: str) -> str:
    """Return the selector of a metric of the gateway."""
    return f"{name}{{{', '.join((*SCOPE, *matchers))}}}"


def foreign(name: str, *matchers: str) -> str:
    """Return the selector of a metric of a model server: its job and namespace are not the gateway's."""
    return f"{name}{{{', '.join((CLUSTER, *matchers))}}}"


def total(expression: str, by: str = "") -> str:
    """Add up, by labels."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def rate(selector: str, by: str = "") -> str:
    """Return how much a counter grows a second."""
    return total(f"rate({selector}[{RECENT}])", by)


def increase(selector: str, by: str = "") -> str:
    """Return how much a counter grew in the time shown."""
    return total(f"increase({selector}[{SHOWN}])", by)


def quantile(share: float, buckets: str, by: str = "") -> str:
    """Return the value under which this share of a histogram's observations lie."""
    return f"histogram_quantile({share:g}, {rate(buckets, f'le, {by}' if by else 'le')})"


def ratio(part: str, whole: str) -> str:
    """Divide; nothing where there is nothing to divide by, as NaN draws no curve and has no text."""
    return f"{part} / ({whole} > 0)"


def or_zero(expression: str) -> str:
    """Return 0 where nothing has happened yet: a series begins with its first event."""
    return f"({expression} or vector(0))"
