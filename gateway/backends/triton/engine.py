"""The engine of a model on Triton: a dialect over a transport, checked before it is trusted."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec

from gateway.backends.backend import Health
from gateway.backends.engine import Piece, Task
from gateway.backends.http import HttpClient
from gateway.backends.load import Load, fetch_load
from gateway.backends.triton.dialects import Dialect, Stop, find_lacking, find_mismatch
from gateway.backends.triton.faults import error_of, is_absence
from gateway.backends.triton.responses import GivenUpError
from gateway.backends.triton.wire import Ask, Fault, ModelFacts, TensorShape, Transport, WireError
from gateway.core.errors import (
    PosternError,
    UpstreamFailureError,
    UpstreamInterruptedError,
    UpstreamModelUnavailableError,
)

STOP_S = 2.0
"""How long a request that ends another one may take."""


class Watch(msgspec.Struct, frozen=True):
    """How a look is taken: within `look_s`, and at the server's Prometheus page where there is one, for `model`."""

    look_s: float
    client: HttpClient | None = None
    page: str | None = None
    model: str | None = None


class TritonEngine:
    """One model on one server.

    Its metadata is read before the first request, and anew whenever the model or its server was away: what comes back
    may be another. A model that does not speak the dialect fails every request at once, until a look finds it mended.
    """

    def __init__(self, name: str, url: str, dialect: Dialect, transport: Transport, watch: Watch) -> None:
        self.url = url
        self._name = name
        self._dialect = dialect
        self._transport = transport
        self._watch = watch
        self._facts: ModelFacts | None = None
        self._mismatch: str | None = None
        self._checking = asyncio.Lock()
        self._stops: set[asyncio.Task[None]] = set()

    async def generate(self, task: Task) -> AsyncGenerator[Piece, None]:
        """Yield pieces as the model gives them."""
        has_begun, ask = False, None
        try:
            facts = await self._checked()
            ask = self._ask(task, facts)
            reader = self._dialect.reader(task, facts)
            async with aclosing(self._transport.ask(ask, facts)) as responses:
                async for outputs in responses:
                    piece = reader.read(outputs)
                    has_begun = True
                    yield piece
            ask = None
            if not has_begun:
                raise UpstreamFailureError(f"{self._name} sent nothing.")
            if (rest := reader.rest()) is not None:
                yield rest
        except WireError as exc:
            ask = ask if exc.fault is Fault.DEADLINE else None
            raise self._error_of(exc, has_begun=has_begun) from exc
        except GivenUpError as exc:
            kind = UpstreamInterruptedError if has_begun else UpstreamFailureError
            raise kind(f"{self._name} gave its answer up.", detail=str(exc)) from exc
        finally:
            if ask is not None:
                self._stop(ask, facts)

    def _ask(self, task: Task, facts: ModelFacts) -> Ask:
        is_streaming = self._dialect.is_streaming(task, is_heard=self._transport.is_heard)
        inputs = self._dialect.encode(task, facts, is_streaming=is_streaming)
        if (lacking := find_lacking(inputs, facts)) is not None:
            raise UpstreamModelUnavailableError(f"{self._name} has no input {lacking}, which this request needs.")
        # Letters first: TensorRT-LLM takes the digits that an id begins with for the whole of it.
        # Source: triton_backend/inflight_batcher_llm/src/utils.cc, `getRequestId`.
        return Ask(f"postern-{task.task_id}", inputs, is_streaming, headers=task.trace_headers)

    def _stop(self, left: Ask, facts: ModelFacts) -> None:
        """End a request that was left, where leaving it does not. Nobody waits, whoever left least of all."""
        stop = self._dialect.find_stop(facts, is_heard=self._transport.is_heard)
        if stop is not None:
            running = asyncio.get_running_loop().create_task(self._send_stop(left.request_id, stop, facts))
            self._stops.add(running)
            running.add_done_callback(self._stops.discard)

    async def _send_stop(self, request_id: str, stop: Stop, facts: ModelFacts) -> None:
        rank = facts.inputs["text_input"].rank
        shapes = {given.name: TensorShape(given.datatype, rank) for given in stop.inputs}
        ask = Ask(request_id, stop.inputs, is_streaming=False, model=stop.model)
        # Its answer is an error, or none: what matters is that it came.
        with suppress(WireError, TimeoutError):
            async with asyncio.timeout(STOP_S), aclosing(self._transport.ask(ask, ModelFacts(shapes, {}))) as responses:
                async for _ in responses:
                    pass

    async def _checked(self) -> ModelFacts:
        """Return what is known of the model; ask where nothing is."""
        async with self._checking:
            if self._facts is None and self._mismatch is None:
                await self._check()
            if self._facts is None:
                raise UpstreamModelUnavailableError(
                    f"{self._name} is not the model that the configuration describes.", detail=self._mismatch
                )
            return self._facts

    async def _check(self) -> None:
        facts = await self._transport.describe()
        self._mismatch = find_mismatch(self._dialect.signature, facts)
        self._facts = facts if self._mismatch is None else None

    def _error_of(self, failure: WireError, *, has_begun: bool) -> PosternError:
        if is_absence(failure):
            self._forget()
        return error_of(self._name, failure, has_begun=has_begun)

    def _forget(self) -> None:
        self._facts = self._mismatch = None

    async def look(self) -> Health | None:
        """Ask for the model's readiness, read its metadata where it is not known, and how loaded the server is."""
        try:
            async with asyncio.timeout(self._watch.look_s):
                problem = await self._find_problem()
        except TimeoutError:
            problem = f"it did not answer within {self._watch.look_s:.3g} s"
        except WireError as exc:
            self._error_of(exc, has_begun=False)
            problem = _problem_of(exc)
        if problem is not None:
            return Health(is_ready=False, problem=problem)
        load = await self._read_load()
        return Health(waiting=load.waiting, running=load.running, kv_cache_usage=load.kv_cache_usage)

    async def _find_problem(self) -> str | None:
        if not await self._transport.is_ready():
            self._forget()
            return "the model is not ready"
        async with self._checking:
            if self._facts is None:
                await self._check()
            return self._mismatch

    async def _read_load(self) -> Load:
        watch = self._watch
        if watch.client is None or watch.page is None:
            return Load()
        return await fetch_load(watch.client, watch.page, watch.model)

    async def close(self) -> None:
        """Close the connections, once what was left is ended."""
        await asyncio.gather(*self._stops)
        await self._transport.close()
        if self._watch.client is not None:
            await self._watch.client.close()


def _problem_of(failure: WireError) -> str:
    if failure.fault is Fault.CONNECTING:
        return f"it can't be reached: {failure.text}"
    return f"it failed: {failure.code or failure.fault}"
