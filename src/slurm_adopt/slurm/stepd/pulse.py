"""Whether a stepd that has not answered yet is alive: at work, or answering others.

A stepd adopts one process after the other, in some 15 ms each; of hundreds of logins at the same
moment the last is answered seconds later. Three signs tell that from a stepd that is stopped or
stuck. It has used CPU time since the last look (/proc/PID/stat counts in ticks of 10 ms). The
thread that takes connections wants a CPU, or is about to start another thread, which the kernel
lets wait for all that move processes between cgroups. Or it answers a question on a connection of
its own: that is asked last, since the others cost the stepd nothing. Imported only once a stepd has
been silent for a while.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.config.slurmd_processes import programs
from slurm_adopt.slurm.digits import id_of
from slurm_adopt.slurm.proc import PROC, listing, read, stat
from slurm_adopt.slurm.versions import EXTERN_STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .step_sockets import StepSocket

STOPPED = "TtZX"  # states of a process that does not run (proc(5))
BUSY = ([b"R"], [b"D"])  # states of a thread that runs or wants to, or waits in the kernel
FIRST = 8  # threads that are looked at: that for connections is among the first, others come later


class Pulse:
    """Looks at one stepd from time to time."""

    __slots__ = ("_pid", "_proc", "_used")

    def __init__(self, pid: int, proc: str = PROC) -> None:
        """`pid`: of the stepd, 0 if it is not known."""
        self._pid = pid
        self._proc = proc
        self._used = -1  # CPU time when it was last looked at, in ticks

    @property
    def runs(self) -> bool:
        """Whether the process is there and not stopped; that says nothing about what it does."""
        return self._look()[0] not in STOPPED

    def felt(self, asks: Callable[[], bool] | None = None) -> bool:
        """Say whether there is a sign of life; the first look takes note of the CPU time.

        `asks` is called if there may be one that does not show, and says whether it has answered.
        """
        state, used = self._look()
        before, self._used = self._used, used
        if state in STOPPED:
            return False
        if used > before >= 0 or self._busy():
            return True
        return before >= 0 and asks is not None and asks()

    def _busy(self) -> bool:
        tasks = f"{self._proc}/{self._pid}/task"
        threads = sorted(map(int, filter(str.isdecimal, listing(tasks))))[:FIRST]
        return any(stat(f"{tasks}/{thread}")[:1] in BUSY for thread in threads)

    def _look(self) -> tuple[str, int]:
        """Return state and CPU time of all its threads; it is root's, so nobody is kept waiting."""
        try:
            fields = stat(f"{self._proc}/{self._pid}")
            return fields[0].decode("ascii"), int(fields[11]) + int(fields[12])
        except (IndexError, ValueError):  # it has ended, or is not known
            return "X", -1


def of_each(steps: list[StepSocket], proc: str = PROC) -> dict[StepSocket, Pulse]:
    """Return the pulses of stepds; of extern stepds also where nobody could connect to them.

    Those are found by their titles, `slurmstepd: [JOB.extern]`, among root's processes.
    """
    found = {step.job_id: step.pid for step in steps if step.pid}
    if len(found) < len(steps):
        for pid in programs(frozenset({"slurmstepd"}), proc):
            job, dot, kind = read(f"{proc}/{pid}/cmdline").partition(b"[")[2].partition(b".")
            job_id = id_of(job)
            if dot and kind.startswith(b"extern]") and job_id is not None:
                found.setdefault(job_id, pid)
    return {step: Pulse(_pid(step, found), proc) for step in steps}


def _pid(step: StepSocket, extern: dict[int, int]) -> int:
    is_extern = id_of(os.path.basename(step.path).rpartition(".")[2]) in EXTERN_STEPS
    return step.pid or (extern.get(step.job_id, 0) if is_extern else 0)
