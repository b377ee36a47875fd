"""Spans in OpenTelemetry's protocol, by the messages that its own `opentelemetry-proto` generates.

opentelemetry is imported here and nowhere else, and this module only where tracing is on: it is the extra
`postern[otel]`. The SDK's span objects and encoder are not used: they take 210 µs for a request's twelve spans, these
messages 36 (docs/adr/0020). Source: https://opentelemetry.io/docs/specs/otlp/.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from gateway.telemetry.spans import Attributes, Span, Value

SCOPE = "postern"
LOCAL, REMOTE = 0x100, 0x300
"""A span's flags: the parent is in this process, or known to be in another."""


class OtlpEncoding:
    """Make batches whose spans belong to one resource."""

    content_type = "application/x-protobuf"

    def __init__(self, resource: Mapping[str, str], version: str) -> None:
        self._empty = ExportTraceServiceRequest()
        holder = self._empty.resource_spans.add()
        holder.resource.attributes.extend(_encode(resource))
        scope = holder.scope_spans.add().scope
        scope.name, scope.version = SCOPE, version

    def open_batch(self) -> "OtlpBatch":
        """Return a batch that is empty yet."""
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._empty)
        return OtlpBatch(request)

    @staticmethod
    def count_rejected(answer: bytes) -> int:
        """Return how many spans a collector did not take; 0 where its answer can't be read."""
        try:
            told = ExportTraceServiceResponse.FromString(answer)
        except DecodeError:
            return 0
        return int(told.partial_success.rejected_spans)


class OtlpBatch:
    """Spans of one request to a collector."""

    def __init__(self, request: ExportTraceServiceRequest) -> None:
        self._request = request
        self._spans = request.resource_spans[0].scope_spans[0].spans
        self.span_count = 0

    def add(self, trace_id: str, spans: Sequence[Span]) -> None:
        """Take in spans of one trace."""
        trace = bytes.fromhex(trace_id)
        add = self._spans.add
        for name, kind, span_id, parent_id, began_ns, ended_ns, attributes, is_error, events, is_remote in spans:
            message = add(
                trace_id=trace,
                span_id=span_id,
                parent_span_id=parent_id,
                name=name,
                kind=kind,
                start_time_unix_nano=began_ns,
                end_time_unix_nano=ended_ns,
                flags=REMOTE if is_remote else LOCAL,
            )
            # What a stage's span has none of: to name it costs as much as to set it.
            if attributes:
                message.attributes.extend(_encode(attributes))
            if events:
                message.events.extend([Message.Event(name=text, time_unix_nano=at_ns) for text, at_ns in events])
            if is_error:
                message.status.code = Status.STATUS_CODE_ERROR
        self.span_count += len(spans)

    def encode(self) -> bytes:
        """Return the request's body."""
        return bytes(self._request.SerializeToString())


def _encode(attributes: Attributes) -> list[KeyValue]:
    return [
        _kept(name, value) if type(value) in _KEPT else KeyValue(key=name, value=_any(value))
        for name, value in attributes.items()
    ]


_KEPT = frozenset({str, int, bool})


@lru_cache(4_096, typed=True)  # most are from closed sets; a message is copied in a third of the time it takes to make
def _kept(name: str, value: str | int) -> KeyValue:
    return KeyValue(key=name, value=_any(value))


def _any(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=text) for text in value]))
