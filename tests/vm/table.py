"""`./dev vm`: the tests of this folder, and one table of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from rich.table import Table

from tests.vm.cells import CELLS, HERE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

STYLES = {"passed": "green", "failed": "bold red"}


class Results:
    """A plugin of pytest that keeps what came of each test."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.rows: list[tuple[str, str, str, float]] = []  # cell, test, outcome, seconds

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a test's own part, the start of its machine, and what went wrong around it."""
        cell = next((cell for cell in CELLS if cell in report.nodeid), "")
        first = cell not in {row[0] for row in self.rows}
        if report.when == "call":
            what = _name(report)
        elif report.when == "setup" and first:
            what = "the machine comes up"
        elif report.failed:
            what = f"{report.when} of {_name(report)}"
        else:
            return
        self.rows.append((cell, what, report.outcome, report.duration))


def _name(report: pytest.TestReport) -> str:
    """Return a test's name in words, with its parameters but the cell."""
    name, _, parameters = report.nodeid.rpartition("::test_")[2].partition("[")
    for cell in CELLS:
        parameters = parameters.replace(cell, "").strip("-]")
    return " ".join((name.replace("_", " "), f"({parameters})" if parameters else "")).strip()


def run(console: Console, cells: Sequence[str]) -> int:
    """Run the tests of these cells, all if none is given; return the exit status."""
    if unknown := [cell for cell in cells if cell not in CELLS]:
        raise click.ClickException(
            f"no such cell: {', '.join(unknown)}; there are {', '.join(CELLS)}"
        )
    chosen = [name for name in CELLS if name in (cells or CELLS)]
    files = {str(HERE / CELLS[name].file) for name in chosen}
    results = Results()
    arguments = [*sorted(files, reverse=True), "-k", " or ".join(chosen), "-v", "--tb=short"]
    status = pytest.main(arguments, plugins=[results])
    console.print(_table(results.rows))
    return int(status)


def _table(rows: Sequence[tuple[str, str, str, float]]) -> Table:
    table = Table("cell", "what", "result", "seconds")
    table.columns[-1].justify = "right"
    for cell, what, outcome, seconds in rows:
        style = STYLES.get(outcome, "yellow")
        table.add_row(cell, what, f"[{style}]{outcome}[/]", f"{seconds:.0f}")
    return table
