"""An engine that does what its script says, and counts how it is treated."""

import asyncio
import json

from gateway.backends.backend import Health
from gateway.backends.chat.template import ChatTemplate
from gateway.backends.chat.template_files import TemplateFiles
from gateway.backends.engine import Piece
from gateway.backends.engine_backend import EngineBackend
from gateway.schema.sse import data_of, events_in
from gateway.settings.models import BackendKind
from tests.builders import call, collect, model, request

PLAIN = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if tools %}<|tools|>{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A template of the plainest kind, that takes tools."""


class ScriptedEngine:
    """Plays its steps for each task: pieces to give, seconds to wait, exceptions to raise; a text is a piece.

    `begun` and `ended` count generators that ran, `cancelled` those stopped before their script's end.
    """

    url = "scripted:"

    def __init__(self, *steps):
        self.steps = [Piece(step, token_count=1) if isinstance(step, str) else step for step in steps]
        self.tasks = []
        self.begun = self.ended = self.cancelled = self.closed = 0

    async def generate(self, task):
        self.tasks.append(task)
        self.begun += 1
        is_whole = False
        try:
            for step in self.steps:
                if isinstance(step, int | float):
                    await asyncio.sleep(step)
                elif isinstance(step, BaseException):
                    raise step
                else:
                    await asyncio.sleep(0)
                    yield step
            is_whole = True
        finally:
            self.ended += 1
            self.cancelled += not is_whole

    async def look(self):
        return Health(waiting=3)

    async def close(self):
        self.closed += 1


def template(source=PLAIN, *, bos="", control_tokens=(), **named):
    """A chat template from its source."""
    variables = {"bos_token": bos} if bos else {}
    return ChatTemplate(TemplateFiles({"default": source, **named}, variables, frozenset(control_tokens), None))


def engine_backend(*steps, tokenizer=None, source=PLAIN, **settings):
    """A backend before a scripted engine, and the engine."""
    engine = ScriptedEngine(*steps)
    chosen = template(source) if isinstance(source, str) else source
    return EngineBackend("m", model(backend=BackendKind.TRITON, **settings), engine, chosen, tokenizer), engine


END = Piece(finish_reason="stop", prompt_tokens=7)
"""How an engine ends that tells all."""


class Words:
    """Counts words, where a model's tokenizer would count tokens."""

    def adds(self, token):
        return False

    def count(self, text, *, is_prompt=True):
        return len(text.split()) + is_prompt

    async def count_aside(self, text, *, is_prompt=True):
        return self.count(text, is_prompt=is_prompt)


def payloads(stream):
    return [json.loads(data) for event in events_in(stream) if (data := data_of(event)) != b"[DONE]"]


async def whole(backend, **body):
    return json.loads(await collect(await backend.open(call(request(**body)))))


async def streamed(backend, **body):
    return payloads(await collect(await backend.open(call(request(stream=True, **body)))))


def text_of(told):
    return "".join(one["choices"][0]["delta"].get("content", "") for one in told if one["choices"])
