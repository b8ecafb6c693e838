"""How `./dev test` divides the tests: processes beside each other, each with a cluster of its own.

A test waits most of its time, for Slurm or for a time limit: so there are more processes than
cores. The tests of a file stay together and in their order, since they share what fixtures set up.
Files that take long start first: else the last of them would run alone at the end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.cluster.cells import CELLS, DEFAULT
from tests.cluster.harness.suites import BOOKWORM, WITH_LAUNCHERS

if TYPE_CHECKING:
    from tests.cluster.harness.suites import Suite

PER_CORE, AT_MOST = 3, 8  # processes

ALL = ("tests",)
QUICK = ("tests/unit", "tests/cluster/test_first_light.py")

# Seconds that files take on a machine that does nothing else, where their number of tests says
# something else.
SECONDS = {
    "tests/cluster/test_own_node.py": 133,
    "tests/cluster/test_storm.py": 111,
    "tests/cluster/test_matrix.py": 90,
    "tests/cluster/test_lockout.py": 83,
    "tests/cluster/test_where_slurm_is.py": 62,
    "tests/cluster/test_programs.py": 60,
    "tests/unit/test_patience.py": 65,
    "tests/unit/test_lint.py": 30,
}
ON_A_CLUSTER, WITHOUT = 0.8, 0.05  # seconds of one test


def beside_each_other(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return pytest's arguments for tests in several processes."""
    number = min(PER_CORE * (os.cpu_count() or 1), AT_MOST)
    return (f"-n{number}", "--dist=loadfile", "--no-loadscope-reorder", *chosen)


def seconds(file: str, tests: int) -> float:
    """Return about how long a file with this number of tests takes."""
    of_one = ON_A_CLUSTER if file.startswith("tests/cluster/") else WITHOUT
    return SECONDS.get(file) or tests * of_one


def suites(chosen: tuple[str, ...]) -> list[Suite]:
    """Return the suites of which clusters are made for these tests."""
    cells = [suite for name in DEFAULT for suite in CELLS[name].suites]
    return [BOOKWORM, *([WITH_LAUNCHERS, *cells] if chosen == ALL else [])]
