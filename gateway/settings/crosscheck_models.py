"""Cross checks of one model: its urls and files against its backend, its capabilities against what that can carry."""

from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from gateway.core.judgement import DOMAINS
from gateway.settings.carried import row_of
from gateway.settings.domains import ALIASES, find_domain
from gateway.settings.engines import Dialect, TritonSettings
from gateway.settings.faults import Fault, suggest, under
from gateway.settings.models import BackendKind, Capability, ModelSettings

WEB_SCHEMES = ("http", "https")
TRITON_SCHEMES = ("grpc", "grpcs", *WEB_SCHEMES)
SECURE_SCHEMES = ("grpcs", "https")
WITHOUT_URLS = {
    BackendKind.SIMULATED: "a simulated model is reached through no url",
    BackendKind.ONNX: "a model inside the gateway is reached through no url",
}
WITH_FILES = (BackendKind.TRITON, BackendKind.ONNX)
"""The kinds that speak to a bare model: chats are rendered here, and tool calls read back."""

_OPENAI_REMEDY = "write http://HOST:PORT/v1 or https://HOST/v1; keys go to `api_key`"
_TRITON_REMEDY = "write grpc://HOST:8001 or http://HOST:8000, with s for TLS"


def check_model(model: ModelSettings, path: str) -> Iterator[Fault]:
    """Yield every fault between a model's settings, which stand at `path`."""
    yield from _check_sections(model, path)
    yield from _check_urls(model, under(path, "urls"))
    yield from _check_pages(model, under(under(path, "watch"), "metrics_urls"))
    yield from _check_capabilities(model, under(path, "capabilities"))
    yield from _check_api_key(model, under(path, "api_key"))
    yield from _check_proxy(model, under(path, "proxy"))
    yield from _check_domains(model, under(path, "domains"))
    if model.triton is not None:
        yield from _check_triton(model, model.triton, under(path, "triton"))


def _check_sections(model: ModelSettings, path: str) -> Iterator[Fault]:
    """Yield sections that the backend lacks, and what it would not heed."""
    sections = (
        (BackendKind.TRITON, model.triton, "such as `triton: {dialect: vllm}`"),
        (BackendKind.ONNX, model.onnx, "such as `onnx: {path: models/qwen}`"),
    )
    for kind, section, example in sections:
        if model.backend is kind and section is None:
            yield Fault(under(path, kind), "is missing", f"`backend: {kind}` needs it, {example}")
        elif model.backend is not kind and section is not None:
            yield Fault(under(path, kind), f"is for `backend: {kind}` only", f"leave it out, or set `backend: {kind}`")
    if model.backend not in WITH_FILES:
        for key in ("chat_template", "tokenizer", "tool_format"):
            if getattr(model, key) is not None:
                yield Fault(under(path, key), "is for triton and onnx only", "leave it out: the server has its own")


def _check_urls(model: ModelSettings, path: str) -> Iterator[Fault]:
    if model.backend in WITHOUT_URLS:
        if model.urls:
            yield Fault(path, WITHOUT_URLS[model.backend], "leave it out, or set `backend: openai`")
        return
    is_triton = model.backend is BackendKind.TRITON
    if not model.urls:
        example = "grpc://127.0.0.1:8001" if is_triton else "http://127.0.0.1:9001/v1"
        yield Fault(path, "has no url", f'add one, such as ["{example}"]')
    for index, url in enumerate(model.urls):
        problem = find_url_problem(url, TRITON_SCHEMES if is_triton else WEB_SCHEMES, has_path=not is_triton)
        if problem:
            yield Fault(f"{path}[{index}]", problem, _TRITON_REMEDY if is_triton else _OPENAI_REMEDY)


def _check_pages(model: ModelSettings, path: str) -> Iterator[Fault]:
    """Yield metrics pages that can't be told to belong to a replica, or that no client could ask for."""
    pages = model.watch.metrics_urls
    if not pages:
        return
    if model.backend in WITHOUT_URLS:
        yield Fault(path, "has no replica to tell of", "leave it out")
    elif len(pages) != len(model.urls):
        yield Fault(
            path, f"does not match `urls`: {len(pages)} for {len(model.urls)}", "name one page for each url, in order"
        )
    for index, url in enumerate(pages):
        problem = find_url_problem(url, WEB_SCHEMES)
        if problem:
            yield Fault(f"{path}[{index}]", problem, "write http://HOST:PORT/metrics")


def _check_capabilities(model: ModelSettings, path: str) -> Iterator[Fault]:
    row = row_of(model)
    if row is None:
        return
    kind = model.triton.dialect if model.triton else model.backend
    for index, capability in enumerate(model.capabilities):
        if capability not in row.capabilities:
            remedy = f"leave it out: of these it serves {', '.join(sorted(row.capabilities))}"
            yield Fault(f"{path}[{index}]", f"is nothing that {kind} can serve here", remedy)
    if Capability.TOOLS in model.capabilities and model.backend is BackendKind.TRITON and model.chat_template is None:
        remedy = "add `chat_template`, a template that takes tools, or leave tools out"
        yield Fault(f"{path}[{model.capabilities.index(Capability.TOOLS)}]", "takes a chat template", remedy)


def _check_triton(model: ModelSettings, triton: TritonSettings, path: str) -> Iterator[Fault]:
    lora = triton.lora
    if lora is not None and triton.dialect is Dialect.LLMAPI:
        # Its model wants an adapter's id, name and path together, with every request.
        yield Fault(under(path, "lora"), "is nothing that llmapi can serve here", "leave it out")
    elif lora is not None and triton.dialect is Dialect.TRTLLM and not (lora.isascii() and lora.isdigit()):
        yield Fault(under(path, "lora"), "is no number, as trtllm wants it", 'write its id, such as "1"')
    if triton.ca_file is not None and not any(url.partition(":")[0].lower() in SECURE_SCHEMES for url in model.urls):
        yield Fault(under(path, "ca_file"), "is read for no url: none is encrypted", "start urls with grpcs or https")


def _check_api_key(model: ModelSettings, path: str) -> Iterator[Fault]:
    """Yield a fault for a key that no HTTP header can hold, such as one pasted with a typographic quote."""
    text = model.api_key.reveal() if model.api_key else ""
    if not (text.isascii() and text.isprintable()):
        yield Fault(path, "holds a character that no header can", "use printable ASCII on one line")


def _check_proxy(model: ModelSettings, path: str) -> Iterator[Fault]:
    """Yield a proxy that could not be asked, without showing it: it may hold a password."""
    if model.proxy is None:
        return
    if model.backend is not BackendKind.OPENAI:
        yield Fault(path, "is for `backend: openai` only", "leave it out, or set `backend: openai`")
    try:
        parts = urlsplit(model.proxy.reveal())
        is_url = parts.scheme in WEB_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
        is_url = is_url and parts.path in ("", "/") and not parts.query and not parts.fragment
    except ValueError:
        is_url = False
    if not is_url or not model.proxy.reveal().isascii() or not model.proxy.reveal().isprintable():
        yield Fault(path, "is not a proxy's url", "write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT")


def _check_domains(model: ModelSettings, path: str) -> Iterator[Fault]:
    for index, word in enumerate(model.domains):
        if find_domain(word) is None:
            yield Fault(f"{path}[{index}]", "is no domain that routers tell", suggest(word, [*DOMAINS, *ALIASES]))


def find_url_problem(url: str, schemes: tuple[str, ...], *, has_path: bool = True) -> str | None:
    """Return what is wrong with a url. Urls are metric labels: a password has no place in one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a url"
    if parts.scheme not in schemes:
        return f"does not start with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if parts.scheme == "grpc" and parts.hostname and parts.port is None:
        return "has no port, for which gRPC would take 443"
    return _find_place_problem(parts, has_path=has_path)


def _find_place_problem(parts: SplitResult, *, has_path: bool) -> str | None:
    if not parts.hostname:
        return "has no host"
    if parts.username is not None:
        return "holds a user or a password"
    if not has_path and (parts.path.strip("/") or parts.query or parts.fragment):
        return "has a path, where only a host and a port are wanted"
    return None
