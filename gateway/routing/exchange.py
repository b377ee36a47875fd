"""Keeps the trackers of the routes that hold a share, and lets replicas share what they know.

The exchange goes through the store, beside the requests and never in one's way. It fails open: while the store is away
each replica goes on with what it has, and tells it later.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from gateway.core.judgement import Reference
from gateway.routing.score_histogram import BINS
from gateway.routing.strong_share import ShareTracker
from gateway.settings.routes import RouteSettings
from gateway.stores.store import Store, StoreUnavailableError

PERIOD_S: Final = 1.0
TTL_S: Final = 7 * 86_400
"""How long what is known outlives the last replica: a week, as traffic has weeks."""


class Router(Protocol):
    """What a tracker needs to know of a classifier."""

    @property
    def version(self) -> str:
        """Change whenever a score could."""

    @property
    def reference(self) -> Reference | None:
        """Tell what scores looked like in training."""


class HeldShare:
    """The share that a route holds: a tracker for each of its routers, as each has scores of its own."""

    def __init__(self, target: float, main: str, routers: Mapping[str, Router]) -> None:
        """Hold it on the scores of these routers; the `main` one decides where no trial is under way."""
        self.target = target
        self._main = main
        self._routers = dict(routers)
        self._trackers: dict[str, tuple[str, ShareTracker]] = {}

    def tracker(self, router: str | None) -> ShareTracker:
        """Return a router's tracker; another version of the router begins with another one."""
        name = self._main if router is None else router
        version = self._routers[name].version
        found = self._trackers.get(name)
        if found is None or found[0] != version:
            reference = self._routers[name].reference
            found = self._trackers[name] = (version, ShareTracker(self.target, reference.score if reference else None))
        return found[1]

    def take_over(self, older: "HeldShare") -> None:
        """Go on with the trackers of before a reload, whose scores mean the same."""
        for name, (version, tracker) in older.trackers():
            if name in self._routers and self._routers[name].version == version:
                self._trackers[name] = (version, tracker)
                if tracker.target != self.target:
                    tracker.aim_at(self.target)

    def trackers(self) -> list[tuple[str, tuple[str, ShareTracker]]]:
        """Return each router's version and tracker, by the router's name."""
        return list(self._trackers.items())

    @property
    def threshold(self) -> float:
        """Return the main router's threshold as it stands."""
        return self.tracker(None).threshold


class Shares:
    """The shares held by routes. They outlive reloads, and through the store also the process."""

    def __init__(self, count_failure: Callable[[], None]) -> None:
        self._count_failure = count_failure
        self._store: Store | None = None
        self._held: dict[str, HeldShare] = {}

    def renew(
        self, routes: Mapping[str, RouteSettings], routers: Mapping[str, Router], store: Store | None
    ) -> dict[str, HeldShare]:
        """Return the share of each route that holds one, going on with what was known before."""
        self._store = store
        older, self._held = self._held, {}
        for name, route in routes.items():
            policy = route.policy
            if policy.strong_share is None or not policy.needs_router:
                continue
            named = {router: routers[router] for router in policy.all_routers}
            held = self._held[name] = HeldShare(policy.strong_share, policy.router, named)
            if name in older:
                held.take_over(older[name])
        return dict(self._held)

    def thresholds(self) -> dict[str, float]:
        """Return each route's threshold as it stands."""
        return {name: held.threshold for name, held in self._held.items()}

    async def exchange(self) -> None:
        """Tell the others what is new, and take over what they have told."""
        if self._store is None:
            return
        for name, held in list(self._held.items()):
            for _, (version, tracker) in held.trackers():
                await self._exchange(self._store, f"strong-share:{BINS}:{held.target:g}:{version}:{name}", tracker)

    async def _exchange(self, store: Store, key: str, tracker: ShareTracker) -> None:
        news, known = tracker.take_news(), None
        try:
            known = await store.change_tally(key, news, TTL_S)
            if known is None:
                tracker.put_back(news)
                everything, news = tracker.all_known(), tracker.take_news()
                known = everything if await store.begin_tally(key, everything, TTL_S) else None
        except StoreUnavailableError:
            self._count_failure()
        if known is None:
            tracker.put_back(news)
        else:
            tracker.adopt(known, news)
