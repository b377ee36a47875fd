"""Jinja as Hugging Face's transformers sets it up for chat templates, in a sandbox with bounds.

Source: huggingface/transformers, `utils/chat_template_utils.py` (`_cached_compile_jinja_template`): trim_blocks,
lstrip_blocks, loop controls, the `generation` tag, and a `tojson` that escapes no HTML. A template comes with a model's
weights, from whoever made them: it gets at no attribute that the sandbox calls unsafe, changes no list or object that
it is given, and can't fill the memory by `range`, `*` or `**`. What it can do is take long; see `template.py`.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_REPEATED = 100_000
"""The longest text or list that a template may make by repeating a shorter one; `range` has the same bound."""


class RefusalError(TemplateError):
    """What a template's own `raise_exception` raises: it can't write these messages."""


class GenerationTag(Extension):
    """`{% generation %}` marks what a model said, for training; a prompt is written as if it were not there."""

    tags = {"generation"}  # noqa: RUF012 - Jinja declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the nodes of the block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox; `*` and `**` are bounded."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse powers, and repetitions that grow too long."""
        if operator == "**":
            raise SecurityError("powers are not allowed")
        for many, times in ((left, right), (right, left)):
            if isinstance(many, str | Sequence) and isinstance(times, int) and len(many) * times > MAX_REPEATED:
                raise SecurityError("a repetition is too long")
        return super().call_binop(context, operator, left, right)


def chat_environment(now: Callable[[], datetime]) -> TemplateEnvironment:
    """Return an environment for one model's templates."""
    environment = TemplateEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, LoopControlExtension], autoescape=False
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda style: now().strftime(style)
    return environment


def _refuse(message: object) -> NoReturn:
    raise RefusalError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes <, > and & for HTML, and sorts keys: no model was trained on that.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
