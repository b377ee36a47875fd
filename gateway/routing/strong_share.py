"""Holds the share of requests that go to the strongest model, on traffic that nobody has labelled. Pure.

A quantile of recent scores finds the threshold, and an integral of what came of it keeps the share. The quantile alone
errs by 2 points after 500 requests, from sampling alone, and by any amount where scores are alike. With the integral
the share comes back whatever the scores are, an adversary's too (adaptive conformal inference, arXiv 2106.00170).
docs/adr/0004 has the figures.
"""

import math
from typing import Final

from gateway.core.judgement import Distribution
from gateway.routing.score_histogram import News, ScoreHistogram
from gateway.stores.tally import Change, Tally

HALF_LIFE: Final = 1000.0
"""Requests after which a score weighs half: the quantile alone is then uncertain by 0.9 points."""
SHORT_HALF_LIFE: Final = 50.0
"""The same while the share is off by more than chance explains: the traffic has changed, old scores mislead."""
PRIOR_WEIGHT: Final = 8.0
"""What the scores of training weigh, in requests: enough to begin with. Several replicas outweigh it each by itself,
and what all sent to the wrong side until then is paid back: with 20, four at 150 requests a second were 6 points
off."""
GAIN: Final = 0.008
"""What one request too many on the strong side takes off the share asked for next. More holds the share closer and lets
the threshold waver more: here 0.4 points over 1,000 requests, and 2.7 points' worth of threshold."""
GAIN_IN_BIN: Final = 0.15
"""Bins by which one request too many moves the threshold at least. Where many scores are alike they lie at one point of
a bin, and nobody knows at which: to sweep a heavy bin at `GAIN` takes a hundred requests, at this seven."""
RECENT: Final = 0.02
"""The weight of the newest request in the recent share: a memory of some 50."""
BOUND: Final = 2.5
"""Standard deviations by which the recent share must be off to count as a change of traffic."""
AT_FULL_GAIN: Final = 50
"""Requests of the other replicas between two exchanges up to which their excess counts in full. All replicas make up
for it at once, an exchange late: at full gain and 1,000 requests a second the share would swing."""


class ShareTracker:
    """Know the threshold that sends `target` of the requests to the strong side. 4 µs a request."""

    def __init__(self, target: float, prior: Distribution | None = None) -> None:
        """Begin with the scores of the router's training, `prior`."""
        self.target: float
        self.threshold: float
        self._histogram = ScoreHistogram(prior, PRIOR_WEIGHT)
        self._keep = 0.5 ** (1 / HALF_LIFE)
        self._keep_less = 0.5 ** (1 / SHORT_HALF_LIFE)
        self.aim_at(target)

    def aim_at(self, target: float) -> None:
        """Hold this share from now on; what is known of the scores stays."""
        self.target = target
        self._excess = self._told_excess = self._others_excess = 0.0
        self._count = self._told_count = 0
        self._known_count = 0.0
        self._others_gain = 1.0
        self._recent = 0.0
        self._chance = BOUND * math.sqrt(target * (1 - target) * RECENT / 2)
        self._find()

    def observe(self, score: float, *, is_strong: bool) -> None:
        """Take in a score, and what the threshold has made of it."""
        off = is_strong - self.target
        self._excess += off
        self._count += 1
        self._recent += RECENT * (off - self._recent)
        has_changed = abs(self._recent) > self._chance
        self._histogram.add(score, self._keep_less if has_changed else self._keep)
        self._find()

    def _find(self) -> None:
        excess = self._excess + self._others_excess * self._others_gain
        found = self._histogram.quantile(
            self.target - GAIN * excess, lambda share: excess * max(0.0, GAIN_IN_BIN - GAIN / share)
        )
        self.threshold = round(found, 6)  # as many digits as `x-postern-threshold` tells

    def all_known(self) -> Tally:
        """Return all that this replica knows."""
        excess = self._excess + self._others_excess
        return Tally(tuple(self._histogram.weights()), (excess, self._known_count + self._count - self._told_count))

    def take_news(self) -> Change:
        """Return what was seen since the last call, for the other replicas."""
        news = self._histogram.take_news()
        sums = (self._excess - self._told_excess, float(self._count - self._told_count))
        self._told_excess, self._told_count = self._excess, self._count
        return Change(news.weights, news.keep, sums)

    def put_back(self, change: Change) -> None:
        """Take back news that nobody could be told."""
        self._histogram.put_back(News(change.weights, change.keep))
        self._told_excess -= change.sums[0]
        self._told_count -= int(change.sums[1])

    def adopt(self, known: Tally, told: Change) -> None:
        """Take over what all replicas know, these last news included."""
        excess, count = known.sums
        self._others_excess = excess - self._told_excess
        others = count - self._known_count - told.sums[1]
        self._others_gain = min(1.0, AT_FULL_GAIN / max(others, 1.0))
        self._known_count = count
        self._histogram.adopt(known.weights)
        self._find()
