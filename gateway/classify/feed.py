"""What an exported graph reads and says: the names and shapes that any router's ONNX file keeps to.

features  float32 [1, F]    the measures of the text, see features.py
words     int64 [K]         rows of the word table, one a distinct known word; K may be 0
weights   float32 [2, K]    how words count: 1 / sqrt(count), over the stem (0 in the options alone) and the whole
judgement float32 [1, 5+D]  win rate; weak, strong, frontier chance; log of the output tokens; each domain's chance
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.classify.features import TextMeasures
from gateway.classify.vocabulary import rows_of

FEATURES, WORDS, WEIGHTS, JUDGEMENT = "features", "words", "weights", "judgement"
INPUTS: Final = [FEATURES, WORDS, WEIGHTS]
OUTPUTS: Final = [JUDGEMENT]


def feed_of(measures: TextMeasures) -> dict[str, NDArray[np.generic]]:
    """Return the graph's inputs for a text, whose words were looked up in a vocabulary without entries of its own."""
    count, in_stem = len(measures.known), measures.in_stem
    weights = np.zeros((2, count), dtype=np.float32)
    weights[0, :in_stem] = max(in_stem, 1) ** -0.5
    weights[1] = max(count, 1) ** -0.5
    return {FEATURES: measures.features[np.newaxis], WORDS: rows_of(measures.known), WEIGHTS: weights}
