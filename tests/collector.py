"""An OpenTelemetry collector for tests: OTLP over HTTP, decoded by the standard's own messages.

A real collector is a Go program that no registry at hand carries; what is checked here is its protocol.
"""

import asyncio
import gzip
import secrets
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from tests.faults.wire import eventually
from tests.running import two_models
from tests.upstream import Received, Upstream, refused_url, send, whole

WEAK = {"x-postern-threshold": "1", "cache-control": "no-store"}
"""What has a request go to the weak model, and be neither found nor kept."""


@dataclass(frozen=True)
class Took:
    """Answer a request for export; `rejected` spans are not taken."""

    status: int = 200
    delay_s: float = 0
    rejected: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.delay_s)
        told = ExportTraceServiceResponse()
        if self.rejected:
            told.partial_success.rejected_spans = self.rejected
        kind = {"content-type": "application/x-protobuf"}
        await send(writer, whole(request, self.status, told.SerializeToString(), kind | self.headers))


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    is_error: bool
    events: dict[str, int]
    flags: int
    resource: dict[str, Any]


class Collector(Upstream):
    """Takes spans. `script` it with `Took`."""

    def __init__(self) -> None:
        super().__init__()
        self.script(Took())

    @property
    def endpoint(self) -> str:
        return self.url.removesuffix("/v1")

    @property
    def spans(self) -> list[Seen]:
        return [span for request in self.requests for span in read_spans(request.body)]

    async def trace(self, trace_id: str, count: int = 1) -> dict[str, Seen]:
        """Wait for so many roots of a trace; return its spans by name (of equals the last, see `attempts`)."""
        await eventually(lambda: len([one for one in self.of(trace_id) if one.kind == "SERVER"]) >= count, 8.0)
        return {span.name: span for span in self.of(trace_id)}

    def of(self, trace_id: str) -> list[Seen]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def attempts(self, trace_id: str) -> list[Seen]:
        return [span for span in self.of(trace_id) if span.kind == "CLIENT"]


def read_spans(body: bytes) -> list[Seen]:
    """Decode a request for export."""
    request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    return [
        _seen(span, attributes_of(holder.resource.attributes))
        for holder in request.resource_spans
        for scope in holder.scope_spans
        for span in scope.spans
    ]


def _seen(span: Message, resource: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        kind=Message.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes=attributes_of(span.attributes),
        is_error=span.status.code == 2,
        events={event.name: event.time_unix_nano for event in span.events},
        flags=span.flags,
        resource=resource,
    )


def attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


class Client:
    """A client with a span of its own."""

    def __init__(self, flags: str = "01", state: str = "") -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{flags}"}
        if state:
            self.headers["tracestate"] = state


def config_of(collector: Collector, weak: Upstream, strong: Upstream, **tracing: Any) -> dict[str, Any]:
    """A gateway that traces; `pair-route` asks a model one of whose replicas is not there, `unsure` is a cascade."""
    config = two_models(weak.url, strong.url, cache={"exact": {}})
    config["tracing"] = {"endpoint": collector.endpoint, "headers": {"x-key": "hush"}, **tracing}
    config["models"]["small"] |= {"upstream_model": "small-v1", "capabilities": ["logprobs", "tools"]}
    config["models"]["pair"] = {**config["models"]["large"], "urls": [refused_url(), strong.url], "watch": {}}
    config["routes"]["pair-route"] = {"models": ["pair"], "policy": {"kind": "pinned", "model": "pair"}}
    config["routes"]["unsure"] = {
        "models": ["small", "large"],
        "policy": {"kind": ["complexity", "cascade"], "threshold": 1, "cascade": {"tokens": 4, "min_confidence": 0.5}},
    }
    return config
