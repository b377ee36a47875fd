"""A router's own representation of a conversation: what a residual is fitted on. The one place that knows where it is.

It is that of the judged text which decides the score, so that score and representation belong together.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.classify.features import judged_texts, text_features
from gateway.classify.onnx import OnnxClassifier
from gateway.schema.conversation import Conversation, Turn

TENSOR: Final = "features"
"""The tensor of the graph that holds it, [N, R]."""


class Represented(msgspec.Struct, frozen=True):
    """The text that decides a conversation's score, that score, and the router's representation of it."""

    text: Conversation
    score: float
    vector: NDArray[np.float32]


def represent(router: OnnxClassifier, conversation: Conversation) -> Represented:
    """Return the judged text with the highest score, alone, with what the router makes of it."""
    texts = [Conversation((Turn("user", text),)) for text in judged_texts(conversation)]
    scores = [router.judge(text).score for text in texts]
    best = int(np.argmax(scores))
    return Represented(texts[best], scores[best], text_features(texts[best].turns[0].text))
