"""The cells of the matrix, one cluster after the other; `--cells` says which (see cells.py)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster.cells import Cell, chosen
from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each scenario of each chosen cell."""
    pairs = chosen(metafunc.config.getoption("cells"))
    ids = [f"{cell.name}-{scenario.__name__}" for cell, scenario in pairs]
    metafunc.parametrize(("cell", "scenario"), pairs, ids=ids)


class Stage:
    """The cluster of one cell at a time."""

    def __init__(self, config: pytest.Config) -> None:
        """Start with none."""
        self.config = config
        self.cell: Cell | None = None
        self.cluster: Cluster | None = None

    def of(self, cell: Cell) -> Cluster:
        """Return the cell's cluster; that of another goes."""
        if self.cluster is None or self.cell is not cell:
            self.clear()
            cluster = Cluster(f"{cell.name}-{os.getpid()}", cell.settings, roots=cell.roots)
            cluster.up()
            self.cell, self.cluster = cell, cluster
        show_logs_of(self.config, self.cluster)
        return self.cluster

    def clear(self) -> None:
        """Take the cluster down."""
        cluster, self.cluster = self.cluster, None
        if cluster:
            cluster.down()


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Hold the clusters."""
    found = Stage(request.config)
    yield found
    found.clear()


@pytest.mark.cluster
def test_cell(stage: Stage, cell: Cell, scenario: Callable[[Cluster], None]) -> None:
    """Play a scenario; it finds no jobs, and leaves none."""
    cluster = stage.of(cell)
    cluster.pam(pam.with_module())
    try:
        scenario(cluster)
    finally:
        cluster.cancel_all()
        cluster.reconfigure(cell.settings)
