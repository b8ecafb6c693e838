"""Faults of jobs: suspended, frozen, at a limit, their cgroups or they themselves gone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.cluster.faults.fault import ADOPT, NEWEST, NO_JOBS, OWN, SUSPENDED, UNKNOWN, Fault
from tests.cluster.harness import cgroups
from tests.cluster.harness.config import USERS
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

OWNERS = {"one": USERS["alice"], "old": USERS["bob"], "new": USERS["bob"]}
ALL = ("one", "old", "new")

# Up to what processes there need to live is in files of /dev/shm: no page of it can be taken back.
FILL = """
cd {memory}
echo $$ >cgroup.procs
limit=$(cat ../memory.limit_in_bytes) used=$(cat ../memory.usage_in_bytes)
head -c $(((limit - used - 400000) / 4096 * 4096)) /dev/zero >/dev/shm/fill
"""
# Its processes go to the root of the hierarchy, and are in the job by all others.
EMPTY = """
cd {memory}
for group in task_* .; do
    for pid in $(cat $group/cgroup.procs); do echo $pid >/sys/fs/cgroup/memory/cgroup.procs; done
done
cd ..
rmdir {memory}/task_* {memory}
"""


def step(arena: Arena, name: str, controller: str) -> str:
    """Return the directory of an extern step in a hierarchy."""
    path = cgroups.of_extern_step("n1", OWNERS[name], arena.jobs[name])
    return f"/{cgroups.folder(controller, path)}"


@contextlib.contextmanager
def frozen(arena: Arena) -> Iterator[None]:
    """Freeze all extern steps here.

    What `scontrol suspend` of 22.05 stops is the other steps; these are frozen for a moment only.
    """
    files = [f"{step(arena, name, 'freezer')}/freezer.state" for name in ALL]
    try:
        arena.sh("\n".join(f"echo FROZEN >{file}" for file in files))
        yield
    finally:
        arena.sh("\n".join(f"echo THAWED >{file}" for file in files))


@contextlib.contextmanager
def at_its_memory_limit(arena: Arena) -> Iterator[None]:
    """Fill the memory of alice's job."""
    try:
        arena.sh(FILL.format(memory=step(arena, "one", "memory")))
        yield
    finally:
        arena.sh("rm -f /dev/shm/fill")


@contextlib.contextmanager
def at_a_pids_limit(arena: Arena) -> Iterator[None]:
    """Give alice's extern step a cgroup in the hierarchy `pids`, with no room for a process.

    Slurm makes none there; a site's prolog may.
    """
    folder = step(arena, "one", "pids")
    try:
        arena.sh(f"mkdir -p {folder}; echo 0 >{folder}/pids.max")
        yield
    finally:
        arena.sh("cd /sys/fs/cgroup/pids; find slurm_n1 -depth -type d -exec rmdir {} +")


@contextlib.contextmanager
def without_a_cgroup(arena: Arena) -> Iterator[None]:
    """Take away the extern step's cgroup in one hierarchy, of alice's job."""
    arena.sh(EMPTY.format(memory=step(arena, "one", "memory")))
    try:
        yield
    finally:
        arena.end_jobs()


def ended(*names: str) -> Bring:
    """End jobs."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        jobs = [arena.jobs[name] for name in names]
        arena.cluster.cancel(*jobs)
        for job in jobs:
            arena.cluster.wait_gone(job)
        try:
            yield
        finally:
            arena.end_jobs()

    return brought


def extern_step_gone(name: str) -> Bring:
    """End the extern step of a job that goes on: its processes, so that its stepd ends it."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        socket = arena.cluster.socket("n1", arena.jobs[name])
        arena.sh(f"kill -KILL $(cat {step(arena, name, 'freezer')}/cgroup.procs)")
        wait_for("the extern step gone", lambda: not socket.exists(), 20)
        try:
            yield
        finally:
            arena.end_jobs()

    return brought


STOPPED = {"one": SUSPENDED, "two": UNKNOWN}
CHOSEN = {"one": SUSPENDED, "two": SUSPENDED}

FAULTS = (
    Fault("jobs frozen", frozen, STOPPED, "the job is suspended; its user resumes", CHOSEN),
    # The user's own limit, and the user's own login: the kernel may end it once it is in the job.
    Fault("job at its memory limit", at_its_memory_limit, {"one": OWN},
          may_end=frozenset({"one"}), jobs_end=True),
    Fault("job at a pids limit", at_a_pids_limit, {"one": OWN}, may_end=frozenset({"one"})),
    Fault("extern step without a cgroup", without_a_cgroup, {"one": ADOPT}, jobs_end=True),
    Fault("only job ended", ended("one"), {"one": NO_JOBS}, "no job on this node", jobs_end=True),
    Fault("newest job ended", ended("new"), jobs_end=True),
    # The job that was chosen is gone; the other one is the only job then.
    Fault("extern step gone, of one of two jobs", extern_step_gone("old"), {"two": NEWEST},
          jobs_end=True),
)  # fmt: skip
