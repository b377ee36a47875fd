"""The replicas of every model, kept over reloads: what did not change keeps its connections, processes and failures."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gateway.backends.backend import Backend, BackendLoadError
from gateway.backends.resilience import Replicas, Track
from gateway.backends.watch import LOOK_S, Show, Watch
from gateway.settings.faults import Fault, SettingsError, under
from gateway.settings.models import ModelSettings, PriceSettings

STALE_LOOKS = 3
"""For so many intervals, and as long as a look may take, what a replica said counts."""

LOADING_S = 0.05
"""Between two looks at a model that is being loaded."""

Make = Callable[[str, ModelSettings], list[Backend]]
"""Makes the replicas of a model by its name. Blocks: it reads files. Raises BackendLoadError."""

_Marks = tuple[tuple[str, int, int], ...]


class _Made(msgspec.Struct, frozen=True):
    """Replicas, and the settings and files that they are made of."""

    settings: ModelSettings
    marks: _Marks
    replicas: Replicas


class Fleet:
    """Every model's replicas, by name.

    `prepare` may run in a thread; all else belongs to the event loop. What `take` hands out must be closed by whoever
    took it; connections are closed with the last pipeline that asks them.
    """

    def __init__(self, make: Make, track: Callable[[str], Track], show: Show) -> None:
        self._make = make
        self._track = track
        self._watch = Watch(show)
        self._current: dict[str, _Made] = {}
        self._prepared: dict[str, _Made] = {}
        self._unused: list[Replicas] = []
        self._open: list[Replicas] = []

    def prepare(self, models: Mapping[str, ModelSettings]) -> None:
        """Make the replicas of models that are new or have changed. Raises SettingsError with every fault."""
        faults = []
        for name, settings in models.items():
            try:
                self._prepare(name, settings)
            except BackendLoadError as exc:
                faults.append(Fault(under(under("models", name), exc.key), exc.problem, exc.remedy))
        if faults:
            raise SettingsError(faults)

    def _prepare(self, name: str, settings: ModelSettings) -> None:
        wanted = _what_makes(settings)
        if _is_made_of(self._prepared.get(name), wanted):
            return
        self._discard(name)
        if _is_made_of(self._current.get(name), wanted):
            return
        backends = self._make(name, settings)
        stale_s = STALE_LOOKS * settings.watch.interval_s + LOOK_S
        replicas = Replicas(backends, self._track(name), stale_s=stale_s)
        self._prepared[name] = _Made(*wanted, replicas)
        self._open.append(replicas)

    def take(self, models: Mapping[str, ModelSettings]) -> dict[str, Replicas]:
        """Return the replicas of exactly these models, which are looked after from now on. Raises SettingsError."""
        self.prepare(models)
        made = {**self._current, **self._prepared}
        self._current = {name: made[name] for name in models}
        self._prepared = {name: one for name, one in self._prepared.items() if name not in models}
        for name in list(self._prepared):
            self._discard(name)
        self._open = [replicas for replicas in self._open if not replicas.is_closed]
        self._watch.turn_to({name: (made.replicas, made.settings.watch) for name, made in self._current.items()})
        return {name: made.replicas.hold() for name, made in self._current.items()}

    async def load(self) -> None:
        """Have the models inside the gateway loaded that were prepared, before they take others' places.

        A server elsewhere may come later; a folder that can't be loaded never will. Raises SettingsError.
        """
        faults = []
        for name, made in list(self._prepared.items()):
            if made.settings.onnx is not None and (problem := await _problem_of(made)) is not None:
                self._discard(name)
                remedy = "mend the folder, or name the one before"
                faults.append(Fault(under(under("models", name), "onnx.path"), problem, remedy))
        if faults:
            raise SettingsError(faults)

    async def watch(self) -> None:
        """Look after every replica, until cancelled."""
        await self._watch.run()

    def _discard(self, name: str) -> None:
        if name in self._prepared:
            self._unused.append(self._prepared.pop(name).replicas)

    async def close_unused(self) -> None:
        """Close what was prepared for a configuration that was refused after all."""
        while self._unused:
            await self._unused.pop().close()

    async def close(self) -> None:
        """Close everything, whoever may still ask it."""
        for replicas in self._open:
            await replicas.close_now()


async def _problem_of(made: _Made) -> str | None:
    """Return why a model can't be loaded; None once it is."""
    (backend,) = made.replicas.backends
    limit_s = made.settings.timeouts.total_s
    try:
        async with asyncio.timeout(limit_s):
            while (health := await backend.look()) is not None and not health.is_ready:
                if health.problem is not None:
                    return f"can't be loaded: {health.problem}"
                await asyncio.sleep(LOADING_S)
    except TimeoutError:
        return f"did not load within {limit_s:.3g} s"
    return None


def _what_makes(settings: ModelSettings) -> tuple[ModelSettings, _Marks]:
    """Return what a model's replicas are made of: its settings, but for what only routing and accounting read."""
    read = msgspec.structs.replace(settings, price=PriceSettings(), energy=None, domains=(), ability=None, local=False)
    files = (settings.chat_template, settings.tokenizer, settings.triton and settings.triton.ca_file)
    folders = (settings.onnx and settings.onnx.path,)
    return read, tuple(mark for path in (*files, *folders) if path for mark in _marks(Path(path)))


def _marks(path: Path) -> _Marks:
    """Return what changes when a file does, or one of a folder; what can't be read is told by whoever loads it."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(file, file.stat()) for file in files]
    except OSError:
        return ()
    return tuple((str(file), stat.st_mtime_ns, stat.st_size) for file, stat in found)


def _is_made_of(made: _Made | None, wanted: tuple[ModelSettings, _Marks]) -> bool:
    return made is not None and (made.settings, made.marks) == wanted
