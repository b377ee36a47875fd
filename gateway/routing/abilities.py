"""How able each model of a ladder is, between the router's weak side (0) and its strong side (1). Pure."""

from collections.abc import Sequence


def fill_abilities(given: Sequence[float | None]) -> tuple[float, ...]:
    """Return every model's ability: None takes even steps between its neighbours; at the ends it is 0 and 1."""
    top = len(given) - 1
    known = [(place, ability) for place, ability in enumerate(given) if ability is not None]
    if not known or known[0][0] > 0:
        known.insert(0, (0, 0.0 if top else 1.0))
    if known[-1][0] < top:
        known.append((top, 1.0))
    return tuple(_between(known, place) for place in range(len(given)))


def _between(known: Sequence[tuple[int, float]], place: int) -> float:
    below = next(one for one in reversed(known) if one[0] <= place)
    above = next(one for one in known if one[0] >= place)
    if below[0] == above[0]:
        return below[1]
    return below[1] + (above[1] - below[1]) * (place - below[0]) / (above[0] - below[0])


def find_steps(abilities: Sequence[float]) -> tuple[float, ...]:
    """Return the share of the threshold from which each model serves: the weakest's 0, the strongest's 1.

    Even steps where all are equally able.
    """
    weakest, strongest = abilities[0], abilities[-1]
    if strongest <= weakest:
        abilities, weakest, strongest = fill_abilities([None] * len(abilities)), 0.0, 1.0
    return tuple((ability - weakest) / (strongest - weakest) for ability in abilities)
