"""Tokens to text and back, in the worker: whole characters only, no special tokens, nothing past a stop string."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from gateway.backends.chat.stops import longest_beginning

UNFINISHED: Final = "\N{REPLACEMENT CHARACTER}"
"""What decoders put for bytes that are no character (yet)."""
MAX_PENDING_TOKENS: Final = 64
"""Tokens that may wait for the end of a character; no character has so many, so what waits longer is none."""
SPOKEN: Final = ("tool", "python_tag")
"""Parts of special tokens that are text to whoever reads tool calls: `<|tool_call|>`, `[TOOL_CALLS]`, ..."""


class Vocabulary:
    """A model's `tokenizer.json`."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # What was set for training would cut or fill prompts.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        special = {place: token.content.lower() for place, token in added.items() if token.special}
        self.silent = frozenset(place for place, text in special.items() if not any(part in text for part in SPOKEN))
        self._ahead: list[int] = self._tokenizer.encode("").ids

    def encode(self, prompt: str) -> list[int]:
        """Return a prompt's tokens, with those that begin every text of this model, once: templates write them, too."""
        tokens: list[int] = self._tokenizer.encode(prompt).ids
        return tokens[1:] if self._ahead and tokens[:2] == 2 * self._ahead else tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text


class AnswerText:
    """One answer's text, token by token: `add`, then `take` what may be shown.

    A token's text may depend on the one before it (spaces, bytes of a character), so a window of tokens is decoded: it
    starts at those that were shown last, and grows until its text ends with a character.
    """

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._stop = stop
        self._tokens: list[int] = []
        self._shown_tokens = 0
        self._shown_characters = 0
        self._held = ""
        self.is_stopped = False

    def add(self, token: int) -> None:
        """Add a token. Sets `is_stopped` when a stop string is complete."""
        if self.is_stopped or token in self._vocabulary.silent:
            return
        self._tokens.append(token)
        text = self._vocabulary.decode(self._tokens)
        is_whole = not text.endswith(UNFINISHED) or len(self._tokens) - self._shown_tokens > MAX_PENDING_TOKENS
        self._release(text if is_whole else text.rstrip(UNFINISHED))
        if is_whole:
            self._slide(len(self._tokens) - self._shown_tokens)

    def take(self) -> str:
        """Return what can be shown since the last time; what may be the start of a stop string waits."""
        waiting = 0 if self.is_stopped else longest_beginning(self._held, self._stop)
        shown = self._held[: len(self._held) - waiting]
        self._held = self._held[len(shown) :]
        return shown

    def finish(self) -> str:
        """Return the rest. Half a character at the end, where an answer was cut, is dropped."""
        shown, self._held = self._held, ""
        return shown

    def _release(self, text: str) -> None:
        self._held += text[self._shown_characters :]
        self._shown_characters = max(self._shown_characters, len(text))
        places = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if places:
            self._held = self._held[: min(places)]
            self.is_stopped = True

    def _slide(self, new_tokens: int) -> None:
        """Keep only the newest tokens: what comes next may depend on them."""
        self._tokens = self._tokens[-new_tokens:]
        self._shown_tokens = len(self._tokens)
        self._shown_characters = len(self._vocabulary.decode(self._tokens))
