"""How far a router's chances are from what the marks of feedback say: the expected calibration error (ECE). Pure.

ECE: the mean distance, over ten equal bins of the chance told, between that chance and the mark given: Naeini et al.,
Obtaining Well Calibrated Probabilities Using Bayesian Binning (AAAI 2015). It is above 0 by chance alone, by about 0.08
at LEAST marks and 0.04 at 1,000 (Roelofs et al., Mitigating Bias in Calibration Error Estimation, 2022).
"""

from gateway.telemetry.fading import FadingSums

BINS = 10
HALF_LIFE = 1_000
"""Marks after which a mark counts half."""
LEAST = 200
"""Marks before anything is told."""


class Reliability:
    """Marks by the chance that was told for their answers, the past fading."""

    def __init__(self, half_life: float = HALF_LIFE) -> None:
        self._fading = FadingSums(3 * BINS, half_life)

    def add(self, chance: float, mark: float) -> None:
        """Take in one mark, 0 to 1, of an answer that was good with this chance."""
        place = 3 * min(int(chance * BINS), BINS - 1)
        weight = self._fading.weigh()
        sums = self._fading.sums
        sums[place] += weight
        sums[place + 1] += weight * chance
        sums[place + 2] += weight * mark

    def error(self) -> float | None:
        """Return the expected calibration error, or None before LEAST marks."""
        if self._fading.count < LEAST:
            return None
        sums = self._fading.sums
        distance = sum(abs(sums[place + 1] - sums[place + 2]) for place in range(0, 3 * BINS, 3))
        return distance / sum(sums[0::3])

    def bias(self) -> float | None:
        """Return by how much the chances are too high in the mean, or None before LEAST marks."""
        if self._fading.count < LEAST:
            return None
        sums = self._fading.sums
        return (sum(sums[1::3]) - sum(sums[2::3])) / sum(sums[0::3])
