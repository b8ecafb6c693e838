"""The pictures of the documentation: three are drawn by code, one is what `./dev demo` shows."""

from __future__ import annotations

from pathlib import Path

from tests.dev.pictures import cgroup, decision, login

FOLDER = Path(__file__).parents[3] / "docs" / "pictures"
DRAWN = {"login.svg": login.draw, "decision.svg": decision.draw, "cgroup.svg": cgroup.draw}
DEMO = "demo.svg"


def write() -> None:
    """Write those that are drawn."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DRAWN.items():
        (FOLDER / name).write_text(draw())
