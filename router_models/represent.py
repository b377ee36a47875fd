"""A router's own representation of a conversation: what a residual is fitted on. The one place that knows where it is.

It is that of the judged text which decides the score, so that score and representation belong together.
"""

from collections.abc import Sequence

import numpy as np

from gateway.classify.onnx import OnnxClassifier
from gateway.classify.turns import judged_texts
from gateway.schema.conversation import Conversation, Turn
from router_models.evaluate import Floats
from router_models.space import Space


def deciding_text(router: OnnxClassifier, conversation: Conversation) -> tuple[float, str]:
    """Return the score of the text that decides a conversation's, and the text."""
    texts = judged_texts(conversation)
    scores = [router.judge(Conversation((Turn("user", text),))).score for text in texts]
    best = int(np.argmax(scores))
    return scores[best], texts[best]


def represent(space: Space, texts: Sequence[str]) -> Floats:
    """Return what the router's heads could read of each text, (N, R)."""
    return np.asarray(space.represent(space.read(texts)), dtype=np.float64)
