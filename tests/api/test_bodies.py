"""Whatever a client sends: an answer in OpenAI's shape, never a 500, never a hung connection."""

import asyncio
import json
import string
from contextlib import AsyncExitStack

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.api.live import Live
from gateway.app import Factory
from gateway.settings.models import SimulatedSettings
from gateway.settings.simulated import simulated_settings
from gateway.telemetry.metrics import Metrics
from tests.faults.wire import Wire
from tests.serving import served

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/route")
CHAT = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}]}
over_http = pytest.mark.asyncio(loop_scope="module")


def chat(**changes) -> bytes:
    return json.dumps(CHAT | changes).encode()


def with_raw(name: str, value: bytes) -> bytes:
    """The chat body and one more field whose bytes are given."""
    return chat()[:-1] + b',"' + name.encode() + b'":' + value + b"}"


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def messages(raw: bytes) -> bytes:
    return b'{"model":"small","messages":' + raw + b"}"


def many(unit: bytes) -> bytes:
    """A list of tiny elements that all but fills 10 MiB."""
    return b"[" + b",".join([unit] * (10_485_000 // (len(unit) + 1))) + b"]"


JSON_FAULTS = {
    "empty": b"",
    "blank": b" \n",
    "not JSON": b"model=small",
    "half": chat()[:-1],
    "two objects": chat() + chat(),
    "trailing comma": chat()[:-1] + b",}",
    "single quotes": b"{'model':'small'}",
    "byte order mark": b"\xef\xbb\xbf" + chat(),
    "UTF-16": chat().decode().encode("utf-16"),
    "invalid UTF-8 in a key": chat()[:-1] + b',"\xff\xfe":1}',
    "invalid UTF-8 in an unknown value": with_raw("x", b'"\xc3\x28"'),
    "invalid UTF-8 in content": chat().replace(b"hello", b"\xed\xa0\x80"),
    "lone surrogate in content": chat().replace(b"hello", rb"\ud800"),
    "lone surrogate in model": chat().replace(b"small", rb"\udfff"),
    "lone surrogate in a key": chat()[:-1] + rb',"\ud800":1}',
    "NaN": with_raw("temperature", b"NaN"),
    "Infinity": with_raw("temperature", b"-Infinity"),
    "1e400 in a read field": with_raw("max_tokens", b"1e400"),
    "nested 5,000 in messages": messages(nested(5_000)),
    "nested 5,000 in an unknown field": with_raw("x", nested(5_000)),
    "nested 5,000 in tools": with_raw("tools", nested(5_000)),
    "nested 1,000,000 in messages": messages(nested(1_000_000)),
    "nested 1,000,000 in an unknown field": with_raw("x", nested(1_000_000)),
    "objects nested 100,000": with_raw("x", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "only an opening 1,000,000": b"[" * 1_000_000,
    "NUL": b"\x00",
    "raw control character in content": chat().replace(b"hello", b"\x01"),
}
VALUE_FAULTS = {
    "null": (b"null", None),
    "array": (b"[]", None),
    "number": (b"1", None),
    "string": (b'"x"', None),
    "no model": (b'{"messages":[]}', "messages"),
    "no messages": (b'{"model":"small"}', "messages"),
    "model null": (chat(model=None), "model"),
    "model a number": (chat(model=1), "model"),
    "model empty": (chat(model=""), "model"),
    "model over-long": (chat(model="m" * 10_000), "model"),
    "messages empty": (chat(messages=[]), "messages"),
    "messages null": (chat(messages=None), "messages"),
    "messages a string": (chat(messages="hello"), "messages"),
    "message a string": (chat(messages=["hello"]), "messages[0]"),
    "message without role": (chat(messages=[{"content": "a"}]), "messages[0].role"),
    "role null": (chat(messages=[{"role": None, "content": "a"}]), "messages[0].role"),
    "content a number": (chat(messages=[{"role": "user", "content": 1}]), "messages[0].content"),
    "content an object": (chat(messages=[{"role": "user", "content": {}}]), "messages[0].content"),
    "part a string": (chat(messages=[{"role": "user", "content": ["a"]}]), "messages[0].content[0]"),
    "part without type": (chat(messages=[{"role": "user", "content": [{}]}]), "messages[0].content[0].type"),
    "stream a string": (chat(stream="yes"), "stream"),
    "stream a number": (chat(stream=1), "stream"),
    "stream_options a list": (chat(stream_options=[]), "stream_options"),
    "include_usage a string": (chat(stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
    "tools an object": (chat(tools={}), "tools"),
    "functions a string": (chat(functions="f"), "functions"),
    "response_format a string": (chat(response_format="json"), "response_format"),
    "response_format without type": (chat(response_format={}), "response_format.type"),
    "n zero": (chat(n=0), "n"),
    "n large": (chat(n=129), "n"),
    "n a fraction": (chat(n=1.5), "n"),
    "n huge": (with_raw("n", b"9" * 5_000), "n"),
    "logprobs a number": (chat(logprobs=5), "logprobs"),
    "modalities a string": (chat(modalities="audio"), "modalities"),
    "max_tokens negative": (chat(max_tokens=-1), "max_tokens"),
    "max_tokens beyond 2**64": (chat(max_tokens=2**65), "max_tokens"),
    "max_completion_tokens negative": (chat(max_completion_tokens=-(2**70)), "max_completion_tokens"),
    "max_tokens a string": (chat(max_tokens="8"), "max_tokens"),
}


def assert_openais_shape(response: httpx2.Response) -> dict:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


@over_http
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", JSON_FAULTS)
async def test_what_is_no_json_is_told_so(house, path, fault):
    response = await house.post(path, content=JSON_FAULTS[fault])
    error = assert_openais_shape(response)
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["code"] in {"invalid_json", "invalid_value"}
    assert house.weak.requests == house.strong.requests == []


@over_http
@pytest.mark.parametrize("fault", VALUE_FAULTS)
async def test_a_value_of_the_wrong_kind_is_named(house, fault):
    body, param = VALUE_FAULTS[fault]
    for path in ("/v1/chat/completions", "/v1/route"):
        response = await house.post(path, content=body)
        error = assert_openais_shape(response)
        assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
        assert "Say hello" not in error["message"]
    assert house.weak.requests == []


@over_http
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"model": "small", "prompt": 5}, "prompt"),
        ("/v1/completions", {"model": "small", "prompt": "a", "logprobs": True}, "logprobs"),
        ("/v1/embeddings", {"model": "large"}, "input"),
        ("/v1/embeddings", {"model": "large", "input": None}, "input"),
        ("/v1/embeddings", {"model": "large", "input": []}, "input"),
        ("/v1/embeddings", {"model": "large", "input": {"a": 1}}, "input"),
    ],
)
async def test_other_endpoints_name_the_value_too(house, path, body, param):
    response = await house.post(path, json=body)
    error = assert_openais_shape(response)
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)


MILLIONS = {
    "messages": (PATHS[0], b'{"model":"small","messages":' + many(b'{"role":"u"}'), "messages"),
    "tools": (PATHS[0], chat()[:-1] + b',"tools":' + many(b"1"), "tools"),
    "prompt": (PATHS[1], b'{"model":"small","prompt":' + many(b"1"), "prompt"),
    "input": (PATHS[2], b'{"model":"large","input":' + many(b'""'), "input"),
}


@over_http
@pytest.mark.parametrize("field", MILLIONS)
async def test_millions_of_elements_are_refused_by_the_name_of_their_field(house, field):
    path, body, param = MILLIONS[field]
    response = await house.post(path, content=body + b"}")
    error = assert_openais_shape(response)
    assert "`array` of length <= " in error["message"]
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)


GOOD = {
    "1e400 in an unknown field": with_raw("x", b"1e400"),
    "huge integer in an unknown field": with_raw("x", b"9" * 4_000),
    "unicode": json.dumps(CHAT | {"x": "漢 \U0010ffff \x00"}).encode(),
    "leading and trailing blanks": b" \r\n\t" + chat() + b"\n",
    "escaped key": chat().replace(b'"model"', rb'"m\u006fdel"'),
    "stream null": chat(stream=None),
    "tools null": chat(tools=None),
    "content null": chat(messages=[{"role": "assistant", "content": None}]),
    "n one": chat(n=1),
    "nested 100 in an unknown field": with_raw("x", nested(100)),
}


@over_http
@pytest.mark.parametrize("body", GOOD)
async def test_what_is_odd_but_right_is_served(house, body):
    response = await house.post(content=GOOD[body])
    assert response.status_code == 200
    sent = house.weak.requests[0].body
    assert json.loads(sent) == json.loads(GOOD[body]) | {"model": "small"}


@over_http
async def test_of_a_field_given_twice_the_last_is_read_and_alone_travels(house):
    body = b'{"model":"large",' + chat()[1:-1] + b',"stream":true,"stream":false,"x":1,"x":2}'
    response = await house.post(content=body)
    assert (response.status_code, response.headers["x-postern-model"]) == (200, "small")
    sent = json.loads(house.weak.requests[0].body, object_pairs_hook=list)
    assert sorted(name for name, _ in sent) == ["messages", "model", "stream", "x"]
    assert dict(sent)["x"] == 2
    assert dict(sent)["stream"] is False


@over_http
@pytest.mark.parametrize("name", ["a\nb", "\x00", "\x7f", "é" * 200, "auto\r\nx-evil: 1", "../../etc", "auto "])
async def test_a_model_name_of_any_characters_is_not_found(house, name):
    response = await house.post(content=chat(model=name))
    error = assert_openais_shape(response)
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert name not in response.text
    assert "x-evil" not in response.headers


@over_http
@pytest.mark.parametrize("has_length", [True, False])
async def test_a_body_of_11_mb_is_refused_and_the_client_hears_it(house, has_length):
    big = chat(x="a" * 11_000_000)

    async def pieces():
        for at in range(0, len(big), 100_000):
            yield big[at : at + 100_000]

    response = await house.post(content=big if has_length else pieces())
    error = assert_openais_shape(response)
    assert (response.status_code, error["code"]) == (413, "request_too_large")
    assert response.headers["connection"] == "close"


@over_http
@pytest.mark.parametrize(
    ("path", "status"), [("/v1/route", 413), ("/v1/feedback", 413), ("/v1/nothing", 404), ("/v1/embeddings", 413)]
)
async def test_an_early_answer_to_a_large_body_is_heard(house, path, status):
    response = await house.post(path, content=b"a" * 11_000_000)
    assert_openais_shape(response)
    assert response.status_code == status


@over_http
@pytest.mark.parametrize("path", PATHS[:3])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_another_method_is_405_and_the_right_one_is_named(house, path, method):
    response = await house.http.request(method, house.gateway.root + path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        assert assert_openais_shape(response)["code"] == "method_not_allowed"


@over_http
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/small", "/health/live", "/v1/route", "/v1/feedback"])
async def test_another_method_is_405_on_every_other_path_too(house, path):
    response = await house.http.delete(house.gateway.root + path)
    assert response.status_code == 405
    assert response.headers["allow"]
    assert assert_openais_shape(response)["code"] == "method_not_allowed"


@over_http
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_head_and_options_are_never_a_fault_of_ours(house, method):
    for path in ("/v1/models", "/health/live", "/", "/nothing"):
        response = await house.http.request(method, house.gateway.root + path)
        assert response.status_code in {200, 204, 404, 405}


@over_http
@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
async def test_health_is_told_to_who_asks_by_head(house, path):
    asked = await house.http.get(house.gateway.root + path)
    response = await house.http.head(house.gateway.root + path)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == asked.headers["content-length"]
    assert (await house.http.head(house.gateway.admin_url + "/health/live")).status_code == 200


@over_http
@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v2/chat/completions", "/v1/chat/completions/x", "/v1/%ff", "/v1/a%00b", "/metrics"]
)
async def test_an_unknown_path_is_404(house, path):
    response = await house.get(path)
    assert response.status_code == 404
    assert assert_openais_shape(response)["code"] == "not_found"


@over_http
@pytest.mark.parametrize("model", ["%ff", "a%00b", "a/b/c", "%0d%0ax-evil:1", "é", "%2e%2e"])
async def test_an_unknown_model_is_404_under_any_name(house, model):
    response = await house.get(f"/v1/models/{model}")
    assert response.status_code == 404
    assert assert_openais_shape(response)["code"] in {"model_not_found", "not_found"}


@over_http
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "2", "-0.1", "abc", "", "0,5", "0_1", "1e999", "0x1"])
async def test_a_threshold_that_is_none_is_refused(house, value):
    for path in ("/v1/chat/completions", "/v1/route"):
        response = await house.post(path, content=chat(), headers={"x-postern-threshold": value})
        error = assert_openais_shape(response)
        told = (response.status_code, error["code"], error["param"])
        assert told == (400, "invalid_value", "x-postern-threshold")


@over_http
@pytest.mark.parametrize("value", ["middle", "", "weak,strong", "1"])
async def test_a_tier_that_is_none_is_refused(house, value):
    response = await house.post(content=chat(), headers={"x-postern-tier": value})
    error = assert_openais_shape(response)
    assert (response.status_code, error["param"]) == (400, "x-postern-tier")


@over_http
@pytest.mark.parametrize("given_id", ["a", "my-id_1.2:3", "x" * 128, "!~"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route", "/v1/feedback"])
async def test_a_sane_request_id_is_kept(house, given_id, path):
    response = await house.post(path, content=chat(), headers={"x-request-id": given_id})
    assert response.headers.get_list("x-request-id") == [given_id]
    if path == "/v1/chat/completions":
        assert house.weak.requests[0].headers["x-request-id"] == given_id


@over_http
@pytest.mark.parametrize("given_id", ["", "x" * 129, "a b", "tab\there", b"\xc3\xa9", b"\x80"])
async def test_an_insane_request_id_is_replaced(house, given_id):
    response = await house.post(content=chat(), headers={"x-request-id": given_id})
    assert response.status_code == 200
    assert response.headers["x-request-id"].startswith("req-")
    assert response.headers["x-request-id"] == house.weak.requests[0].headers["x-request-id"]


@over_http
@pytest.mark.parametrize("line", [b"x-request-id: a\rb", b"x-request-id: a\x00b", b"x y: 1", b"Bearer", b": 1"])
async def test_a_head_that_is_no_http_is_refused_and_does_no_harm(house, line):
    host, _, port = house.gateway.root.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: a\r\n" + line + b"\r\n\r\n")
    status = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()
    assert status.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
    assert (await house.get("/health/live")).status_code == 200


class Bench:
    """A gateway in this process on simulated models that take no time."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        fleet = simulated_settings()
        quick = SimulatedSettings(ttft_s=0, tokens_per_s=0)
        models = {name: structs.replace(model, simulated=quick) for name, model in fleet.models.items()}
        self.runner.run(self._open(structs.replace(fleet, models=models)))

    async def _open(self, fleet) -> None:
        self.pipeline = Factory(Metrics()).build(fleet)
        self.stack = AsyncExitStack()
        self.url = await self.stack.enter_async_context(served(Live(self.pipeline, fleet)))
        self.http = await self.stack.enter_async_context(httpx2.AsyncClient(base_url=self.url, trust_env=False))

    def post(self, path: str, body: bytes) -> httpx2.Response:
        return self.runner.run(self.http.post(path, content=body))

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.run(self.pipeline.close())
        self.runner.close()


@pytest.fixture(scope="module")
def bench():
    bench = Bench()
    yield bench
    bench.close()


KNOWN = [
    "model", "messages", "stream", "stream_options", "tools", "functions", "response_format", "n", "logprobs",
    "modalities", "max_tokens", "max_completion_tokens", "prompt", "input", "role", "content", "type", "text",
    "include_usage", "image_url", "temperature",
]  # fmt: skip
names = st.sampled_from(KNOWN) | st.text(max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["auto", "simulated-small", "user", "text", "image_url", "json_schema", "audio", "\ud800"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5), max_leaves=20
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["auto", "simulated-small", "simulated-large", "nobody"]) | scalars,
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "x"])}, optional={"content": values})
            | values,
            max_size=4,
        ),
        "prompt": st.text(max_size=20) | values,
        "input": st.text(max_size=20) | values,
        "stream": st.booleans() | values,
        **dict.fromkeys(KNOWN[3:12], values),
    },
)
whole_json = st.builds(lambda value: json.dumps(value).encode(), likely | values)


@st.composite
def near_json(draw) -> bytes:
    """JSON with some bytes cut, put in or changed."""
    body = bytearray(draw(whole_json))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        junk = draw(st.binary(max_size=3) | st.sampled_from([b"{", b'"', b"\\u", b"[" * 50]))
        body[at : at + draw(st.integers(0, 2))] = junk
    return bytes(body)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(path=st.sampled_from(PATHS), body=whole_json | near_json() | st.binary(max_size=60))
@example(path="/v1/embeddings", body=b'{"model":"auto","input":["a"]}')
@example(path="/v1/completions", body=b'{"model":"auto","prompt":[1,2]}')
@example(path="/v1/completions", body=b'{"model":"auto","prompt":["\\ud800"]}')
def test_no_body_at_all_is_a_fault_of_ours(bench, path, body):
    response = bench.post(path, body)
    if response.status_code == 200:
        assert response.headers["x-request-id"]
        return
    error = assert_openais_shape(response)
    assert response.status_code in {400, 404}, error
    assert error["type"] == "invalid_request_error"


@settings(max_examples=100, deadline=None)
@given(
    header=st.sampled_from(
        ["x-postern-threshold", "x-postern-tier", "x-request-id", "cache-control", "authorization", "x-postern-session"]
    ),
    value=st.text(string.printable, max_size=20).map(str.encode) | st.binary(max_size=200),
)
def test_no_header_is_a_fault_of_ours(bench, header, value):
    body = json.dumps(CHAT | {"model": "auto"}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n" % len(body)
    lines = b"%b%b: %b\r\n\r\n" % (head, header.encode(), value)

    async def ask() -> tuple[int, str | None]:
        async with await Wire.connect(bench.url) as wire:  # no HTTP client sends just any bytes
            await wire.send(lines + body)
            status, headers = await wire.head()
            return status, headers.get("content-type")

    status, content_type = bench.runner.run(ask())
    assert (status, content_type) in {(200, "application/json"), (400, "application/json"), (400, None)}
