"""What is kept over a reload, what is closed and when; how replicas are looked after."""

import asyncio
import gc
import threading

import pytest

from gateway.backends import watch as watch_module
from gateway.backends.backend import BackendLoadError, Health
from gateway.backends.fleet import Fleet
from gateway.settings.engines import OnnxSettings, WatchSettings
from gateway.settings.faults import SettingsError
from gateway.settings.models import BackendKind, Capability, EnergySettings, TimeoutSettings
from tests.builders import model, price
from tests.unit.backends.test_resilience import FakeBackend

OFTEN = WatchSettings(interval_s=0.01)
DOWN = Health(is_ready=False, problem="not loaded")


class House:
    """A fleet that makes backends of no kind; what it was told to show, and which thread made what."""

    def __init__(self):
        self.made, self.shown, self.threads, self.faults = [], {}, [], {}
        self.fleet = Fleet(self.make, lambda _: lambda _: None, self.show)

    def make(self, name, settings):
        self.threads.append(threading.current_thread())
        if name in self.faults:
            raise self.faults[name]
        made = [FakeBackend(url) for url in settings.urls or (f"{name}:",)]
        self.made.append((name, made))
        return made

    def show(self, name, url, health):
        if health is None:
            self.shown.pop((name, url), None)
        else:
            self.shown[name, url] = health

    def names_made(self):
        return [name for name, _ in self.made]

    async def __aenter__(self):
        self._task = asyncio.create_task(self.fleet.watch())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.fleet.close()


async def holds(fact, seconds=2.0):
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110 - a plain condition
            await asyncio.sleep(0.002)


def backends_of(taken, name):
    return list(taken[name].backends)


async def test_a_model_that_did_not_change_keeps_its_replicas():
    house = House()
    first = house.fleet.take({"a": model(), "b": model()})
    second = house.fleet.take({"a": model(), "b": model(context_tokens=7)})
    assert first["a"] is second["a"]
    assert first["b"] is not second["b"]
    assert house.names_made() == ["a", "b", "b"]


@pytest.mark.parametrize(
    "change",
    [
        {"price": price(1, 2)},
        {"energy": EnergySettings()},
        {"domains": ("law",)},
        {"ability": 0.5},
        {"local": True},
    ],
)
async def test_what_only_routing_and_accounting_read_changes_no_replica(change):
    house = House()
    assert house.fleet.take({"a": model()})["a"] is house.fleet.take({"a": model(**change)})["a"]


@pytest.mark.parametrize(
    "change", [{"urls": ("http://b",)}, {"capabilities": (Capability.TOOLS,)}, {"watch": OFTEN}, {"max_connections": 3}]
)
async def test_what_a_backend_may_read_makes_new_replicas(change):
    house = House()
    assert house.fleet.take({"a": model()})["a"] is not house.fleet.take({"a": model(**change)})["a"]


async def test_a_changed_file_makes_new_replicas(tmp_path):
    template, folder = tmp_path / "x.jinja", tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_text("one")
    template.write_text("one")
    on_file = model(backend=BackendKind.TRITON, chat_template=str(template))
    on_folder = model(backend=BackendKind.ONNX, onnx=OnnxSettings(path=str(folder)))
    house = House()
    models = {"file": on_file, "folder": on_folder}
    first = house.fleet.take(models)
    assert house.fleet.take(models) == first
    template.write_text("another")
    (folder / "model.onnx").write_text("another")
    second = house.fleet.take(models)
    assert [second[name] is first[name] for name in models] == [False, False]


async def test_a_file_that_is_not_there_is_for_whoever_loads_it_to_tell(tmp_path):
    house, settings = House(), model(chat_template=str(tmp_path / "none.jinja"))
    assert house.fleet.take({"a": settings})["a"] is house.fleet.take({"a": settings})["a"]
    (tmp_path / "none.jinja").write_text("there now")
    house.fleet.take({"a": settings})
    assert house.names_made() == ["a", "a"]


async def test_replaced_replicas_close_with_the_last_who_asks_them_and_kept_ones_stay():
    house = House()
    first = house.fleet.take({"kept": model(), "gone": model(), "changed": model()})
    (kept,), (gone,), (changed,) = (backends_of(first, name) for name in first)
    second = house.fleet.take({"kept": model(), "changed": model(context_tokens=7)})
    assert not any(backend.is_closed for backend in (kept, gone, changed))
    for replicas in first.values():
        await replicas.close()
    assert (kept.is_closed, gone.is_closed, changed.is_closed) == (False, True, True)
    for replicas in second.values():
        await replicas.close()
    assert all(backend.is_closed for _, made in house.made for backend in made)


async def test_at_the_end_everything_is_closed_whoever_still_asks_it():
    house = House()
    house.fleet.take({"a": model()})
    house.fleet.take({"a": model(context_tokens=7)})
    house.fleet.prepare({"b": model()})
    await house.fleet.close()
    assert [backend.is_closed for _, made in house.made for backend in made] == [True] * 3


async def test_what_was_prepared_is_taken_without_making_it_again():
    house = House()
    await asyncio.to_thread(house.fleet.prepare, {"a": model()})
    assert house.fleet.take({"a": model()})
    assert len(house.threads) == 1
    assert house.threads[0] is not threading.current_thread()


async def test_what_was_prepared_for_a_configuration_that_was_refused_is_closed():
    house = House()
    taken = house.fleet.take({"a": model()})
    house.fleet.prepare({"a": model(context_tokens=7), "b": model()})
    house.fleet.prepare({"a": model()})  # the file was put right again
    assert house.fleet.take({"a": model()})["a"] is taken["a"]
    await house.fleet.close_unused()
    assert [(name, made[0].is_closed) for name, made in house.made] == [("a", False), ("a", True), ("b", True)]


async def test_models_that_cannot_be_loaded_are_told_all_at_once_and_the_old_ones_stay():
    house = House()
    taken = house.fleet.take({"a": model()})
    house.faults = {name: BackendLoadError("chat_template", "is no template", "mend it") for name in "bc"}
    with pytest.raises(SettingsError) as caught:
        house.fleet.take({"a": model(), "b": model(), "c": model()})
    assert [fault.path for fault in caught.value.faults] == ["models.b.chat_template", "models.c.chat_template"]
    assert str(caught.value.faults[0]) == "models.b.chat_template: is no template; mend it"
    assert house.fleet.take({"a": model()})["a"] is taken["a"]


async def test_replicas_are_looked_after_and_shown():
    async with House() as house:
        taken = house.fleet.take({"a": model(watch=OFTEN, urls=("u", "v"))})
        one, other = backends_of(taken, "a")
        one.said, other.said = Health(waiting=3), Health(waiting=1)
        await holds(lambda: house.shown == {("a", "u"): Health(waiting=3)} | {("a", "v"): Health(waiting=1)})
        assert taken["a"].in_order() == [other, one]
        other.said = DOWN
        await holds(lambda: house.shown["a", "v"] == DOWN)
        assert taken["a"].in_order() == [one, other]


async def test_who_has_nobody_to_ask_is_asked_once():
    async with House() as house:
        (backend,) = backends_of(house.fleet.take({"a": model(watch=OFTEN)}), "a")
        await asyncio.sleep(0.1)
        assert backend.looks == 1
        assert house.shown == {}


async def test_replicas_that_are_gone_are_shown_no_more_and_kept_ones_go_on():
    async with House() as house:
        models = {"kept": model(watch=OFTEN), "gone": model(watch=OFTEN)}
        taken = house.fleet.take(models)
        for name in models:
            backends_of(taken, name)[0].said = Health()
        await holds(lambda: len(house.shown) == 2)
        house.fleet.take({"kept": models["kept"]})
        await holds(lambda: list(house.shown) == [("kept", "kept:")])
        seen = backends_of(taken, "gone")[0].looks
        kept = backends_of(taken, "kept")[0]
        already = kept.looks
        await holds(lambda: kept.looks > already + 2)
        assert backends_of(taken, "gone")[0].looks == seen


async def test_a_replica_that_is_not_ready_is_looked_at_again_soon(monkeypatch):
    monkeypatch.setattr(watch_module, "UNREADY_S", 0.01)
    async with House() as house:
        (backend,) = backends_of(house.fleet.take({"a": model(watch=WatchSettings(interval_s=3600))}), "a")
        backend.said = DOWN
        await holds(lambda: backend.looks > 3)
        backend.said = Health()
        await holds(lambda: house.shown["a", "a:"].is_ready)
        seen = backend.looks
        await asyncio.sleep(0.05)
        assert backend.looks == seen


async def test_a_replica_that_does_not_say_how_it_is_is_not_ready_and_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(watch_module, "LOOK_S", 0.05)
    async with House() as house:
        taken = house.fleet.take({"a": model(watch=OFTEN, urls=("u", "v"))})
        mute, fine = backends_of(taken, "a")
        mute.look = asyncio.Event().wait
        fine.said = Health(waiting=1)
        await holds(lambda: len(house.shown) == 2)
        assert not house.shown["a", "u"].is_ready
        assert taken["a"].in_order() == [fine, mute]


async def test_a_fault_of_one_look_ends_neither_it_nor_the_others():
    async with House() as house:
        (backend,) = backends_of(house.fleet.take({"a": model(watch=OFTEN)}), "a")
        looked = []

        async def look():
            looked.append(1)
            if len(looked) < 3:
                raise ZeroDivisionError
            return Health(waiting=7)

        backend.look = look
        await holds(lambda: house.shown.get(("a", "a:")) == Health(waiting=7))


async def test_the_watch_leaves_no_task_behind():
    async with House() as house:
        backends_of(house.fleet.take({"a": model(watch=OFTEN)}), "a")[0].said = Health()
        await holds(lambda: house.shown)
    gc.collect()
    assert house.shown == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


INSIDE = {"backend": BackendKind.ONNX, "onnx": OnnxSettings("folder")}


@pytest.mark.parametrize("told", [[DOWN], [Health(is_ready=False), DOWN]])
async def test_a_model_inside_the_gateway_that_does_not_load_takes_nobodys_place(told):
    async with House() as house:
        first = house.fleet.take({"a": model()})["a"]
        house.fleet.prepare({"a": model(**INSIDE)})
        backend = house.made[-1][1][0]
        *backend.says_first, backend.said = told
        with pytest.raises(SettingsError, match=r"models\.a\.onnx\.path: can't be loaded: not loaded"):
            await house.fleet.load()
        await house.fleet.close_unused()
        assert backend.is_closed
        assert not first.is_closed


async def test_a_model_inside_the_gateway_is_waited_for_and_a_server_is_not():
    async with House() as house:
        house.fleet.prepare({"a": model(**INSIDE), "b": model(backend=BackendKind.OPENAI, urls=("http://b/v1",))})
        (_, [inside]), (_, [server]) = house.made
        inside.says_first, inside.said, server.said = [Health(is_ready=False)], Health(), DOWN
        await house.fleet.load()
        assert (inside.looks, server.looks) == (2, 0)


async def test_a_model_that_is_loaded_for_ever_is_a_fault():
    async with House() as house:
        house.fleet.prepare({"a": model(**INSIDE, timeouts=TimeoutSettings(total_s=0.1))})
        house.made[0][1][0].said = Health(is_ready=False)
        with pytest.raises(SettingsError, match=r"did not load within 0\.1 s"):
            await house.fleet.load()
