"""A part of `./dev faults`: every third fault once, by fronts and in phases that take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.faults.arena import Arena
from tests.cluster.faults.play import play
from tests.cluster.faults.table import FAULTS
from tests.cluster.tools.faults import rounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

EVERY = 3
OFTEN = [name for name, fault in FAULTS.items() if fault.often][::EVERY]
TURNS = {name: number for number, name in enumerate(OFTEN)}


@pytest.fixture(scope="module")
def arena(running_cluster: Cluster) -> Iterator[Arena]:
    """Have the jobs of all kinds of users as long as this file is played."""
    running_cluster.cancel_all()
    yield Arena(running_cluster)
    running_cluster.cancel_all()


@pytest.mark.parametrize("name", OFTEN)
def test_fault(arena: Arena, name: str) -> None:
    """Each kind of user ends where the options say, in time, and nothing is left."""
    fault = FAULTS[name]
    strict = [one for one in rounds(fault) if one[2] == "deny"]
    front, phase, options = strict[TURNS[name] % len(strict)]
    rows = play(arena, fault, front, phase, options)
    assert [row for row in rows if row.wrong] == []
