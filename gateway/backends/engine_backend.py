"""OpenAI's answers of a bare engine: the walk of one call from a request to bodies and events.

What makes them (prompts, stops, tool calls, shapes) is in `chat/`; here is when: waits, ends, and who is closed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from uuid import uuid4

from gateway.backends.backend import Call, Health
from gateway.backends.chat.answers import Head, usage_of
from gateway.backends.chat.prompts import Prompt, Prompter
from gateway.backends.chat.template import ChatTemplate
from gateway.backends.chat.tokens import TokenCounter
from gateway.backends.chat.transcript import Transcript
from gateway.backends.chat.writer import Writer
from gateway.backends.engine import Engine, Piece, Task
from gateway.core.errors import UpstreamFailureError, UpstreamTimeoutError
from gateway.core.reply import Reply, nothing_to_close, once
from gateway.core.tokens import estimate_tokens
from gateway.settings.models import ModelSettings


class EngineBackend:
    """One replica of one model behind a bare engine."""

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        engine: Engine,
        template: ChatTemplate | None,
        tokenizer: TokenCounter | None,
    ) -> None:
        self.url = engine.url
        self._name = name
        self._settings = settings
        self._engine = engine
        self._counter = tokenizer
        self._prompter = Prompter(settings, template, tokenizer)

    async def open(self, call: Call) -> Reply:
        """Start the engine and wait for its first piece; for all of them where the answer is not streamed."""
        wait_s = self._patience_s(call)
        try:
            async with asyncio.timeout(wait_s):
                answer = await self._begin(call)
                if call.request.is_streaming:
                    return await self._open_stream(answer)
                return await self._whole(answer)
        except TimeoutError as exc:
            raise UpstreamTimeoutError(f"{self._name} sent nothing within {wait_s:.3g} s.") from exc

    async def look(self) -> Health | None:
        """Ask the engine."""
        return await self._engine.look()

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()

    def _patience_s(self, call: Call) -> float:
        """Return how long to wait for the first piece. An answer that is not streamed is waited for as a whole."""
        left_s = call.deadline_s - asyncio.get_running_loop().time()
        return min(self._settings.timeouts.first_byte_s, left_s) if call.request.is_streaming else left_s

    async def _begin(self, call: Call) -> "_Answer":
        prompt = await self._prompter.make(call.request)
        answer_id = uuid4().hex
        task = Task(
            task_id=f"{call.request_id}-{answer_id[:8]}",
            prompt=prompt.text,
            sampling=prompt.sampling,
            is_streaming=call.request.is_streaming,
            deadline_s=call.deadline_s,
            trace_headers=call.trace_headers,
        )
        head = Head(call.request.operation, answer_id, int(time.time()), self._name)
        return _Answer(self._engine.generate(task), prompt, head, call.deadline_s)

    async def _open_stream(self, answer: "_Answer") -> Reply:
        first = None
        try:
            first = await answer.next_piece()
        finally:
            if first is None:
                await answer.close()
        if first is None:
            raise self._no_answer()
        found = Reply(self._name, is_streaming=True, blocks=self._stream(answer, first), close=answer.close)
        found.finish_reasons = answer.finish_reasons
        return found

    async def _whole(self, answer: "_Answer") -> Reply:
        try:
            deltas = []
            while (piece := await answer.next_piece()) is not None:
                deltas += answer.transcript.add(piece)
                if answer.transcript.is_over:
                    break
        finally:
            await answer.close()
        if not answer.has_begun:
            raise self._no_answer()
        deltas += answer.transcript.end()
        reason, usage = await self._account(answer)
        body = answer.writer.body(deltas, reason, usage)
        found = Reply(self._name, is_streaming=False, blocks=once(body), close=nothing_to_close)
        found.finish_reasons = answer.finish_reasons
        return found

    async def _stream(self, answer: "_Answer", first: Piece) -> AsyncIterator[bytes]:
        """Yield an answer's events. Each wait for a piece is bounded, the first one's by `open`."""
        transcript, writer = answer.transcript, answer.writer
        piece: Piece | None = first
        beginning = writer.begin()
        while piece is not None:
            if events := beginning + writer.events(transcript.add(piece)):
                yield events
            beginning = b""
            piece = None if transcript.is_over else await self._next_in_time(answer)
        # Before the last event: a client that has all must not find the model still at work.
        await answer.close()
        ending = writer.events(transcript.end())
        yield ending + writer.end(*await self._account(answer))

    async def _next_in_time(self, answer: "_Answer") -> Piece | None:
        left_s = answer.deadline_s - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(self._settings.timeouts.between_chunks_s, left_s)):
                return await answer.next_piece()
        except TimeoutError as exc:
            raise UpstreamTimeoutError(f"{self._name} fell silent in the middle of its answer.") from exc

    async def _account(self, answer: "_Answer") -> tuple[str, dict[str, int | bool]]:
        """Return the finish reason and the usage: told by the engine, else counted here, else estimated."""
        prompt_tokens, completion_tokens = answer.transcript.prompt_tokens, answer.transcript.completion_tokens
        if prompt_tokens is None:
            prompt_tokens = answer.prompt.token_count
        if self._counter is not None and prompt_tokens is None:
            prompt_tokens = await self._counter.count_aside(answer.prompt.text)
        if self._counter is not None and completion_tokens is None:
            completion_tokens = await self._counter.count_aside(answer.transcript.text, is_prompt=False)
        reason = answer.reason = answer.transcript.finish_reason(completion_tokens)
        if prompt_tokens is not None and completion_tokens is not None:
            return reason, usage_of(prompt_tokens, completion_tokens)
        # Clients read a usage without asking whether there is one; an estimate that says so beats none.
        texts = ((prompt_tokens, answer.prompt.text), (completion_tokens, answer.transcript.text))
        counts = [estimate_tokens(text) if count is None else count for count, text in texts]
        return reason, usage_of(*counts, is_estimated=True)

    def _no_answer(self) -> UpstreamFailureError:
        return UpstreamFailureError(f"{self._name} ended without an answer.")


class _Answer:
    """One answer under way: the engine's pieces, and what is made of them."""

    def __init__(self, pieces: AsyncGenerator[Piece, None], prompt: Prompt, head: Head, deadline_s: float) -> None:
        self._pieces = pieces
        self._is_closed = False
        self.has_begun = False
        self.reason = ""
        self.prompt = prompt
        self.deadline_s = deadline_s
        self.transcript = Transcript(prompt.sampling, prompt.tool_calls())
        self.writer = Writer(head, tells_logprobs=prompt.sampling.logprobs is not None)

    async def next_piece(self) -> Piece | None:
        """Return the next piece, None at the end."""
        piece = await anext(self._pieces, None)
        self.has_begun = self.has_begun or piece is not None
        return piece

    def finish_reasons(self) -> list[str]:
        """Return why it ended, if it has."""
        return [self.reason] if self.reason else []

    async def close(self) -> None:
        """Stop the engine's work for this answer, once; a generator that nobody began is closed as well."""
        if not self._is_closed:
            self._is_closed = True
            await self._pieces.aclose()
