"""A small SVG writer: boxes, lines and text whose width is known before anybody draws it.

Who looks at a picture may have any font. Widths are those of DejaVu Sans, the widest of the usual
ones: what fits its box there fits it everywhere. Colours are classes, for light and dark screens.
"""

from __future__ import annotations

import html
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 13  # pixels of ordinary text
LINE = 18  # from one line to the next
MARGIN = 24
PADDING = 10

# Advances in hundredths of the size, from the blank to the tilde.
_SANS = (
    32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 51, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 54, 101, 69, 69, 70, 78, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75, 79,
    61, 79, 70, 64, 62, 74, 69, 99, 69, 62, 69, 40, 34, 40, 84, 51, 51, 62, 64, 55, 64, 62, 36, 64,
    64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84,
)  # fmt: skip
_BOLD = 1.13  # how much wider bold text is, at most
_MONO = 61

# class -> (fill, stroke) on a light screen and on a dark one.
_COLOURS = {
    "page": (("#ffffff", "#d0d7de"), ("#0d1117", "#30363d")),
    "box": (("#f6f8fa", "#8c959f"), ("#161b22", "#6e7681")),
    "ask": (("#ddf4ff", "#0969da"), ("#10233d", "#4493f8")),
    "good": (("#dafbe1", "#1a7f37"), ("#10291a", "#3fb950")),
    "bad": (("#ffebe9", "#cf222e"), ("#341a1d", "#f85149")),
    "aside": (("#fff8c5", "#9a6700"), ("#2e2411", "#d29922")),
    "band": (("#f6f8fa", "none"), ("#161b22", "none")),
}
_INK = {
    "text": ("#1f2328", "#e6edf3"),
    "quiet": ("#57606a", "#9198a1"),
    "green": ("#1a7f37", "#3fb950"),
    "red": ("#cf222e", "#f85149"),
    "blue": ("#0969da", "#4493f8"),
    "amber": ("#9a6700", "#d29922"),
}


def width(text: str, style: str = "text") -> float:
    """Return how wide a line of text is at most; `style` has `mono` or `bold` in it, or neither."""
    hundredths: float = 0
    for character in text:
        if "mono" in style:
            hundredths += _MONO
        elif " " <= character <= "~":
            hundredths += _SANS[ord(character) - 32]
        else:
            hundredths += 100
    factor = _BOLD if "bold" in style and "mono" not in style else 1
    return hundredths * factor * SIZE / 100


def wrapped(text: str, room: float, style: str = "text") -> list[str]:
    """Return the lines of a text that is to be no wider than `room`."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if width(longer, style) <= room or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Picture:
    """What is drawn, in its order; coordinates are pixels from the upper left corner."""

    def __init__(self, title: str, across: float) -> None:
        """`title` is for those who cannot see the picture."""
        self.title = title
        self.across = across
        self.bottom: float = 0
        self.under = False  # whether what is drawn now comes under all that is not
        self._parts: dict[bool, list[str]] = {True: [], False: []}

    def _add(self, part: str, right: float, bottom: float) -> None:
        if right > self.across - MARGIN / 2:
            raise ValueError(f"{part} ends at {right}, beyond the picture's edge")
        self.bottom = max(self.bottom, bottom)
        self._parts[self.under].append(part)

    def text(
        self, x: float, y: float, text: str, style: str = "text", anchor: str = "start"
    ) -> None:
        """Write one line; `y` is its base line, `anchor` start, middle or end."""
        right = x + width(text, style) * {"start": 1, "middle": 0.5, "end": 0}[anchor]
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        part = f'<text x="{x:g}" y="{y:g}" class="{style}"{at}>{html.escape(text, False)}</text>'
        self._add(part, right, y + 4)

    def box(self, x: float, y: float, wide: float, high: float, kind: str = "box") -> None:
        """Draw a rectangle with round corners."""
        size = f'width="{wide:g}" height="{high:g}"'
        self._add(f'<rect x="{x:g}" y="{y:g}" {size} rx="6" class="{kind}"/>', x + wide, y + high)

    def lines(self, x: float, y: float, lines: list[str], style: str = "text") -> float:
        """Write lines below each other from the upper edge `y` on; return the lower edge."""
        for number, line in enumerate(lines):
            self.text(x, y + LINE * number + SIZE, line, style)
        return y + LINE * len(lines)

    def arrow(
        self, points: Sequence[tuple[float, float]], style: str = "line", *, head: bool = True
    ) -> None:
        """Draw a line through points, with a head at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._add(f'<polyline points="{path}" class="{style}"/>', *map(max, *points, points[0]))
        if head:
            (x0, y0), (x, y) = [*pairwise(points)][-1]
            dx, dy = _sign(x - x0), _sign(y - y0)
            left = f"{x - 8 * dx + 4 * dy:g},{y - 8 * dy + 4 * dx:g}"
            right = f"{x - 8 * dx - 4 * dy:g},{y - 8 * dy - 4 * dx:g}"
            kind = style.replace("line", "head").replace(" dashed", "")
            self._add(f'<polygon points="{x:g},{y:g} {left} {right}" class="{kind}"/>', x, y)

    def svg(self) -> str:
        """Return the picture as a file."""
        wide, high = f"{self.across:g}", f"{self.bottom + MARGIN:g}"
        edge = f'width="{self.across - 1:g}" height="{self.bottom + MARGIN - 1:g}"'
        title = html.escape(self.title, False)
        return "\n".join([
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title"',
            f'     width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">',
            f'<title id="title">{title}</title>',
            "<style>",
            *_style(),
            "</style>",
            f'<rect x="0.5" y="0.5" {edge} rx="8" class="page"/>',
            *self._parts[True],
            *self._parts[False],
            "</svg>",
            "",
        ])  # fmt: skip


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _style() -> list[str]:
    """Return the style sheet: what is alike on all screens, then both sets of colours."""
    rules = [
        f"text {{ font: {SIZE}px Helvetica, Arial, 'DejaVu Sans', sans-serif }}",
        f".mono {{ font: {SIZE}px 'DejaVu Sans Mono', Menlo, Consolas, monospace }}",
        ".bold { font-weight: bold }",
        "polyline { fill: none; stroke-width: 1.5 }",
        ".dashed { stroke-dasharray: 5 4 }",
        *_rules(0),
        "@media (prefers-color-scheme: dark) {",
        *(f"  {rule}" for rule in _rules(1)),
        "}",
    ]
    return [f"  {rule}" for rule in rules]


def _rules(dark: int) -> list[str]:
    boxes = {name: both[dark] for name, both in _COLOURS.items()}
    inks = {name: both[dark] for name, both in _INK.items()}
    lines = {"line": inks["quiet"], **{f"line-{name}": ink for name, ink in inks.items()}}
    return [
        *(f".{name} {{ fill: {fill}; stroke: {edge} }}" for name, (fill, edge) in boxes.items()),
        *(f".{name} {{ fill: {ink} }}" for name, ink in inks.items()),
        *(f".{name} {{ stroke: {ink} }}" for name, ink in lines.items()),
        *(f".{name.replace('line', 'head')} {{ fill: {ink} }}" for name, ink in lines.items()),
    ]
