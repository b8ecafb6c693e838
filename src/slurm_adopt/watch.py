"""A login that is in the user's job before it is done, watched from outside of the job.

With the account line alone a login is adopted while sshd still counts it among those that have not
authenticated: it holds one of MaxStartups' slots. The user can stop what is in the job, by `scancel
-s STOP` for one; root's sshd, stopped there, would hold its slot for good, and LoginGraceTime's
alarm does not run in it. So a process that stays where sshd is looks at it until the slot is given
back. A login that has been stopped by then is ended and taken out of the job.

"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from time import monotonic, sleep

from . import forked
from .sigint import Spared
from .slot import status
from .slurm.deadline import Deadline
from .slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from .log import Log
    from .slot import Slot
    from .slurm.cgroup import Layout
else:
    with Spared():
        import _signal as signal

LONGEST = 600.0  # seconds: no login is watched, and none that is watched lasts, longer
STARTING = 1.0  # seconds that it may take to fork
ENDING = 10.0  # seconds that a login has to be gone once it is killed
POLL = 0.01  # seconds between two looks
WAITING = 2.0  # seconds in which a login may wait in the kernel (state D), on a slow disk for one
STOPPED = frozenset("Tt")  # states of /proc/PID/status (proc(5))


def start(slot: Slot, before: dict[str, str], layout: Layout | None, log: Log, job: str) -> None:
    """Have the process that holds a slot watched; PeerError if that cannot be.

    `before`: its cgroups, by controller, which the watching process is in as well, and stays in.
    """
    watch = _Watch(slot, before, layout, log, job)
    forked.run(watch.leave, Deadline(STARTING), 0)


class _Watch:
    """What the watching process does: it is no child of sshd's, and has nothing of sshd's open."""

    __slots__ = ("_before", "_job", "_layout", "_log", "_slot", "_waiting")

    def __init__(
        self, slot: Slot, before: dict[str, str], layout: Layout | None, log: Log, job: str
    ) -> None:
        self._slot = slot
        self._before = before
        self._layout = layout
        self._log = log
        self._job = job
        self._waiting = 0.0  # since when it waits in the kernel

    def leave(self) -> bytes:
        """Fork again, in a child that ends then: init takes what stays."""
        if not os.fork():
            self._be_watcher()
        return b""

    def _be_watcher(self) -> NoReturn:
        """Watch, and end: by an alarm at the latest."""
        try:
            gc.disable()
            signal.setitimer(signal.ITIMER_REAL, LONGEST + 2 * ENDING)
            os.setsid()
            os.chdir("/")
            self._log.close()
            _close_all()
            self._watch()
        finally:
            os._exit(0)

    def _watch(self) -> None:
        process = os.open(
            f"/proc/{self._slot.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )  # of this very process, whoever has its pid later
        longest = Deadline(LONGEST)
        while self._slot.held(process):
            why = self._stuck(process)
            if not why and not longest.left():
                why = f"it was not done within {LONGEST:g} s"
            if why:
                self._end(process, why)
                break
            sleep(POLL)

    def _stuck(self, process: int) -> str:
        """Say why the login cannot go on; "" if it can."""
        pid = self._slot.pid
        state = status("status", process).get("State", "")[:1]
        if state in STOPPED:
            return "it was stopped"
        if state != "D":
            self._waiting = 0.0
        elif not self._waiting:
            self._waiting = monotonic()
        elif monotonic() - self._waiting > WAITING:
            return f"it waited in the kernel for {WAITING:g} s"
        try:
            frozen = self._layout.frozen(pid) if self._layout else ""
        except SetupError:  # it has ended
            return ""
        return frozen and f"{frozen}: the job is suspended"

    def _end(self, process: int, why: str) -> None:
        """Kill the login, and take it to where it was: what is frozen by v1 dies when it is not."""
        pid = self._slot.pid
        _kill(process, pid)
        ending, remarks = Deadline(ENDING), ["it is still there"]
        while self._slot.held(process) and ending.left():
            remarks = self._layout.restore(pid, self._before) if self._layout else []
            sleep(POLL)
        left = f"; cannot be ended: {'; '.join(remarks)}" if self._slot.held(process) else ""
        self._log.error(
            f"login of process {pid} into {self._job} ended: it had not authenticated to the end, "
            f"and {why}; it would have kept its slot of sshd's MaxStartups{left}"
        )


def _kill(process: int, pid: int) -> None:
    """Send SIGKILL; by the descriptor of /proc/PID where the kernel can (Linux 5.1)."""
    with suppress(ProcessLookupError):
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except (AttributeError, OSError) as error:
            if isinstance(error, ProcessLookupError):
                raise
            os.kill(pid, signal.SIGKILL)


def _close_all() -> None:
    """Close every descriptor: the slot's end of the pipe, above all."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one of the directory itself
            os.close(int(name))
