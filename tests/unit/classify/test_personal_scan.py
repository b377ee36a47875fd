"""All that a request sends is read, in bites, and what can't be read is personal."""

import asyncio
from contextlib import contextmanager

import msgspec
import pytest

from gateway.classify import personal_scan
from gateway.classify.personal import Finding, find_personal
from gateway.classify.personal_scan import BITE_CHARS, MIN_REMEMBERED_BYTES, PersonalScan, holds_personal
from gateway.core.personal import PersonalKind as Kind
from gateway.schema.request import Operation, decode_request
from tests.builders import request

EMAIL = "jane@example.org"
CARD = "4111 1111 1111 1111"


async def kinds_of(asked, request_id="req-1", *, scan=None, wants_all=True):
    return await (scan or PersonalScan()).find_kinds(asked, request_id, wants_all=wants_all)


def chat(*messages, **fields):
    return request(messages=[{"role": "user", "content": "Hello"}, *messages], **fields)


PLACES = {
    "the last turn": chat({"role": "user", "content": EMAIL}),
    "the system prompt": chat({"role": "system", "content": EMAIL}),
    "an earlier answer": chat({"role": "assistant", "content": EMAIL}, {"role": "user", "content": "And?"}),
    "a part": chat({"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": EMAIL}]}),
    "a tool's result": chat(
        {"role": "tool", "tool_call_id": "1", "content": msgspec.json.encode({"a": EMAIL}).decode()}
    ),
    "a tool call's arguments": chat(
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": f'{{"to": "{EMAIL}"}}'}}],
        }
    ),
    "a tool call's escaped arguments": chat(
        {"role": "assistant", "tool_calls": [{"function": {"arguments": '{"to": "jane\\u0040example.org"}'}}]}
    ),
    "a tool's description": chat(tools=[{"type": "function", "function": {"name": "f", "description": EMAIL}}]),
    "a name": chat({"role": "user", "name": EMAIL, "content": "Hi"}),
    "the user": chat(user=EMAIL),
    "metadata": chat(metadata={"who": EMAIL}),
    "a key": chat(metadata={EMAIL: 1}),
    "a field's own name": chat(**{EMAIL: 1}),
    "a field nobody knows": chat(x_whatever=[[{"deep": {"deeper": [EMAIL]}}]]),
    "a number": chat(metadata={"card": 4111111111111111}),
    "a completion's prompt": request(Operation.COMPLETION, prompt=EMAIL),
    "one of several prompts": request(Operation.COMPLETION, prompt=["a", EMAIL]),
    "an embedding's input": request(Operation.EMBEDDING, input=["a", EMAIL]),
}


@pytest.mark.parametrize("place", PLACES)
async def test_every_place_is_read(place):
    assert await kinds_of(PLACES[place]) in ({Kind.EMAIL}, {Kind.CARD})


@pytest.mark.parametrize("place", PLACES)
def test_whoever_needs_no_kinds_can_ask_at_once(place):
    assert holds_personal(PLACES[place])


def test_neither_an_ordinary_request_nor_one_that_can_not_be_read_is_mistaken():
    assert not holds_personal(chat())
    assert holds_personal(request(Operation.EMBEDDING, input=[1, 2, 3]))


async def test_nothing_is_found_where_nothing_is():
    assert await kinds_of(chat({"role": "user", "content": None}, temperature=0.5, stream=True, stop=["x"])) == set()


async def test_the_name_of_the_route_is_not_read():
    assert await kinds_of(chat(model=EMAIL)) == set()


async def test_the_request_id_is_read_for_it_is_sent_on():
    assert await kinds_of(chat(), request_id=EMAIL) == {Kind.EMAIL}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA"}},
        {"type": "file", "file": {"file_data": "AAAA"}},
    ],
)
async def test_what_no_pattern_reads_is_personal(part):
    assert await kinds_of(chat({"role": "user", "content": [part]})) == {Kind.UNREAD}


@pytest.mark.parametrize("operation_field", [(Operation.COMPLETION, "prompt"), (Operation.EMBEDDING, "input")])
async def test_token_ids_are_personal(operation_field):
    operation, field = operation_field
    assert await kinds_of(request(operation, **{field: [1, 2, 3]})) == {Kind.UNREAD}
    assert await kinds_of(request(operation, **{field: [[1, 2], [3]]})) == {Kind.UNREAD}


HIDDEN = {
    "behind the same key": f'{{"role": "user", "content": "{EMAIL}", "content": "Hi"}}',
    "deeper": f'{{"role": "user", "content": "Hi", "x": [{{"a": ["{EMAIL}"], "a": 1}}]}}',
    "behind a colon too many": f'{{"role": "user", "content": "{EMAIL}", "content": "\\u003a \\u003A :"}}',
}


@pytest.mark.parametrize("message", HIDDEN.values(), ids=HIDDEN)
async def test_a_key_that_stands_twice_hides_nothing(message):
    asked = decode_request(Operation.CHAT, f'{{"model": "auto", "messages": [{message}]}}'.encode())
    assert await kinds_of(asked) == {Kind.UNREAD}
    assert holds_personal(asked)


@pytest.mark.parametrize("text", [":", "a: b\n::", '{"a": {"b": ":"}}', "\\u003b", "12:30 \u2236"])
async def test_colons_are_no_keys(text):
    asked = chat({"role": "user", "content": text, "a:b": {":": [":", None, 1.5]}}, tools=[{"a": {}}, {"b": [{}]}])
    assert await kinds_of(asked) == set()


@pytest.mark.parametrize("values", ["1, " * 300_000, "[[[]]], " * 90_000, "{}, " * 150_000])
async def test_what_has_more_values_than_can_be_read_in_time_is_personal(values):
    asked = decode_request(
        Operation.CHAT, f'{{"model": "auto", "messages": [{{"role": "u"}}], "x": [{values}1]}}'.encode()
    )
    assert await kinds_of(asked) == {Kind.UNREAD}


@contextmanager
def turns_of_another():
    """A task that takes every turn it gets, and the turns it took."""
    turns = []

    async def take():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    running = asyncio.create_task(take())
    yield turns
    running.cancel()


async def test_others_come_between_values():
    with turns_of_another() as turns:
        assert await kinds_of(chat(x=[{}] * 4 * personal_scan.STEP_VALUES)) == set()
    assert len(turns) >= 3


def fail(text):
    raise UnicodeError(text)


async def test_a_detector_that_fails_makes_all_personal_and_says_nothing_of_the_text(monkeypatch):
    told = []
    monkeypatch.setattr(personal_scan, "log", lambda event, **fields: told.append((event, fields)))
    assert await kinds_of(chat({"role": "user", "content": "secret"}), scan=PersonalScan(fail)) == {Kind.UNREAD}
    ((event, fields),) = told
    assert (event, fields["problem"]) == ("personal_scan_failed", "UnicodeError")
    assert "secret" not in str(fields)


async def test_all_kinds_are_found_where_all_are_wanted():
    asked = chat({"role": "user", "content": EMAIL}, {"role": "user", "content": CARD})
    assert await kinds_of(asked) == {Kind.EMAIL, Kind.CARD}
    assert await kinds_of(asked, wants_all=False) == {Kind.EMAIL}


async def test_nothing_is_cut_in_two_by_a_bite():
    for start in range(BITE_CHARS - 40, BITE_CHARS + 10, 3):
        text = ("words " * BITE_CHARS)[:start] + " " + CARD + " words" * 10
        assert await kinds_of(chat({"role": "user", "content": text})) == {Kind.CARD}


async def test_others_come_between_bites():
    with turns_of_another() as turns:
        await kinds_of(chat({"role": "user", "content": "words " * BITE_CHARS}))
    assert len(turns) >= 6


async def test_more_than_any_window_holds_is_not_read(monkeypatch):
    monkeypatch.setattr(personal_scan, "MAX_CHARS", 3 * BITE_CHARS)
    words = {"role": "user", "content": "words " * (BITE_CHARS // 3)}
    assert await kinds_of(chat(words)) == set()
    assert await kinds_of(chat(words, {"role": "user", "content": "others " * (BITE_CHARS // 3)})) == {Kind.UNREAD}


class CountingFind:
    def __init__(self):
        self.texts = []

    def __call__(self, text):
        self.texts.append(text)
        return find_personal(text)


async def test_a_long_message_is_read_once():
    find = CountingFind()
    scan = PersonalScan(find)
    head = {"role": "user", "content": "words " * MIN_REMEMBERED_BYTES}
    personal = {"role": "user", "content": EMAIL + " words" * MIN_REMEMBERED_BYTES}
    assert await kinds_of(chat(head), scan=scan) == set()
    before = len(find.texts)
    assert await kinds_of(chat(head, personal), scan=scan) == {Kind.EMAIL}
    assert await kinds_of(chat(head, personal), scan=scan) == {Kind.EMAIL}
    assert [len(text) > MIN_REMEMBERED_BYTES for text in find.texts[before:]].count(True) == 1


async def test_no_text_is_remembered_and_only_so_many_messages(monkeypatch):
    monkeypatch.setattr(personal_scan, "MAX_REMEMBERED", 3)
    scan = PersonalScan()
    for n in range(5):
        await kinds_of(chat({"role": "user", "content": f"{n} {EMAIL} " + "words " * MIN_REMEMBERED_BYTES}), scan=scan)
    assert len(scan._remembered) == 3
    assert all(len(key) == 16 for key in scan._remembered)


async def test_short_messages_are_read_each_time():
    found = []
    scan = PersonalScan(lambda text: found.append(text) or [Finding(Kind.NAME, 0, 1)])
    await kinds_of(chat(), scan=scan)
    await kinds_of(chat(), scan=scan)
    assert found[0] == found[len(found) // 2]
    assert scan._remembered == {}
