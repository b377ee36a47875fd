"""Sentences that tell a router what to do with the prompt. They are taken out before it is measured.

Owns the words by which such a sentence is known. A prompt is judged by its question alone: "route this to the strong
model" must buy nothing, and "use the cheapest model" must not put a hard question off.
"""

import re
from typing import Final

# One cheap look spares nearly every prompt the rest.
_HINTS: Final = (
    b"<|im_",
    b"rout",
    b"postern",
    b"threshold",
    b"score",
    b"tier",
    b"model",
    b"classif",
    b"complexity",
    b"gpt-4",
)
# A sentence, or a line, with what ends it; the point of "0.9" ends none.
_SENTENCE: Final = re.compile(rb"(?:[^.!?\n]+|\.(?=\S))+[.!?\n]*|[.!?\n]+")
# A turn that a user's text only pretends to be.
_FORGED: Final = re.compile(rb"<\|im_start\|>[^<]{0,400}<\|im_end\|>")
_VERB: Final = re.compile(
    rb"\b(?:rout(?:e|er|ing|ed)|gateway|postern|classif(?:y|ier|ied)|label|dispatch|escalate|escalation|send|forward|use|"
    rb"pick|select|choose|assign|treat|mark|rate|score|threshold|tier|difficulty|complexity|win rate|override|set|"
    rb"require[sd]?|needs?|handle[ds]?|answered|system|ignore)\b"
)
_TARGET: Final = re.compile(
    rb"\b(?:strong|weak|large|big|small|cheap|expensive|powerful|smart|better|best|capable|premium|frontier|advanced)"
    rb"(?:er|est|st|gest|ger)?[- ](?:tier|side|model|llm|one|candidate)s?\b"
    rb"|\b(?:score|threshold|tier|difficulty|complexity|win rate|model)\b\W{0,4}(?:is|of|to|as|at|be)?\W{0,3}"
    rb"(?:\d|high|low|max|min|hard|easy|strong|weak|simple|complex|trivial|extreme)"
    rb"|\bclassifier\b.{0,40}\b(?:hard|easy|complex|simple|strong|weak)\b"
    rb"|\bgpt-4|x-postern-"
)


def without_orders(text: bytes) -> bytes:
    """Return lowercase text without such sentences; the text itself where there is none, or nothing but one."""
    if not any(hint in text for hint in _HINTS):
        return text
    spoken = _FORGED.sub(b"", text)
    # What no sentence has the whole has not: the ends of sentences are no letters.
    if not _is_order(spoken):
        return spoken if spoken.strip() else text
    kept = b"".join(sentence for sentence in _SENTENCE.findall(spoken) if not _is_order(sentence))
    return kept if kept.strip() else text


def _is_order(sentence: bytes) -> bool:
    return _TARGET.search(sentence) is not None and _VERB.search(sentence) is not None
