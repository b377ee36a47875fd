"""Spans in OpenTelemetry's protocol."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from gateway.telemetry.otlp import OtlpEncoding
from gateway.telemetry.spans import Kind, Span
from tests.collector import read_spans

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
values = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.lists(st.text()),
)


def encoded(*spans):
    batch = OtlpEncoding({"service.name": "postern"}, "1").open_batch()
    batch.add(TRACE, spans)
    assert batch.span_count == len(spans)
    return read_spans(batch.encode())


@given(st.dictionaries(st.text(min_size=1, max_size=10), values, max_size=5))
def test_attributes_come_through_with_their_types(attributes):
    (seen,) = encoded(Span("auth", Kind.INTERNAL, b"b" * 8, b"c" * 8, 1, 2, attributes))
    assert seen.attributes == attributes
    assert {name: type(value) for name, value in seen.attributes.items()} == {
        name: type(value) for name, value in attributes.items()
    }


def test_a_span_is_whole():
    events = (("first_token", 5),)
    whole = Span("POST /x", Kind.SERVER, b"b" * 8, b"c" * 8, 1, 2**60, {}, True, events, has_remote_parent=True)
    (seen,) = encoded(whole)
    assert (seen.trace_id, seen.span_id, seen.parent_id, seen.kind) == (TRACE, "62" * 8, "63" * 8, "SERVER")
    assert (seen.began_ns, seen.ended_ns, seen.is_error, seen.events) == (1, 2**60, True, {"first_token": 5})
    assert (seen.flags, seen.resource) == (0x300, {"service.name": "postern"})


def test_batches_share_nothing():
    encoding = OtlpEncoding({"service.name": "postern"}, "1")
    first, second = encoding.open_batch(), encoding.open_batch()
    first.add(TRACE, [Span("auth", Kind.INTERNAL, b"b" * 8, b"", 1, 2)])
    assert len(read_spans(first.encode())) == 1
    assert not read_spans(second.encode())


def test_what_a_collector_has_not_taken_is_read_and_garbage_is_nothing():
    told = ExportTraceServiceResponse()
    told.partial_success.rejected_spans = 3
    assert OtlpEncoding.count_rejected(told.SerializeToString()) == 3
    assert OtlpEncoding.count_rejected(b"") == 0
    assert OtlpEncoding.count_rejected(b"<html>") == 0
