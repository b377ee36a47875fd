"""Numbers as Grafana writes them, by a panel's unit."""

import math
from collections.abc import Sequence

Scale = Sequence[tuple[float, str]]

_SHORT: Scale = ((1e9, " Bil"), (1e6, " Mil"), (1e3, "K"), (1.0, ""))
_USD: Scale = ((1e6, "M"), (1e3, "K"), (1.0, ""))
_SECONDS: Scale = ((86_400, " days"), (3_600, " hours"), (60, " mins"), (1.0, " s"), (1e-3, " ms"), (1e-6, " µs"))
_BYTES: Scale = ((2.0**40, " TiB"), (2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B"))
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_SUFFIXES = {"reqps": " req/s", "cps": " c/s", "ops": " ops/s"}
FIGURES = 3
"""Digits that are told where a panel does not say how many decimals."""


def write(value: float, unit: str, decimals: int | None = None) -> str:
    """Return the text of a value."""
    if unit == "percentunit":
        return f"{number(value * 100, decimals)}%"
    if unit == "currencyUSD":
        shown, suffix = scaled(value, _USD)
        return f"{'-' if value < 0 else ''}${number(abs(shown), decimals)}{suffix}"
    if unit in {"s", "dtdurations"}:
        return joined(*scaled(value, _SECONDS), decimals)
    if unit == "bytes":
        return joined(*scaled(value, _BYTES), decimals)
    if unit in {"watth", "watt"}:
        sign = " Wh" if unit == "watth" else " W"
        return joined(*scaled(value, [(size, f" {prefix}{sign[1:]}") for size, prefix in _PREFIXES]), decimals)
    shown, suffix = scaled(value, _SHORT)
    return joined(shown, f"{suffix}{_SUFFIXES.get(unit, '')}", decimals)


def scaled(value: float, scale: Scale) -> tuple[float, str]:
    """Return the value in the largest size that it has one of, and that size's name; 0 in the plain one."""
    plain = next(name for size, name in scale if size == 1.0)
    if not value:
        return 0.0, plain
    for size, name in scale:
        if abs(value) >= size:
            return value / size, name
    size, name = scale[-1]
    return value / size, name


def joined(shown: float, name: str, decimals: int | None) -> str:
    """Return a number and its unit."""
    return f"{number(shown, decimals)}{name}"


def number(value: float, decimals: int | None) -> str:
    """Return a number with so many decimals, or with as many as tell it."""
    if decimals is not None:
        return f"{value:.{decimals}f}"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if not value:
        return "0"
    if whole:
        text = f"{value:.{max(0, FIGURES - whole)}f}"
    else:
        # As many zeros as there are, so that a thousandth of a cent can be read.
        text = f"{value:.{FIGURES - 1 - math.floor(math.log10(abs(value)))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
