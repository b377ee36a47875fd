"""Tracing put together: settings, the encoder, the way to the collector. What outlives a reload is kept here."""

import asyncio
import importlib
import logging
import os
import socket
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from gateway import __version__
from gateway.backends.http import HttpError, HttpHead, HttpRequest, retry_after_s
from gateway.backends.http1_pool import Commons, Http1Client
from gateway.core.context import RequestContext
from gateway.settings.faults import Fault, SettingsError
from gateway.settings.models import ModelSettings
from gateway.settings.tracing import TracingSettings
from gateway.telemetry.logs import log
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.span_exporter import UNREACHABLE, SpanExporter, Told
from gateway.telemetry.spans import Encoding
from gateway.telemetry.traces import BeginTrace, Tracer, pass_on

ENCODING: Final = "gateway.telemetry.otlp"
"""Loaded late: it is the extra `postern[otel]`."""
SEND_S: Final = 10.0
"""How long a collector may take to answer: the standard's own default."""
CONNECT_S: Final = 2.0
MAX_ANSWER_BYTES: Final = 65_536
MAX_WAIT_S: Final = 30.0


def check_extra(settings: TracingSettings) -> None:
    """Raise SettingsError where the configuration asks for traces and the extra is not installed."""
    if settings.endpoint is not None and not has_extra():
        fault = Fault(
            "tracing.endpoint", "needs the package opentelemetry-proto", "in Postern's folder: pip install '.[otel]'"
        )
        raise SettingsError([fault])


def has_extra() -> bool:
    """Tell whether the extra is installed."""
    return find_spec("opentelemetry") is not None and find_spec("opentelemetry.proto") is not None


class Tracing:
    """What records the requests of one process; off, it passes clients' traces on."""

    def __init__(self, commons: Commons, metrics: Metrics) -> None:
        self._commons = commons
        self._metrics = metrics
        self._settings = TracingSettings()
        self._exporter: SpanExporter | None = None
        self._client: Http1Client | None = None
        self._replaced: list[tuple[SpanExporter, Http1Client]] = []
        self._begin: BeginTrace = pass_on

    def begin(self, ctx: RequestContext, headers: Mapping[str, str]) -> None:
        """Give a request its trace."""
        self._begin(ctx, headers)

    def renew(self, settings: TracingSettings, models: Mapping[str, ModelSettings]) -> Tracer | None:
        """Take over settings, which may be the old ones; return what records requests, None where nothing does."""
        if settings != self._settings:
            self._settings = settings
            self._retire()
            self._open(settings)
        if self._exporter is None:
            self._begin = pass_on
            return None
        tracer = Tracer(settings, models, self._exporter.offer)
        self._begin = tracer.begin
        return tracer

    def _open(self, settings: TracingSettings) -> None:
        if settings.url is None:
            return
        if not has_extra():  # only the environment asks for it, which may be meant for others
            log("tracing_unavailable", level=logging.WARNING, problem="pip install '.[otel]' in Postern's folder")
            return
        encoding: Encoding = importlib.import_module(ENCODING).OtlpEncoding(resource_of(settings), __version__)
        client = Http1Client(connect_s=CONNECT_S, max_connections=1, commons=self._commons)
        headers = {name.lower(): value.reveal() for name, value in settings.headers.items()}
        headers |= {"content-type": encoding.content_type, "user-agent": f"postern/{__version__}"}
        collector = Collector(HttpHead(settings.url, headers), client)
        self._client = client
        self._exporter = SpanExporter(encoding, collector.send, self._count, settings.max_queued_spans)

    def _retire(self) -> None:
        if self._exporter is not None and self._client is not None:
            self._replaced.append((self._exporter, self._client))
        self._exporter = self._client = None

    def _count(self, outcome: str, count: int) -> None:
        self._metrics.child(self._metrics.spans, outcome).inc(count)

    async def close_replaced(self) -> None:
        """Close what reloads replaced: requests that began before them have ended."""
        while self._replaced:
            exporter, client = self._replaced.pop()
            await exporter.close()
            await client.close()

    async def close(self) -> None:
        """Send what is left and let go."""
        self._retire()
        await self.close_replaced()


class Collector:
    """The way to a collector."""

    def __init__(self, head: HttpHead, client: Http1Client) -> None:
        self._head = head
        self._client = client

    async def send(self, body: bytes) -> Told:
        """POST a request's body."""
        try:
            async with asyncio.timeout(SEND_S):
                response = await self._client.send(HttpRequest(self._head, body, whole_bytes=MAX_ANSWER_BYTES))
                try:
                    answer = await response.read(MAX_ANSWER_BYTES)
                finally:
                    await response.close()
        except (HttpError, TimeoutError):
            return Told(UNREACHABLE)
        return Told(response.status, answer or b"", _wait_s(response.headers))


def _wait_s(headers: Mapping[str, str]) -> float | None:
    seconds = retry_after_s(headers)
    return None if seconds is None else min(float(seconds), MAX_WAIT_S)


def resource_of(settings: TracingSettings) -> dict[str, str]:
    """Return what spans say of the process they come from; each worker is an instance of its own."""
    host = socket.gethostname()
    return {
        "service.name": settings.service_name or "postern",
        "service.version": __version__,
        "service.instance.id": f"{host}:{os.getpid()}",
        "host.name": host,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "postern",
        "telemetry.sdk.version": __version__,
        **{name: value for name, value in settings.resource.items() if name != "service.name"},
    }
