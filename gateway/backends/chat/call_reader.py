"""One tool call, read as it is written: its name as soon as it is certain, its arguments as they come.

Models write `{"name": ..., "arguments": {...}}` with many slips: `parameters` for `arguments`, `function` for `name` or
around both, arguments before the name or as JSON within a string, a brace too few. See vLLM's parsers
(`vllm/entrypoints/openai/tool_parsers/`) and their issues. Arguments are given as they were written, to the letter:
whoever decodes them sees what the model meant, and nothing need be held back.
"""

import json
import re
from collections.abc import Callable, Generator
from enum import Enum

MAX_HELD_CHARACTERS = 65_536
"""What is held back at most until a name is certain: arguments of a call whose name comes last."""

MAX_HEADING_CHARACTERS = 512

_NAMES, _ARGUMENTS = ("name", "function"), ("arguments", "parameters")
_PASSED_OVER = ("type", "id", "index")
_KEYS = frozenset((*_NAMES, *_ARGUMENTS, *_PASSED_OVER))
_KEY_LIMIT = 20
_DELIMITER = re.compile(r"[,}\]\s]")
_IN_STRING, _OUTSIDE = r'["\\', r'["{}\[\]'
_HEADING = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\]\s*)?")
_HEADING_SO_FAR = re.compile(r"[\w.-]*\s*(?:\[[A-Z_]*\]?\s*\w*\s*){0,2}")


class State(Enum):
    """How far a reader is. OPEN: it is a call; what follows can't make it none."""

    PENDING = 1
    OPEN = 2
    DONE = 3
    BROKEN = 4


class _BrokenError(Exception):
    """What is written is no call."""


Wait = Generator[None, None, None]
"""Reading that yields wherever it needs more text."""
Accepts = Callable[[str], bool]
"""Tells whether a name can be a tool's."""


class CallReader:
    """Reads one call. `rest` holds what stood behind it, once it is DONE.

    `needs_arguments`: an object with a name alone is none. `close`: what ends a call, wherever it stands: a model that
    forgot a quote is more likely than one that means the mark itself.
    """

    def __init__(
        self, accepts: Accepts, *, needs_arguments: bool, close: str = "", may_be_headed: bool = False
    ) -> None:
        self._accepts = accepts
        self._needs_arguments = needs_arguments
        self._close = close
        mark = re.escape(close[:1]) + "]"
        self._in_string, self._outside = re.compile(_IN_STRING + mark), re.compile(_OUTSIDE + mark)
        self._text = ""
        self._at = 0
        self._is_end = False
        self._arguments: list[str] = []
        self._has_arguments = False
        self._reading = self._read_either() if may_be_headed else self._read_object()
        self.told_size = 0
        self.state = State.PENDING
        self.name: str | None = None

    @property
    def rest(self) -> str:
        """Return what has been fed and not read."""
        return self._text[self._at :]

    def feed(self, text: str, *, is_end: bool = False) -> None:
        """Read on. At the end, a call that is OPEN is DONE as it stands."""
        self._text = self._text[self._at :] + text
        self._at = 0
        self._is_end = is_end
        try:
            next(self._reading)
        except (StopIteration, _BrokenError) as exc:
            is_call = self.state is State.OPEN or (isinstance(exc, StopIteration) and self._open_bare())
            self.state = State.DONE if is_call else State.BROKEN

    def take_arguments(self) -> str:
        """Return the arguments that have come since; nobody may ask before it is certain that this is a call."""
        taken = "".join(self._arguments)
        self._arguments.clear()
        return taken

    def _open_bare(self) -> bool:
        """Take a name without arguments for a call that has none."""
        if self.name is None or self._needs_arguments:
            return False
        self._arguments.append("{}")
        return True

    def _read_either(self) -> Wait:
        is_object = (yield from self._peek_mark()) in "{["
        yield from self._read_object() if is_object else self._read_headed()

    def _read_headed(self) -> Wait:
        """Read `name{...}`, also `name[CALL_ID]id[ARGS]{...}`."""
        while (brace := self._text.find("{", self._at)) < 0:
            heading = _HEADING_SO_FAR.fullmatch(self._text, self._at)
            if heading is None or len(heading[0]) > MAX_HEADING_CHARACTERS:
                raise _BrokenError
            yield from self._wait()
        heading = _HEADING.fullmatch(self._text, self._at, brace)
        if heading is None or len(heading[0]) > MAX_HEADING_CHARACTERS:
            raise _BrokenError
        self._set_name(heading["name"])
        self._at = brace
        yield from self._read_arguments()

    def _read_object(self) -> Wait:
        """Read a call's object, also the first of a list."""
        while (yield from self._peek_mark()) == "[":
            self._at += 1
        yield from self._read_fields(may_nest=True)

    def _read_fields(self, *, may_nest: bool) -> Wait:
        yield from self._expect("{")
        while (yield from self._peek_mark()) != "}":
            key = yield from self._read_string(_KEY_LIMIT)
            if key not in _KEYS and self.state is State.PENDING:
                # At once, not at its value: most answers in JSON are no calls, and none should be held back for long.
                raise _BrokenError
            yield from self._expect(":")
            yield from self._read_field(key, may_nest=may_nest)
            if (yield from self._peek_mark()) == ",":
                self._at += 1
            elif self._text[self._at] != "}":
                raise _BrokenError
        self._at += 1

    def _read_field(self, key: str, *, may_nest: bool) -> Wait:
        mark = yield from self._peek_mark()
        if key in _NAMES and mark == '"' and self.name is None:
            self._set_name((yield from self._read_string(MAX_HELD_CHARACTERS)))
        elif key == "function" and mark == "{" and may_nest:
            yield from self._read_fields(may_nest=False)
        elif key in _ARGUMENTS and not self._has_arguments:
            yield from self._read_arguments()
        elif key in _PASSED_OVER or self.state is State.OPEN:
            yield from self._pass_over()
        else:
            raise _BrokenError

    def _set_name(self, name: str) -> None:
        if not self._accepts(name):
            raise _BrokenError
        self.name = name
        self._try_open()

    def _try_open(self) -> None:
        if self.name is not None and self._has_arguments:
            self.state = State.OPEN

    def _read_arguments(self) -> Wait:
        mark = yield from self._peek_mark()
        if mark == "{":
            self._has_arguments = True
            self._try_open()
            yield from self._read_balanced(self._arguments)
            return
        if mark == '"':
            written = (yield from self._read_string(MAX_HELD_CHARACTERS)).strip() or "{}"
        else:
            written = yield from self._read_scalar()
            written = "{}" if written == "null" else written
        if not written.startswith("{"):
            raise _BrokenError
        self._arguments.append(written)
        self._has_arguments = True
        self._try_open()

    def _read_balanced(self, told: list[str]) -> Wait:
        """Read an object or a list, its text into `told`, up to its last bracket or the mark that closes the call."""
        depth, in_string = 0, False
        while True:
            found = (self._in_string if in_string else self._outside).search(self._text, self._at)
            if found is None:
                self._tell(told, len(self._text))
                yield from self._wait()
                continue
            at, mark = found.start(), found[0]
            if mark == self._close[:1]:
                if (yield from self._is_close(told, at)):
                    raise _BrokenError
                continue
            self._tell(told, at + 1)
            if mark == "\\":
                yield from self._peek()
                self._tell(told, self._at + 1)
            elif mark == '"':
                in_string = not in_string
            else:
                depth += 1 if mark in "{[" else -1
                if depth == 0:
                    return

    def _is_close(self, told: list[str], at: int) -> Generator[None, None, bool]:
        self._tell(told, at)
        while len(rest := self._text[self._at :]) < len(self._close) and self._close.startswith(rest):
            if self._is_end:
                break
            yield
        if self._text.startswith(self._close, self._at):
            return True
        self._tell(told, self._at + 1)
        return False

    def _tell(self, told: list[str], end: int) -> int:
        size, begin = end - self._at, self._at
        told.append(self._text[begin:end])
        self._at = end
        self.told_size += size
        if self.state is State.PENDING and self.told_size > MAX_HELD_CHARACTERS:
            raise _BrokenError
        return size

    def _pass_over(self) -> Wait:
        mark = yield from self._peek_mark()
        if mark in "{[":
            yield from self._read_balanced([])
        elif mark == '"':
            yield from self._read_string(MAX_HELD_CHARACTERS)
        else:
            yield from self._read_scalar()

    def _read_scalar(self) -> Generator[None, None, str]:
        parts: list[str] = []
        while True:
            found = _DELIMITER.search(self._text, self._at)
            self._tell(parts, found.start() if found else len(self._text))
            if found:
                return "".join(parts)
            yield from self._wait()

    def _read_string(self, limit: int) -> Generator[None, None, str]:
        """Return a string's value; what is longer than `limit` is none that is looked for."""
        yield from self._expect('"')
        parts: list[str] = []
        size, mark = 0, ""
        while mark != '"':
            found = self._in_string.search(self._text, self._at)
            mark = found[0] if found else ""
            size += self._tell(parts, found.end() if found else len(self._text))
            if mark == "\\":
                yield from self._peek()
                size += self._tell(parts, self._at + 1)
            if size > limit:
                raise _BrokenError
            if not found:
                yield from self._wait()
        try:
            # Not strict: models write line ends into strings as they are.
            value = str(json.loads('"' + "".join(parts), strict=False))
            value.encode()  # half a surrogate pair, written as an escape, is no text that could be sent on
        except ValueError:
            raise _BrokenError from None
        return value

    def _expect(self, mark: str) -> Wait:
        if (yield from self._peek_mark()) != mark:
            raise _BrokenError
        self._at += 1

    def _peek_mark(self) -> Generator[None, None, str]:
        """Return the next character that is no blank."""
        while (mark := (yield from self._peek())).isspace():
            self._at += 1
        return mark

    def _peek(self) -> Generator[None, None, str]:
        while self._at >= len(self._text):
            yield from self._wait()
        return self._text[self._at]

    def _wait(self) -> Wait:
        if self._is_end:
            raise _BrokenError
        yield
