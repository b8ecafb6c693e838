"""`./dev matrix`: all cells, in namespaces and in virtual machines, and one table of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from xml.etree import ElementTree as ET

import click
from rich.table import Table

from tests.cluster.cells import CELLS as IN_NAMESPACES
from tests.cluster.harness.root import BuildError, root_path, suite_root
from tests.vm.cells import CELLS as IN_MACHINES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from tests.cluster.harness.suites import Suite

HERE = Path(__file__).resolve().parents[2]
PAGE = HERE / "docs/reference/compatibility.md"
BEGIN, END = "<!-- begin matrix -->", "<!-- end matrix -->"
HEAD = ("cell", "Slurm", "sshd's Python", "cgroup", "result", "seconds", "last run")
WIDTH = 100  # of a line of text in the page
LEAVING = 120  # seconds that a pytest which is told to end may take to clean up
HEEDING = ("env", "--default-signal=INT")  # a shell's background job would ignore it


class Cell(Protocol):
    """A cell of either kind: tests/cluster/cells.py, tests/vm/cells.py."""

    @property
    def name(self) -> str:
        """What it is called; without a comma."""

    @property
    def suites(self) -> list[Suite]:
        """The suites whose root folders it needs."""

    @property
    def slurm(self) -> str:
        """The releases of Slurm in it."""

    @property
    def python(self) -> str:
        """The Python in the nodes' sshd."""

    @property
    def where(self) -> str:
        """Which cgroups, and what it runs in."""

    @property
    def arguments(self) -> list[str]:
        """What pytest runs."""

    @property
    def limit(self) -> int:
        """Seconds that it may take."""

    def needs(self) -> str:
        """Return what this machine lacks for it."""


CELLS: Mapping[str, Cell] = {**IN_NAMESPACES, **IN_MACHINES}


@dataclass(frozen=True)
class Row:
    """What came of one cell."""

    cell: Cell
    passed: tuple[str, ...] = ()  # tests in words
    failed: tuple[str, ...] = ()
    seconds: float = 0
    missing: str = ""  # what it needs, where it could not be run
    built: float = 0  # seconds for root folders that were not in the cache
    status: int = 0  # of pytest

    @property
    def good(self) -> bool:
        """Say whether it ran and nothing failed."""
        return bool(self.passed) and not (self.missing or self.failed or self.status)

    @property
    def result(self) -> str:
        """What came of it, in words."""
        if self.missing:
            return self.missing
        failed = f", failed: {', '.join(self.failed)}" if self.failed else ""
        broken = "" if self.good or failed else ", and then it broke off"
        return f"{len(self.passed)} of {len(self.passed + self.failed)} passed{failed}{broken}"

    @property
    def played(self) -> str:
        """Its tests without their parameters."""
        titles = (name.partition(" (")[0] for name in self.passed + self.failed)
        return ", ".join(dict.fromkeys(titles))

    @property
    def words(self) -> tuple[str, ...]:
        """Its line in a table, as HEAD has it."""
        cell = self.cell
        today = time.strftime("%Y-%m-%d")
        what = (cell.name, cell.slurm, cell.python, cell.where)
        return (*what, self.result, f"{self.seconds:.0f}", "never" if self.missing else today)


def run(console: Console, names: Sequence[str], write: bool = False) -> int:
    """Run the cells of these names, all if none is given; print the table; return the status.

    `write`: put their rows into docs/reference/compatibility.md as well; those of other cells stay.
    """
    if unknown := [name for name in names if name not in CELLS]:
        raise click.ClickException(
            f"no such cell: {', '.join(unknown)}; there are {', '.join(CELLS)}"
        )
    rows = []
    for name in names or CELLS:
        console.print(f"{name}: cgroup {CELLS[name].where}")
        row = run_cell(console, CELLS[name])
        rows.append(row)
        console.print(f"{name}: {row.result}, {row.seconds:.0f} s", markup=False)
        if write:
            put([row])
    console.print(table(rows))
    return 0 if all(row.good for row in rows) else 1


def put(rows: Sequence[Row]) -> None:
    """Put rows into the page; at once, so that a run that is broken off leaves what it has seen."""
    before, rest = PAGE.read_text().split(BEGIN)
    older, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(rows, older)}{END}{after}")


# One cell


def run_cell(console: Console, cell: Cell) -> Row:
    """Build what the cell needs; run its tests in a pytest of their own."""
    if missing := cell.needs():
        return Row(cell, missing=missing)
    started = time.monotonic()
    wanted = [suite for suite in cell.suites if not root_path(suite).is_dir()]
    try:
        for suite in wanted:
            suite_root(suite, console.print)
    except (BuildError, OSError) as error:
        console.print(str(error), markup=False)
        needs = " and ".join(f"Debian {suite.name}" for suite in wanted)
        return Row(cell, missing=f"needs the packages of {needs}")
    built = time.monotonic() - started if wanted else 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report, output = Path(folder, "report.xml"), Path(folder, "output")
        status = _pytest([*cell.arguments, f"--junitxml={report}"], output, cell.limit)
        passed, failed = read(report, cell.name)
        if status:
            said = output.read_text(errors="backslashreplace")
            console.print(said, markup=False, soft_wrap=True)
    seconds = time.monotonic() - started
    return Row(cell, passed, failed, seconds, built=built, status=status)


def _pytest(arguments: Sequence[str], output: Path, limit: float) -> int:
    """Run pytest; return its status, -1 if it took too long. It cleans up, however we leave."""
    with output.open("w") as file:
        process = subprocess.Popen(
            [*HEEDING, sys.executable, "-m", "pytest", "-q", *arguments],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            file.write(f"\nnot within {limit:g} s\n")
            return -1
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End pytest as Ctrl-C does, so that its fixtures take down what is up."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(LEAVING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read(report: Path, cell: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tests that passed and those that did not, in words; none of a missing report."""
    passed: dict[str, None] = {}
    failed: dict[str, None] = {}
    for case in ET.parse(report).iter("testcase") if report.exists() else ():
        bad = any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        (failed if bad else passed)[title(case.get("name", ""), cell)] = None
    return tuple(name for name in passed if name not in failed), tuple(failed)


def title(test: str, cell: str) -> str:
    """Return a test's name in words: `one job` of `test_cell[CELL-one_job]`.

    That of `test_memory[CELL-some/way]` is `memory (some/way)`.
    """
    name, _, rest = test.removesuffix("]").partition("[")
    parameters = "-".join(word for word in rest.replace(cell, "").split("-") if word)
    if name == "test_cell":
        return parameters.replace("_", " ")
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words} ({parameters})" if parameters else words


# The table


def table(rows: Sequence[Row]) -> Table:
    """Return the table of cells."""
    found = Table(*HEAD[:-1], "roots built in")
    found.columns[0].no_wrap = True
    for row in rows:
        style = "green" if row.good else "bold red"
        name, slurm, python, where, said, seconds, _ = row.words
        built = f"{row.built:.0f} s" if row.built else ""
        found.add_row(name, slurm, python, where, f"[{style}]{said}[/]", seconds, built)
    return found


def markdown(rows: Sequence[Row], older: str = "") -> str:
    """Return the table for a page, and what is played in each cell.

    `older`: the page's present one. Its rows stay where a cell was not run now.
    """
    lines, played = parse(older)
    for row in rows:
        if not row.missing or row.cell.name not in lines:
            lines[row.cell.name] = row.words
            played[row.cell.name] = row.played
    there = [name for name in CELLS if name in lines]
    table = [HEAD, ("---",) * len(HEAD), *(lines[name] for name in there)]
    text = "".join(f"| {' | '.join(words)} |\n" for words in table)
    alike: dict[str, list[str]] = {}
    for name in there:
        alike.setdefault(played.get(name, ""), []).append(name)
    played_in = (f"- {', '.join(names)}: {what}" for what, names in alike.items() if what)
    more = "".join(f"{_wrapped(line)}\n" for line in played_in)
    return f"{text}\nPlayed in:\n\n{more}"


def _wrapped(line: str) -> str:
    return textwrap.fill(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def parse(text: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Read what `markdown` wrote: each cell's words, and what is played in it."""
    rows = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| "))
    lines = {words[0]: tuple(words) for words in rows if len(words) == len(HEAD)}
    unwrapped = text.replace("\n  ", " ").splitlines()
    bullets = (line[2:].partition(": ") for line in unwrapped if line.startswith("- "))
    played = {name: what for names, _, what in bullets for name in names.split(", ")}
    return lines, played
