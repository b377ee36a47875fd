"""How sure is sure enough: a bound that stands, or one that holds a share of escalations. Calls nobody.

A share is held by the tracker that holds the strong share, on doubts (1 - confidence) in the place of scores. Each
process holds it by itself: where each does, all do.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.routing.strong_share import ShareTracker
from gateway.settings.routes import CascadeSettings, RouteSettings

NO_DOUBT_LEFT: Final = 0.0
"""A model this unsure gave an impossible token, or not a word: no bound lets that go on."""


class _Measure(msgspec.Struct, frozen=True):
    """Whose confidence it is and how it is measured: under another measure it means something else."""

    route: str
    model: str
    tokens: int
    quantile: float


class Bars:
    """The bounds of all cascades. They outlive reloads."""

    def __init__(self) -> None:
        self._trackers: dict[_Measure, ShareTracker] = {}

    def clears(self, route: str, model: str, rule: CascadeSettings, confidence: float) -> bool:
        """Tell whether a model of a route is sure enough to go on, and learn from it where a share is held."""
        if rule.escalate_share is None:
            return confidence > NO_DOUBT_LEFT and confidence >= rule.min_confidence
        tracker = self._tracker(_Measure(route, model, rule.tokens, rule.quantile), rule.escalate_share)
        doubt = 1.0 - confidence
        is_unsure = confidence <= NO_DOUBT_LEFT or doubt >= tracker.threshold
        tracker.observe(doubt, is_strong=is_unsure)
        return not is_unsure

    def _tracker(self, measure: _Measure, share: float) -> ShareTracker:
        tracker = self._trackers.get(measure)
        if tracker is None:
            tracker = self._trackers[measure] = ShareTracker(share)
        elif tracker.target != share:
            tracker.aim_at(share)
        return tracker

    def forget_others(self, routes: Mapping[str, RouteSettings]) -> None:
        """Forget what no route of these measures any more."""
        kept = {
            _Measure(name, model, route.policy.cascade.tokens, route.policy.cascade.quantile)
            for name, route in routes.items()
            for model in route.models
        }
        self._trackers = {measure: tracker for measure, tracker in self._trackers.items() if measure in kept}
