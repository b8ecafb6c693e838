"""The processes of this host, as several checks need them: whose, what, in which job.

Of a process that may be a user's only `status` and `cgroup` are read: nobody can keep us waiting.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli import processes
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.cgroup import paths

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from slurm_adopt.cli.checks.host import Host

FIRST_USER = 1000  # UID_MIN of login.defs
RESERVED = range(60000, 65536)  # of distributions and systemd: dynamic users, packages, nobody

_OF_USERS = re.compile(r"/user\.slice/|/user@\d+\.service/")  # users make cgroups of any name there


class Process(NamedTuple):
    """One process; `program` is that of a process of root's, else the name that it goes by."""

    pid: int
    parent: int
    uid: int
    program: str
    cgroups: tuple[str, ...]  # its paths, of each hierarchy
    nested: bool = False  # in a PID namespace below this one, as of a container

    @property
    def in_job(self) -> bool:
        """Whether a hierarchy has it in a step of a job."""
        return any(map(_job, self.cgroups))

    @property
    def job_id(self) -> int | None:
        """The job whose step it is in; None in no job, and where the path has no job's id."""
        ids = (paths.job_id_of(job.rpartition("/")[2]) for job in map(_job, self.cgroups))
        return next((job_id for job_id in ids if job_id is not None), None)

    @property
    def cgroup(self) -> str:
        """The most telling of its paths: the longest."""
        return max(self.cgroups, key=len, default="")


def _job(path: str) -> str:
    """Return the cgroup of the job that a cgroup is in a step of; "" for none."""
    found = paths.any_step(path)
    return found[0] if found and not _OF_USERS.search(found[0]) else ""


def is_user(uid: int) -> bool:
    """Say whether a uid is a person's, and not root's or a service's."""
    return uid >= FIRST_USER and uid not in RESERVED


def of(host: Host) -> list[Process]:
    """Return all processes of this host that may be seen."""
    return host.once("processes", look)


def look(root: str = proc.PROC) -> list[Process]:
    """Look at each process once."""
    return list(map(_process, processes.listed(root).values()))


def running(host: Host, names: Container[str]) -> list[Process]:
    """Return root's processes that run a program of one of these names; no container's."""
    return [one for one in anywhere(host, names) if not one.nested]


def anywhere(host: Host, names: Container[str]) -> list[Process]:
    """Return the same with those of containers, of which the host's root is root, too."""
    return [one for one in of(host) if one.uid == 0 and one.program in names]


def is_this_host_s(pid: int) -> bool:
    """Say whether a process of root's sees the files and processes that we see.

    Its program may be run then, by its path too. The root of a container or of a changed root
    directory is root as well, and what is in there may be a user's.
    """
    try:
        same = os.path.samefile(f"{proc.PROC}/{pid}/root", "/")
    except OSError:
        return False
    mine, its = (proc.link(f"{proc.PROC}/{one}/ns/pid") for one in ("self", pid))
    return same and bool(mine) and mine == its


def daemons(processes: Iterable[Process]) -> list[Process]:
    """Return those that are no children of another of them."""
    found = list(processes)
    pids = {one.pid for one in found}
    return [one for one in found if one.parent not in pids]


def sshds(host: Host) -> list[Process]:
    """Return the sshds that take connections."""
    return daemons(running(host, ("sshd",)))


def _process(seen: processes.Process) -> Process:
    """Add cgroups, and of root's the program."""
    lines = proc.read(f"{seen.path}/cgroup").decode("utf-8", "replace").split("\n")
    cgroups = tuple(line.split(":", 2)[2] for line in lines if line.count(":") > 1)
    program = seen.program
    if seen.is_root:
        program = os.path.basename(proc.exe(seen.path)) or program
    return Process(seen.pid, seen.parent, seen.uids[0], program, cgroups, seen.nested)
