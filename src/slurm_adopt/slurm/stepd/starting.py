"""A job that is just being set up on this node: what shows that there is one, and whose it is.

With PrologFlags=contain slurmd runs Prolog, as a child of its own that is told the job's user in
its environment, and then starts the stepd of the extern step. From there until the stepd's socket
is in the spool directory, 10 to 40 ms on 20.11 to 26.05, nothing shows whose job it is. Before the
prolog nothing shows a job at all.

Users cannot make such signs: what counts is root's, and a child of root's slurmd. All that a false
one could do is make a login of that user wait before it is refused.
"""

from __future__ import annotations

import os
from time import sleep

from slurm_adopt.slurm import time_limits
from slurm_adopt.slurm.config.slurmd_processes import programs
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.proc import PROC, age, is_root, listing, read, stat
from slurm_adopt.slurm.waiting import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, TypeVar

    Job = TypeVar("Job")

POLL = 0.2  # seconds between looks
YOUNG = time_limits.NAMELESS.silence  # what is not older may be a stepd without a socket yet
GAP = time_limits.AFTER_PROLOG.silence  # until the stepd's socket is there, on a slow node
_PROLOG = (b"", b"prolog_slurmd")  # SLURM_SCRIPT_CONTEXT; releases before 20.11 may not set it


class Watch:
    """Looks for one user's job; the processes of the node are searched through once only."""

    __slots__ = ("_node", "_proc", "_slurmds", "_uid", "nameless")

    nameless: str  # what was just being started and does not show for whom; "" for nothing

    def __init__(self, uid: int, node: str, known: frozenset[int], proc: str = PROC) -> None:
        """`node`: NodeName; `known`: jobs whose steps have sockets and can be asked themselves."""
        self._uid = uid
        self._node = node
        self._proc = proc
        found = programs(frozenset({"slurmd", "slurmstepd"}), proc)
        self._slurmds = [pid for pid, name in found.items() if name == "slurmd"]
        young = (pid for pid in found if self._forked(pid) and self._job(pid) not in known)
        pid = next(young, None)
        self.nameless = f"process {pid} is being started for an unknown job" if pid else ""

    def prolog(self) -> int | None:
        """Return the job whose prolog runs here, if it is one of this user's."""
        for slurmd in self._slurmds:
            for child in self._children(slurmd):
                if (job := self._prolog_of(child)) is not None:
                    return job
        return None

    def _children(self, pid: int) -> list[str]:
        """Return the children of all threads of a process (proc(5), task/TID/children)."""
        tasks = f"{self._proc}/{pid}/task"
        return [
            child.decode()
            for thread in listing(tasks)
            for child in read(f"{tasks}/{thread}/children").split()
        ]

    def _prolog_of(self, pid: str) -> int | None:
        """Return the job id of a process that is a prolog for this user on this node."""
        if not is_root(f"{self._proc}/{pid}"):
            return None
        lines = read(f"{self._proc}/{pid}/environ").split(b"\0")
        told = {name: value for name, _, value in (line.partition(b"=") for line in lines)}
        job, node = told.get(b"SLURM_JOB_ID", b""), told.get(b"SLURMD_NODENAME", b"")
        for_user = told.get(b"SLURM_JOB_UID") == b"%d" % self._uid
        here = node in (b"", os.fsencode(self._node))
        prolog = told.get(b"SLURM_SCRIPT_CONTEXT", b"") in _PROLOG
        return number(job) if for_user and here and prolog else None

    def _forked(self, pid: int) -> bool:
        """Say whether this is a young stepd, or one (or a prolog) that slurmd has just forked."""
        fields = stat(f"{self._proc}/{pid}")
        if len(fields) < 20:  # it has ended
            return False
        parent, young = number(fields[1]), age(number(fields[19]) or 0) < YOUNG
        return young and (pid not in self._slurmds or parent in self._slurmds)

    def _job(self, pid: int) -> int | None:
        """Return the job that a stepd has in its title, `slurmstepd: [JOB.STEP]`."""
        title = read(f"{self._proc}/{pid}/cmdline").partition(b"[")[2]
        return number(title.partition(b".")[0])


def wait(
    look: Callable[[], list[Job]], sign: Callable[[], str], seen: bool, deadline: Deadline
) -> list[Job]:
    """Look for jobs as long as there is a sign of one; return them, or none.

    One look is taken in any case: a job may have come since there was none. `seen`: whether there
    was a sign, if only one that does not show for whom. The user's own may then be away for as long
    as a stepd takes to start.
    """
    patience = Deadline((GAP if sign() else YOUNG) if seen else 0)
    while not (jobs := look()) and patience.left() and deadline.left():
        sleep(min(POLL, deadline.left()))
        if sign():
            patience = Deadline(GAP)
    return jobs
