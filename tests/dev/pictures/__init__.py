"""The pictures of the documentation: five are drawn by code, one is what `./dev demo` shows."""

from __future__ import annotations

from pathlib import Path

from tests.dev.pictures import cgroup, decision, login, performance

FOLDER = Path(__file__).parents[3] / "docs" / "pictures"
DRAWN = {
    "login.svg": login.draw,
    "decision.svg": decision.draw,
    "cgroup.svg": cgroup.draw,
    "cost.svg": performance.draw_bars,
    "growth.svg": performance.draw_growth,
}
DEMO = "demo.svg"


def write() -> None:
    """Write those that are drawn."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DRAWN.items():
        (FOLDER / name).write_text(draw())
