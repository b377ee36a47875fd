"""The section `tracing`, and what OpenTelemetry's standard environment variables say where it says nothing.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and .../configuration/sdk-environment-variables/.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from gateway.core.secret import Secret
from gateway.settings.faults import Fault, under
from gateway.settings.service import Share

DEFAULT_SERVICE: Final = "postern"
PATH: Final = "/v1/traces"
_REMEDY = "write http://HOST:4318/v1/traces, or https://"

Text = Annotated[str, Meta(min_length=1)]
SpanCount = Annotated[int, Meta(ge=512, le=1_000_000)]


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Traces of requests, sent to an OpenTelemetry collector over OTLP/HTTP. Needs the extra `postern[otel]`.

    Without an endpoint, here or in the environment, nothing is recorded; what a client says of its own trace is still
    passed on to upstreams.
    """

    endpoint: Annotated[
        str | None,
        Meta(
            description="Where spans go, such as `http://collector:4318/v1/traces`. Default null: "
            "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`, else tracing is off."
        ),
    ] = None
    headers: Annotated[
        dict[str, Secret],
        Meta(description="Headers for the collector, such as a key; never printed. Default none."),
    ] = {}
    sample_ratio: Annotated[
        Share,
        Meta(
            description="Share of the traces that begin here which are recorded. Default 1: a span a stage costs about "
            "40 µs a request; a busy gateway takes 0.1."
        ),
    ] = 1.0
    follow_parent: Annotated[
        bool,
        Meta(
            description="Record what the client records, and nothing else of its traces. Default true. false: "
            "`sample_ratio` decides alone, for clients that are not to be trusted with it."
        ),
    ] = True
    service_name: Annotated[
        Text | None,
        Meta(description="`service.name` of the spans. Default null: `OTEL_SERVICE_NAME`, else postern."),
    ] = None
    resource: Annotated[
        dict[str, str],
        Meta(
            description="More attributes of every span's resource, such as `deployment.environment.name: prod`. "
            "Default none, beside those of `OTEL_RESOURCE_ATTRIBUTES`."
        ),
    ] = {}
    max_queued_spans: Annotated[
        SpanCount,
        Meta(
            description="Spans that wait for a collector that is slow or away; what finds no room is dropped and "
            "counted. Default 20480: some 4 MB."
        ),
    ] = 20_480

    @property
    def url(self) -> str | None:
        """Return the full address; one without a path is a collector's, whose path for traces is known."""
        if self.endpoint is None or urlsplit(self.endpoint).path not in ("", "/"):
            return self.endpoint
        return self.endpoint.rstrip("/") + PATH


def check_tracing(tracing: TracingSettings | None) -> Iterator[Fault]:
    """Yield an endpoint that is none, and headers that no request could have."""
    if tracing is None:
        return
    if tracing.endpoint is not None and not _is_url(tracing.endpoint):
        yield Fault("tracing.endpoint", "is no address of HTTP's", _REMEDY)
    for name, value in tracing.headers.items():
        if not is_header(name, value.reveal()):
            yield Fault(under("tracing.headers", name), "is no header", "use ASCII on one line, a name without spaces")


def is_header(name: str, value: str) -> bool:
    """Tell whether a header can be sent."""
    text = name + value
    return bool(name) and text.isascii() and text.isprintable() and not any(mark in name for mark in " :")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None


def with_environ(tracing: TracingSettings, environ: Mapping[str, str]) -> TracingSettings:
    """Return the section with what the environment says of that which it leaves open.

    An operator's injected variables must not stop a gateway: what they say that can't be used counts as unsaid.
    """
    environ = {name: value for name, value in environ.items() if name.startswith("OTEL_") and _is_text(value)}
    named = tracing.service_name or environ.get("OTEL_SERVICE_NAME") or None
    told = dict(_pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", "")))
    service = named or told.get("service.name") or DEFAULT_SERVICE
    filled = msgspec.structs.replace(tracing, service_name=service, resource={**told, **tracing.resource})
    if tracing.endpoint is not None:
        return filled
    endpoint = _endpoint_in(environ)
    if endpoint is None:
        return filled
    given = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    sound = {name: Secret(value) for name, value in _pairs(given) if is_header(name, value)}
    return msgspec.structs.replace(filled, endpoint=endpoint, headers={**sound, **tracing.headers})


def _is_text(value: str) -> bool:
    """Tell whether a variable is UTF-8: Python passes other bytes on as lone surrogates, which no span can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _endpoint_in(environ: Mapping[str, str]) -> str | None:
    """Return where the environment wants spans to go; None where it does not, or by a protocol that is not spoken."""
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    exporters = (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")
    if is_off or (protocol or "http/protobuf") != "http/protobuf" or "otlp" not in exporters:
        return None
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (base and base.rstrip("/") + PATH)
    return endpoint if endpoint and _is_url(endpoint) else None


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield what `name=value,name=value` says, values percent-encoded."""
    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            yield unquote(name.strip()), unquote(value.strip())
