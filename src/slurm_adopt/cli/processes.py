"""The processes of this node, in one pass over /proc; no user's process holds that up.

Of each only `status` is read. psutil is not used: it reads `stat`, for which a user's process in
execve(2) can have its readers wait for ever. What is in no other file, a child reads that can be
killed (system/child.py).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from slurm_adopt.cli import live_thread
from slurm_adopt.cli.deadlines import READ
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.proc import PROC, pids, read, stat
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.system import child

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# Fields of stat(5) from the third on: times of a process, and of its children that have ended.
_TIMES = slice(11, 15)
_LARGEST = 1 << 24  # bytes of a child's answer
_TICKS = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """One process, as /proc/PID/status says."""

    pid: int
    parent: int
    uids: tuple[int, ...]  # real, effective, saved, of the file system
    program: str  # its name
    memory: int  # resident, in bytes
    session: int  # as setsid(2) has made it
    nested: bool  # in a PID namespace below this one, as of a container
    path: str = ""  # its directory, or that of its live thread

    @property
    def is_root(self) -> bool:
        """Whether all its uids are 0."""
        return set(self.uids) == {0}

    @property
    def uid(self) -> int | None:
        """The uid that it has throughout; None if it has several."""
        return self.uids[0] if len(set(self.uids)) == 1 else None


def listed(proc: str = PROC) -> dict[int, Process]:
    """Return all processes by pid, in order; those that have ended meanwhile are left out."""
    found = {}
    for pid in pids(proc):
        path = f"{proc}/{pid}"
        status = read(f"{path}/status")
        if live_thread.has_ended(status):
            path = live_thread.place(path, status)
            status = read(f"{path}/status")
        if process := parse(pid, status):
            found[pid] = process._replace(path=path)
    return found


def parse(pid: int, status: bytes) -> Process | None:
    """Return a process by the text of its `status`; None if that is none, or it has ended."""

    def words(name: bytes) -> list[bytes]:
        return status.partition(b"\n" + name + b":")[2].partition(b"\n")[0].split()

    if live_thread.has_ended(status):  # it has no cgroup any more
        return None
    name, parent, uids = status.partition(b"\n")[0], words(b"PPid"), words(b"Uid")
    if not name.startswith(b"Name:") or not parent or len(uids) != 4:
        return None
    memory, session = words(b"VmRSS"), words(b"NSsid")
    return Process(
        pid,
        int(parent[0]),
        tuple(int(uid) for uid in uids),
        name[5:].strip().decode("utf-8", "replace"),
        int(memory[0]) * 1024 if memory else 0,
        int(session[0]) if session else 0,
        len(words(b"NSpid")) > 1,
    )


class Born(Protocol):
    """A process with its parent."""

    @property
    def pid(self) -> int:
        """Its id."""

    @property
    def parent(self) -> int:
        """That of its parent."""


def below(processes: Iterable[Born]) -> dict[int, list[int]]:
    """Return the children of each process."""
    found: dict[int, list[int]] = {}
    for process in processes:
        found.setdefault(process.parent, []).append(process.pid)
    return found


def tree(top: int, children: dict[int, list[int]], others: Collection[int] = ()) -> list[int]:
    """Return a process and all below it, but for what is below `others`."""
    found, waiting = [], [top]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += (child for child in children.get(pid, []) if child not in others)
    return found


def started(ticks: int, boot: int) -> float:
    """Return when a process was started, seconds since the epoch; 0 where that is not known.

    `ticks`: as `stat` has it; `boot`: as boot_time() returns it.
    """
    return boot + ticks / _TICKS if ticks and boot else 0.0


class Asked(NamedTuple):
    """What a child has read of processes."""

    seconds: dict[int, float]  # of CPU time, those of children that have ended among them
    said_jobs: dict[int, str]  # what SLURM_JOB_ID was when the program was started


def ask(timed: list[int], environ_of: list[int], proc: str = PROC) -> Asked | None:
    """Read `stat` of processes, and `environ` of some, in a child; None if it is held up."""

    def answer() -> bytes:
        seconds = {pid: _seconds(stat(f"{proc}/{pid}")) for pid in timed}
        jobs = {pid: _job_id(read(f"{proc}/{pid}/environ")) for pid in environ_of}
        return json.dumps([seconds, jobs]).encode()

    try:
        seconds, jobs = json.loads(child.run(answer, Deadline(READ), _LARGEST))
    except PeerError:
        return None
    return Asked({int(pid): n for pid, n in seconds.items()}, {int(p): j for p, j in jobs.items()})


def _seconds(fields: list[bytes]) -> float:
    return sum(int(ticks) for ticks in fields[_TIMES]) / _TICKS


def _job_id(environ: bytes) -> str:
    for entry in environ.split(b"\0"):
        if entry.startswith(b"SLURM_JOB_ID="):
            return entry[13:33].decode("ascii", "replace")
    return ""


def boot_time(proc: str = PROC) -> int:
    """Return when this host was started: seconds since the epoch; 0 where that does not show."""
    found = read(f"{proc}/stat").partition(b"\nbtime ")[2].split(None, 1)
    return int(found[0]) if found and found[0].isdigit() else 0
