"""Sums in which the past fades: each event counts half as much once `half_life` others came after it. Pure."""

_LARGEST_WEIGHT = 1e100


class FadingSums:
    """Numbers by place. New events weigh more instead of old ones being cut down: one addition, not one a place."""

    __slots__ = ("_growth", "_weight", "count", "sums")

    def __init__(self, places: int, half_life: float) -> None:
        self.sums = [0.0] * places
        self.count = 0
        self._weight = 1.0
        self._growth = 2.0 ** (1.0 / half_life)

    def weigh(self) -> float:
        """Begin an event; return what it weighs: add that, or a multiple, to the places that it touches.

        Read `sums` after this, not before: now and then it is scaled down.
        """
        self.count += 1
        self._weight *= self._growth
        if self._weight > _LARGEST_WEIGHT:
            self.sums[:] = [each / self._weight for each in self.sums]
            self._weight = 1.0
        return self._weight
