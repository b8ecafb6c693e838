"""A login that is in the user's job before it is done, watched from outside of the job.

With the account line alone a login is adopted while sshd still counts it among those that have not
authenticated: it holds one of MaxStartups' slots. The user can stop what is in the job, by `scancel
-s STOP` for one; root's sshd, stopped there, would hold its slot for good, and LoginGraceTime's
alarm does not run in it. So a process that stays where sshd is looks at it until the slot is given
back. A login that has been stopped by then is ended and taken out of the job.

A second factor may be awaited for minutes, by a hundred logins at once. So the looks are frequent
at first, when a login is mostly done, and become fewer.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from slurm_adopt import time_limits
from slurm_adopt.slurm.cgroup.hierarchy import members, of_process
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.proc import status
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.system import child
from slurm_adopt.system.sigint import Spared

from .login_slot import children, holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from slurm_adopt.slurm.cgroup.step_cgroup import Layout
    from slurm_adopt.system.log import Log

    from .login_slot import Slot
else:
    with Spared():
        import _signal as signal

LONGEST = time_limits.WATCHED.last  # no login is watched, and none that is watched lasts, longer
STARTING = time_limits.WATCHER_STARTED.last  # a fork on a node with much to do: nobody's doing
ENDING = time_limits.WATCHED_ENDED.last
POLL = 0.01  # seconds between two looks at first
SLOWEST = 1.0  # seconds between two looks at a login that takes long
SHARE = 1 / 8  # of the time that it has taken until now, in between
DENSE = 0.02  # seconds between two looks at one that waits in the kernel
WAITING = time_limits.WATCHED_IN_KERNEL.silence  # state D: others are in front
STOPPED = "T"  # state of /proc/PID/status (proc(5)); `t` is a debugger's, of root's alone
ENDED = "ZX"  # states of a process that has ended
READY = b"="  # what the watching process says first; anything else is why it cannot watch
LIMIT = 200  # bytes of that
HINT = "under SELinux sshd_t needs the capability sys_ptrace"


def start(slot: Slot, before: dict[str, str], layout: Layout | None, log: Log, job: str) -> None:
    """Have the process that holds a slot watched; PeerError if that cannot be.

    `before`: its cgroups, by controller, which the watching process is in as well, and stays in.
    """
    watch = _Watch(slot, before, layout, log, job)
    log.close()  # it is opened again when it is wanted; the child closes all sockets under it
    if why := child.run(watch.leave, Deadline(STARTING), LIMIT):
        raise PeerError(f"cannot watch process {slot.pid}: {why.decode('ascii', 'replace')}")


class _Watch:
    """What the watching process does: it is no child of sshd's, and has nothing of sshd's open."""

    __slots__ = ("_before", "_children", "_job", "_layout", "_log", "_places", "_slot", "_waiting")

    def __init__(
        self, slot: Slot, before: dict[str, str], layout: Layout | None, log: Log, job: str
    ) -> None:
        self._slot = slot
        self._before = before
        self._layout = layout
        self._log = log
        self._job = job
        self._waiting = 0.0  # since when it waits in the kernel
        self._children: list[int] = []  # sshd's own of before the adoption: outside of the job
        self._places: dict[str, str] = {}  # the cgroups of the job's that it was seen in last

    def leave(self) -> bytes:
        """Fork again, in a child that ends then: init takes what stays. Return why it does not."""
        try:
            reading, writing = os.pipe()
            if not os.fork():
                self._be_watcher(writing)
        except OSError as error:
            return _reason(error)
        os.close(writing)
        said = os.read(reading, LIMIT)
        return b"" if said == READY else said or b"the watching process has ended"

    def _be_watcher(self, writing: int) -> NoReturn:
        """Watch, and end: by an alarm at the latest."""
        try:
            signal.setitimer(signal.ITIMER_REAL, LONGEST + 2 * ENDING)
            self._watch(self._settle(writing))
        except Exception as error:  # noqa: BLE001 - there is nobody else to tell
            self._log.error(
                f"process {self._slot.pid} is not watched: unexpected {error!r} (please report "
                "this)"
            )
        finally:
            os._exit(0)

    def _settle(self, writing: int) -> int:
        """Leave all that is sshd's, and say so; return a descriptor of the login's /proc/PID.

        That is of this very process, whoever has its pid later.
        """
        try:
            os.setsid()
            os.chdir("/")
            process = os.open(f"/proc/{self._slot.pid}", os.O_RDONLY | os.O_DIRECTORY)
            _close_all_but(process, writing)
            if not self._slot.seen(process):
                from errno import ESRCH

                raise ProcessLookupError(ESRCH, "it holds no slot any more")
            self._children = children(self._slot.pid)
        except OSError as error:
            os.write(writing, _reason(error))
            os._exit(0)
        os.write(writing, READY)
        os.close(writing)
        return process

    def _watch(self, process: int) -> None:
        longest, begun = Deadline(LONGEST), monotonic()
        while True:
            present = self._present()
            in_job = self._in_job(present)
            why = self._stuck(process, present)
            if not why and not longest.left():
                why = f"it had not finished after {LONGEST:g} s"
            if not self._slot.held(process):  # nor was it, perhaps, when it was looked at
                self._end_others(process)
                return
            if why and in_job:
                self._end(process, why)
                return
            if not longest.left():  # it was put back: it is sshd's own matter
                return
            pause = min(SLOWEST, max(POLL, (monotonic() - begun) * SHARE))
            sleep(min(pause, DENSE) if self._waiting else pause)

    def _present(self) -> dict[str, str]:
        """Return the login's cgroups; none once it has ended, or where none are looked at.

        Read once in each look: the kernel has who reads them wait for all that move processes.
        """
        if self._layout is None:
            return {}
        try:
            return of_process(self._slot.pid, self._layout.proc)
        except SetupError:
            return {}

    def _stuck(self, process: int, present: dict[str, str]) -> str:
        """Say why the login cannot go on; "" if it can."""
        state = status("status", process).get("State", "")[:1]
        if state == STOPPED:
            return "it was stopped"
        if state != "D":
            self._waiting = 0.0
        elif not self._waiting:
            self._waiting = monotonic()
        elif monotonic() - self._waiting > WAITING:
            return f"it waited in the kernel for {WAITING:g} s"
        frozen = self._layout.frozen(present) if self._layout else ""
        return frozen and f"{frozen}: the job is suspended"

    def _in_job(self, present: dict[str, str]) -> bool:
        """Say whether the login is in the job, where cgroups show that; note where."""
        if self._layout is None:
            return True
        places = {name: path for name, path in present.items() if self._before.get(name) != path}
        self._places = places or self._places
        return bool(places)

    def _end_others(self, process: int) -> None:
        """End what has the slot besides the login: in the job, frozen as well; and its children.

        Those in the job are of ours, and give up what they have inherited at once (child.py), but
        for a moment. Where the login has died, the child that talks to the client (`sshd: USER
        [net]`) does not notice, and LoginGraceTime's alarm has died, too: it would wait for as long
        as the client does.
        """
        ending = Deadline(ENDING)
        died = status("status", process).get("State", "Z")[0] in ENDED
        while ending.left() and (pids := self._others(self._children if died else [])):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
                if self._layout and pid not in self._children:
                    self._layout.restore(pid, self._before)
            sleep(POLL)

    def _others(self, children: list[int]) -> list[int]:
        """Return which of the children, and processes in the job's cgroups, hold the slot."""
        found = set(children)
        for controller, path in self._places.items() if self._layout else ():
            if self._layout and controller in self._layout.mounts:
                found.update(members(self._layout.mounts[controller].directory(path)))
        return [pid for pid in sorted(found) if holds(pid, self._slot.link)]

    def _end(self, process: int, why: str) -> None:
        """Kill the login, and take it to where it was: what is frozen by v1 dies when it is not."""
        pid = self._slot.pid
        refused = self._kill(process)
        ending, remarks = Deadline(ENDING), ["it is still there"]
        while self._slot.held(process) and ending.left():
            remarks = (self._layout.restore(pid, self._before) if self._layout else []) or remarks
            sleep(POLL)
        if refused:
            remarks = [refused]
        left = f"; cannot be ended: {'; '.join(remarks)}" if self._slot.held(process) else ""
        self._end_others(process)
        self._log.error(
            f"the login of process {pid} into {self._job} was ended: it had not finished "
            f"authenticating, and {why}; it would have kept a slot of sshd's MaxStartups{left}"
        )

    def _kill(self, process: int) -> str:
        """Send SIGKILL; by the descriptor of /proc/PID where the kernel can (Linux 5.1).

        Return why that is refused, "" if it is not.
        """
        try:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            return ""
        except (AttributeError, OSError):
            return self._kill_by_pid(process)
        return ""

    def _kill_by_pid(self, process: int) -> str:
        try:
            if self._slot.seen(process):
                os.kill(self._slot.pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return ""
        except OSError as error:
            return f"{error.strerror}"
        return ""


def _reason(error: OSError) -> bytes:
    hint = f" ({HINT})" if isinstance(error, PermissionError) else ""
    return f"{error.strerror}{hint}".encode("ascii", "replace")[:LIMIT]


def _close_all_but(*kept: int) -> None:
    """Close all other descriptors: the slot's end of the pipe, above all."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # the one of the directory itself
                pass
