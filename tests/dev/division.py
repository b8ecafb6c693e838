"""How `./dev test` divides the tests: processes beside each other, each with a cluster of its own.

A test waits most of its time, for Slurm or for a time limit: so there are more processes than
cores. The tests of a file stay together and in their order, since they share what fixtures set up.
Unit tests come first. Then the files that take long: else the last would run alone at the end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.cluster.cells import CELLS, DEFAULT
from tests.cluster.harness.suites import BOOKWORM, WITH_LAUNCHERS, WITH_MORE, WITH_VALGRIND
from tests.dev import deb

if TYPE_CHECKING:
    from tests.cluster.harness.suites import Suite

PER_CORE, AT_MOST = 4, 8  # processes
PATIENCE = "3"  # how many times as long a wait may last, since they take CPU from each other

ALL = ("tests",)
QUICK = ("tests/unit", "tests/cluster/test_adoption.py")

# Seconds that files take on a machine that does nothing else, where their number of tests says
# something else.
SECONDS = {
    "tests/cluster/test_storm.py": 111,
    "tests/cluster/test_faults.py": 110,
    "tests/cluster/test_matrix.py": 90,
    "tests/cluster/test_lockout.py": 83,
    "tests/cluster/test_decisions_by_pam_exec.py": 120,
    "tests/cluster/test_pam_exec.py": 90,
    "tests/cluster/test_check_slurm.py": 83,
    "tests/cluster/test_check_pam.py": 95,
    "tests/cluster/test_soak.py": 60,
    "tests/cluster/test_where_slurm_is.py": 62,
    "tests/cluster/test_inject.py": 75,
    "tests/cluster/test_check.py": 70,
    "tests/cluster/test_programs.py": 60,
    "tests/unit/test_any_stepd.py": 60,
    "tests/unit/test_patience.py": 65,
    "tests/cluster/test_use.py": 56,
    "tests/cluster/test_nothing_left.py": 55,
    "tests/cluster/test_install.py": 45,
    "tests/cluster/test_job_id_by_shell.py": 50,
    "tests/cluster/test_ansible.py": 50,
    "tests/cluster/test_deb.py": 45,
    "tests/cluster/test_steering.py": 60,
    "tests/cluster/test_integrity.py": 60,
    "tests/cluster/test_tutorial.py": 40,
    "tests/cluster/test_instructions.py": 45,
    "tests/unit/test_lint.py": 30,
    "tests/unit/test_fuzz.py": 25,
}
OF_ONE_TEST = (0.05, 0.8)  # seconds of one test, without a cluster and on one


def beside_each_other(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return pytest's arguments for tests in several processes."""
    number = min(PER_CORE * (os.cpu_count() or 1), AT_MOST)
    shown = ("-p", "tests.dev.progress", "-o", "console_output_style=classic")
    how = ("--dist=loadfile", "--no-loadscope-reorder", *shown)
    return (f"-n{number}", *how, *chosen)


def rank(file: str, tests: int) -> tuple[bool, float]:
    """Return when a file with this number of tests has its turn, as a key to sort by."""
    on_cluster = file.startswith("tests/cluster/")
    return on_cluster, -(SECONDS.get(file) or tests * OF_ONE_TEST[on_cluster])


def suites(chosen: tuple[str, ...]) -> list[Suite]:
    """Return the suites of which clusters are made for these tests, and packages."""
    cells = [suite for name in DEFAULT for suite in CELLS[name].suites]
    more = [WITH_LAUNCHERS, WITH_MORE, WITH_VALGRIND, deb.BUILD, *cells]
    return [BOOKWORM, *(more if chosen == ALL else [])]
