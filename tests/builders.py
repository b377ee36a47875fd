"""Small things that many tests are made of: requests, models, contexts, clocks. Each has a default for every part."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any

import msgspec

from gateway.backends.backend import Call
from gateway.core.context import Caller, Candidate, Decision, Ladder, Reason, RequestContext, Wishes
from gateway.core.judgement import Judgement
from gateway.core.reply import Reply
from gateway.core.session import Held, Recall, Session
from gateway.routing.abilities import fill_abilities, find_steps
from gateway.routing.policies import Facts
from gateway.schema.request import Operation, Request, decode_request
from gateway.schema.sse import DONE, event_of
from gateway.settings.models import BackendKind, ModelSettings, PriceSettings, SimulatedSettings

AT_ONCE = SimulatedSettings(ttft_s=0, tokens_per_s=0)


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


def request(operation: Operation = Operation.CHAT, **body: Any) -> Request:
    """A request as it is decoded from its body; what is not given is the least that makes it one."""
    least = {
        Operation.CHAT: {"messages": [{"role": "user", "content": "Hello there"}]},
        Operation.COMPLETION: {"prompt": "Hello there"},
        Operation.EMBEDDING: {"input": "Hello there"},
    }[operation]
    return decode_request(operation, msgspec.json.encode({"model": "auto", **least, **body}))


def model(**settings: Any) -> ModelSettings:
    """A simulated model that answers at once."""
    return ModelSettings(**{"backend": BackendKind.SIMULATED, "simulated": AT_ONCE, **settings})


def price(input_: float, output: float, cached_input: float | None = None) -> PriceSettings:
    """USD per million tokens."""
    return PriceSettings(input=input_, output=output, cached_input=cached_input)


def ladder(*models: str, name: str = "auto") -> Ladder:
    """A route's ladder, weakest first; two models where none is named."""
    names = models or ("small", "large")
    abilities = fill_abilities([None] * len(names))
    return Ladder(name, names, abilities=abilities, steps=find_steps(abilities))


def facts(score: float | None, wishes: Wishes | None = None, **told: Any) -> Facts:
    """What a policy may know: a score, or none, and more of the judgement by name."""
    return Facts(None if score is None else Judgement(score, **told), wishes or Wishes())


def context(operation: Operation = Operation.CHAT, **facts: Any) -> RequestContext:
    """A request's context before its walk."""
    return RequestContext(operation, "req-1", **facts)


def decided_context(chosen: str = "small", models: Iterable[str] = ("small", "large"), **facts: Any) -> RequestContext:
    """A request's context after the model was chosen, all of the ladder being able to serve."""
    names = tuple(models)
    decision = Decision(chosen, Reason.SCORE, 0.5, tuple(Candidate(name) for name in names))
    known = {"request": request(), "ladder": ladder(*names), "decision": decision, "caller": Caller("me", "client:me")}
    return context(**{**known, **facts})


def call(asked: Request | None = None, seconds: float = 5.0, request_id: str = "req-1") -> Call:
    """A call to an upstream, to be made on a running loop."""
    return Call(asked or request(), request_id, asyncio.get_running_loop().time() + seconds)


def chunk(content: str | None = None, *, finish_reason: str | None = None, index: int = 0, **more: Any) -> bytes:
    """One event of a chat stream."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return event_of({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


def usage_chunk(**counts: Any) -> bytes:
    """The event that OpenAI sends last, with no choices."""
    return event_of({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": counts})


STREAM = chunk("Hel") + chunk("lo") + chunk(finish_reason="stop") + DONE


def body(finish_reason: str | None = "stop", **more: Any) -> bytes:
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return msgspec.json.encode({"object": "chat.completion", "choices": [choice], "usage": usage, **more})


async def blocks_of(*blocks: bytes, failure: Exception | None = None) -> AsyncIterator[bytes]:
    """Blocks as an upstream would give them, then perhaps its failure."""
    for block in blocks:
        await asyncio.sleep(0)
        yield block
    if failure is not None:
        raise failure


async def nothing() -> None:
    """Close what needs no closing."""


def reply(*blocks: bytes, model: str = "small", is_streaming: bool = False, **more: Any) -> Reply:
    """An answer on its way."""
    found = {"close": nothing, "blocks": blocks_of(*(blocks or (body(),))), **more}
    return Reply(model=model, is_streaming=is_streaming, **found)


async def collect(answer: Reply) -> bytes:
    """Read an answer to its end and close it."""
    try:
        return b"".join([block async for block in answer.blocks])
    finally:
        await answer.close()


async def raised_by(work: Awaitable[Any]) -> BaseException | None:
    """Return what the work raises, if anything."""
    try:
        await work
    except BaseException as exc:
        return exc
    return None


def held(prompt_tokens: int = 8_900, completion_tokens: int = 100, at_s: float = 100.0, **more: Any) -> Held:
    """What an upstream has read: a system prompt of 8,000 tokens and a user's turn of 900, unless told otherwise."""
    known = {"estimated_tokens": prompt_tokens, "lengths": (32_000, 3_600), **more}
    return Held(at_s=at_s, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, **known)


def recall(
    model: str = "large", *, rent_usd: float = 0.0, others: dict[str, Held] | None = None, **more: Any
) -> Recall:
    """The next turn of a conversation that `model` answered a minute ago: 10,000 tokens, of which it has read 9,000."""
    found = {model: more.pop("held", held()), **(others or {})}
    turn = {"now_s": 160.0, "lengths": (32_000, 3_600, 400, 4_000), "estimated_tokens": 10_000, **more}
    return Recall(Session("key", model, rent_usd, found), **turn)
