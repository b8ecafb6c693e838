"""The processes of this host, as several checks need them: whose, what, in which job.

Of a process that may be a user's only `status` and `cgroup` are read: nobody can keep us waiting.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli import live_thread
from slurm_adopt.slurm import proc

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from slurm_adopt.cli.checks.host import Host

LARGEST = 1 << 14  # bytes of `status` or `cgroup`
FIRST_USER = 1000  # UID_MIN of login.defs
RESERVED = range(60000, 65536)  # of distributions and systemd: dynamic users, packages, nobody

# A cgroup of any step, after the mount: the job's id where the path has it (slurm/cgroup/paths.py).
_V1 = re.compile(r"/slurm(?:_[^/]*)?/uid_\d+/job_(\d+)/step_")
_V2 = re.compile(r"/[^/]*slurmstepd\.scope/(?:job_(\d+)|s[0-9A-Za-z]{13})/step_")
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
        return any(map(_step, self.cgroups))

    @property
    def job_id(self) -> int | None:
        """The job whose step it is in; None in no job, and where the path has no job's id."""
        found = (_step(path) for path in self.cgroups)
        return next((int(step[1]) for step in found if step and step[1]), None)

    @property
    def cgroup(self) -> str:
        """The most telling of its paths: the longest."""
        return max(self.cgroups, key=len, default="")


def _step(path: str) -> re.Match[str] | None:
    return None if _OF_USERS.search(path) else _V1.search(path) or _V2.search(path)


def is_user(uid: int) -> bool:
    """Say whether a uid is a person's, and not root's or a service's."""
    return uid >= FIRST_USER and uid not in RESERVED


def of(host: Host) -> list[Process]:
    """Return all processes of this host that may be seen."""
    return host.once("processes", look)


def look(root: str = proc.PROC) -> list[Process]:
    """Look at each process once."""
    seen = (_process(pid, f"{root}/{pid}") for pid in proc.pids(root))
    return [process for process in seen if process]


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


def _process(pid: int, path: str) -> Process | None:
    """Look at a process: two files, since there may be thousands of processes."""
    status = b"\n" + _read(f"{path}/status")
    if live_thread.has_ended(status):
        path = live_thread.place(path, status)
        status = b"\n" + _read(f"{path}/status")
    uids, parent = _field(status, b"Uid").split(), _field(status, b"PPid")
    if not uids or not parent.isdigit() or live_thread.has_ended(status):
        return None
    name = _field(status, b"Name").decode("utf-8", "replace")
    if uids == [b"0"] * 4:
        name = os.path.basename(proc.exe(path)) or name
    lines = _read(f"{path}/cgroup").decode("utf-8", "replace").split("\n")
    cgroups = tuple(line.split(":", 2)[2] for line in lines if line.count(":") > 1)
    nested = len(_field(status, b"NSpid").split()) > 1
    return Process(pid, int(parent), int(uids[0]), name, cgroups, nested)


def _field(status: bytes, name: bytes) -> bytes:
    return status.partition(b"\n" + name + b":")[2].partition(b"\n")[0].strip()


def _read(path: str) -> bytes:
    """Read what the kernel gives in one piece; nothing where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, LARGEST)
    except OSError:
        return b""
    finally:
        os.close(file)
