"""A user who freezes the own job locks nobody out: `./dev lockout` in short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.tools import lockout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

TRIES, PARALLEL, PROBES = 25, 5, 5
NAMES = (
    "v1-22.05/account/publickey/stopped",
    "v1-22.05/account/keyboard/scancel-loop",
    "v1-22.05/both/publickey/freezer-loop-10ms",
    "v1-22.05/both/keyboard/own-memory",
)


@pytest.fixture(scope="module")
def site(running_cluster: Cluster) -> Iterator[lockout.Namespaces]:
    """Give sshd few startups, and slurmd our Epilog."""
    found = lockout.Namespaces(running_cluster, penalties=False)
    with found.prepared():
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_nobody_is_locked_out(cluster: Cluster, site: lockout.Namespaces, name: str) -> None:
    """Root and another user get in each time, nothing is left, and nobody is outside of a job."""
    assert site.cluster is cluster
    found = lockout.Play(site, lockout.CELLS[name], TRIES, PARALLEL, PROBES).play()
    assert not found.missed, found.told()


def test_cells_are_chosen_by_name() -> None:
    """Those in a machine only where they are asked for."""
    every = lockout.chosen("", machines=False)
    assert {cell.place for cell in every} == {"v1-22.05", "v1-24.11"}
    (one,) = lockout.chosen("v2-*/c-module/*", machines=False)
    assert one.name == "v2-24.11/c-module/publickey/stopped"
    assert lockout.chosen("nonsense", machines=True) == []
