"""Tool calls in a model's text, back in OpenAI's shape: where they begin, and what around them is text.

What is certain is given at once, the rest is held back until it is: the result does not depend on how the text was cut
into pieces. A call that is none after all is given as text.
"""

import re
import string
from secrets import token_hex

import msgspec

from gateway.backends.chat.call_reader import CallReader, State

MAX_FAILURES = 64
CHEAP_CHARACTERS = 256
"""After so many texts that began like calls and were none nothing is taken for one: each is read again as text. Those
that showed early what they are don't count: lists and citations begin many lines."""

MAX_NAME_CHARACTERS = 128

_BETWEEN = string.whitespace + ";,}]"
"""What may stand between calls: separators, and a bracket too many."""


class CallDelta(msgspec.Struct, frozen=True):
    """A bit of a call: first its name, with its id, then its arguments, as JSON text."""

    index: int
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""


class Grammar(msgspec.Struct, frozen=True):
    """How a family of models writes its calls.

    `mark` begins a call, `close` ends it. `headed`: a call may be a name with its arguments behind. Without its mark,
    which servers drop where it is a control token, a call is known by its beginning a line and by its tool's name.
    """

    mark: str
    close: str = ""
    headed: bool = False


class ToolCalls:
    """Finds the calls in one answer's text, as it comes. `is_full`: the one call that may be is there."""

    def __init__(self, grammar: Grammar, names: frozenset[str], *, is_parallel: bool = True) -> None:
        self._grammar = grammar
        self._names = names
        self._is_parallel = is_parallel
        self._heads = tuple(names) if grammar.headed else ()
        beginnings = "|".join([r"[{\[]", *(re.escape(name) + r"[ \t]*[{\[]" for name in self._heads)])
        self._bare = re.compile(rf"(?:\A|(?<=\n))[ \t]*(?={beginnings})")
        self._rest = ""
        self._blank = ""
        self._is_line_start = True
        self._is_behind = False
        self._is_marked = False
        self._has_text = False
        self._reader: CallReader | None = None
        self._read_text = ""
        self._is_told = False
        self._index = -1
        self._failures = 0
        self._found: list[str | CallDelta] = []
        self.is_full = False

    def feed(self, text: str) -> list[str | CallDelta]:
        """Take the next of the text; return texts and calls as far as they are certain."""
        return self._run(text, is_end=False)

    def end(self) -> list[str | CallDelta]:
        """Return what was held back: nothing comes any more."""
        found = self._run("", is_end=True)
        return [*found, self._blank] if self._blank else found

    def _run(self, text: str, *, is_end: bool) -> list[str | CallDelta]:
        self._rest += text
        while not self.is_full and self._step(is_end=is_end):
            pass
        found, self._found = self._found, []
        return found

    def _step(self, *, is_end: bool) -> bool:
        """Go on as far as one thing reaches; tell whether there may be more."""
        if self._reader is not None:
            return self._read_call(self._reader, is_end=is_end)
        if self._is_behind:
            return self._pass_behind(is_end=is_end)
        return self._read_text_before(is_end=is_end)

    def _read_text_before(self, *, is_end: bool) -> bool:
        """Give the text up to the next call, or as much as can't belong to one."""
        text = self._rest
        begin, size = self._find_call(text, is_end=is_end)
        if begin >= 0:
            self._rest = text[begin + size :]
            self._tell_text(text[:begin])
            self._begin_call(text[begin : begin + size])
            return True
        keep = 0 if is_end else self._undecided(text)
        self._rest = text[len(text) - keep :]
        self._tell_text(text[: len(text) - keep])
        return False

    def _find_call(self, text: str, *, is_end: bool) -> tuple[int, int]:
        """Return where a call begins and how long its mark is, -1 where none does."""
        if self._failures >= MAX_FAILURES:
            return -1, 0
        mark = self._grammar.mark
        marked = text.find(mark)
        # From 1 on only what follows a line end begins a line: `\A` is the text's own beginning.
        bare = self._bare.search(text, 0 if self._is_line_start else 1)
        if bare is None or 0 <= marked <= bare.end():
            return marked, len(mark)
        # A bracket may be the beginning of a mark.
        return (-1, 0) if mark.startswith(text[bare.end() :]) and not is_end else (bare.end(), 0)

    def _undecided(self, text: str) -> int:
        """Return how much of the end of a text could yet become a mark, or a tool's name at a line's beginning."""
        if self._failures >= MAX_FAILURES:
            return 0
        mark = self._grammar.mark
        keep = next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
        line = text.rfind("\n") + 1
        if line or self._is_line_start:
            head = text[line:].lstrip(" \t")
            if head and any(name.startswith(head) or head.rstrip() == name for name in self._heads):
                keep = max(keep, len(head))
        return keep

    def _begin_call(self, mark: str) -> None:
        self._is_marked = self._is_marked or bool(mark)
        self._reader = CallReader(
            self._accepts,
            needs_arguments=not self._is_marked,
            close=self._grammar.close,
            may_be_headed=self._grammar.headed,
        )
        self._read_text, self._is_told = mark, False

    def _accepts(self, name: str) -> bool:
        return name in self._names or (self._is_marked and 0 < len(name) <= MAX_NAME_CHARACTERS)

    def _read_call(self, reader: CallReader, *, is_end: bool) -> bool:
        if not self._is_told:
            self._read_text += self._rest
        reader.feed(self._rest, is_end=is_end)
        self._rest = ""
        if reader.state is State.BROKEN:
            self._put_back(is_costly=reader.told_size > CHEAP_CHARACTERS)
            return True
        self._tell_call(reader)
        if reader.state is not State.DONE:
            return False
        self._rest, self._reader, self._is_behind = reader.rest, None, True
        self.is_full = not self._is_parallel
        return True

    def _put_back(self, *, is_costly: bool) -> None:
        """Give what began like a call as text: its mark, or its first character; what follows is read anew."""
        size = len(self._grammar.mark) if self._read_text.startswith(self._grammar.mark) else 1
        self._rest = self._read_text[size:]
        self._reader = None
        self._failures += is_costly
        self._tell_text(self._read_text[:size])

    def _pass_behind(self, *, is_end: bool) -> bool:
        """Drop what stands behind a call: the mark that closes it, separators. Text that goes on begins a new line."""
        self._rest = self._rest.lstrip(_BETWEEN)
        close = self._grammar.close
        if close and self._rest.startswith(close):
            self._rest = self._rest[len(close) :]
            self._is_marked = False
            return True
        if not self._rest or (close.startswith(self._rest) and not is_end):
            return False
        self._is_behind, self._is_line_start = False, True
        self._blank = "\n" if self._has_text else ""
        if self._is_marked and self._rest[0] == "{":
            self._begin_call("")
        return True

    def _tell_call(self, reader: CallReader) -> None:
        if reader.state is State.PENDING:
            return
        if not self._is_told:
            self._is_told, self._blank = True, ""
            self._index += 1
            # Longer than Mistral's own, whose template wants 9 characters: `messages.py` shortens every id for it.
            self._found.append(CallDelta(self._index, f"call_{token_hex(12)}", reader.name))
        if arguments := reader.take_arguments():
            self._found.append(CallDelta(self._index, arguments=arguments))

    def _tell_text(self, text: str) -> None:
        """Give text. Blanks wait for what comes: those beside a call belong to nobody."""
        if not text:
            return
        bare = text.rstrip(" \t")
        self._is_line_start = bare.endswith("\n") or (not bare and self._is_line_start)
        whole = self._blank + text
        said = whole.rstrip()
        self._blank = whole[len(said) :]
        if said:
            self._is_marked, self._has_text = False, True
            last = self._found.pop() if self._found and isinstance(self._found[-1], str) else ""
            self._found.append(f"{last}{said}")
