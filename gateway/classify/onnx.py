"""The classifier that ships: text features in, one small ONNX graph, the win rate out. Knows nothing of thresholds."""

import hashlib
from pathlib import Path
from typing import Final, Self

import msgspec
import numpy as np
import onnxruntime

from gateway.classify.features import FEATURE_NAMES, FEATURE_VERSION, judged_texts, text_features
from gateway.core.judgement import Judgement, Reference
from gateway.schema.conversation import Conversation

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.json"
_RETRAIN: Final = "retrain with `python -m router_models.train`, or restore the folder from the release"


class ClassifierLoadError(Exception):
    """A router folder can't be served. The message names the file and says what to do."""


class Manifest(msgspec.Struct, frozen=True):
    """The part of manifest.json that serving reads."""

    name: str
    sha256: str
    feature_version: int
    features: int
    reference: Reference | None = None


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


def _open_session(model: bytes, path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread that never spins: a graph of microseconds gains nothing from a pool, and spinning starves the loop.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise ClassifierLoadError(f"{path}: onnxruntime refuses the model: {error}; {_RETRAIN}") from error
    names = ([node.name for node in session.get_inputs()], [node.name for node in session.get_outputs()])
    if names != (["features"], ["score"]):
        raise ClassifierLoadError(f"{path}: expected features -> score, the model has {names}; {_RETRAIN}")
    return session


class OnnxClassifier:
    """Score conversations with a trained router. Safe to share between threads."""

    def __init__(self, manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
        self.name: Final = manifest.name
        self.version: Final = f"{manifest.sha256[:12]}-f{manifest.feature_version}"
        self.reference: Final = manifest.reference
        self._run: Final = session.run

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
        return cls(manifest, _open_session(model, folder / MODEL_FILE))

    def judge(self, conversation: Conversation) -> Judgement:
        """Return the win rate, 0 to 1: the highest over the judged texts, in one batched run."""
        texts = judged_texts(conversation)
        if len(texts) == 1:
            return Judgement(float(self._run(None, {"features": text_features(texts[0])[np.newaxis]})[0][0]))
        return Judgement(
            float(self._run(None, {"features": np.stack([text_features(text) for text in texts])})[0].max())
        )
