"""The model's own chat template: from messages to the text that the model was trained to go on from.

Rendering runs on the event loop. With Llama 3's template 200 tokens took 0.03 ms; 10,000 tokens 0.1 ms in one message,
0.3 ms in 50, 4 ms in 1,000: what a thread would win is less than what it costs, and windows bound the messages.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from traceback import walk_tb
from typing import Any

import msgspec
from jinja2 import Template, meta, nodes
from jinja2.exceptions import TemplateError

from gateway.backends.backend import BackendLoadError
from gateway.backends.chat.control_tokens import ControlTokens
from gateway.backends.chat.messages import Manner, read_messages
from gateway.backends.chat.sandbox import RefusalError, TemplateEnvironment, chat_environment
from gateway.backends.chat.template_files import KEY, TemplateFiles, read_template_files
from gateway.core.errors import UpstreamFailureError, UpstreamRejectionError

MAX_PROMPT_CHARACTERS = 64 * 1024 * 1024
"""Beyond any window; a template that writes more is at fault."""
TRIAL_WORD = "Hello"
TRIAL = b'[{"role":"user","content":"Hello"},{"role":"assistant","content":"Hi"},{"role":"user","content":"Hello"}]'
"""What every template must be able to write, the word above not left out."""
MAX_WORDS_CHARACTERS = 500
"""What is told of a template's own words; they may repeat a message."""
UNKNOWN_EOS = "<unknown end of a message>"

_SHORT_IDS = re.compile(r"length\s*(?:!=|<)\s*9\b")

# Whatever a template does wrong: Jinja's own errors, and those of the values that it handles.
_BUGS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class ChatTemplate:
    """One model's template, compiled."""

    def __init__(self, files: TemplateFiles, now: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self._environment = chat_environment(now)
        templates = files.templates
        plain = templates.get("default") or next(iter(templates.values()))
        for_tools = templates.get("tool_use", plain)
        self._plain, plain_tree = _compile(self._environment, plain)
        self._for_tools, tools_tree = _compile(self._environment, for_tools)
        self.source = for_tools
        # A token that nobody has told is none, rather than an error as soon as it is joined to a text.
        self._variables = {"bos_token": "", "eos_token": "", **files.variables}
        every = "\n".join(templates.values())
        self._control_tokens = ControlTokens(every, files.control_tokens)
        self._manner = Manner(
            reads_lists=_reads_lists(plain_tree) or _reads_lists(tools_tree),
            knows_developer="developer" in every,
            wants_short_ids=_SHORT_IDS.search(every) is not None,
        )
        takes_variable = "tools" in meta.find_undeclared_variables(tools_tree)
        self._takes_in_message = not takes_variable and _reads_message_tools(tools_tree)
        self.takes_tools = takes_variable or self._takes_in_message
        # Servers that take text tokenise it as such, and so put another BOS before the template's own: the answers of
        # Llama 3 and Gemma suffer from two (vllm-project/vllm#16976, #27515).
        self.bos = files.variables.get("bos_token", "") if files.adds_bos is not False else ""

    def render(self, messages: bytes, tools: Sequence[Any] | None, variables: Mapping[str, Any]) -> str:
        """Return the prompt for a request's messages, as JSON; `variables` are the client's own for the template.

        Raises:
            InvalidValueError: the messages are not OpenAI's.
            UpstreamRejectionError: the template refuses them, in its own words.
            UpstreamFailureError: the template fails over them.
        """
        defuse = self._control_tokens.defuse
        values = {name: defuse(value) for name, value in variables.items() if name not in self._environment.globals}
        values |= self._variables
        told = defuse(list(tools)) if tools else None
        plain = defuse(read_messages(messages, self._manner))
        if told and self._takes_in_message:
            plain = _with_tools(plain, told)
        values |= {"messages": plain, "tools": told, "documents": None, "add_generation_prompt": True}
        template = self._for_tools if tools else self._plain
        try:
            return "".join(_bounded(template.generate(values)))
        except RefusalError as exc:
            words = str(exc)[:MAX_WORDS_CHARACTERS]
            raise UpstreamRejectionError(f"The model's chat template says: {words}", param="messages") from exc
        except _BUGS as exc:
            raise UpstreamFailureError(
                "The model's chat template failed over these messages.", detail=_where(exc)
            ) from exc


def load_template(path: str) -> ChatTemplate:
    """Read and compile a model's template, and try it once. Raises BackendLoadError."""
    files = read_template_files(path)
    try:
        template = ChatTemplate(files)
        probe = ChatTemplate(msgspec.structs.replace(files, variables={"eos_token": UNKNOWN_EOS, **files.variables}))
    except _BUGS as exc:
        raise BackendLoadError(KEY, f"{path} is no template that Jinja takes ({exc})", "take the model's own") from exc
    try:
        written = probe.render(TRIAL, None, {})
    except (UpstreamRejectionError, UpstreamFailureError) as exc:
        problem = f"{path} can't write a chat of three messages ({exc.__cause__}; {exc.detail})"
        raise BackendLoadError(KEY, problem, "take the model's own") from exc
    if TRIAL_WORD not in written:
        raise BackendLoadError(KEY, f"{path} leaves out what is said in a chat", "take the model's own")
    if UNKNOWN_EOS in written:
        # Left out, it would make one message of two, and the answers worse for a reason that nobody sees.
        problem = f"{path} ends messages with `eos_token`, which it does not tell"
        raise BackendLoadError(KEY, problem, "put the model's tokenizer_config.json beside it")
    return template


def _compile(environment: TemplateEnvironment, source: str) -> tuple[Template, nodes.Template]:
    return environment.from_string(source), environment.parse(source)


def _where(error: BaseException) -> str:
    """Return what went wrong and where, for the log: not the error's text, which may hold what a user wrote."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == "<template>"]
    return f"{type(error).__name__} at line {lines[-1] if lines else '?'} of the template"


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_PROMPT_CHARACTERS:
            raise OverflowError(f"the prompt is longer than {MAX_PROMPT_CHARACTERS} characters")
        yield piece


def _reads_lists(tree: nodes.Template) -> bool:
    """Tell whether a template wants content as parts: it loops over it, and never asks whether it is a string.

    Where it asks, it takes both, and text is the simpler one. vLLM looks for the same loop (`_detect_content_format`).
    """
    if any(test.name == "string" and _is_content(test.node) for test in tree.find_all(nodes.Test)):
        return False
    return any(_is_content(_unfiltered(loop.iter)) for loop in tree.find_all(nodes.For))


def _reads_message_tools(tree: nodes.Template) -> bool:
    """Tell whether a template finds tools in a message, as Phi-4-mini's does in the system's."""
    return any(
        isinstance(found.arg, nodes.Const) and found.arg.value == "tools" for found in tree.find_all(nodes.Getitem)
    )


def _with_tools(messages: list[dict[str, Any]], tools: list[Any]) -> list[dict[str, Any]]:
    """Return the messages with the tools' functions, as JSON, in the system's; Phi-4-mini's card shows it so."""
    functions = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    first, rest = ({"role": "system", "content": ""}, messages)
    if messages and messages[0]["role"] == "system":
        first, rest = messages[0], messages[1:]
    return [{**first, "tools": functions}, *rest]


def _unfiltered(node: nodes.Node) -> nodes.Node:
    while isinstance(node, nodes.Filter) and node.node is not None:
        node = node.node
    return node


def _is_content(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and node.arg.value == "content"
