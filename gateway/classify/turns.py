"""Which texts of a conversation are judged: the last question, and what it leans on.

Owns the follow-up rule and what system prompts, tools, history and attachments count for. Knows no router. The highest
score of the judged texts is the conversation's, so that adding context never makes a hard question an easy one.
"""

import math
import re
from itertools import islice
from typing import Final, NamedTuple

from gateway.classify.lexicon import CONTINUATIONS, FOLLOW_UP_WORDS, REFERENCES, UNSPACED_FOLLOW_UPS
from gateway.schema.conversation import Conversation, Turn

MAX_INHERITED_TURNS: Final = 4
FOLLOW_UP_MAX_CHARS: Final = 64
FOLLOW_UP_MAX_WORDS: Final = 8
# Instructions that stand in the system prompt ("Solve the problem given") belong to every question after it.
SYSTEM_CHARS: Final = 512

_UNSPACED_PUNCTUATION: Final = str.maketrans("", "", "，。！？、．,.!?~～… \t\r\n")  # noqa: RUF001  # meant
# Thanks end a task; "thanks, go on" does not.
_THANKS: Final = frozenset({"thanks", "thank", "you"})
_FOLLOW_UPS: Final = frozenset(FOLLOW_UP_WORDS.lower().split())
_CONTINUATIONS: Final = frozenset(CONTINUATIONS.split())
_ABOUT: Final = (["what", "about"], ["how", "about"])
_REFERENCES: Final = frozenset(REFERENCES.lower().split())
_UNSPACED_FOLLOW_UPS: Final = frozenset(UNSPACED_FOLLOW_UPS.split())

# Not \W: Python counts the vowel signs of Indic scripts among it, which would cut their words.
_PUNCTUATION: Final = re.compile("[!-&(-/:-@\\[-`{-~\u0964\u060c\u061f\u061b\u2026\u3001\u3002\uff01\uff0c\uff1f]+")


# What a longer context, tools and attachments add to the log-odds of the score: each makes a request harder for a small
# model. Judged, not measured: no data with such requests and with both sides' marks could be had.
_PER_HISTORY: Final = 0.10
_HISTORY_CHARS: Final = 4000
_PER_TOOL: Final = 0.15
_PER_ATTACHMENT: Final = 0.15


def context_load(conversation: Conversation) -> float:
    """Return what stands around the judged texts as an addition to the score's log-odds; 0 for a bare prompt."""
    if len(conversation.turns) < 2 and not (
        conversation.tool_count or conversation.attachment_count
    ):  # the question alone
        return 0.0
    history = sum(len(turn.text) for turn in conversation.turns[:-1])
    return (
        _PER_HISTORY * math.log1p(history / _HISTORY_CHARS)
        + _PER_TOOL * math.log1p(conversation.tool_count)
        + _PER_ATTACHMENT * math.log1p(conversation.attachment_count)
    )


def is_follow_up(text: str) -> bool:
    """Tell whether a user turn leans on the turns before it: a nod, a number, "and in Python?", an order about "it"."""
    if len(text) > FOLLOW_UP_MAX_CHARS:
        return False
    lowered = text.lower()
    if lowered.translate(_UNSPACED_PUNCTUATION) in _UNSPACED_FOLLOW_UPS:
        return True
    words = [word for word in _PUNCTUATION.sub(" ", lowered).split() if any(map(str.isalnum, word))]
    if len(words) > FOLLOW_UP_MAX_WORDS or (words and _THANKS.issuperset(words)):
        return False
    if _FOLLOW_UPS.issuperset(words) or not _REFERENCES.isdisjoint(words):
        return True
    # A number alone answers what was asked back.
    return words[0] in _CONTINUATIONS or words[:2] in _ABOUT or (len(words) == 1 and words[0].isdecimal())


class Judged(NamedTuple):
    """The texts whose highest score is a conversation's: those of the last question, and the earlier it leans on."""

    asked: tuple[str, ...]
    earlier: tuple[str, ...] = ()


def judged_texts(conversation: Conversation) -> tuple[str, ...]:
    """Return all texts that are judged. Never empty, at most MAX_INHERITED_TURNS + 2."""
    judged = pick_texts(conversation)
    return judged.asked + judged.earlier


def most_judged(conversation: Conversation) -> int:
    """Return a bound on how many texts are judged, without picking them."""
    return min(max(len(conversation.turns), 1), MAX_INHERITED_TURNS + 2)


def pick_texts(conversation: Conversation) -> Judged:
    """Pick what is judged.

    The last user turn; with a system prompt, also both together. While the turn is a follow-up, also the assistant turn
    before it and the user turn before that, at most MAX_INHERITED_TURNS turns back. Without a user turn, the last turn
    with text.
    """
    turns = conversation.turns
    if len(turns) == 1 and turns[0].role == "user":  # alone it leans on nothing
        return Judged((turns[0].text,))
    last = next((i for i in range(len(turns) - 1, -1, -1) if turns[i].role == "user"), None)
    if last is None:
        return Judged((next((turn.text for turn in reversed(turns) if turn.text.strip()), ""),))
    asked = turns[last].text
    system = next((turn.text for turn in turns if turn.role in {"system", "developer"} and turn.text.strip()), "")
    return Judged(
        (asked, f"{system[:SYSTEM_CHARS]}\n{asked}") if system else (asked,),
        tuple(_inherited(turns[:last])) if is_follow_up(asked) else (),
    )


def _inherited(before: tuple[Turn, ...]) -> list[str]:
    inherited = []
    spoken = (turn for turn in reversed(before) if turn.role in {"user", "assistant"})
    for turn in islice(spoken, MAX_INHERITED_TURNS):
        inherited.append(turn.text)
        if turn.role == "user" and not is_follow_up(turn.text):
            break
    return inherited
