"""The classifier that ships: a text's measures and words in, one small ONNX graph, the judgement out.

Owns the artifact's form (`Manifest`, the vocabulary inside). Knows nothing of thresholds. The graph, as
`router_models/export.py` writes it, is computed by graph.py; any other with the inputs and the output of feed.py runs
in onnxruntime.
"""

import hashlib
import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec
import numpy as np

from gateway.classify.features import FEATURE_NAMES, FEATURE_VERSION, TextMeasures, measure_text
from gateway.classify.feed import INPUTS, OUTPUTS
from gateway.classify.graph import FIGURES, Graph, OtherGraphError
from gateway.classify.memo import TextMemo
from gateway.classify.turns import context_load, pick_texts
from gateway.classify.vocabulary import Vocabulary
from gateway.core.judgement import Judgement, Reference
from gateway.schema.conversation import Conversation

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
VOCABULARY: Final = "vocabulary"
"""The model's metadata key that holds the words of its table, a line a row."""
SIGNALS: Final = ("log_chars", "log_numbers", "non_latin_share", "known_word_share")
MAX_LOG_TOKENS: Final = math.log(16_384)
_CHARS, _NUMBERS, _NON_LATIN = map(FEATURE_NAMES.index, ("chars", "numbers", "non_latin_share"))
_RETRAIN: Final = "retrain with `postern train`, or restore the folder from the release"


class Model(Protocol):
    """What computes a file's graph."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says beside the graph."""

    @property
    def entries(self) -> Sequence[bytes] | None:
        """What it wants to know of each word of its table; None: the word's row."""

    def judge(self, measures: TextMeasures) -> list[float]:
        """Return a text's judgement; any error where the graph does not fit what it is given."""


class ClassifierLoadError(Exception):
    """A router folder can't be served. The message names the file and says what to do."""


class Manifest(msgspec.Struct, frozen=True):
    """The part of manifest.json that serving reads."""

    name: str
    sha256: str
    feature_version: int
    features: int
    domains: tuple[str, ...] = ()
    domain_floor: float = 0.5
    reference: Reference | None = None
    serving_bytes: int | None = None
    """How much of the model's file serves; what comes after it is for `postern adapt`. None: all of it."""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClassifierLoadError(f"{path}: {error.strerror}; {_RETRAIN}") from error
    except ValueError as error:  # a name that no file can have
        raise ClassifierLoadError(f"{path}: {error}; {_RETRAIN}") from error


def _read_manifest(path: Path) -> Manifest:
    try:
        return msgspec.json.decode(_read(path), type=Manifest)
    except (ValueError, RecursionError) as error:  # not JSON, of another shape, not UTF-8, or nested too deep
        raise ClassifierLoadError(f"{path}: {error}; {_RETRAIN}") from error


def _open_model(model: bytes, path: Path) -> Model:
    try:
        return Graph.read(model)
    except OtherGraphError:
        # Imported now, as onnxruntime takes 19 MB before there is a session.
        runtime = importlib.import_module("gateway.classify.runtime")
    try:
        found = runtime.RuntimeGraph(model)
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise ClassifierLoadError(f"{path}: onnxruntime refuses the model: {error}; {_RETRAIN}") from error
    if found.names != (INPUTS, OUTPUTS):
        raise ClassifierLoadError(f"{path}: expected {INPUTS} -> {OUTPUTS}, the model has {found.names}; {_RETRAIN}")
    opened: Model = found
    return opened


def _read_vocabulary(model: Model, path: Path) -> Vocabulary:
    words = model.metadata.get(VOCABULARY)
    if words is None:
        raise ClassifierLoadError(f"{path}: the model holds no vocabulary; {_RETRAIN}")
    listed, entries = words.encode().split(), model.entries
    if entries is not None and len(entries) != len(listed):
        raise ClassifierLoadError(f"{path}: {len(listed)} words for a table of {len(entries)}; {_RETRAIN}")
    return Vocabulary(listed, entries)


def _check_graph(model: Model, vocabulary: Vocabulary, figures: int, path: Path) -> None:
    """Judge a text of the last word: what does not fit together would otherwise fault with every request."""
    last = vocabulary.last
    measures = TextMeasures(np.zeros(len(FEATURE_NAMES), dtype=np.float32), last, len(last), [])
    try:
        judgement = model.judge(measures)
        has_none = any(map(math.isnan, judgement))
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise ClassifierLoadError(f"{path}: the model can't be run: {error}; {_RETRAIN}") from error
    if len(judgement) != figures:
        raise ClassifierLoadError(f"{path}: expected {figures} figures, the model gives {len(judgement)}; {_RETRAIN}")
    if has_none:
        raise ClassifierLoadError(f"{path}: the model gives figures that are none; {_RETRAIN}")


class TextJudgement(msgspec.Struct, frozen=True, gc=False):
    """What the graph says of one text."""

    score: float
    weak_chance: float
    strong_chance: float
    log_tokens: float
    domain: str | None
    signals: tuple[float, ...]


class OnnxClassifier:
    """Score conversations with a trained router. Safe to share between threads."""

    def __init__(self, manifest: Manifest, model: Model, vocabulary: Vocabulary) -> None:
        self.name: Final = manifest.name
        # The manifest as far as it is read: its domains and their floor change what is told, as the model does.
        told = hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
        self.version: Final = f"{manifest.sha256[:12]}-{told[:8]}"
        self.reference: Final = manifest.reference
        self._manifest: Final = manifest
        self._vocabulary: Final = vocabulary
        self._model: Final = model
        self._memo: Final = TextMemo[TextJudgement]()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load manifest.json and model.onnx from `folder`, checking the digest and the feature version first."""
        manifest = _read_manifest(folder / MANIFEST_FILE)
        if (manifest.feature_version, manifest.features) != (FEATURE_VERSION, len(FEATURE_NAMES)):
            raise ClassifierLoadError(
                f"{folder / MANIFEST_FILE}: trained on features version {manifest.feature_version} "
                f"({manifest.features}), this gateway measures version {FEATURE_VERSION} ({len(FEATURE_NAMES)}); "
                + _RETRAIN
            )
        model = _read(folder / MODEL_FILE)
        digest = hashlib.sha256(model).hexdigest()
        if digest != manifest.sha256:
            raise ClassifierLoadError(
                f"{folder / MODEL_FILE}: sha256 is {digest}, {MANIFEST_FILE} says {manifest.sha256}; {_RETRAIN}"
            )
        opened = _open_model(model[: manifest.serving_bytes], folder / MODEL_FILE)
        vocabulary = _read_vocabulary(opened, folder / MODEL_FILE)
        _check_graph(opened, vocabulary, FIGURES + len(manifest.domains), folder / MODEL_FILE)
        return cls(manifest, opened, vocabulary)

    def judge(self, conversation: Conversation, tenant: str | None = None) -> Judgement:
        """Judge each text that counts; the hardest one's judgement is the conversation's.

        With a `tenant`, what was said of earlier turns is remembered for that tenant's next request.
        """
        judged = pick_texts(conversation)
        hardest, *others = map(self._judge_text, judged.asked)
        for other in (*others, *(self._recall(text, tenant) for text in judged.earlier)):
            if other.score > hardest.score:
                hardest = other
        load = context_load(conversation)
        return Judgement(
            score=_shift(hardest.score, load),
            weak_chance=_shift(hardest.weak_chance, -load),
            strong_chance=max(hardest.weak_chance, hardest.strong_chance),
            domain=hardest.domain,
            output_tokens=round(math.exp(min(hardest.log_tokens, MAX_LOG_TOKENS))),
            signals=hardest.signals,
        )

    def unread(self, conversation: Conversation, tenant: str | None = None) -> Iterable[str]:
        """Return the texts that judging it would have to measure: those not remembered."""
        judged = pick_texts(conversation)
        if tenant is None:
            return judged.asked + judged.earlier
        return [
            *judged.asked,
            *(text for text in judged.earlier if self._memo.find(self._memo.key(tenant, text)) is None),
        ]

    def _recall(self, text: str, tenant: str | None) -> TextJudgement:
        if tenant is None:
            return self._judge_text(text)
        key = self._memo.key(tenant, text)
        known = self._memo.find(key)
        if known is None:
            known = self._judge_text(text)
            self._memo.keep(key, known)
        return known

    def _judge_text(self, text: str) -> TextJudgement:
        measures = measure_text(text, self._vocabulary)
        score, weak, strong, _, log_tokens, *domains = self._model.judge(measures)
        likeliest = max(domains, default=-1.0)
        is_likely = domains and likeliest >= self._manifest.domain_floor
        domain = self._manifest.domains[domains.index(likeliest)] if is_likely else None
        return TextJudgement(score, weak, strong, log_tokens, domain, signals_of(measures))


def _shift(chance: float, log_odds: float) -> float:
    """Return a chance with `log_odds` added to its own."""
    if not log_odds:
        return chance
    odds = chance / (1.0 - chance) * math.exp(log_odds) if chance < 1.0 else math.inf
    return odds / (1.0 + odds) if odds < math.inf else 1.0


def signals_of(measures: TextMeasures) -> tuple[float, ...]:
    """Return the figures drift is told from, in the order of SIGNALS."""
    of, known = measures.features.item, len(measures.known)
    return of(_CHARS), of(_NUMBERS), of(_NON_LATIN), known / (known + len(measures.unknown) + 1.0)
