"""Two pictures of what a login costs, drawn from docs/performance.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from tests.dev.pictures.svg import LINE, MARGIN, Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = Path(__file__).parents[3] / "docs" / "performance.json"

# Subject -> (how it is called, class of its bars, class of its lines)
DRAWN = {
    "empty": ("empty script", "box", "line-quiet"),
    "C": ("C module", "aside", "line-amber"),
    "ours": ("slurm_adopt", "ask", "line-blue"),
    "ours by pam_exec": ("slurm_adopt by pam_exec", "good", "line-green"),
}
MEASURES = {"ms": ("milliseconds", 1.0), "instructions": ("millions of instructions", 1e6)}

BARS = (
    "one job",
    "one job, account line alone",
    "no job",
    "three jobs, callerid",
    "source refuses",
)
GROWTH = {
    "jobs of others": ("1 job of others", *(f"{n} jobs of others" for n in (10, 50, 200, 1000))),
    "jobs of this user": ("one job", *(f"{n} jobs of this user" for n in (2, 20, 100))),
    "TCP sockets": tuple(f"{n} sockets" for n in (1000, 60000, 250000)),
    "NodeName lines": tuple(f"{n} NodeName lines" for n in (10, 5000, 20000)),
}

ACROSS = 900.0
NAMES = 230.0  # left of the bars
BAR, GAP = 12.0, 3.0
HIGH, WIDE, BETWEEN = 170.0, 360.0, 70.0  # a panel

Found = dict[str, dict[str, dict[str, float]]]


def _found() -> Found:
    rows: Found = json.loads(DATA.read_text())["rows"]
    return rows


def _measure(found: Found, rows: Sequence[str]) -> str:
    """Return what all these rows have: times, or instructions where these were not measured."""
    return "ms" if all("ms" in found[row] for row in rows) else "instructions"


def draw_bars() -> str:
    """Draw what the usual logins cost."""
    found = _found()
    rows = [row for row in BARS if row in found]
    measure = _measure(found, rows)
    unit, divisor = MEASURES[measure]
    picture = Picture(f"What a login costs, in {unit}", ACROSS)
    picture.text(MARGIN, MARGIN + 10, f"A whole login by pamtester, in {unit}", "text bold")
    y = _legend(picture, MARGIN + 2 * LINE)
    room = ACROSS - NAMES - 120
    most = max(found[row][measure].get(subject, 0) for row in rows for subject in DRAWN)
    for row in rows:
        picture.text(NAMES - 10, y + 2 * BAR + 4, row, anchor="end")
        for subject, (_, kind, _) in DRAWN.items():
            value = found[row][measure].get(subject)
            if value is not None:
                long = max(2.0, value / most * room)
                picture.box(NAMES, y, round(long, 1), BAR, kind)
                picture.text(NAMES + long + 8, y + BAR, f"{value / divisor:.1f}", "quiet")
            y += BAR + GAP
        y += LINE
    return picture.svg()


def draw_growth() -> str:
    """Draw what more jobs, sockets and lines cost."""
    found = _found()
    rows = [row for several in GROWTH.values() for row in several if row in found]
    measure = _measure(found, rows)
    unit, divisor = MEASURES[measure]
    picture = Picture(f"What grows with a node, in {unit}", ACROSS)
    picture.text(MARGIN, MARGIN + 10, f"A whole login on larger nodes, in {unit}", "text bold")
    y = _legend(picture, MARGIN + 2 * LINE)
    for number, (title, several) in enumerate(GROWTH.items()):
        there = [row for row in several if row in found]
        x = MARGIN + 50 + number % 2 * (WIDE + BETWEEN)
        top = y + number // 2 * (HIGH + 3 * LINE)
        if there:
            _panel(picture, x, top, title, there, found, measure, divisor)
    return picture.svg()


def _panel(
    picture: Picture,
    x: float,
    y: float,
    title: str,
    rows: Sequence[str],
    found: Found,
    measure: str,
    divisor: float,
) -> None:
    """Draw a line for each subject over the number that begins the rows' names."""
    numbers = [_number(row) for row in rows]
    values = [found[row][measure][s] for row in rows for s in DRAWN if s in found[row][measure]]
    most = max(values)
    low, high = math.log(numbers[0]), math.log(numbers[-1])

    def place(number: int, value: float) -> tuple[float, float]:
        across = (math.log(number) - low) / (high - low) if high > low else 0
        return round(x + across * WIDE, 1), round(y + HIGH - value / most * (HIGH - LINE), 1)

    picture.arrow([(x, y + LINE), (x, y + HIGH), (x + WIDE, y + HIGH)], head=False)
    picture.text(x - 6, y + LINE + 4, f"{most / divisor:,.0f}", "quiet", "end")
    picture.text(x - 6, y + HIGH, "0", "quiet", "end")
    for number in numbers:
        picture.text(place(number, 0)[0], y + HIGH + LINE, f"{number:,}", "quiet", "middle")
    picture.text(x + WIDE / 2, y + 6, title, anchor="middle")
    for subject, (_, _, line) in DRAWN.items():
        known = [(n, found[r][measure].get(subject)) for n, r in zip(numbers, rows)]
        points = [place(number, value) for number, value in known if value is not None]
        if len(points) > 1:
            picture.arrow(points, line, head=False)


def _number(row: str) -> int:
    first = row.split(maxsplit=1)[0]
    return int(first) if first.isdecimal() else 1


def _legend(picture: Picture, y: float) -> float:
    """Draw which colour is whose; return where the rest begins."""
    x = MARGIN
    for title, kind, _ in DRAWN.values():
        picture.box(x, y - BAR, BAR, BAR, kind)
        picture.text(x + BAR + 6, y - 1, title)
        x += 210
    return y + LINE
