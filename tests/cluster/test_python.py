"""The Python of bookworm itself; those of other suites are in the cells of the matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.scenarios import pythons

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster


def test_own_python(cluster: Cluster) -> None:
    pythons.own_python(cluster)
