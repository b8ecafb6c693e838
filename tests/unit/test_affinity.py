"""The CPUs of an adopted process: what its cpuset has, by either kind of cgroups."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.node import affinity
from slurm_adopt.slurm.cgroup import cpuset
from slurm_adopt.slurm.errors import SetupError
from tests.fakes.tree import ALL, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CORES = "ConstrainCores=yes"
MINE = sorted(os.sched_getaffinity(0))
FIRST = MINE[0]

# (list of CPUs, what it says)
LISTS = [
    ("0", {0}),
    ("0-3,8", {0, 1, 2, 3, 8}),
    ("0-1,4-5\n", set()),
    ("", set()),
    ("0-", set()),
    ("3-1", set()),
    ("0,x", set()),
    ("0-99999999999", set()),
]


@pytest.mark.parametrize(("text", "expected"), LISTS)
def test_lists(text: str, expected: set[int]) -> None:
    assert cpuset.parse(text) == expected


STEP = "slurm/uid_5001/job_7/step_extern"
SCOPE = "system.slice/n1_slurmstepd.scope/job_7/step_extern/user"


def confined(top: Path, pid: int, cpus: str, *, unified: bool = False, at: str = "") -> Tree:
    """Have a process in a cpuset with these CPUs; v2: in a cgroup of it, or as `at` says."""
    tree = Tree(top)
    if unified:
        tree.mount("", "cgroup2")
        tree.make(f"{SCOPE}/task_0")
        tree.process(pid, f"0::/{SCOPE}/task_0")
        (tree.mnt / (at or SCOPE) / "cpuset.cpus.effective").write_text(f"{cpus}\n")
    else:
        tree.mount("cpuset")
        tree.make(f"cpuset/{STEP}")
        tree.process(pid, f"6:cpuset:/{STEP}")
        (tree.mnt / "cpuset" / STEP / "cpuset.effective_cpus").write_text(f"{cpus}\n")
    return tree


@pytest.mark.parametrize(
    ("unified", "at"),
    [(False, ""), (True, ""), (True, f"{SCOPE}/task_0"), (True, os.path.dirname(SCOPE))],
)
def test_of_cpuset(tmp_path: Path, unified: bool, at: str) -> None:
    layout = confined(tmp_path, 42, "1,5-6", unified=unified, at=at).layout(ALL, CORES)
    assert affinity.of_cpuset(42, layout) == {1, 5, 6}


def test_the_whole_host_s_is_none(tmp_path: Path) -> None:
    """Nor is one that cannot be read."""
    tree = confined(tmp_path, 42, "0-7", unified=True, at=".")
    assert affinity.of_cpuset(42, tree.layout(ALL, CORES)) == set()


@contextmanager
def bound(*cpus: int) -> Iterator[int]:
    """Hold a process that may use these CPUs alone; yield its pid."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            os.sched_setaffinity(process.pid, cpus)
            yield process.pid
        finally:
            process.kill()


def test_widened_and_back(tmp_path: Path) -> None:
    assert len(MINE) > 1
    with bound(FIRST) as pid:
        layout = confined(tmp_path, pid, ",".join(map(str, MINE))).layout(ALL, CORES)
        assert affinity.widen(pid, layout) == f"CPUs {','.join(map(str, MINE))} instead of {FIRST}"
        assert sorted(os.sched_getaffinity(pid)) == MINE
        assert affinity.widen(pid, layout) == ""
        assert affinity.restore(pid, {FIRST}) == ""
        assert os.sched_getaffinity(pid) == {FIRST}


# (the job's cpuset, the process before and after)
NEVER_MORE = [(str(FIRST), [FIRST]), ("", [FIRST]), (str(FIRST), MINE)]


@pytest.mark.parametrize(("cpus", "has"), NEVER_MORE)
def test_nobody_loses_or_gets_what_the_job_has_not(
    tmp_path: Path, cpus: str, has: list[int]
) -> None:
    with bound(*has) as pid:
        assert affinity.widen(pid, confined(tmp_path, pid, cpus).layout(ALL, CORES)) == ""
        assert sorted(os.sched_getaffinity(pid)) == has


def test_what_the_kernel_does_not_give(tmp_path: Path) -> None:
    """It is said, and a process that is gone as well."""
    with bound(FIRST) as pid:
        layout = confined(tmp_path, pid, f"{FIRST},4000").layout(ALL, CORES)
        with pytest.raises(
            SetupError, match=f"may use only the CPUs {FIRST}, though its job has {FIRST},4000"
        ):
            affinity.widen(pid, layout)
    with pytest.raises(SetupError, match="No such process"):
        affinity.widen(pid, layout)
    assert affinity.restore(pid, {FIRST}) == ""
