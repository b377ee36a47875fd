"""A router's own representation of a conversation: what a residual is fitted on. The one place that knows where it is.

It is that of the judged text which decides the score, so that score and representation belong together.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.classify.features import judged_texts, text_features
from gateway.classify.onnx import OnnxClassifier
from gateway.schema.conversation import Conversation, Turn

TENSOR: Final = "features"
"""The tensor of the graph that holds it, [N, R]."""


def represent(router: OnnxClassifier, conversation: Conversation) -> tuple[float, NDArray[np.float32]]:
    """Return the score and the representation of the text that decides it."""
    texts = judged_texts(conversation)
    scores = [router.judge(_alone(text)).score for text in texts]
    best = int(np.argmax(scores))
    return scores[best], text_features(texts[best])


def _alone(text: str) -> Conversation:
    return Conversation((Turn("user", text),))


def inputs_of(representations: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return what the graph is fed to give these representations again."""
    return {TENSOR: np.stack(representations)}
