"""Routers over reloads and changed folders: a sound version takes the place of another, an unsound one never does."""

import asyncio
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from gateway.classify import rack as racks
from gateway.classify.onnx import ClassifierLoadError, OnnxClassifier
from gateway.classify.rack import Rack, mark_of
from gateway.classify.turns import judged_texts
from gateway.core.judgement import Judgement
from gateway.schema.conversation import Conversation, Turn

ASK = Conversation((Turn("user", "hi"),))


class Router:
    """A classifier whose folder holds its score, or says how it fails."""

    name = "fake"
    reference = None

    def __init__(self, folder):
        if not (folder / "model").exists():
            raise ClassifierLoadError(f"{folder}: nothing there")
        self.version = (folder / "model").read_text()
        if self.version == "broken":
            raise ClassifierLoadError(f"{folder}: broken")
        if self.version == "odd":
            raise MemoryError
        self.threads = []

    def unread(self, conversation, tenant=None):
        return judged_texts(conversation)

    def judge(self, conversation, tenant=None):
        if self.version == "mute":
            raise ValueError("no words")
        return Judgement(float(self.version))


class House:
    def __init__(self, folder):
        self.folder = folder
        self.told = []
        self.loads = []
        self.rack = Rack(self.load, lambda router: folder / router, lambda router, slot: self.told.append(slot.version))

    def load(self, folder):
        self.loads.append(threading.current_thread() is threading.main_thread())
        return Router(folder)

    def write(self, text, router="one"):
        (self.folder / router).mkdir(exist_ok=True)
        (self.folder / router / "model").write_text(text)

    def open(self, *routers, is_strict=False):
        slots = self.rack.open(routers or ["one"], is_strict=is_strict)
        self.rack.keep(slots)
        return slots

    async def look(self, times=2):
        for _ in range(times):
            await self.rack.refresh()


@pytest.fixture
def logged(monkeypatch):
    rows = []
    monkeypatch.setattr(racks, "log", lambda event, **fields: rows.append((event, fields)))
    return rows


@pytest.fixture
def house(tmp_path):
    found = House(tmp_path)
    found.write("0.1")
    yield found
    found.rack.close()


async def score(slot):
    found = await slot.judge(ASK)
    return None if found is None else found.score


async def test_a_changed_folder_is_taken_over_in_a_thread_once_it_is_still(house, logged):
    slot = house.open()["one"]
    house.write("0.25")
    await house.look(1)
    assert (slot.version, logged) == ("0.1", [])
    await house.look(1)
    assert (slot.version, await score(slot), slot.judge_blocking(ASK).score) == ("0.25", 0.25, 0.25)
    assert house.told == ["0.1", "0.25"]
    assert house.loads == [True, False]
    [(event, fields)] = logged
    assert (event, fields["router"], fields["version"], fields["old"]) == ("router_swapped", "one", "0.25", "0.1")
    await house.look(3)
    assert len(logged) == 1


async def test_a_folder_that_is_still_being_written_waits(house, logged):
    slot = house.open()["one"]
    for number in range(2, 6):
        house.write("0." + "1" * number)
        await house.look(1)
    assert (slot.version, house.loads) == ("0.1", [True])
    await house.look(1)
    assert slot.version == "0.11111"


@pytest.mark.parametrize("text", ["broken", "mute", "odd", "nan"])
async def test_an_unsound_version_is_refused_once_and_the_old_one_goes_on(house, logged, text):
    slot = house.open()["one"]
    house.write(text)
    await house.look(5)
    assert [event for event, _ in logged] == ["router_refused"]
    assert logged[0][1]["kept"] == "0.1"
    assert (slot.version, await score(slot)) == ("0.1", 0.1)
    house.write("0.375")
    await house.look()
    assert await score(slot) == 0.375


async def test_a_folder_that_goes_away_changes_nothing(house, logged):
    slot = house.open()["one"]
    shutil.rmtree(house.folder / "one")
    await house.look(3)
    assert (await score(slot), logged) == (0.1, [])
    house.write("0.5")
    await house.look()
    assert await score(slot) == 0.5


async def test_a_touched_folder_of_the_same_version_is_no_swap(house, logged):
    slot = house.open()["one"]
    before = slot.classifier
    os.utime(house.folder / "one" / "model", (1, 1))
    await house.look(3)
    assert (slot.classifier is before, logged, house.told) == (True, [], ["0.1"])


async def test_a_router_that_was_missing_at_the_start_comes_in_once_it_is_there(house, logged):
    slot = house.open("late")["late"]
    assert (await score(slot), slot.judge_blocking(ASK), slot.version, slot.reference) == (None, None, "absent", None)
    house.write("0.5", "late")
    await house.look()
    assert await score(slot) == 0.5
    assert [event for event, _ in logged] == ["classifier_unavailable", "router_swapped"]


def test_a_strict_opening_refuses_and_keeps_what_was_there(house):
    slots = house.open()
    house.write("broken", "two")
    with pytest.raises(ClassifierLoadError):
        house.rack.open(["one", "two"], is_strict=True)
    assert house.open(is_strict=True)["one"] is slots["one"]
    assert house.loads == [True, True]


async def test_what_was_prepared_in_a_thread_is_not_loaded_again_and_what_was_not_needed_is_forgotten(house):
    first = house.open()["one"]
    house.write("0.2", "two")
    await asyncio.to_thread(house.rack.prepare, ["one", "two"])
    slots = house.open("one", "two", is_strict=True)
    assert (slots["one"] is first, await score(slots["two"]), house.loads) == (True, 0.2, [True, False])
    house.write("0.3", "three")
    await asyncio.to_thread(house.rack.prepare, ["three"])
    house.open("one")
    house.write("0.4", "three")
    assert await score(house.open("three")["three"]) == 0.4
    house.write("broken", "four")
    with pytest.raises(ClassifierLoadError):
        house.rack.prepare(["four"])


async def test_a_router_that_no_configuration_names_is_closed_when_told_and_not_looked_at(house, logged):
    house.write("0.2", "two")
    slots = house.open("one", "two")
    house.open("one")
    assert await score(slots["two"]) == 0.2
    closed = []
    slots["two"].classifier.close = lambda: closed.append(1)
    house.rack.close_replaced()
    house.rack.close_replaced()
    assert closed == [1]
    house.write("0.3", "two")
    await house.look(3)
    assert logged == []


async def test_a_version_that_comes_too_late_for_its_configuration_is_let_go(house, logged):
    slot = house.open()["one"]
    house.write("0.2")
    await house.look(1)
    gate = threading.Event()
    load = house.rack._load
    house.rack._load = lambda folder: (gate.wait(5), load(folder))[1]
    looking = asyncio.create_task(house.look(1))
    await asyncio.sleep(0.01)
    house.rack.keep({})
    gate.set()
    await looking
    assert (slot.version, logged) == ("0.1", [])
    house.rack.close_replaced()


async def test_what_the_old_version_has_begun_it_ends(house):
    """Off the loop, where a judgement waits for its turn."""
    slot = house.open()["one"]
    gate, began = threading.Event(), threading.Event()

    def judge(_, tenant=None):
        began.set()
        gate.wait(5)
        return Judgement(0.1)

    old = slot.classifier
    old._text_s, old._timeout_s = 1.0, 5.0
    old._classifier.judge = judge
    asked = [asyncio.create_task(score(slot)) for _ in range(5)]
    await asyncio.to_thread(began.wait, 5)
    house.write("0.9")
    await house.look()
    assert await score(slot) == 0.9
    gate.set()
    assert await asyncio.gather(*asked) == [0.1] * 5


async def test_a_half_written_copy_of_a_real_router_is_refused_and_the_whole_one_taken(tmp_path, logged):
    shipped, folder = Path("router_models/artifacts/default"), tmp_path / "mine"
    shutil.copytree(shipped, folder)
    rack = Rack(OnnxClassifier.load, lambda _: folder, lambda *_: None)
    slots = rack.open(["mine"], is_strict=True)
    rack.keep(slots)
    before = slots["mine"].version
    model = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(model[: len(model) // 2])
    await rack.refresh()
    await rack.refresh()
    assert (slots["mine"].version, logged[-1][0]) == (before, "router_refused")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest)[:-30])
    (folder / "model.onnx").write_bytes(model)
    await rack.refresh()
    await rack.refresh()
    assert [event for event, _ in logged] == ["router_refused"] * 2
    assert (await slots["mine"].judge(ASK)) is not None
    rack.close()


def test_marks_tell_files_apart_and_pass_by_what_is_hidden_or_missing(tmp_path):
    assert mark_of(tmp_path / "nowhere") == mark_of(Path("a\0b")) == ()
    (tmp_path / "model").write_text("1")
    first = mark_of(tmp_path)
    (tmp_path / ".model.partial").write_text("2")
    assert mark_of(tmp_path) == first
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert mark_of(tmp_path) != first
