"""Whether a stepd that has not answered yet is alive: at work, or answering others.

A stepd adopts one process after the other, in some 15 ms each; of hundreds of logins at the same
moment the last is answered seconds later. Two signs tell that from a stepd that is stopped or
stuck. It has used CPU time since the last look (/proc/PID/stat counts in ticks of 10 ms). Or it
answers a question on a connection of its own. The first costs the stepd nothing, so the second is
asked only where that shows nothing. Imported only once a stepd has been silent for a while.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

PROC = "/proc"
STOPPED = "TtZX"  # states of a process that does not run (proc(5))


class Pulse:
    """Looks at one stepd from time to time."""

    __slots__ = ("_pid", "_proc", "_used")

    def __init__(self, pid: int, proc: str = PROC) -> None:
        """`pid`: of the stepd, 0 if it is not known."""
        self._pid = pid
        self._proc = proc
        self._used = -1  # CPU time when it was last looked at, in ticks

    def felt(self, asks: Callable[[], bool] | None = None) -> bool:
        """Say whether there is a sign of life; the first look only takes note of the CPU time.

        `asks` is called if there may be one that does not show, and says whether it has answered.
        """
        state, used = self._look()
        before, self._used = self._used, used
        if state in STOPPED or before < 0:
            return False
        return used > before or (asks is not None and asks())

    def _look(self) -> tuple[str, int]:
        """Return state and CPU time of all its threads; it is root's, so nobody is kept waiting."""
        try:
            with open(f"{self._proc}/{self._pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            return fields[0].decode("ascii"), int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):  # it has ended, or is not known
            return "X", -1
