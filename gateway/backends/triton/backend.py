"""The `triton` backend: from a model's settings to its replicas. Loaded late, as it brings gRPC along."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from gateway.backends.backend import Backend, BackendLoadError
from gateway.backends.chat.template import load_template
from gateway.backends.chat.tokens import load_tokenizer
from gateway.backends.engine_backend import EngineBackend
from gateway.backends.http1_pool import Commons, Http1Client
from gateway.backends.load import page_of
from gateway.backends.triton.dialects import Dialect
from gateway.backends.triton.engine import TritonEngine, Watch
from gateway.backends.triton.grpc_transport import GrpcRoute, GrpcTransport
from gateway.backends.triton.http_transport import HttpRoute, HttpTransport
from gateway.backends.triton.tensorrt import LlmapiDialect, TrtllmDialect
from gateway.backends.triton.vllm import VllmDialect
from gateway.backends.triton.wire import Transport
from gateway.settings.engines import Dialect as DialectName
from gateway.settings.engines import TritonSettings
from gateway.settings.models import ModelSettings

GRPC_SCHEMES = frozenset({"grpc", "grpcs"})
METRICS_PORT = 8002


def triton_backends(name: str, settings: ModelSettings, commons: Commons | None = None) -> list[Backend]:
    """Return a backend a replica, each with connections of its own.

    Raises BackendLoadError where a file can't be used, or a LoRA adapter can't be named in the dialect.
    """
    template = None if settings.chat_template is None else load_template(settings.chat_template)
    tokenizer = None if settings.tokenizer is None else load_tokenizer(settings.tokenizer)
    engines = triton_engines(name, settings, commons)
    return [EngineBackend(name, settings, engine, template, tokenizer) for engine in engines]


def triton_engines(name: str, settings: ModelSettings, commons: Commons | None = None) -> list[TritonEngine]:
    """Return an engine a replica."""
    triton, commons = settings.triton, commons or Commons()
    if triton is None:
        raise BackendLoadError("triton", "missing", "say which dialect the model speaks: vllm, trtllm or llmapi")
    dialect = dialect_of(triton)
    return [
        TritonEngine(name, url, dialect, _transport(name, url, settings, commons), _watch(name, url, settings, commons))
        for url in settings.urls
    ]


def _watch(name: str, url: str, settings: ModelSettings, commons: Commons) -> Watch:
    page = _default_page(url) if settings.watch.metrics_urls is None else page_of(settings, url)
    if page is None:
        return Watch(settings.watch.interval_s)
    client = Http1Client(connect_s=settings.timeouts.connect_s, max_connections=1, commons=commons)
    return Watch(settings.watch.interval_s, client, page, _model_of(name, settings))


def _default_page(url: str) -> str:
    """Return Triton's own metrics page, plain HTTP on port 8002 whatever the model is reached by."""
    host = urlsplit(url).hostname or ""
    return f"http://{f'[{host}]' if ':' in host else host}:{METRICS_PORT}/metrics"


def _model_of(name: str, settings: ModelSettings) -> str:
    return (settings.triton and settings.triton.model) or settings.upstream_model or name


def dialect_of(settings: TritonSettings) -> Dialect:
    """Return the dialect a model speaks. Raises BackendLoadError for an adapter that it can't name."""
    lora = settings.lora
    if settings.dialect is DialectName.VLLM:
        return VllmDialect(lora)
    if settings.dialect is DialectName.TRTLLM:
        if lora is not None and not (lora.isascii() and lora.isdigit() and int(lora) < 2**64):
            raise BackendLoadError("triton.lora", "is not a lora_task_id", "give the adapter's number")
        return TrtllmDialect(None if lora is None else int(lora))
    if lora is not None:
        raise BackendLoadError(
            "triton.lora", "can't be named in the dialect llmapi", "load the adapter's own model, or drop it"
        )
    return LlmapiDialect()


def _transport(name: str, url: str, settings: ModelSettings, commons: Commons) -> Transport:
    model = _model_of(name, settings)
    triton = settings.triton
    version = (triton and triton.version) or ""
    ca_file = None if triton is None else triton.ca_file
    connect_s = settings.timeouts.connect_s
    parts = urlsplit(url)
    if parts.scheme in GRPC_SCHEMES:
        is_tls = parts.scheme == "grpcs"
        roots = _roots(ca_file) if is_tls else None
        return GrpcTransport(GrpcRoute(parts.netloc, model, version, is_tls, roots, settings.api_key, connect_s))
    trust = None if ca_file is None else _trust(ca_file)
    client = Http1Client(connect_s=connect_s, max_connections=settings.max_connections, trust=trust, commons=commons)
    return HttpTransport(HttpRoute(url, model, version, settings.api_key), client)


def _trust(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # also ssl.SSLError
        raise BackendLoadError("triton.ca_file", f"can't be read ({exc})", "give a PEM file of certificates") from exc


def _roots(ca_file: str | None) -> bytes | None:
    """Return what gRPC shall trust as PEM: the file's certificates, or the machine's, which gRPC itself looks past."""
    if ca_file is not None:
        _trust(ca_file)
        return Path(ca_file).read_bytes()
    certificates = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates)).encode() or None
