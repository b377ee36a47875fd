"""The blocks of a streamed answer: one class over one response, so that a chunk costs one wait and no generator."""

from typing import Self

from gateway.backends.events import MAX_EVENT_BYTES, EventReader, has_data
from gateway.backends.http import HttpError, HttpResponse
from gateway.backends.silence import Silence
from gateway.core.errors import UpstreamFailureError, UpstreamInterruptedError, UpstreamTimeoutError
from gateway.core.reply import Take, pour_of


class OpenAIStream:
    """Whole events as they come; each `anext` waits for one chunk of the response at least.

    A read that is cancelled has lost nothing. Raises UpstreamError.
    """

    __slots__ = ("_chunks", "_first", "_is_over", "_model", "_reader", "_response", "_silence")

    def __init__(self, model: str, response: HttpResponse, reader: EventReader, silence: Silence) -> None:
        self._model = model
        self._response = response
        self._chunks = response.chunks
        self._reader = reader
        self._silence = silence
        self._first = b""
        self._is_over = False

    async def begin(self) -> None:
        """Read up to the first data; whoever calls bounds the wait for it."""
        read = bytearray()
        while not self._is_over:
            block = self._take(await self._read())
            if self._reader.failure is not None:
                raise self._reader.failure
            read += block
            if has_data(block):
                break
            if len(read) > MAX_EVENT_BYTES:
                raise UpstreamFailureError(f"{self._model} sent comments without an end.")
        self._first = bytes(read)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next block."""
        if self._first:
            first, self._first = self._first, b""
            return first
        while not self._is_over:
            if self._reader.failure is not None:
                self._is_over = True
                raise self._reader.failure
            try:
                with self._silence:
                    chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                chunk = None
            except HttpError as exc:
                raise self._interrupted() from exc
            except TimeoutError as exc:
                raise self._fell_silent() from exc
            if block := self._take(chunk):
                return block
        raise StopAsyncIteration

    async def pour(self, take: Take) -> None:
        """Give to `take` the blocks of what comes, as long as nothing else does; all else is told by the next read."""
        pour = pour_of(self._chunks)
        if pour is None or self._first or self._is_over or self._reader.failure is not None:
            return

        def take_chunk(chunk: bytes) -> bool:
            self._silence.renew()
            block = self._take(chunk)
            wants_more = take(block) if block else True
            return wants_more and not self._is_over and self._reader.failure is None

        try:
            with self._silence:
                await pour(take_chunk)
        except TimeoutError as exc:
            raise self._fell_silent() from exc

    async def _read(self) -> bytes | None:
        try:
            return await anext(self._chunks, None)
        except HttpError as exc:
            raise self._interrupted() from exc

    def _interrupted(self) -> UpstreamInterruptedError:
        self._is_over = True
        return UpstreamInterruptedError(f"{self._model} broke off in the middle of its answer.")

    def _fell_silent(self) -> UpstreamTimeoutError:
        self._is_over = True
        return UpstreamTimeoutError(f"{self._model} fell silent in the middle of its answer.")

    def _take(self, chunk: bytes | None) -> bytes:
        """Return the whole events of a chunk; None is the end of all."""
        if chunk is not None:
            block = self._reader.feed(chunk)
            self._is_over = self._reader.is_done
            return block
        self._is_over = True
        return self._reader.end()

    def finish_reasons(self) -> list[str]:
        """Return why the choices that have ended did so."""
        return self._reader.finish_reasons()

    async def close(self) -> None:
        """Let go of the response; one whose answer is whole may end by itself, which frees its connection."""
        self._silence.end()
        if self._reader.is_done:
            await self._response.finish()
        else:
            self._is_over = True
            await self._response.close()
