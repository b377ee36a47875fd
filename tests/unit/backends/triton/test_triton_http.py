"""Triton over HTTP, the connection faked: paths, bodies, events, and whose fault a failure is."""

import asyncio

import msgspec
import pytest

from gateway.backends.http import HttpError, IteratedResponse
from gateway.backends.triton.http_transport import HttpRoute, HttpTransport
from gateway.backends.triton.wire import Ask, Datatype, Fault, Input, WireError
from gateway.core.secret import Secret
from tests.builders import raised_by
from tests.unit.backends.triton.builders import facts

INPUTS = (Input("text_input", Datatype.BYTES, ("Hé",)), Input("stop_words", Datatype.BYTES, ("a", "b")))


class FakeHttp:
    """Answer every request with one status and these chunks; count what is left open."""

    def __init__(self, *chunks, status=200, hangs=False):
        self.chunks, self.status, self.hangs = chunks, status, hangs
        self.sent, self.open_now, self.is_closed = [], 0, False

    async def send(self, request):
        self.sent.append(request)
        if isinstance(self.status, Exception):
            raise self.status
        self.open_now += 1
        return IteratedResponse(self.status, {}, self._read(), self._close)

    async def _read(self):
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
        if self.hangs:
            await asyncio.Event().wait()

    async def _close(self):
        self.open_now = 0

    async def close(self):
        self.is_closed = True


def transport_of(http, **route):
    return HttpTransport(HttpRoute("http://h:8000/", "my model", **route), http)


async def responses(http, *, is_streaming=True):
    ask = Ask("task-1", INPUTS, is_streaming)
    return [outputs async for outputs in transport_of(http).ask(ask, facts())]


async def test_a_request_is_json_of_its_inputs():
    http = FakeHttp(b"{}")
    await responses(http, is_streaming=False)
    (sent,) = http.sent
    assert sent.head.url == "http://h:8000/v2/models/my%20model/generate"
    assert msgspec.json.decode(sent.body) == {"id": "task-1", "text_input": "Hé", "stop_words": ["a", "b"]}
    assert http.open_now == 0


async def test_a_version_and_a_key_are_sent_where_they_are_set():
    http = FakeHttp(b'{"inputs": []}')
    await transport_of(http, version="3", api_key=Secret("k")).describe()
    assert [sent.head.url.removeprefix("http://h:8000/v2/models/") for sent in http.sent] == [
        "my%20model/versions/3",
        "my%20model/versions/3/config",
    ]
    assert {sent.head.method for sent in http.sent} == {"GET"}
    assert {sent.head.headers["authorization"] for sent in http.sent} == {"Bearer k"}


async def test_the_trace_goes_along_as_headers():
    http = FakeHttp(b"{}")
    ask = Ask("task-1", INPUTS, is_streaming=False, headers={"traceparent": "00-a-b-01"})
    assert [outputs async for outputs in transport_of(http).ask(ask, facts())] == [{}]
    assert http.sent[0].headers == {"traceparent": "00-a-b-01"}


async def test_another_model_of_the_server_can_be_asked():
    http = FakeHttp(b"{}")
    ask = Ask("task-1", INPUTS, is_streaming=False, model="inside")
    assert [outputs async for outputs in transport_of(http, version="3").ask(ask, facts())] == [{}]
    assert http.sent[0].head.url == "http://h:8000/v2/models/inside/generate"


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_events_are_read_however_they_are_cut(size):
    stream = 'data: {"text_output":"Hé","num_output_tokens":1}\n\ndata: {"text_output":["llo"]}\n\n'.encode()
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert await responses(FakeHttp(*chunks)) == [
        {"text_output": ["Hé".encode()], "num_output_tokens": [1]},
        {"text_output": [b"llo"]},
    ]


async def test_half_a_character_comes_as_the_bytes_it_is():
    assert await responses(FakeHttp(b'data: {"text_output":"a\xf0\x9f"}\n\n')) == [{"text_output": [b"a\xf0\x9f"]}]


@pytest.mark.parametrize(
    ("http", "fault", "text", "code"),
    [
        (FakeHttp(status=HttpError("x", is_connecting=True)), Fault.CONNECTING, "x", ""),
        (FakeHttp(status=HttpError("x")), Fault.BROKEN, "x", ""),
        (FakeHttp(HttpError("cut")), Fault.BROKEN, "cut", ""),
        (FakeHttp(b'data: {"text_output":"a"}\n\ndata: {"err'), Fault.BROKEN, "the stream ended inside an event", ""),
        (FakeHttp(b"data: nonsense\n\n"), Fault.BROKEN, "what came is not JSON", ""),
        (FakeHttp(b"data: 7\n\n"), Fault.BROKEN, "what came is no JSON object", ""),
        (FakeHttp(b'data: {"error":"boom"}\n\n'), Fault.TOLD, "boom", ""),
        (FakeHttp(b'data: {"error":"boom"}\n\n', status=400), Fault.TOLD, "boom", "HTTP 400"),
        (FakeHttp(b'{"error":"unknown model"}', status=404), Fault.TOLD, "unknown model", "NOT_FOUND"),
        (FakeHttp(b"<html>", status=502), Fault.TOLD, "", "HTTP 502"),
        (FakeHttp(HttpError("cut"), status=500), Fault.BROKEN, "cut", ""),
    ],
)
async def test_each_failure_is_told_as_what_it_is_and_leaves_nothing_open(http, fault, text, code):
    error = await raised_by(responses(http))
    assert type(error) is WireError
    assert (error.fault, error.text, error.code) == (fault, text, code)
    assert http.open_now == 0


async def test_a_whole_answer_may_be_an_error_too():
    error = await raised_by(responses(FakeHttp(b'{"error":"generate expects one response"}'), is_streaming=False))
    assert (error.fault, error.text) == (Fault.TOLD, "generate expects one response")


async def test_a_cancelled_request_leaves_nothing_open():
    http = FakeHttp(hangs=True)
    running = asyncio.create_task(responses(http))
    await asyncio.sleep(0.01)
    assert http.open_now == 1
    running.cancel()
    assert type(await raised_by(running)) is asyncio.CancelledError
    assert http.open_now == 0


async def test_a_closed_request_leaves_nothing_open():
    http = FakeHttp(b'data: {"text_output":"a"}\n\n', hangs=True)
    pieces = transport_of(http).ask(Ask("t", INPUTS, is_streaming=True), facts())
    await anext(pieces)
    await pieces.aclose()
    assert http.open_now == 0


async def test_a_model_is_ready_when_its_page_says_so():
    assert await transport_of(FakeHttp()).is_ready()
    assert not await transport_of(FakeHttp(b'{"error":"Model version not ready"}', status=400)).is_ready()
    error = await raised_by(transport_of(FakeHttp(status=HttpError("x", is_connecting=True))).is_ready())
    assert error.fault is Fault.CONNECTING


async def test_a_model_describes_itself():
    page = (
        b'{"inputs":[{"name":"a","datatype":"BYTES","shape":[-1,1]}],"outputs":[{"name":"b","datatype":"FP32",'
        b'"shape":[-1]}],"model_transaction_policy":{"decoupled":true},"parameters":{"p":{"string_value":"v"}},'
        b'"ensemble_scheduling":{"step":[{"model_name":"s","input_map":{"x":"y"}}]}}'
    )
    told = await transport_of(FakeHttp(page)).describe()
    assert (told.inputs["a"].datatype, told.inputs["a"].rank, told.outputs["b"].rank) == ("BYTES", 2, 1)
    assert (told.is_decoupled, told.parameters, told.steps) == (True, {"p": "v"}, {"s": frozenset({"x"})})


@pytest.mark.parametrize("told", [b"no \xc3 grammar", b"no \\ud800 grammar"])
async def test_an_errors_text_can_be_told_whatever_bytes_it_has(told):
    for http in (
        FakeHttp(b'data: {"error": "' + told + b'"}\n\n'),
        FakeHttp(b'{"error": "' + told + b'"}', status=400),
    ):
        raised = await raised_by(responses(http))
        assert raised.text.replace("\N{REPLACEMENT CHARACTER}", "?") == "no ? grammar"


async def test_half_a_character_written_as_an_escape_is_told_as_lost():
    assert await responses(FakeHttp(b'data: {"text_output": "a\\ud800"}\n\n')) == [{"text_output": [b"a?"]}]


@pytest.mark.parametrize("page", [b"nonsense", b'{"inputs": 3}'])
async def test_a_page_of_another_kind_is_a_failure(page):
    assert type(await raised_by(transport_of(FakeHttp(page)).describe())) is WireError


async def test_closing_closes_the_pool():
    http = FakeHttp()
    await transport_of(http).close()
    assert http.is_closed
