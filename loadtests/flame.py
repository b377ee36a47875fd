"""A flame graph as SVG: who calls whom, as wide as the time they take. Pure: folded stacks in, text out.

Smaller than what profilers draw themselves: what takes less than a pixel is left out.
"""

import zlib
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

WIDTH, ROW, MARGIN = 1200, 17, 10
MIN_WIDTH = 1.2
LETTER = 6.6


class Frame:
    """One function under one caller: its samples and who it calls."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.callees: dict[str, Frame] = {}

    def under(self, name: str) -> "Frame":
        """Return the callee of that name."""
        return self.callees.setdefault(name, Frame(name))


class Box(NamedTuple):
    """Where one frame is drawn."""

    name: str
    samples: int
    left: float
    width: float
    depth: int


def grow(stacks: Iterable[tuple[list[str], int]]) -> Frame:
    """Return the tree of folded stacks, outermost function first."""
    root = Frame("all")
    for names, count in stacks:
        root.count += count
        frame = root
        for name in names:
            frame = frame.under(name)
            frame.count += count
    return root


def boxes(root: Frame) -> list[Box]:
    """Return what is wide enough to be seen, callees above their callers, in alphabetical order."""
    found: list[Box] = []
    waiting = [(root, 0.0, 0)]
    scale = (WIDTH - 2 * MARGIN) / max(root.count, 1)
    while waiting:
        frame, left, depth = waiting.pop()
        found.append(Box(frame.name, frame.count, left, frame.count * scale, depth))
        for name in sorted(frame.callees):
            callee = frame.callees[name]
            if callee.count * scale >= MIN_WIDTH:
                waiting.append((callee, left, depth + 1))
            left += callee.count * scale
    return found


def svg(root: Frame, title: str) -> str:
    """Return the picture; a title shows each frame's share where the pointer rests."""
    found = boxes(root)
    height = (max(box.depth for box in found) + 3) * ROW + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace">',
        "<style>text {font-size: 11px}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{WIDTH / 2:g}" y="{MARGIN + 10}" text-anchor="middle">{escape(title)}</text>',
    ]
    parts += [_drawn(box, height, root.count) for box in found]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(box: Box, height: int, whole: int) -> str:
    left, top = MARGIN + box.left, height - MARGIN - (box.depth + 1) * ROW
    letters = int((box.width - 4) / LETTER)
    text = box.name if len(box.name) <= letters else f"{box.name[: letters - 2]}.." if letters > 4 else ""
    label = f'<text x="{left + 2:.1f}" y="{top + 12}">{escape(text)}</text>' if text else ""
    return (
        f"<g><title>{escape(box.name)} {box.samples / whole:.1%}</title>"
        f'<rect x="{left:.1f}" y="{top}" width="{box.width:.1f}" height="{ROW - 1}" fill="{colour(box.name)}"/>'
        f"{label}</g>"
    )


def colour(name: str) -> str:
    """Return a colour for a function's file: ours warm, others' cool, each file its own shade."""
    shade = zlib.crc32(name.rpartition(" ")[2].partition(":")[0].encode()) % 50
    return f"hsl({20 + shade}, 85%, 68%)" if "gateway/" in name else f"hsl({195 + shade}, 40%, 76%)"
