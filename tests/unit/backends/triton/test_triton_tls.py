"""Both transports over TLS: a server is trusted for its authority's file, and for nothing else."""

import asyncio
import ssl

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.backends.triton.backend import triton_engines
from gateway.settings.engines import Dialect, TritonSettings, WatchSettings
from gateway.settings.models import BackendKind
from tests.builders import model
from tests.certificates import make_certificate

READY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that is its own authority, and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    async def ModelReady(self, _, __):  # noqa: N802 - gRPC's name
        return service_pb2.ModelReadyResponse(ready=True)


async def serve_grpc(certificate, key):
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    return f"grpcs://localhost:{port}", lambda: server.stop(None)


async def serve_https(certificate, key):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(READY)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)

    async def stop():
        server.close()

    return f"https://localhost:{server.sockets[0].getsockname()[1]}", stop


@pytest.mark.parametrize("serve", [serve_grpc, serve_https])
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_server_is_reached_over_tls_where_its_authority_is_trusted(certificate, serve, is_trusted):
    url, stop = await serve(*certificate)
    triton = TritonSettings(dialect=Dialect.VLLM, ca_file=str(certificate[0]) if is_trusted else None)
    watch = WatchSettings(metrics_urls=())
    (engine,) = triton_engines("m", model(backend=BackendKind.TRITON, urls=(url,), triton=triton, watch=watch))
    health = await engine.look()
    # Ready, or not: but what the look found wrong is then the model's interface, and no longer the way to it.
    assert health.problem.startswith("it can't be reached: ") is not is_trusted
    assert ("CERTIFICATE_VERIFY_FAILED" in health.problem) is not is_trusted
    await engine.close()
    await stop()
