"""Triton over gRPC, against a server of gRPC's own that plays Triton: tensors, codes, ends, cancelling, coming back."""

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
import msgspec
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.backends.triton import grpc_transport
from gateway.backends.triton.grpc_transport import GrpcRoute, GrpcTransport
from gateway.backends.triton.wire import Ask, Datatype, Fault, Input, ModelFacts, TensorShape, WireError
from gateway.core.secret import Secret
from tests.builders import raised_by

KINDS = {"text_input": ("BYTES", 2), "words": ("BYTES", 2), "limit": ("INT32", 2), "on": ("BOOL", 1), "p": ("FP32", 1)}
FACTS = ModelFacts({name: TensorShape(*kind) for name, kind in KINDS.items()}, {})
DESCRIBED = ModelFacts({"text_input": TensorShape("BYTES", 2)}, {}, True, {"accumulate_tokens": "true"})
INPUTS = (
    Input("text_input", Datatype.BYTES, ("Hé",)),
    Input("words", Datatype.BYTES, ("a", "bc")),
    Input("limit", Datatype.INT32, (7,)),
    Input("on", Datatype.BOOL, (True,)),
    Input("p", Datatype.FP32, (0.5,)),
)


def response(*texts, count=3):
    raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    told = service_pb2.ModelInferResponse()
    told.outputs.add(name="text_output", datatype="BYTES", shape=[len(texts)])
    told.outputs.add(name="num_output_tokens", datatype="UINT32", shape=[1])
    told.raw_output_contents.extend([raw, count.to_bytes(4, "little")])
    return service_pb2.ModelStreamInferResponse(infer_response=told)


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answer every stream with what `script` yields; remember what was asked, and what was cancelled."""

    def __init__(self, script):
        self.script, self.requests, self.metadata, self.cancelled = script, [], {}, asyncio.Event()
        self.looks = 0

    async def ModelStreamInfer(self, requests, context):  # noqa: N802 - gRPC's name
        self.metadata = dict(context.invocation_metadata())
        async for request in requests:
            self.requests.append(request)
            try:
                async for told in self.script(context):
                    yield told
            except asyncio.CancelledError:
                self.cancelled.set()
                raise

    async def ModelReady(self, request, context):  # noqa: N802
        self.looks += 1
        if request.name == "broken":
            await context.abort(grpc.StatusCode.INTERNAL, "no such thing")
        if request.name == "breaking":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return service_pb2.ModelReadyResponse(ready=request.name == "m")

    async def ModelMetadata(self, request, context):  # noqa: N802
        if request.name != "m":
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown model")
        told = service_pb2.ModelMetadataResponse(name="m")
        told.inputs.add(name="text_input", datatype="BYTES", shape=[-1, 1])
        return told

    async def ModelConfig(self, _, __):  # noqa: N802
        told = service_pb2.ModelConfigResponse()
        told.config.model_transaction_policy.decoupled = True
        told.config.parameters["accumulate_tokens"].string_value = "true"
        return told


@asynccontextmanager
async def serving(script, port=0):
    triton, server = Triton(script), grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    triton.port = server.add_insecure_port(f"127.0.0.1:{port}")
    triton.server = server
    await server.start()
    try:
        yield triton
    finally:
        await server.stop(None)


@asynccontextmanager
async def speaking(port, **route):
    transport = GrpcTransport(GrpcRoute(f"127.0.0.1:{port}", **{"model": "m", **route}))
    try:
        yield transport
    finally:
        await transport.close()


def ask_of(*, inputs=INPUTS):
    return Ask("task-1", inputs, is_streaming=True)


async def responses(transport, **asked):
    return [outputs async for outputs in transport.ask(ask_of(**asked), FACTS)]


async def twice(_):
    yield response("Hé".encode(), b"")
    yield response(b"llo\xf0", count=1)


async def test_inputs_go_out_with_the_models_own_dimensions_and_outputs_come_in_as_bytes():
    async with serving(twice) as triton, speaking(triton.port, version="3", api_key=Secret("k")) as transport:
        assert await responses(transport) == [
            {"text_output": ["Hé".encode(), b""], "num_output_tokens": [3]},
            {"text_output": [b"llo\xf0"], "num_output_tokens": [1]},
        ]
    (request,) = triton.requests
    assert (request.model_name, request.model_version, request.id) == ("m", "3", "task-1")
    assert {one.name: (one.datatype, list(one.shape)) for one in request.inputs} == {
        "text_input": ("BYTES", [1, 1]),
        "words": ("BYTES", [1, 2]),
        "limit": ("INT32", [1, 1]),
        "on": ("BOOL", [1]),
        "p": ("FP32", [1]),
    }
    assert request.raw_input_contents[1] == b"\x01\x00\x00\x00a\x02\x00\x00\x00bc"
    assert triton.metadata["authorization"] == "Bearer k"
    assert "triton_grpc_error" not in triton.metadata  # Triton crashes where it gives codes to streams that end early


async def test_the_trace_goes_along_as_metadata():
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with serving(twice) as triton, speaking(triton.port, api_key=Secret("k")) as transport:
        ask = msgspec.structs.replace(ask_of(), headers={"traceparent": parent, "tracestate": "v=1"})
        assert [outputs async for outputs in transport.ask(ask, FACTS)]
    told = {name: triton.metadata.get(name) for name in ("traceparent", "tracestate", "authorization")}
    assert told == {"traceparent": parent, "tracestate": "v=1", "authorization": "Bearer k"}


async def test_another_model_of_the_server_can_be_asked():
    async with serving(twice) as triton, speaking(triton.port, version="3") as transport:
        ask = msgspec.structs.replace(ask_of(), model="inside")
        assert len([outputs async for outputs in transport.ask(ask, FACTS)]) == 2
    assert (triton.requests[0].model_name, triton.requests[0].model_version) == ("inside", "")


async def test_a_prompt_and_an_answer_of_many_megabytes_go_through():
    async def script(_):
        yield response(b"x" * 9_000_000)

    async with serving(script) as triton, speaking(triton.port) as transport:
        prompt = Input("text_input", Datatype.BYTES, ("x" * 9_000_000,))
        (outputs,) = await responses(transport, inputs=(prompt,))
        assert len(outputs["text_output"][0]) == 9_000_000


def tensor(datatype, raw):
    told = service_pb2.ModelInferResponse()
    told.outputs.add(name="text_output", datatype=datatype, shape=[1])
    told.raw_output_contents.append(raw)
    return service_pb2.ModelStreamInferResponse(infer_response=told)


@pytest.mark.parametrize(
    ("datatype", "raw"), [("BYTES", b"\1\0"), ("BYTES", b"\xff\xff\xff\x7fabc"), ("UINT32", b"abc")]
)
async def test_a_tensor_that_is_not_as_long_as_it_says_is_a_fault_of_the_servers(datatype, raw):
    async def lie(_):
        yield tensor(datatype, raw)

    async with serving(lie) as triton, speaking(triton.port) as transport:
        assert (await raised_by(responses(transport))).fault is Fault.BROKEN


async def test_a_response_larger_than_any_answer_is_refused(monkeypatch):
    monkeypatch.setattr(grpc_transport, "MAX_RESPONSE_BYTES", 1000)

    async def flood(_):
        yield response(b"x" * 2000)

    async with serving(flood) as triton, speaking(triton.port) as transport:
        assert (await raised_by(responses(transport))).fault is Fault.BROKEN


async def test_an_error_in_band_has_a_text_and_no_code():
    async def script(_):
        yield service_pb2.ModelStreamInferResponse(error_message="unknown model")

    async with serving(script) as triton, speaking(triton.port) as transport:
        error = await raised_by(responses(transport))
    assert (error.fault, error.text, error.code) == (Fault.TOLD, "unknown model", "")


@pytest.mark.parametrize(
    ("code", "text", "fault"),
    [
        ("INTERNAL", "Error generating stream: boom", Fault.TOLD),
        ("UNAVAILABLE", "Model is unavailable due to unhealthy vLLM engine", Fault.TOLD),
        ("UNAVAILABLE", "Socket closed", Fault.BROKEN),
        ("UNKNOWN", "Stream removed", Fault.BROKEN),
        ("CANCELLED", "", Fault.BROKEN),
        ("INTERNAL", "Internal error from Core", Fault.BROKEN),  # grpc.aio's, where it could not send
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Fault.DEADLINE),
    ],
)
async def test_a_code_that_ends_the_stream_is_told_as_what_it_is(code, text, fault):
    async def script(context):
        yield response(b"a")
        await context.abort(grpc.StatusCode[code], text)

    async with serving(script) as triton, speaking(triton.port) as transport:
        error = await raised_by(responses(transport))
    assert type(error) is WireError
    assert (error.fault, error.code) == (fault, code)


async def silent(_):
    yield response(b"a")
    await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_whoever_leaves_cancels_inside_the_server(how):
    async with serving(silent) as triton, speaking(triton.port) as transport:
        pieces = transport.ask(ask_of(), FACTS)
        await anext(pieces)
        if how == "closed":
            await pieces.aclose()
        else:
            waiting = asyncio.create_task(anext(pieces))
            await asyncio.sleep(0.01)
            waiting.cancel()
            assert type(await raised_by(waiting)) is asyncio.CancelledError
        await asyncio.wait_for(triton.cancelled.wait(), 2)


async def test_a_server_that_stops_breaks_the_stream():
    async with serving(silent) as triton, speaking(triton.port) as transport:
        pieces = transport.ask(ask_of(), FACTS)
        await anext(pieces)
        waiting = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0.01)
        await triton.server.stop(None)
        assert (await raised_by(waiting)).fault is Fault.BROKEN


class SelfCancelled:
    """A client whose calls cancel themselves, as grpc.aio's do where a request finds its stream ended."""

    def stream_infer(self, *_, **__):
        return self

    def __aiter__(self):
        return self

    async def __anext__(self):
        raise asyncio.CancelledError

    def cancel(self):
        pass


async def test_a_call_that_cancels_itself_cancels_nobody():
    transport = GrpcTransport(GrpcRoute("127.0.0.1:1", "m"))
    transport._client = SelfCancelled()
    error = await raised_by(responses(transport))
    assert type(error) is WireError
    assert error.fault is Fault.BROKEN


async def test_a_channel_that_is_closed_breaks_its_calls_and_cancels_nobody():
    async with serving(silent) as triton:
        async with speaking(triton.port) as transport:
            pieces = transport.ask(ask_of(), FACTS)
            await anext(pieces)
            waiting = asyncio.create_task(anext(pieces))
            await asyncio.sleep(0.01)
        error = await raised_by(waiting)
    assert type(error) is WireError
    assert error.fault is Fault.BROKEN


async def test_nobody_there_is_no_connection_and_whoever_comes_back_is_found_within_two_seconds():
    async with serving(twice) as triton, speaking(triton.port) as transport:
        await responses(transport)
        await triton.server.stop(None)
        for _ in range(20):  # long enough for gRPC to be backing off
            assert (await raised_by(transport.is_ready())).fault is Fault.CONNECTING
            await asyncio.sleep(0.1)
        async with serving(twice, triton.port):
            await asyncio.wait_for(_until_ready(transport), 2)
            assert len(await responses(transport)) == 2


async def _until_ready(transport):
    while True:
        try:
            return await transport.is_ready()
        except WireError:
            await asyncio.sleep(0.02)


async def test_readiness_is_the_models_and_a_refusal_is_none():
    async with serving(twice) as triton:
        for model, is_ready in (("m", True), ("other", False), ("broken", False)):
            async with speaking(triton.port, model=model) as transport:
                assert await transport.is_ready() is is_ready


async def test_a_model_describes_itself():
    async with serving(twice) as triton:
        async with speaking(triton.port) as transport:
            told = await transport.describe()
        async with speaking(triton.port, model="other") as transport:
            error = await raised_by(transport.describe())
    assert told == DESCRIBED
    assert (error.fault, error.code) == (Fault.TOLD, "NOT_FOUND")


class Way:
    """The way to a server. Told to break, it does where the next bytes come, too late for gRPC to have seen it."""

    def __init__(self, port):
        self.port, self.breaks, self.is_open, self._connections = port, 0, True, []

    @asynccontextmanager
    async def laid(self):
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            yield self._listener.sockets[0].getsockname()[1]
        finally:
            self._listener.close()
            await asyncio.gather(*self._connections)

    async def _carry(self, reader, writer):
        self._connections.append(asyncio.current_task())
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        back = asyncio.create_task(self._pour(from_server, writer))
        await self._pour(reader, to_server, is_asking=True)
        writer.transport.abort()
        await back

    async def _pour(self, source, sink, *, is_asking=False):
        with suppress(OSError):
            while data := await source.read(65536):
                if is_asking and self.breaks:
                    self.breaks -= 1
                    if not self.is_open:
                        self._listener.close()
                    break
                sink.write(data)
        sink.close()


@pytest.mark.parametrize(("read", "told"), [("is_ready", True), ("describe", DESCRIBED)])
async def test_what_is_only_read_is_read_anew_where_the_connection_breaks(read, told):
    async with serving(twice) as triton:
        way = Way(triton.port)
        async with way.laid() as port, speaking(port) as transport:
            assert await getattr(transport, read)() == told
            way.breaks = 1
            assert await getattr(transport, read)() == told


async def test_what_breaks_again_over_a_fresh_connection_is_a_fault():
    async with serving(twice) as triton, speaking(triton.port, model="breaking") as transport:
        assert (await raised_by(transport.is_ready())).fault is Fault.BROKEN
    assert triton.looks == 2


async def test_a_server_that_went_away_unseen_can_not_be_reached():
    async with serving(twice) as triton:
        way = Way(triton.port)
        async with way.laid() as port, speaking(port) as transport:
            await transport.describe()
            way.breaks, way.is_open = 1, False
            assert (await raised_by(transport.describe())).fault is Fault.CONNECTING


async def test_a_request_that_a_server_may_have_begun_on_is_not_sent_anew():
    async with serving(twice) as triton:
        way = Way(triton.port)
        async with way.laid() as port, speaking(port) as transport:
            await transport.describe()
            way.breaks = 1
            assert (await raised_by(responses(transport))).fault is Fault.BROKEN
            assert len(await responses(transport)) == 2
    assert len(triton.requests) == 1


async def test_closing_twice_harms_nobody():
    transport = GrpcTransport(GrpcRoute("127.0.0.1:1", "m"))
    await transport.close()
    assert (await raised_by(transport.is_ready())).fault is Fault.CONNECTING
    await transport.close()
    await transport.close()
