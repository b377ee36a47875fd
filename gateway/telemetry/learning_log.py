"""The learning log: prompts, decisions and marks in a file to train a router on. Off unless the operator names a file.

It is the one place where prompts are written down. A thread of its own writes behind the requests: what it can't keep
up with is dropped and counted, and so is what can't be written. The form is told in `docs/learning.md`.
"""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.core.context import RequestContext
from gateway.schema.request import Operation, Request
from gateway.settings.feedback import LearningLogSettings
from gateway.telemetry.append_file import AppendFile
from gateway.telemetry.logs import log

MAX_WAITING = 256
"""Rows that wait to be written."""
MAX_ROW_BYTES = 262_144
"""Bytes of a request that is logged at most; longer ones are mostly pictures. With MAX_WAITING: 64 MiB in memory."""
MAX_BATCH = 64
MAX_BATCH_BYTES = 1_048_576
CLOSE_S = 2.0

IsPersonal = Callable[[Request], bool]
"""Tells whether a request holds personal data; asked in the thread that writes."""
Count = Callable[[str], None]
"""Told what became of a row: written, full, too_long, personal, unreadable or failed."""


class RequestRow(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="request", omit_defaults=True):
    """One request that was answered. `tenant` tells askers apart and names nobody; ids are each tenant's own."""

    time: float
    tenant: str
    request_id: str
    route: str
    router: str | None = None
    score: float | None = None
    weak_chance: float | None = None
    strong_chance: float | None = None
    domain: str | None = None
    threshold: float | None = None
    reason: str | None = None
    model: str
    tier: str | None = None
    prompt_tokens: int
    completion_tokens: int
    messages: object = None
    tools: object = None
    prompt: str | None = None


class FeedbackRow(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="feedback"):
    """A mark, 0 to 1, of an answer; of several the last one stands."""

    time: float
    tenant: str
    request_id: str
    mark: float


class LearningLog:
    """Take rows on the event loop, write them in a thread."""

    def __init__(self, settings: LearningLogSettings, count: Count, is_personal: IsPersonal | None = None) -> None:
        self._file = AppendFile(Path(settings.path), settings.max_bytes)
        self._count = count
        self._is_personal = is_personal
        self._waiting: queue.Queue[_Row | None] = queue.Queue(MAX_WAITING)
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="learning-log", daemon=True)
        self._thread.start()

    def record(self, ctx: RequestContext) -> None:
        """Take a request that was answered whole by a model which a route chose."""
        if ctx.outcome != "ok" or ctx.ladder is None or ctx.ladder.is_pinned or not is_readable(ctx.asked):
            return
        if sum(len(memoryview(raw)) for raw in ctx.asked.fields.values()) > MAX_ROW_BYTES:
            self._count("too_long")
            return
        if ctx.personal and self._is_personal is not None:
            self._count("personal")
            return
        self._put((request_row(ctx), ctx.asked))

    def mark(self, tenant: str, request_id: str, mark: float) -> None:
        """Take a mark."""
        row = FeedbackRow(time=_now_s(), tenant=tenant_digest(tenant), request_id=request_id, mark=mark)
        self._put((row, None))

    def _put(self, row: "_Row") -> None:
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self._count("full")

    def _run(self) -> None:
        self._write([])  # a path that can't be written to is told at the start
        is_open = True
        while is_open:
            rows = list(self._batch())
            is_open = None not in rows
            lines = [line for row in rows if row is not None and (line := self._line(*row)) is not None]
            while lines:
                self._write(_first(lines, MAX_BATCH_BYTES))
        self._file.close()

    def _batch(self) -> "Iterator[_Row | None]":
        """Yield what waits, at least one row, up to MAX_BATCH of them or the end."""
        yield (row := self._waiting.get())
        with suppress(queue.Empty):
            for _ in range(MAX_BATCH):
                if row is None:
                    return
                yield (row := self._waiting.get_nowait())

    def _line(self, row: "RequestRow | FeedbackRow", request: Request | None) -> bytes | None:
        try:
            if request is not None and self._is_personal is not None and self._is_personal(request):
                self._count("personal")
                return None
            told = msgspec.structs.replace(row, **texts_of(request)) if request is not None else row
            return msgspec.json.encode(told) + b"\n"
        except Exception as exc:  # noqa: BLE001 - a supervisor: no prompt may end the thread
            self._tell("unreadable", type(exc).__name__)
            self._count("unreadable")
            return None

    def _write(self, lines: list[bytes]) -> None:
        try:
            self._file.append(b"".join(lines))
        except OSError as exc:
            self._tell("failed", exc.strerror or type(exc).__name__)
            outcome = "failed"
        else:
            self._problem = ""
            outcome = "written"
        for _ in lines:
            self._count(outcome)

    def _tell(self, outcome: str, problem: str) -> None:
        """Log a problem once, not once a row."""
        if problem != self._problem:
            self._problem = problem
            log("learning_log_failed", level=logging.ERROR, outcome=outcome, problem=problem)

    def close(self) -> None:
        """Write what waits, for CLOSE_S at most."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)


def _first(lines: list[bytes], max_bytes: int) -> list[bytes]:
    """Take the first lines that fit, at least one, off a list."""
    found = [lines.pop(0)]
    size = len(found[0])
    while lines and size + len(lines[0]) <= max_bytes:
        size += len(lines[0])
        found.append(lines.pop(0))
    return found


_Row = tuple[RequestRow | FeedbackRow, Request | None]


def is_readable(request: Request) -> bool:
    """Tell whether a request is one that routers are trained on: a chat, or the completion of one text."""
    if request.operation is Operation.CHAT:
        return True
    return request.operation is Operation.COMPLETION and bytes(request.fields["prompt"]).startswith(b'"')


def request_row(ctx: RequestContext) -> RequestRow:
    """Return all of a row but its texts."""
    judgement, usage = ctx.judgement, ctx.usage
    return RequestRow(
        time=_now_s(),
        tenant=tenant_digest(ctx.caller.tenant if ctx.caller else ""),
        request_id=ctx.request_id,
        route=ctx.asked_ladder.name,
        router=ctx.router,
        score=judgement.score if judgement else None,
        weak_chance=judgement.weak_chance if judgement else None,
        strong_chance=judgement.strong_chance if judgement else None,
        domain=judgement.domain if judgement else None,
        threshold=ctx.decision.threshold if ctx.decision else None,
        reason=ctx.reason,
        model=ctx.model or "",
        tier=ctx.tier,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
    )


def texts_of(request: Request) -> dict[str, object]:
    """Return what a router reads of a request. Decoded, as a raw one may span lines. Raises msgspec.DecodeError."""
    names = ("messages", "tools") if request.operation is Operation.CHAT else ("prompt",)
    return {name: msgspec.json.decode(request.fields[name]) for name in names if name in request.fields}


def tenant_digest(tenant: str) -> str:
    """Return what stands for a tenant: not its name, nor anything of its key."""
    return hashlib.blake2b(tenant.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()


def _now_s() -> float:
    return round(time.time(), 3)
