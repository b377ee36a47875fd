"""The `simulated` backend: a model that costs nothing and always says the same, for demos, tests and load.

Its text is made from the prompt's hash, its length too; tokens come at the configured rate. So are the log
probabilities that a chat may ask for: a few prompts leave it in much doubt, most in little. Every answer says in its
`system_fingerprint` that it is simulated.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import msgspec

from gateway.backends.backend import Call, Health
from gateway.core.errors import UpstreamTimeoutError
from gateway.core.reply import Reply, nothing_to_close, once
from gateway.core.tokens import estimate_tokens
from gateway.schema.request import Operation
from gateway.schema.sse import DONE, event_of
from gateway.settings.models import ModelSettings

PROSE = (
    "the door opens small answer first then reason about each part and keep what holds when load grows because "
    "every step has a cost that someone pays so measure before you choose and say plainly what is not known yet"
)
WORDS = PROSE.split()
MIN_TOKENS, SPREAD_TOKENS = 12, 60
EMBEDDING_SIZE = 64
FINGERPRINT = "simulated"
MAX_ALTERNATIVES = 20
MOST_DOUBTFUL, DOUBT, SURE_LOGPROB = 0.6, 6.0, -0.02
"""The share of doubtful tokens in the most doubtful answer, how doubtful they may be, and all others."""


class SimulatedBackend:
    """A model of fixed manners: `ttft_s`, then `tokens_per_s`; one word is one token."""

    url = "simulated:"

    def __init__(self, name: str, settings: ModelSettings) -> None:
        self._name = name
        self._ttft_s = settings.simulated.ttft_s
        rate = settings.simulated.tokens_per_s
        self._gap_s = 1 / rate if rate else 0.0

    async def open(self, call: Call) -> Reply:
        """Wait for the first token, then answer at the set rate."""
        await self._pause(call, self._ttft_s)
        if call.request.operation is Operation.EMBEDDING:
            return self._reply(call, once(msgspec.json.encode(self._embeddings(call))))
        words = self._words(call)
        if call.request.is_streaming:
            return self._reply(call, self._stream(call, words))
        await self._pause(call, self._gap_s * len(words))
        return self._reply(call, once(msgspec.json.encode(self._body(call, words))))

    async def look(self) -> Health | None:
        """Nobody is asked."""
        return None

    async def close(self) -> None:
        """Nothing is open."""

    def _reply(self, call: Call, blocks: AsyncIterator[bytes]) -> Reply:
        return Reply(self._name, is_streaming=call.request.is_streaming, blocks=blocks, close=nothing_to_close)

    async def _pause(self, call: Call, seconds: float) -> None:
        left_s = call.deadline_s - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, min(seconds, left_s)))
        if seconds > left_s:
            raise UpstreamTimeoutError(f"{self._name} did not answer in time.")

    def _words(self, call: Call) -> list[str]:
        seed = _digest(self._name, call)
        count = MIN_TOKENS + seed[0] % SPREAD_TOKENS
        if call.request.max_tokens:
            count = min(count, call.request.max_tokens)
        return [WORDS[(seed[place % 32] + place) % len(WORDS)] for place in range(count)]

    def _finish_reason(self, call: Call, words: list[str]) -> str:
        is_cut = call.request.max_tokens and len(words) == call.request.max_tokens
        return "length" if is_cut else "stop"

    def _usage(self, call: Call, completion_tokens: int) -> dict[str, int]:
        prompt_tokens = sum(estimate_tokens(turn.text) for turn in call.request.conversation.turns)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    def _head(self, call: Call, *, is_chunk: bool) -> dict[str, object]:
        is_chat = call.request.operation is Operation.CHAT
        kind = ("chat.completion" if is_chat else "text_completion") + (".chunk" if is_chat and is_chunk else "")
        return {
            "id": "chatcmpl-" + _digest(self._name, call).hex()[:24],
            "object": kind,
            "created": 1_700_000_000,
            "model": self._name,
            "system_fingerprint": FINGERPRINT,
        }

    def _body(self, call: Call, words: list[str]) -> dict[str, object]:
        text, reason = " ".join(words), self._finish_reason(call, words)
        is_chat = call.request.operation is Operation.CHAT
        said = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        told = self._logprobs(call, words, range(len(words)))
        choice = {"index": 0, **said, "logprobs": told, "finish_reason": reason}
        usage = self._usage(call, len(words))
        return {**self._head(call, is_chunk=False), "choices": [choice], "usage": usage}

    async def _stream(self, call: Call, words: list[str]) -> AsyncIterator[bytes]:
        head = self._head(call, is_chunk=True)
        is_chat = call.request.operation is Operation.CHAT
        for place, word in enumerate(words):
            if place and self._gap_s:
                await self._pause(call, self._gap_s)
            text = word if place == 0 else " " + word
            said: dict[str, object] = {"delta": {"role": "assistant", "content": text}} if is_chat else {"text": text}
            if (told := self._logprobs(call, words, range(place, place + 1))) is not None:
                said["logprobs"] = told
            yield event_of({**head, "choices": [{"index": 0, **said, "finish_reason": None}]})
        end: dict[str, object] = {"delta": {}} if is_chat else {"text": ""}
        reason = self._finish_reason(call, words)
        yield event_of({**head, "choices": [{"index": 0, **end, "finish_reason": reason}]})
        yield event_of({**head, "choices": [], "usage": self._usage(call, len(words))}) + DONE

    def _logprobs(self, call: Call, words: list[str], places: range) -> dict[str, object] | None:
        """Return some words' log probabilities where a chat asks for them."""
        asked = call.request.fields
        if call.request.operation is not Operation.CHAT or bytes(asked.get("logprobs", b"")) != b"true":
            return None
        count = bytes(asked.get("top_logprobs", b""))
        alternatives = min(int(count), MAX_ALTERNATIVES) if count.isdigit() else 0
        seed = _digest(self._name, call)
        return {"content": [_token(words, place, seed, alternatives) for place in places], "refusal": None}

    def _embeddings(self, call: Call) -> dict[str, object]:
        turns = call.request.conversation.turns
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(self._name, turn.text)}
            for index, turn in enumerate(turns)
        ]
        usage = self._usage(call, 0)
        return {"object": "list", "model": self._name, "data": data, "usage": usage}


def _digest(name: str, call: Call) -> bytes:
    text = "\n".join(turn.text for turn in call.request.conversation.turns)
    return hashlib.sha256(f"{name}\n{text}".encode("utf-8", "surrogatepass")).digest()


def _token(words: list[str], place: int, seed: bytes, count: int) -> dict[str, object]:
    """Return a word with its log probability, and `count` alternatives, the word itself the first of them."""
    share = (seed[(5 * place + 1) % 32] ^ (37 * place % 256)) / 255
    logprob = min(SURE_LOGPROB, DOUBT * (1 - share - MOST_DOUBTFUL * seed[31] / 255))
    others = [WORDS[(WORDS.index(words[place]) + rank) % len(WORDS)] for rank in range(count)]
    top = [_alternative(" " * bool(place) + word, logprob - rank) for rank, word in enumerate(others)]
    return {**_alternative(" " * bool(place) + words[place], logprob), "top_logprobs": top}


def _alternative(text: str, logprob: float) -> dict[str, object]:
    return {"token": text, "logprob": round(logprob, 6), "bytes": list(text.encode())}


def _vector(name: str, text: str) -> list[float]:
    stream = hashlib.shake_256(f"{name}\n{text}".encode("utf-8", "surrogatepass")).digest(EMBEDDING_SIZE)
    return [byte / 127.5 - 1 for byte in stream]
