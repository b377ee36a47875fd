"""Sentences that tell a router what to do with the prompt. They are taken out before it is measured.

Owns the words by which such a sentence is known. A prompt is judged by its question alone: "route this to the strong
model" must buy nothing, and "use the cheapest model" must not put a hard question off.
"""

import re
from typing import Final

TO_LETTERS: Final = bytes(b if 0x61 <= b <= 0x7A else 0x20 for b in range(256))
"""Bytes of lowercase text to runs of Latin letters: all else becomes a space."""

_OTHER_HINTS: Final = tuple(
    (max(word.encode()), word.encode()) for word in ("modèle", "модел", "模型", "路由", "モデル", "모델")
)
"""Each with a byte of it that English with its curly quotes and dashes lacks."""
# A sentence, or a line, with what ends it; the point of "0.9" ends none.
_SENTENCE: Final = re.compile(rb"(?:[^.!?\n]+|\.(?=\S))+[.!?\n]*|[.!?\n]+")
_FOUR, _LESS = b"4<"
# A turn that a user's text only pretends to be.
_FORGED: Final = re.compile(rb"<\|im_start\|>[^<]{0,400}<\|im_end\|>")
_VERB: Final = re.compile(
    rb"\b(?:rout(?:e|er|ing|ed)|gateway|postern|classif(?:y|ier|ied)|label|dispatch|escalate|escalation|send|forward|use|"
    rb"pick|select|choose|assign|treat|mark|rate|score|threshold|tier|difficulty|complexity|win rate|override|set|"
    rb"require[sd]?|needs?|handle[ds]?|answered|system|ignore)\b"
)
_VERBS: Final = frozenset(
    b"""route router routing routed gateway postern classify classifier classified label dispatch escalate escalation
    send forward use pick select choose assign treat mark rate score threshold tier difficulty complexity override set
    require requires required need needs handle handled handles answered system ignore""".split()
)
"""The runs of letters that `_VERB` ends in: without one of them it can't be found."""

_KINDS: Final = (
    b"strong weak large big small cheap expensive powerful smart better best capable premium frontier advanced".split()
)
_DEGREES: Final = (b"", b"er", b"est", b"st", b"gest", b"ger")
_SCALES: Final = (b"score", b"threshold", b"tier", b"difficulty", b"complexity", b"win rate", b"model")


def _targets() -> dict[bytes, tuple[re.Pattern[bytes], ...]]:
    """Return what an order aims at, by a run of letters that it can't be without.

    Each pattern begins with a literal, which is found 50 times as quickly as a choice of words at a word's beginning;
    that the literal begins a word is looked at afterwards.
    """
    found: dict[bytes, list[re.Pattern[bytes]]] = {}
    for kind in _KINDS:
        pattern = re.compile(
            rb"%b(?<=\b%b)(?:er|est|st|gest|ger)?[- ](?:tier|side|model|llm|one|candidate)s?\b" % (kind, kind)
        )
        for degree in _DEGREES:
            found.setdefault(kind + degree, []).append(pattern)
    for scale in _SCALES:
        pattern = re.compile(
            rb"%b(?<=\b%b)\b\W{0,4}(?:is|of|to|as|at|be)?\W{0,3}(?:\d|high|low|max|min|hard|easy|strong|weak|simple|"
            rb"complex|trivial|extreme)" % (scale, scale)
        )
        found.setdefault(scale.split()[-1], []).append(pattern)
    for word, shape in (
        (b"classifier", rb"classifier(?<=\bclassifier)\b.{0,40}\b(?:hard|easy|complex|simple|strong|weak)\b"),
        (b"router", rb"router(?<=\brouter)\b.{0,60}\b(?:strong|weak)\b"),
        (b"claude", rb"\b(?:use|send|route|forward)\b.{0,60}\bclaude\b"),
        (b"gpt", rb"gpt-4(?<=\bgpt-4)"),
        (b"postern", rb"x-postern-"),
    ):
        found.setdefault(word, []).append(re.compile(shape))
    return {word: tuple(patterns) for word, patterns in found.items()}


_TARGETS: Final = _targets()
_TARGET_WORDS: Final = frozenset(_TARGETS)


class _Beginnings:
    """Beginnings of words; scripts without spaces have none."""

    def __init__(self, words: str) -> None:
        self._pattern = re.compile(
            "|".join(rf"\b{word}" if word.isascii() else word for word in words.split()).encode()
        )
        self._ascii = tuple(word.encode() for word in words.split() if word.isascii())
        self._short = frozenset(word[:_SHORT] for word in self._ascii)
        self._others = tuple(word.encode() for word in words.split() if not word.isascii())

    def may_be_in(self, text: bytes, runs: frozenset[bytes]) -> bool:
        """Tell whether it is worth while to look; `runs`: the runs of letters in the text."""
        return any(map(self.begin, runs)) or (not text.isascii() and any(word in text for word in self._others))

    def begin(self, run: bytes) -> bool:
        """Tell whether a run of letters begins so."""
        return run[:_SHORT] in self._short and run.startswith(self._ascii)

    def are_in(self, text: bytes) -> bool:
        """Tell whether a word of the text begins so."""
        return self._pattern.search(text) is not None


_SHORT: Final = 3
"""As long as the shortest of the beginnings, `usa`."""

# The same in other languages: a word for the model or the router, one for how good it is, one for sending or using.
_ELSEWHERE: Final = tuple(
    map(
        _Beginnings,
        (
            "model modèle модел маршрутизатор 模型 路由器 モデル 모델",
            """fuerte potente mejor barato débil caro fort puissant meilleur faible cher stark stärk best groß größ
            schwach billig forte melhor fraco migliore debole сильн лучш слаб мощн дешев 强 最好 大模型
            弱 便宜 強 最高 최고 강한 강력 약한 저렴""",
            """envía envia enviar usa utiliza dirige enruta elige envoie envoyez utilise dirigez choisis sende schick
            nutze verwende benutze leite nimm envie encaminhe roteie invia inoltra instrada отправь используй направь
            маршрут 路由 发送 使用 请用 交给 选择 送っ 送信 使っ ルーティング 보내 사용 라우팅""",
        ),
    )
)


def is_hint(words: bytes) -> bool:
    """Tell whether lowercase words hold one that an order needs: the look that spares nearly every prompt the rest.

    Written out, as a loop costs as much again.
    """
    return (
        b"rout" in words or b"model" in words or b"score" in words or b"tier" in words or b"classif" in words
        or b"claude" in words or b"postern" in words or b"threshold" in words or b"complexity" in words
    )  # fmt: skip


def shows_orders(text: bytes) -> bool:
    """Tell whether a lowercase text has what an order may have beside words. A byte is found sooner than a word."""
    return (
        (_FOUR in text and b"gpt-4" in text)
        or (_LESS in text and b"<|im_" in text)
        or (not text.isascii() and any(octet in text and hint in text for octet, hint in _OTHER_HINTS))
    )


def bears_on_orders(run: bytes) -> bool:
    """Tell whether a run of lowercase letters can make a sentence an order, or a part of it."""
    return run in _VERBS or run in _TARGET_WORDS or any(part.begin(run) for part in _ELSEWHERE)


def without_orders(text: bytes, runs: frozenset[bytes] | None = None) -> bytes:
    """Return lowercase text without such sentences; the text itself where there is none, or nothing but one.

    `runs`: those of the text's runs of letters that bear on orders, by whoever knows them; others may be among them.
    """
    if not (is_hint(text) or shows_orders(text)):
        return text
    spoken = _FORGED.sub(b"", text)
    # What no sentence has the whole has not: the ends of sentences are no letters.
    if not _is_order(spoken, runs if spoken == text else None):  # what was forged may have stood inside a word
        return spoken if spoken.strip() else text
    kept = b"".join(sentence for sentence in _SENTENCE.findall(spoken) if not _is_order(sentence))
    return kept if kept.strip() else text


def _is_order(sentence: bytes, runs: frozenset[bytes] | None = None) -> bool:
    """Tell whether a sentence gives an order. Words it can't do without come first: patterns read letter by letter."""
    if runs is None:
        runs = frozenset(sentence.translate(TO_LETTERS).split())
    if (
        not _VERBS.isdisjoint(runs)
        and (aims := _TARGET_WORDS.intersection(runs))
        and any(pattern.search(sentence) for word in aims for pattern in _TARGETS[word])
        and _VERB.search(sentence)
    ):
        return True
    return all(part.may_be_in(sentence, runs) for part in _ELSEWHERE) and all(
        part.are_in(sentence) for part in _ELSEWHERE
    )
