"""The page on security names tests and commands that are there, in each row of its tables."""

from __future__ import annotations

import re
from pathlib import Path

from tests.dev.__main__ import main

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs/explanation/security.md").read_text()
WHO = re.search(r"^## Who could try what$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
TRIED = 30  # rows, at the least


def rows(text: str) -> list[list[str]]:
    """Return the rows of tables, without their heads."""
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [
        row
        for row, below in zip(cells, [*cells[1:], ["x"]])
        if not row[0].startswith("---") and not below[0].startswith("---")
    ]


def test_each_row_names_what_shows_it() -> None:
    assert WHO
    tried = rows(WHO[1])
    assert len(tried) >= TRIED
    missing = []
    for row in tried:
        named = re.findall(r"`([^`]+)`", row[-1])
        assert named, row
        for name in named:
            there = (
                name.split()[1] in main.commands
                if name.startswith("./dev ")
                else ((TOP / "tests" / name).is_file())
            )
            if not there:
                missing.append(name)
    assert missing == []


def test_figures_are_of_commands() -> None:
    found = re.search(r"^## Figures$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    named = [row[0].strip(" `").split()[1] for row in rows(found[1])]
    assert named == ["faults", "inject", "fuzz", "soak", "lockout"]
    assert set(named) <= {*main.commands}
