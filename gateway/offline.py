"""What the command line does without serving: explain a prompt, score a file, check the routers of a configuration."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TextIO

import msgspec

from gateway.api.body import decode_body
from gateway.api.explain import Explanation, explain
from gateway.app import Factory, make_backends, no_backends, router_folder
from gateway.backends.fleet import Fleet
from gateway.backends.http1_pool import Commons
from gateway.classify.guard import Classifier
from gateway.classify.onnx import ClassifierLoadError, OnnxClassifier
from gateway.core.context import RequestContext
from gateway.core.errors import InvalidValueError, PosternError
from gateway.schema.conversation import Conversation, Turn
from gateway.schema.request import Operation, Request
from gateway.settings.crosscheck_models import WITH_FILES
from gateway.settings.faults import Fault, SettingsError
from gateway.settings.models import BackendKind
from gateway.settings.root import Settings
from gateway.settings.routes import PolicyKind
from gateway.settings.service import KeysSettings
from gateway.settings.tracing import TracingSettings
from gateway.telemetry.metrics import Metrics

TELL_EVERY_S: Final = 0.5


class PromptClient:
    """A client that asks one prompt of one route, and only wants to know what would happen."""

    def __init__(self, route: str, prompt: str) -> None:
        # A command line may hold bytes that are no UTF-8, which Python hands on as lone surrogates.
        texts = [text.encode("utf-8", "replace").decode() for text in (route, prompt)]
        self._body = msgspec.json.encode({"model": texts[0], "messages": [{"role": "user", "content": texts[1]}]})

    async def receive(self, ctx: RequestContext) -> Request:
        """Return the request."""
        return decode_body(ctx.operation, self._body)


async def explain_prompt(settings: Settings, route: str, prompt: str) -> Explanation:
    """Explain a decision as the gateway would take it for an operator. Raises PosternError."""
    settings = msgspec.structs.replace(
        settings, keys=KeysSettings(), redis=None, learning_log=None, tracing=TracingSettings()
    )
    factory = Factory(Metrics(), make=no_backends)
    pipeline = factory.build(settings)
    try:
        return await explain(pipeline, RequestContext(Operation.CHAT, "explain"), PromptClient(route, prompt))
    finally:
        await pipeline.close()
        await factory.close()


class ScoredLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `postern score` prints for a line."""

    score: float | None
    error: str | None = None


class _Line(msgspec.Struct):
    prompt: str | None = None
    messages: list[msgspec.Raw] | None = None


_line = msgspec.json.Decoder(_Line)


def score_lines(classifier: Classifier, lines: Iterable[str]) -> Iterator[ScoredLine]:
    """Score each line by itself: nothing about the others may change its score. A bad line gets an error."""
    for line in lines:
        try:
            yield ScoredLine(classifier.judge(_conversation_of(line)).score)
        except (msgspec.DecodeError, RecursionError, PosternError) as exc:
            yield ScoredLine(None, f"no prompt or messages: {exc}")


def counted(lines: Iterable[str], out: TextIO, now: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """Yield the lines, telling on `out`, a terminal, how many there were and how many a second."""
    started = told = now()
    count = 0
    for count, line in enumerate(lines, start=1):
        yield line
        if (at := now()) - told >= TELL_EVERY_S:
            told = at
            out.write(f"\r{count:,} lines, {count / (at - started):,.0f} a second")
            out.flush()
    if told > started:
        out.write(f"\r{count:,} lines, {count / (now() - started):,.0f} a second\n")
        out.flush()


def _conversation_of(line: str) -> Conversation:
    row = _line.decode(line.encode("utf-8", "replace"))
    if row.messages is None and row.prompt is None:
        raise InvalidValueError("the line has neither.")
    if row.messages is None:
        return Conversation((Turn("user", row.prompt or ""),))
    body = msgspec.json.encode({"model": "auto", "messages": row.messages})
    return decode_body(Operation.CHAT, body).conversation


def check_routers(settings: Settings) -> None:
    """Load every router that a route names. Raises SettingsError with a fault for each that can't be served."""
    faults = []
    for name, route in settings.routes.items():
        for router in route.policy.all_routers:
            path = f"routes.{name}.policy.router" if router == route.policy.router else f"routes.{name}.policy.routers"
            try:
                OnnxClassifier.load(router_folder(router))
            except ClassifierLoadError as exc:
                faults.append(Fault(path, str(exc), "name a router that can be loaded"))
    if faults:
        raise SettingsError(faults)


def check_models(settings: Settings) -> None:
    """Load the files of every model: templates, tokenizers, models in the process. Raises SettingsError."""
    with_files = {name: model for name, model in settings.models.items() if model.backend in WITH_FILES}
    fleet = Fleet(make_backends(Commons()), lambda _: lambda _: None, lambda *_: None)
    try:
        fleet.prepare(with_files)
    finally:
        asyncio.run(fleet.close())


DOMAIN_PROBES = (
    "Solve the equation x^2 - 5x + 6 = 0 and prove that it has no other roots.",
    "Write a Python function that merges two sorted lists, with unit tests.",
    "Which antibiotic is indicated for a patient with pneumonia, and at what dose?",
    "Is an oral contract for the sale of land enforceable under the statute of frauds?",
)
"""Prompts whose domain no router that tells domains could miss altogether."""


def find_warnings(settings: Settings) -> list[str]:
    """Return where a configuration serves, but perhaps not as it was meant."""
    return [*_warn_of_models(settings), *_warn_of_routers(settings)]


def _warn_of_models(settings: Settings) -> Iterator[str]:
    workers = settings.server.workers
    for name, model in settings.models.items():
        if model.backend is BackendKind.TRITON and model.chat_template is None:
            yield (
                f"models.{name}.chat_template: without one the model takes completions only, and chats go to others; "
                "name the template that came with it"
            )
        if model.backend is BackendKind.ONNX and workers > 1:
            yield (
                f"models.{name}.onnx: each of the {workers} workers runs a copy of its own; set `server.workers` to 1 "
                "where memory or cores are short"
            )


def _warn_of_routers(settings: Settings) -> list[str]:
    """Return where routers can't do what a policy asks of them."""
    warnings = []
    for name, route in settings.routes.items():
        if PolicyKind.DOMAIN not in route.policy.kinds:
            continue
        for router in route.policy.all_routers:
            classifier = OnnxClassifier.load(router_folder(router))
            judged = [classifier.judge(Conversation((Turn("user", text),))) for text in DOMAIN_PROBES]
            if not any(judgement.domain for judgement in judged):
                warnings.append(
                    f"routes.{name}.policy.kind: the router {router} tells no domain, so requests are routed by their "
                    "score alone; name one that does, such as the one that ships, or leave `domain` out"
                )
    return warnings
