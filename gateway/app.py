"""The composition root: the only place that names concrete classes. A plugin is one line in a table here."""

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from gateway.accounting.feedback import AnswerMemory
from gateway.api.admin import make_admin_app
from gateway.api.asgi import AsgiApp
from gateway.api.cold import make_app
from gateway.api.courtesies import with_courtesies
from gateway.api.explain import route_handlers
from gateway.api.feedback import feedback_handlers
from gateway.api.health import health_handlers
from gateway.api.live import Live
from gateway.api.models import model_handlers
from gateway.auth.keys import KeyRing
from gateway.backends.backend import Backend, BackendLoadError
from gateway.backends.fleet import Fleet, Make
from gateway.backends.http import HttpClient
from gateway.backends.http1_pool import Commons, Http1Client
from gateway.backends.openai import OpenAIBackend
from gateway.backends.resilience import Dispatcher
from gateway.backends.simulated import SimulatedBackend
from gateway.cache.exact import ExactCache
from gateway.cache.flights import Flights
from gateway.cache.sessions import Learned, Sessions
from gateway.classify.onnx import OnnxClassifier
from gateway.classify.personal_scan import PersonalScan, holds_personal
from gateway.classify.rack import Rack, Slot
from gateway.classify.shadow import Shadows
from gateway.core.deadlines import Wheel
from gateway.core.errors import internal_error
from gateway.limits.in_flight import InFlight
from gateway.pipeline import Parts, Pipeline
from gateway.record import AnswerRecord, Feedback, Record, Recorder, RouterRecord, Tray
from gateway.routing.bars import Bars
from gateway.routing.exchange import PERIOD_S, HeldShare, Shares
from gateway.routing.routes import build_routes
from gateway.settings.feedback import LearningLogSettings
from gateway.settings.models import BackendKind, ModelSettings
from gateway.settings.root import Settings
from gateway.settings.service import RedisSettings
from gateway.stores.breaker import Breaker, store_breaker, tell_in_log
from gateway.stores.memory import DEFAULT_MAX_BYTES
from gateway.stores.pipe_store import PipeStore
from gateway.stores.shelf import Shelf
from gateway.stores.store import Observe, Store
from gateway.telemetry.access_log import log_faults, log_request
from gateway.telemetry.learning_log import LearningLog
from gateway.telemetry.logs import log_failure
from gateway.telemetry.metrics import METRICS_FOLDER, Metrics, render_in_turns, render_merged
from gateway.telemetry.replicas import ReplicaMetrics
from gateway.telemetry.router_watch import RouterMetrics, RouterWatch
from gateway.telemetry.vitals import ProcessFigures, Vitals
from gateway.tracing import Tracing

ROUTERS = Path(__file__).parent.parent / "router_models" / "artifacts"
"""Where routers that ship lie; a `router` that holds a slash is a folder of its own."""


HTTPX2 = "gateway.backends.httpx2_client"
"""Loaded late: it brings 6 MB along, and nothing needs it but a proxy."""


def router_folder(router: str, routers: Path = ROUTERS) -> Path:
    """Return the folder of a router named in a configuration or on the command line."""
    return Path(router) if "/" in router else routers / router


MakeOn = Callable[[str, ModelSettings, Commons], list[Backend]]
"""Makes the replicas of a model on what all of a process share. Raises BackendLoadError."""


def openai_backends(name: str, settings: ModelSettings, commons: Commons) -> list[Backend]:
    """Return a backend a replica, each with a connection pool of its own."""
    return [OpenAIBackend(name, url, settings, http_client(settings, commons), commons.wheel) for url in settings.urls]


def http_client(settings: ModelSettings, commons: Commons) -> HttpClient:
    """Return the lean client, or the one that can do more, where more is asked for."""
    connect_s, max_connections = settings.timeouts.connect_s, settings.max_connections
    if settings.proxy is None:
        return Http1Client(connect_s=connect_s, max_connections=max_connections, commons=commons)
    make = importlib.import_module(HTTPX2).Httpx2Client
    client: HttpClient = make(connect_s=connect_s, max_connections=max_connections, proxy=settings.proxy)
    return client


def probe(url: str) -> bytes | None:
    """GET a url on this machine; None when nobody answers well."""
    found: bytes | None = importlib.import_module(HTTPX2).probe(url)
    return found


def simulated_backends(name: str, settings: ModelSettings, _: Commons) -> list[Backend]:
    """Return the one backend of a simulated model."""
    return [SimulatedBackend(name, settings)]


def load_late(module: str, function: str, extra: str) -> MakeOn:
    """Return a factory whose module is imported with the first model that needs it: it brings much along."""

    def make(name: str, settings: ModelSettings, commons: Commons) -> list[Backend]:
        try:
            found: MakeOn = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as exc:
            missing = exc.name or ""
            if missing.partition(".")[0] == __name__.partition(".")[0]:
                raise
            raise BackendLoadError(
                "backend", f"needs the package {missing}", f"in Postern's folder: pip install '{extra}'"
            ) from exc
        return found(name, settings, commons)

    return make


BACKENDS: Mapping[BackendKind, MakeOn] = {
    BackendKind.OPENAI: openai_backends,
    BackendKind.TRITON: load_late("gateway.backends.triton.backend", "triton_backends", "."),
    BackendKind.ONNX: load_late("gateway.backends.onnx.backend", "onnx_backends", ".[onnx]"),
    BackendKind.SIMULATED: simulated_backends,
}


def make_backends(commons: Commons) -> Make:
    """Return what makes the replicas of a model. It raises BackendLoadError."""
    return lambda name, settings: BACKENDS[settings.backend](name, settings, commons)


def no_backends(name: str, settings: ModelSettings) -> list[Backend]:  # noqa: ARG001 - a Make
    """Return no replicas: for whoever decides and asks nobody."""
    return []


Connect = Callable[[RedisSettings, Observe, Wheel, Breaker], Store]


def connect_late(module: str, function: str) -> Connect:
    """Return a link to Redis whose module is imported when a configuration asks for it: redis-py takes 8 MB."""

    def connect(settings: RedisSettings, observe: Observe, wheel: Wheel, breaker: Breaker) -> Store:
        found: Connect = getattr(importlib.import_module(module), function)
        return found(settings, observe, wheel, breaker)

    return connect


LINKS: Mapping[str, Connect] = {
    "redis": PipeStore,
    "rediss": PipeStore,
    "unix": PipeStore,
    "redis+sentinel": connect_late("gateway.stores.sentinel", "sentinel_store"),
    "redis+cluster": connect_late("gateway.stores.redis_store", "RedisStore"),
}
"""By the scheme of `redis.url`."""


MAX_SESSIONS = 20_000
MAX_SESSION_BYTES = 33_554_432
"""Conversations remembered in one process: some 300 bytes each, and each for five minutes unless told otherwise."""


class Factory:
    """Build pipelines from settings; what outlives a reload (metrics, an unchanged store) is kept here."""

    def __init__(self, metrics: Metrics, routers: Path = ROUTERS, make: Make | None = None) -> None:
        self.metrics = metrics
        self.vitals = Vitals(metrics)
        self.wheel = Wheel()
        self._commons = Commons(self.wheel)
        self._fleet = Fleet(make or make_backends(self._commons), self._tracker, ReplicaMetrics(metrics).show)
        self._in_flight: InFlight | None = None
        self._router_metrics = RouterMetrics(metrics)
        self._watches: dict[str, RouterWatch] = {}
        self._shadows = Shadows()
        self.rack = Rack(OnnxClassifier.load, lambda router: router_folder(router, routers), self._watch)
        self._learned: Learned = {}
        self._shelf = Shelf(self._connect)
        self._shares = Shares(lambda: self._count_fail_open("strong_share"))
        self._bars = Bars()
        self._learning_logs: dict[LearningLogSettings, LearningLog] = {}
        self._learning_log_settings: LearningLogSettings | None = None
        self.tracing = Tracing(self._commons, metrics)

    def prepare(self, settings: Settings) -> None:
        """Do what takes long of a strict `build`; blocks, for a thread. Raises SettingsError, ClassifierLoadError."""
        self._fleet.prepare(settings.models)
        self.rack.prepare(_routers_of(settings))

    async def load(self) -> None:
        """Have loaded what was prepared. Raises SettingsError; the old is kept then."""
        await self._fleet.load()

    def build(self, settings: Settings, *, is_strict: bool = False) -> Pipeline:
        """Return a pipeline. `is_strict` (at a reload) refuses a router that can't be loaded instead of failing open.

        Raises SettingsError for models whose files can't be used, and ClassifierLoadError when strict.
        """
        classifiers = self.rack.open(_routers_of(settings), is_strict=is_strict)
        routes = build_routes(settings, self._held(settings, classifiers))
        self._bars.forget_others(settings.routes)
        self.metrics.know({*settings.models, *settings.routes})
        self.metrics.foresee(settings.models, {client.team for client in settings.keys.clients.values()})
        if settings.redis is None:
            self.vitals.forget_redis()
        answers, sessions = self._answers(settings), self._sessions(settings)
        learning_log = self._learning_log(settings)
        routers = RouterRecord(routes, classifiers, self._watches.get, self._router_metrics, self._shadows)
        together: dict[str, Record] = {"metrics": self.metrics.record, "routers": routers.record}
        at_once: dict[str, Record] = {"session": sessions.remember}
        if answers is not None:
            at_once["feedback"] = AnswerRecord(answers, self._watches.get).record
        if learning_log is not None:
            together["learning_log"] = learning_log.record
        tracer = self.tracing.renew(settings.tracing, settings.models)
        if tracer is not None:
            together["traces"] = tracer.record
        together["log"] = log_request if settings.logs.access else log_faults
        pipeline = Pipeline(
            Parts(
                models=settings.models,
                routes=routes,
                keys=KeyRing(settings.keys),
                in_flight=self._bounded(settings.limits.max_in_flight),
                classifiers=classifiers,
                detector=PersonalScan(),
                dispatcher=self._dispatcher(settings),
                flights=_flights(settings),
                cache=self._cache(settings),
                sessions=sessions,
                record=Tray(Recorder(at_once, self._count_fail_open), Recorder(together, self._count_fail_open)).put,
                count_fail_open=self._count_fail_open,
                feedback=self._feedback(answers, learning_log),
                bars=self._bars,
                wheel=self.wheel,
            )
        )
        self.rack.keep(classifiers)
        for router in self._watches.keys() - classifiers.keys():
            self._watches.pop(router).retire()
        return pipeline

    def _bounded(self, limit: int) -> InFlight:
        """Return the one counter of the process: requests that began before a reload still take up room after it."""
        if self._in_flight is None:
            self._in_flight = InFlight(limit)
        self._in_flight.limit = limit
        return self._in_flight

    def _dispatcher(self, settings: Settings) -> Dispatcher:
        replicas = self._fleet.take(settings.models)
        total_s = {name: model.timeouts.total_s for name, model in settings.models.items()}
        return Dispatcher(replicas, total_s, self._count_attempt)

    def _cache(self, settings: Settings) -> ExactCache | None:
        exact = settings.cache.exact
        if exact is None:
            return None
        store = self._shelf.take("cache", settings.redis, max_entries=exact.max_entries, max_bytes=exact.max_bytes)
        return ExactCache(store, exact, lambda: self._count_fail_open("cache"))

    def _answers(self, settings: Settings) -> AnswerMemory | None:
        feedback = settings.feedback
        if feedback is None:
            return None
        bounds = {"max_entries": feedback.max_entries, "max_bytes": DEFAULT_MAX_BYTES}
        store = self._shelf.take("feedback", settings.redis, **bounds)
        return AnswerMemory(store, feedback, lambda: self._count_fail_open("feedback"))

    def _learning_log(self, settings: Settings) -> LearningLog | None:
        """Return the one log of its settings: two would take turns at one file."""
        wanted = self._learning_log_settings = settings.learning_log
        if wanted is not None and wanted not in self._learning_logs:
            is_personal = None if wanted.personal else holds_personal
            self._learning_logs[wanted] = LearningLog(wanted, self._router_metrics.count_row, is_personal)
        return None if wanted is None else self._learning_logs[wanted]

    def _feedback(self, answers: AnswerMemory | None, learning_log: LearningLog | None) -> Feedback | None:
        if answers is None:
            return None
        log_mark = None if learning_log is None else learning_log.mark
        return Feedback(answers, self._router_metrics, self._watches.get, log_mark)

    def _watch(self, router: str, judge: Slot) -> None:
        """Watch a router from its version on; what was seen of another version says nothing of this one."""
        watch = self._watches.get(router)
        if watch is not None and watch.version == judge.version:
            return
        if watch is not None:
            watch.retire()
        self._watches[router] = RouterWatch(router, judge.version, judge.reference, self._router_metrics)

    def _sessions(self, settings: Settings) -> Sessions:
        store = self._shelf.take("session", settings.redis, max_entries=MAX_SESSIONS, max_bytes=MAX_SESSION_BYTES)
        return Sessions(store, self._learned, lambda: self._count_fail_open("session"))

    def _held(self, settings: Settings, judges: Mapping[str, Slot]) -> Mapping[str, HeldShare]:
        # In memory, all that know of a tracker are in this process, and ask it itself.
        bounds = {"max_entries": 1, "max_bytes": DEFAULT_MAX_BYTES}
        store = self._shelf.take("strong_share", settings.redis, **bounds) if settings.redis else None
        held = self._shares.renew(settings.routes, judges, store)
        choosing = {
            name: route.policy
            for name, route in settings.routes.items()
            if route.policy.needs_router and len(route.models) > 1  # of one model a score decides nothing
        }
        self._router_metrics.tell_routes(
            {name: held[name].threshold if name in held else policy.threshold for name, policy in choosing.items()},
            {name: held[name].target for name in choosing if name in held},
        )
        return held

    async def tend(self) -> None:
        """Look after models' replicas and after the shares, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fleet.watch())
            tasks.create_task(self._tend_shares())
            tasks.create_task(self.vitals.watch_loop())
            tasks.create_task(self.metrics.families.keep_poured())

    async def _tend_shares(self) -> None:
        """Look at Redis, exchange with other gateways what holds the shares, and show the thresholds."""
        while True:
            try:
                await self._fleet.close_unused()
                await self._shelf.look()
                await self._shares.exchange()
                self._router_metrics.tell_thresholds(self._shares.thresholds())
            except Exception as exc:  # noqa: BLE001 - a supervisor: no fault may end the holding of shares
                log_failure(internal_error(exc))
            await asyncio.sleep(PERIOD_S)

    def _tracker(self, model: str) -> Callable[[int], None]:
        return lambda change: self.metrics.track(model, change)

    def _count_fail_open(self, stage: str) -> None:
        self.metrics.child(self.metrics.fail_open, stage).inc()

    def _count_attempt(self, model: str, outcome: str) -> None:
        self.metrics.child(self.metrics.attempts, model, outcome).inc()

    def _connect(self, settings: RedisSettings) -> Store:
        breaker = store_breaker(self.vitals.redis_teller(tell_in_log))
        return LINKS[urlsplit(settings.url.reveal()).scheme](settings, self._observe_redis, self.wheel, breaker)

    def _observe_redis(self, operation: str, seconds: float) -> None:
        self.metrics.child(self.metrics.redis, operation).observe(seconds)

    async def close_replaced(self) -> None:
        """Close the stores, routers and logs that reloads replaced; no request may still use them."""
        await self._close_logs(keep=self._learning_log_settings)
        await self.tracing.close_replaced()
        self.rack.close_replaced()
        await self._shelf.close_replaced()

    async def close(self) -> None:
        """Tell the other replicas what is left to tell, and close what outlives pipelines."""
        await self._close_logs(keep=None)
        await self.tracing.close()
        self._shadows.close()
        self.rack.close()
        await self._shares.exchange()
        await self._shelf.close()
        await self._fleet.close()

    async def _close_logs(self, keep: LearningLogSettings | None) -> None:
        for settings in [one for one in self._learning_logs if one != keep]:
            await asyncio.to_thread(self._learning_logs.pop(settings).close)


def _routers_of(settings: Settings) -> set[str]:
    return {router for route in settings.routes.values() for router in route.policy.all_routers}


def _flights(settings: Settings) -> Flights:
    exact = settings.cache.exact
    return Flights() if exact is None else Flights(exact.max_entry_bytes)


def make_data_app(live: Live) -> AsgiApp:
    """Return the data port's application: all that is not hot."""
    cold = make_app([*model_handlers(live), *route_handlers(live), *health_handlers(live), *feedback_handlers(live)])
    return with_courtesies(cold)


def make_admin(metrics: Metrics, settings: Callable[[], Settings]) -> AsgiApp:
    """Return the admin port's application; with several workers it adds up their metrics."""
    folder = os.environ.get(METRICS_FOLDER)
    if folder is None:
        return make_admin_app(lambda: render_in_turns(metrics.registry), settings)
    figures = ProcessFigures()
    return make_admin_app(lambda: render_merged(folder, figures), settings)
