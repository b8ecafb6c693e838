"""What `./dev demo` shows is so, and its exit status says whether it was."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.state import State
from tests.cluster.tools import demo

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster


def of_readme() -> list[re.Pattern[str]]:
    """Return what the README shows of the demo, as patterns for any numbers."""
    shown = (CHECKOUT / "README.md").read_text().split("```")[1]
    lines = [line for line in shown.splitlines() if line]
    assert len(lines) > 10
    return [re.compile(re.sub("[0-9]+", "[0-9]+", re.escape(line)) + " *") for line in lines]


def test_every_situation(cluster: Cluster) -> None:
    screen = io.StringIO()
    stage = demo.Stage(cluster, Console(file=screen, width=100))
    demo.play(stage)
    assert stage.failed == [], screen.getvalue()
    assert screen.getvalue().count(" ok ") >= len(demo.SITUATIONS)
    shown = screen.getvalue().splitlines()
    assert [line for line in of_readme() if not any(map(line.fullmatch, shown))] == []


class Pretended:
    """Stands in the place of a cluster that leaves these directories behind."""

    def __init__(self, *left: Path) -> None:
        self.state = State("pretended", cgroup_dirs=[*left])

    def __enter__(self) -> Pretended:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def pam(self, lines: list[str]) -> None:
        assert lines


@pytest.mark.parametrize(("left", "status"), [("", 1), ("gone", 0)])
def test_what_is_left_behind_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, status: int
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(demo, "Cluster", lambda *_, **__: Pretended(tmp_path / left))
    monkeypatch.setattr(demo, "SITUATIONS", [])
    found = demo.main(Console(file=screen, width=300), keep=False)
    assert found == status, screen.getvalue()
    assert (f"left behind: {tmp_path}" in screen.getvalue()) == bool(status)
    assert ("1 WRONG" in screen.getvalue()) == bool(status)
