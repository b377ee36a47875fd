"""The `openai` backend: any server that speaks OpenAI's API over HTTP."""

from collections.abc import Mapping

import msgspec

from gateway.backends.backend import Call, Health
from gateway.backends.events import EventReader
from gateway.backends.http import HttpClient, HttpError, HttpHead, HttpRequest, HttpResponse, retry_after_s
from gateway.backends.load import fetch_load, page_of
from gateway.backends.openai_stream import OpenAIStream
from gateway.backends.silence import Silence
from gateway.core.deadlines import Wheel
from gateway.core.errors import (
    PosternError,
    UpstreamContextError,
    UpstreamError,
    UpstreamFailureError,
    UpstreamRateLimitError,
    UpstreamRejectionError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from gateway.core.reply import Reply, nothing_to_close, once
from gateway.schema.request import Operation, Request
from gateway.schema.response import decode_answer, decode_error
from gateway.settings.models import ModelSettings

PATHS = {
    Operation.CHAT: "/chat/completions",
    Operation.COMPLETION: "/completions",
    Operation.EMBEDDING: "/embeddings",
}
MAX_BODY_BYTES = 64 * 1024 * 1024
"""A whole answer larger than this is a fault: 2,048 embeddings of 3,072 numbers as text take about 60 MB."""
MAX_ERROR_BYTES = 65_536
# Statuses that are the request's fault, or could be: no other server would take it. 401, 403 and 404 are not among
# them: there the fault is in our key or our configuration, and another model may serve.
CLIENT_FAULTS = frozenset({400, 413, 415, 422})


class OpenAIBackend:
    """One replica of one model behind an OpenAI-compatible server."""

    def __init__(
        self, name: str, url: str, settings: ModelSettings, client: HttpClient, wheel: Wheel | None = None
    ) -> None:
        self.url = url
        self._name = name
        self._settings = settings
        self._client = client
        self._wheel = wheel or Wheel()
        self._page = page_of(settings, url)
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "postern"}
        if settings.api_key is not None:
            headers["authorization"] = f"Bearer {settings.api_key.reveal()}"
        self._heads = {operation: HttpHead(url.rstrip("/") + path, headers) for operation, path in PATHS.items()}

    async def open(self, call: Call) -> Reply:
        """Send the request and wait for the first block of the answer."""
        asked = call.request
        request = HttpRequest(
            self._heads[asked.operation],
            upstream_body(asked, self._settings.upstream_model or self._name, self._settings),
            {"x-request-id": call.request_id, **call.trace_headers},
            0 if asked.is_streaming else MAX_BODY_BYTES,
        )
        wait_s = self._patience_s(call)
        try:
            with self._wheel.within(wait_s):
                response = await self._client.send(request)
                return await self._begin(call, response)
        except TimeoutError as exc:
            raise UpstreamTimeoutError(f"{self._name} sent nothing within {wait_s:.3g} s.") from exc
        except HttpError as exc:
            raise self._no_answer(exc) from exc

    def _patience_s(self, call: Call) -> float:
        """Return how long to wait for the first block. An answer that is not streamed comes all at once, at its end."""
        left_s = call.deadline_s - self._wheel.loop.time()
        return min(self._settings.timeouts.first_byte_s, left_s) if call.request.is_streaming else left_s

    async def look(self) -> Health | None:
        """Read the metrics page that the configuration names for this replica; without one, nobody is asked."""
        if self._page is None:
            return None
        # Our key stays out of it: the page may belong to another server.
        load = await fetch_load(self._client, self._page)
        return Health(waiting=load.waiting, running=load.running, kv_cache_usage=load.kv_cache_usage)

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.close()

    async def _begin(self, call: Call, response: HttpResponse) -> Reply:
        try:
            if response.status == 200:
                return await (self._stream if call.request.is_streaming else self._whole)(call, response)
            raise await self._refusal(call, response)  # noqa: TRY301 - a frame with a name for what it raises is a cycle
        except BaseException:
            await response.close()
            raise

    async def _whole(self, call: Call, response: HttpResponse) -> Reply:
        body = await _read(response, MAX_BODY_BYTES)
        await response.close()
        try:
            answer = decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise UpstreamFailureError(f"{self._name} sent a body that is no JSON answer.") from exc
        if answer.is_error:
            raise UpstreamFailureError(f"{self._name} sent an error with status 200.")
        if not answer.choices and call.request.operation is not Operation.EMBEDDING:
            raise UpstreamFailureError(f"{self._name} sent an answer without choices.")
        found = Reply(self._name, is_streaming=False, blocks=once(body), close=nothing_to_close, answer=answer)
        found.finish_reasons = answer.finish_reasons
        return found

    async def _stream(self, call: Call, response: HttpResponse) -> Reply:
        """Read the first block, so that what fails before it can still be tried elsewhere."""
        silence = Silence(self._wheel, self._settings.timeouts.between_chunks_s, call.deadline_s)
        stream = OpenAIStream(self._name, response, EventReader(self._name, choice_count(call.request)), silence)
        await stream.begin()
        found = Reply(self._name, is_streaming=True, blocks=stream, close=stream.close)
        found.finish_reasons = stream.finish_reasons
        return found

    def _no_answer(self, exc: HttpError) -> UpstreamError:
        if exc.is_connecting:
            return UpstreamUnavailableError(f"{self._name} can't be reached.", detail=f"{self.url}: {exc}")
        if exc.is_timeout:
            return UpstreamTimeoutError(f"{self._name} did not answer in time.", detail=f"{self.url}: {exc}")
        return UpstreamFailureError(
            f"{self._name} closed the connection before its answer.", detail=f"{self.url}: {exc}"
        )

    async def _refusal(self, call: Call, response: HttpResponse) -> PosternError:
        wire = decode_error(await _read(response, MAX_ERROR_BYTES))
        told = wire.message or "no reason given"
        if wire.code == "context_length_exceeded" or "maximum context length" in told:
            return UpstreamContextError(told, param=wire.param)
        if response.status in CLIENT_FAULTS or (response.status == 403 and _refuses_logprobs(call.request, told)):
            error = UpstreamRejectionError(told, param=wire.param)
            error.status = response.status
            return error
        if response.status == 429:
            return UpstreamRateLimitError(
                f"{self._name} is over its rate limit.",
                retry_after_s=_retry_after_s(response.headers),
                detail=f"{self.url}: status 429",
            )
        return UpstreamFailureError(
            f"{self._name} answered with status {response.status}.", detail=f"{self.url}: status {response.status}"
        )


def _refuses_logprobs(request: Request, told: str) -> bool:
    """Tell whether a 403 is for log probabilities that a cascade has added: OpenAI's for its reasoning models.

    Their answer to a wish that they can't serve (confident-ai/deepeval#2184). A client's own wish leads elsewhere.
    """
    is_own_wish = any(need.capability == "logprobs" for need in request.needs)
    return "logprobs" in told and "logprobs" in request.fields and not is_own_wish


def upstream_body(request: Request, model: str, settings: ModelSettings) -> bytes:
    """Return the body for the upstream: the model's name put in, token counts asked for, all else as it came."""
    fields = {**request.fields, "model": msgspec.Raw(msgspec.json.encode(model))}
    if request.is_streaming and settings.stream_usage and not request.wants_usage:
        options = msgspec.json.decode(fields.get("stream_options", b"{}"), type=dict[str, msgspec.Raw] | None) or {}
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": msgspec.Raw(b"true")}))
    return msgspec.json.encode(fields)


def choice_count(request: Request) -> int:
    """Return how many choices a whole answer has: `n`, for each prompt where a request may hold several."""
    n = msgspec.json.decode(request.fields.get("n", b"null"), type=int | None) or 1
    if request.operation is not Operation.COMPLETION:
        return n
    prompts = len(request.conversation.turns) + len(request.conversation.token_counts)
    return n * max(prompts, 1)


async def _read(response: HttpResponse, limit_bytes: int) -> bytes:
    body = await response.read(limit_bytes)
    if body is None:
        raise UpstreamFailureError(f"The model's server sent more than {limit_bytes} bytes.")
    return body


def _retry_after_s(headers: Mapping[str, str]) -> int:
    seconds = retry_after_s(headers)
    return 1 if seconds is None else min(seconds, 3600)
