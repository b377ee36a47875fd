"""Weights that several replicas add to, in which the past fades, and sums beside them that don't. Knows no meaning."""

import math
import struct
from collections.abc import Mapping

import msgspec

SUM_BYTES = 8


class Tally(msgspec.Struct, frozen=True):
    """What all replicas have added."""

    weights: tuple[float, ...]
    sums: tuple[float, ...]


class Change(msgspec.Struct, frozen=True):
    """What one replica adds: weights by place, `keep` being what of theirs all older ones keep; and to each sum."""

    weights: Mapping[int, float]
    keep: float
    sums: tuple[float, ...]


def pack_tally(tally: Tally) -> bytes:
    """Return a tally as little-endian doubles: the weights, then the sums."""
    values = (*tally.weights, *tally.sums)
    return struct.pack(f"<{len(values)}d", *values)


def unpack_tally(packed: bytes, sums: int) -> Tally | None:
    """Return a tally with this many sums; None for what is none."""
    count, rest = divmod(len(packed), SUM_BYTES)
    if rest or count < sums:
        return None
    values = struct.unpack(f"<{count}d", packed)
    weights = values[: count - sums]
    if not all(map(math.isfinite, values)) or min(weights, default=0.0) < 0:
        return None
    return Tally(weights, values[count - sums :])


def change_tally(tally: Tally, change: Change) -> Tally:
    """Return the tally with one replica's change."""
    weights = [weight * change.keep for weight in tally.weights]
    for place, weight in change.weights.items():
        weights[place] += weight
    return Tally(tuple(weights), tuple(old + new for old, new in zip(tally.sums, change.sums, strict=True)))
