"""How `./dev test` divides the tests: processes beside each other, each with a cluster of its own.

A test waits most of its time, for Slurm or for a time limit: so there are more processes than
cores. Tests of one file stay together and in their order, since they may share what a fixture has
set up. A long file in which parts share nothing is divided.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xdist.workermanage import WorkerController

PER_CORE, AT_MOST = 3, 8

ALL = ("tests",)
QUICK = ("tests/unit", "tests/cluster/test_first_light.py")

# Files that are divided -> the part of a test's name that names its unit.
DIVIDED = {
    "tests/cluster/test_lockout.py": r"\[.*",
    "tests/cluster/test_own_node.py": r"\[(any IPv4|any|one address)\b",
    "tests/cluster/test_storm.py": r".*",
}

# Units that take long, in seconds on two idle cores: they come first. Those that are not here count
# by their number of tests.
SECONDS: dict[str, float] = {}
ON_A_CLUSTER, WITHOUT = 0.4, 0.05


def beside_each_other(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return pytest's arguments for tests in several processes."""
    number = min(PER_CORE * (os.cpu_count() or 1), AT_MOST)
    return (f"-n{number}", "--dist=loadfile", "--no-loadscope-reorder", *chosen)


def unit_of(nodeid: str) -> str:
    """Return the unit of a test."""
    file, _, test = nodeid.partition("::")
    found = re.search(DIVIDED[file], test) if file in DIVIDED else None
    return f"{file}::{found.group()}" if found else file


def in_order(units: Iterable[tuple[str, int]]) -> list[str]:
    """Return the units, given with their number of tests, in the order in which they start."""
    return [unit for unit, _ in sorted(units, key=lambda one: -_seconds(*one))]


def _seconds(unit: str, tests: int) -> float:
    of_one = ON_A_CLUSTER if unit.startswith("tests/cluster") else WITHOUT
    return SECONDS.get(unit) or tests * of_one


class Scheduler(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out units; a process gets the next one when it begins the last test of another."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Do it later than xdist, which would do it two tests before: they may take minutes."""
        if self._pending_of(self.assigned_work[node]) <= 1 or not self.workqueue:
            super()._reschedule(node)
