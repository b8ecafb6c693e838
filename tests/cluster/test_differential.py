"""The C module and ours in the same situations: the same, or different on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest
from rich.console import Console

from slurm_adopt.decision.options import BY_NAME
from tests import decisions
from tests.cluster.harness.cluster import Settings
from tests.cluster.harness.driver import Driver
from tests.cluster.scenarios.differences import (
    ANY,
    DIFFERENCES,
    OURS,
    RELEASES,
    Difference,
    Release,
    Rows,
)
from tests.cluster.scenarios.situations import Scenery
from tests.cluster.tools import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

ROWS = compare.rows()
T = TypeVar("T")


@pytest.fixture(scope="module")
def scenery(running_cluster: Cluster) -> Iterator[Scenery]:
    """Arrange situations, each until another one is wanted."""
    with Driver(running_cluster.n1) as driver, Scenery(running_cluster, driver) as found:
        yield found
    running_cluster.reconfigure(Settings())


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(scenery: Scenery, row: compare.Row) -> None:
    """Differ where a reason is written down, and nowhere else."""
    for verdict in compare.verdicts(scenery, row):
        assert not verdict.wrong, f"{verdict}: {verdict.theirs} | {verdict.ours}"
        assert not verdict.ours.ended


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda one: one.name)
def test_every_listed_row_is_seen(difference: Difference) -> None:
    """No reason is written down for a row that is not run; one without rows is ours alone."""
    are_run(difference.rows)
    assert bool(difference.rows) != bool(difference.alone)
    assert difference.why
    assert difference.follows


@pytest.mark.parametrize("release", RELEASES, ids=lambda one: one.what)
def test_every_row_of_a_release_is_seen(release: Release) -> None:
    """What the releases differ in stands in a row that is run."""
    are_run(release.rows)
    assert release.rows
    assert release.why


def test_every_row_of_ours_is_seen() -> None:
    are_run(OURS)


def test_the_report_names_what_a_row_is_about() -> None:
    """A line has the verdict, and the numbers of what the releases of the C module differ in."""
    row = compare.Row("the only job fails", "alice", "action_adopt_failure=deny")
    seen = compare.Seen("PAM_PERM_DENIED", (), {}, (), "", "")
    console = Console(width=200)
    with console.capture() as printed:
        console.print(compare.table([compare.Verdict(row, "call", seen, seen)]), compare.releases())
    (line,) = [line for line in printed.get().splitlines() if row.options in line]
    numbers = line.rstrip("│ ").rpartition("│")[2].strip()
    named = [RELEASES[int(number) - 1].what for number in numbers.split(", ")]
    assert named == ["whether action_adopt_failure has an effect", "text of a failed adoption"]
    assert all(f" {number} " in printed.get() for number in numbers.split(", "))


@pytest.mark.parametrize("one", [one for one in DIFFERENCES if one.alone], ids=lambda one: one.name)
def test_what_is_not_tried_on_the_c_module_is_tried_on_ours(one: Difference) -> None:
    assert one.alone in {row.situation for row in decisions.rows()}
    assert one.alone not in {row.situation for row in ROWS}


def are_run(rows: Rows[T]) -> None:
    """Find each in the comparison; what stands for any options is not there for some as well."""
    seen = {(row.name, row.options) for row in ROWS}
    for name, options in rows.items():
        assert name in {name for name, _ in seen}
        assert {(name, given) for given in options if given != ANY} <= seen


@pytest.mark.parametrize("option", [name for name in decisions.ANSWERS if BY_NAME[name].since])
def test_every_value_is_seen_in_a_login(option: str) -> None:
    """Each value of what governs a situation, and its default, by pamtester and by ssh as well."""
    named = [name for name, answer in compare.GOVERNING.items() if answer == option]
    found = {row.options for row in ROWS if row.situation in named and compare.in_other_ways(row)}
    wanted = {"", *(f"{option}={value}" for value in decisions.ANSWERS[option])}
    assert wanted <= found
