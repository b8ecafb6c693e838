"""The table of `./dev matrix`: what a cell's row says, and what it leaves of an older table."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.cluster import cells as in_namespaces
from tests.cluster.harness.config import DIALECTS
from tests.cluster.harness.root import BuildError
from tests.cluster.harness.suites import SUITES
from tests.cluster.scenarios.credentials import RELEASES, TAKES
from tests.dev import matrix
from tests.vm import cells as in_machines
from tests.vm import stock

if TYPE_CHECKING:
    from tests.dev.matrix import Cell

CELL = in_namespaces.CELLS["24.11"]
MACHINE = in_machines.CELLS["v2-24.11"]
TESTS = ("one job", "auth", "memory (linux)", "memory (cgroup)")
REPORT = """\
<testsuites><testsuite>
<testcase name="test_cell[24.11-one_job]"/>
<testcase name="test_cell[24.11-none]"><failure message="no"/></testcase>
<testcase name="test_cell[24.11-newest]"><error message="no"/></testcase>
<testcase name="test_cell[24.11-scancel]"><system-out>said</system-out></testcase>
<testcase name="test_cell[24.11-array]"/>
<testcase name="test_cell[24.11-array]"><error message="in the teardown"/></testcase>
</testsuite></testsuites>
"""

ROWS = [  # row, what it says, whether all is well
    (matrix.Row(CELL, TESTS), "4 of 4 passed", True),
    (matrix.Row(CELL, TESTS, ("none",)), "4 of 5 passed, failed: none", False),
    (matrix.Row(CELL, TESTS, status=1), "4 of 4 passed, and then it broke off", False),
    (matrix.Row(CELL), "0 of 0 passed, and then it broke off", False),
    (matrix.Row(CELL, missing="needs a machine"), "needs a machine", False),
]

TITLES = [  # test, cell, in words
    ("test_cell[20.11-22.05-one_job]", "20.11-22.05", "one job"),
    ("test_several_jobs[v2-24.11]", "v2-24.11", "several jobs"),
    ("test_demo", "demo-trixie", "demo"),
    ("test_one_job[v2-24.11-a/b-publickey]", "v2-24.11", "one job (a/b-publickey)"),
    ("test_stopped[allow-v2-26.05-True]", "v2-26.05", "stopped (allow-True)"),
]


def test_rows() -> None:
    for row, said, good in ROWS:
        assert (row.result, row.good) == (said, good)


def test_titles() -> None:
    for test, cell, words in TITLES:
        assert matrix.title(test, cell) == words


def test_report(tmp_path: Path) -> None:
    """A test that failed, or could not begin or end, is named."""
    report = tmp_path / "report.xml"
    assert matrix.read(report, "24.11") == ((), ())
    report.write_text(REPORT)
    assert matrix.read(report, "24.11") == (("one job", "scancel"), ("none", "newest", "array"))


def play(monkeypatch: pytest.MonkeyPatch, said: dict[str, matrix.Row]) -> None:
    monkeypatch.setattr(matrix, "run_cell", lambda _, cell: said[cell.name])
    monkeypatch.setattr(time, "strftime", lambda _: "a day")


def test_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come into the table between the marks, in the order of the cells; others stay."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{matrix.BEGIN}\nolder\n{matrix.END}\nafter\n")
    monkeypatch.setattr(matrix, "PAGE", page)
    rows = {
        "v2-24.11": matrix.Row(MACHINE, TESTS, seconds=700),
        "24.11": matrix.Row(CELL, TESTS, seconds=7),
    }
    play(monkeypatch, rows)
    for name in rows:
        assert matrix.run(Console(quiet=True), [name], write=True) == 0
    text = page.read_text()
    table = (
        f"| 24.11 | 24.11 | 3.11 | {CELL.where} | 4 of 4 passed | 7 | a day |\n"
        "| v2-24.11 | 24.11 | 3.13 | v2, VM | 4 of 4 passed | 700 | a day |\n"
        "\nPlayed in:\n\n- 24.11, v2-24.11: one job, auth, memory\n"
    )
    assert text.startswith(f"before\n{matrix.BEGIN}\n| cell | Slurm |")
    assert text.endswith(f"{table}{matrix.END}\nafter\n")
    assert "older" not in text

    play(
        monkeypatch, {name: matrix.Row(row.cell, missing="needs it") for name, row in rows.items()}
    )
    assert matrix.run(Console(quiet=True), ["24.11"], write=True) == 1
    assert page.read_text() == text  # what could not be run leaves its last run


def test_what_a_missing_cell_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the table, and on the page where there is no older row; the whole has failed."""

    def no_mirror(*_: object) -> Path:
        raise BuildError("no mirror")

    page = tmp_path / "page.md"
    page.write_text(f"{matrix.BEGIN}{matrix.END}")
    monkeypatch.setattr(matrix, "PAGE", page)
    monkeypatch.setenv("SLURM_ADOPT_CACHE", str(tmp_path))
    monkeypatch.setattr(matrix, "suite_root", no_mirror)
    monkeypatch.setenv("PATH", str(tmp_path))
    console = Console(record=True, width=200)
    assert matrix.run(console, ["26.05", "v2-26.05"], write=True) == 1
    for text in (console.export_text(), page.read_text()):
        assert "needs the packages of Debian sid and Debian bookworm" in text
        assert "needs qemu-system-x86 and e2fsprogs and openssh-client" in text


CLEANS = """\
import sys, time
try:
    print("begun", flush=True)
    time.sleep(600)
finally:
    open(sys.argv[1], "w").close()
"""


def test_pytest_that_is_ended(tmp_path: Path) -> None:
    """It cleans up as after Ctrl-C."""
    cleaned = tmp_path / "cleaned"
    argv = [*matrix.HEEDING, sys.executable, "-c", CLEANS, str(cleaned)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    matrix._end(process)
    assert process.returncode
    assert cleaned.exists()
    process.stdout.close()


def test_pytest_that_takes_too_long(tmp_path: Path) -> None:
    """It is ended, and has failed."""
    output = tmp_path / "output"
    assert matrix._pytest(["--collect-only"], output, 0) == -1
    assert "not within 0 s" in output.read_text()


@pytest.mark.parametrize("cell", matrix.CELLS.values(), ids=matrix.CELLS)
def test_cells(cell: Cell) -> None:
    """Each has a name without a comma, and releases whose dialect is known."""
    assert "," not in cell.name
    assert {suite.slurm for suite in cell.suites} <= DIALECTS.keys()
    assert cell.slurm
    assert cell.python


def test_scenarios() -> None:
    for cell in in_namespaces.CELLS.values():
        assert len(set(cell.scenarios)) == len(cell.scenarios) >= len(CELL.scenarios)


def test_every_release_has_cells() -> None:
    cells = in_namespaces.CELLS.values()
    assert {suite for cell in cells for suite in cell.suites} == set(SUITES.values())


def test_machines() -> None:
    """The files of tests in machines have the cells that the table has."""
    by_file = {file: set(cells) for file, cells in in_machines.OF_FILE.items()}
    by_file["test_stock.py"] = set(stock.CELLS)
    found: dict[str, set[str]] = {}
    for cell in in_machines.CELLS.values():
        found.setdefault(cell.file, set()).add(cell.name)
    assert found == by_file
    for cell in in_machines.CELLS.values():
        suite = (in_machines.OF_FILE | {"test_stock.py": stock.CELLS})[cell.file][cell.name]
        assert cell.suite in (suite, SUITES.get(str(suite)))


def short(said: str) -> str:
    """Return what the page has for an answer: `answered` and `for us` stand above its table."""
    return re.sub(r"^answered, (.*), for us$", r"\1", said)


def test_what_slurmd_takes_is_on_the_page() -> None:
    """The table of what a slurmd takes is the one that is asked of the real ones."""
    lines = matrix.PAGE.read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    start = rows.index(["what is sent", *RELEASES]) + 2
    expected = [[what, *map(short, said)] for what, said in TAKES.items()]
    assert rows[start : start + len(TAKES)] == expected
