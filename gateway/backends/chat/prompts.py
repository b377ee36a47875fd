"""From a request to what an engine is asked: the prompt's text, its length, how much may be written."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.backends.backend import BackendLoadError
from gateway.backends.chat.families import BARE, GRAMMARS, guess_format
from gateway.backends.chat.fields import Fields
from gateway.backends.chat.sampling import read_max_tokens, read_sampling
from gateway.backends.chat.template import ChatTemplate
from gateway.backends.chat.tokens import TokenCounter
from gateway.backends.chat.tool_calls import Grammar, ToolCalls
from gateway.backends.chat.tools import ToolWish, read_schema, read_tools
from gateway.backends.engine import Sampling
from gateway.core.errors import InvalidValueError, UnsupportedParameterError, UpstreamContextError
from gateway.core.tokens import estimate_tokens
from gateway.schema.request import Operation, Request
from gateway.settings.models import Capability, ModelSettings

GENEROSITY = 1.25
"""How much longer than estimated a prompt is taken to be where nobody counts: what is left must be left indeed."""
MIN_LEFT_TOKENS = 256
"""What is asked for where by that estimate less is left. The estimate may be wrong; the server knows."""


class Prompt(msgspec.Struct, frozen=True):
    """What to ask an engine. `token_count` is None where the prompt's tokens have not been counted.

    `grammar`: how the answer writes its tool calls; None where there are none to look for.
    """

    text: str
    sampling: Sampling
    tools: ToolWish
    grammar: Grammar | None
    token_count: int | None

    def tool_calls(self) -> ToolCalls | None:
        """Return what finds the calls in an answer."""
        if self.grammar is None:
            return None
        return ToolCalls(self.grammar, self.tools.names, is_parallel=self.tools.is_parallel)


class Prompter:
    """Makes prompts for one model. Raises BackendLoadError for a model said to take tools that can't be told of any."""

    def __init__(self, settings: ModelSettings, template: ChatTemplate | None, counter: TokenCounter | None) -> None:
        self._context_tokens = settings.context_tokens
        self._template = template
        self._counter = counter
        self._fields = Fields()
        guessed = guess_format(template.source) if template is not None else None
        tool_format = settings.tool_format or guessed
        self._grammar = GRAMMARS[tool_format] if tool_format is not None else None
        if Capability.TOOLS in settings.capabilities and (template is None or not template.takes_tools):
            raise BackendLoadError(
                "capabilities",
                "`tools` is among them, and the chat template takes none",
                "take it out, or name a `chat_template` that takes tools",
            )

    async def make(self, request: Request) -> Prompt:
        """Read a request, render it and see what room is left.

        Raises:
            InvalidValueError: a field's value is wrong.
            UnsupportedParameterError: the model can't serve a field.
            UpstreamContextError: the prompt fills the window.
            UpstreamRejectionError, UpstreamFailureError: the chat template's, see there.
        """
        try:
            text, sampling, tools = self._read(request)
        except RecursionError as exc:
            # What the decoder still took. It comes from the client: a template's own is told apart in `template.py`.
            raise InvalidValueError("The request is nested too deep.") from exc
        max_tokens, token_count = await self._bound(text, read_max_tokens(request, self._fields))
        sampling = msgspec.structs.replace(sampling, max_tokens=max_tokens)
        return Prompt(text, sampling, tools, self._grammar_of(tools), token_count)

    def _read(self, request: Request) -> tuple[str, Sampling, ToolWish]:
        tools = ToolWish()
        if request.operation is Operation.CHAT:
            tools = read_tools(request, self._fields)
            schema = tools.schema or read_schema(request)
            text = self._render(request, tools)
        else:
            schema, text = read_schema(request), self._completion_prompt(request)
        return text, read_sampling(request, self._fields, schema), tools

    def _grammar_of(self, tools: ToolWish) -> Grammar | None:
        if not tools.told:
            return None
        return self._grammar if tools.schema is None else BARE

    def _completion_prompt(self, request: Request) -> str:
        if request.operation is not Operation.COMPLETION:
            raise UnsupportedParameterError("This model makes no embeddings.", param="model")
        if "prompt" in request.fields and request.conversation.token_counts:
            raise UnsupportedParameterError("This model takes a prompt as text, not as token ids.", param="prompt")
        if len(request.conversation.turns) > 1:
            raise UnsupportedParameterError("This model takes one prompt at a time.", param="prompt")
        found = self._fields.read(request, "prompt") or ""
        return found if isinstance(found, str) else str(found[0])

    def _render(self, request: Request, tools: ToolWish) -> str:
        template = self._template
        if template is None:
            raise UnsupportedParameterError("This model has no chat template; it serves completions.", param="messages")
        if tools.told and not template.takes_tools:
            raise UnsupportedParameterError("This model's chat template takes no tools.", param="tools")
        text = template.render(bytes(request.fields["messages"]), tools.told, self._variables(request))
        adds_bos = self._counter is None or self._counter.adds(template.bos)
        return text.removeprefix(template.bos) if adds_bos else text

    def _variables(self, request: Request) -> Mapping[str, Any]:
        effort = self._fields.read(request, "reasoning_effort")
        variables = self._fields.read(request, "chat_template_kwargs") or {}
        return variables if effort is None else {"reasoning_effort": effort, **variables}

    async def _bound(self, text: str, wanted: int | None) -> tuple[int, int | None]:
        """Return how many tokens may be written, and how many the prompt has, if that had to be counted."""
        size_bytes = len(text.encode("utf-8", "replace"))
        if wanted is not None and size_bytes + wanted < self._context_tokens:
            # No token is shorter than a byte: it fits, however it is counted.
            return wanted, None
        if self._counter is None:
            estimated = int(estimate_tokens(text) * GENEROSITY)
            # A wish has been held against the window before this model was chosen.
            return wanted or max(self._context_tokens - estimated, MIN_LEFT_TOKENS), None
        count = await self._counter.count_aside(text)
        left = self._context_tokens - count
        if left < 1:
            raise UpstreamContextError(
                f"This model's maximum context length is {self._context_tokens} tokens. However, your messages "
                f"resulted in {count} tokens.",
                param="messages",
            )
        return min(wanted or left, left), count
