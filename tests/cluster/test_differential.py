"""The C module and ours in the same situations: the same, or different on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster import compare
from tests.cluster.cluster import Settings
from tests.cluster.differences import ANY, DIFFERENCES, Difference
from tests.cluster.driver import Driver
from tests.cluster.situations import Scenery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster

ROWS = compare.rows()


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
    """No reason is written down for a row that is not run."""
    seen = {(row.name, row.options) for row in ROWS}
    for name, options in difference.rows.items():
        assert name in {name for name, _ in seen}
        assert options == ANY or {(name, given) for given in options} <= seen
    assert difference.why
    assert difference.follows
