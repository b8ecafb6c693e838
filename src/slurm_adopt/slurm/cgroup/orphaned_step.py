"""What a job's extern step has left in its cgroup, and ending that.

A stepd ends its step's processes; one that has been killed leaves them, and nothing of Slurm's ends
them after it. Slurm goes by the cgroup: what is in there is of the job, whoever's it is by now (the
sshd of a session is root's, and so is what a user starts by sudo). Only root can move others'
processes into or out of it; on v1 of 22.05, where the directory is the user's, users their own. So
this module goes by the cgroup, too. For the paths see paths.py; nothing is removed.

What is frozen forks no more: so all is frozen, listed, sent SIGKILL and thawed. What cannot be
looked into is told of, not taken for empty.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from errno import ENOSYS, EOPNOTSUPP
from time import sleep

from slurm_adopt.slurm import time_limits
from slurm_adopt.slurm.config.slurmd_processes import programs
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import PROC, listing, pids

from . import paths
from .freezer import FREEZERS, NONE
from .hierarchy import UNIFIED, of_process
from .step_cgroup import CONSTRAINTS
from .walk import DIRECTORY, GONE, Walk, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurm_adopt.slurm.waiting import Deadline

    from .hierarchy import Mount

TRACKING = ("freezer", UNIFIED)  # by which Slurm finds a step's processes, and ends them
LOOK = time_limits.WALKED.last  # a user may make as many cgroups as there is memory for
ROUNDS = 0.9  # of the time that there is: the rest is for a last look
SETTLING = time_limits.DYING.last
PAUSE = 0.01  # seconds until it is looked again who is there


class Job:
    """What a job's cgroups are called by."""

    __slots__ = ("job_id", "node", "slice", "sluid", "uid")

    def __init__(
        self, node: str, uid: int, job_id: int, sluid: str = "", slice_: str = paths.SLICE
    ) -> None:
        """`node`: NodeName; `sluid`: "" where it has none; `slice_`: where v2 has the scope now."""
        self.node = node
        self.uid = uid
        self.job_id = job_id
        self.sluid = sluid
        self.slice = slice_


class Found:
    """What is in a step: true if there is anything, or may be."""

    __slots__ = ("foreign", "frozen", "missed", "pids")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.pids: set[int] = set()
        self.foreign = 0  # processes of other PID namespaces, which have no pid here (v2)
        self.frozen = 0  # cgroups that are frozen themselves
        self.missed = ""  # why there may be more

    def __bool__(self) -> bool:
        """Say whether there is anything left to do."""
        return bool(self.pids or self.foreign or self.frozen or self.missed)


class Ended:
    """What Step.end() has done: the processes that it has ended, and what is left."""

    __slots__ = ("_foreign", "killed", "left")

    def __init__(self, left: Found) -> None:
        """`left`: what there is to end."""
        self.killed: set[int] = set()  # what has been sent SIGKILL
        self._foreign = left.foreign
        self.left = left

    @property
    def fresh(self) -> bool:
        """Whether there may be processes that have not been sent SIGKILL: these can still fork."""
        return bool(self.left.pids - self.killed or self.left.missed)

    @property
    def count(self) -> int:
        """How many have ended."""
        return len(self.killed - self.left.pids) + max(0, self._foreign - self.left.foreign)


class Step:
    """The cgroup of an extern step, in one hierarchy."""

    __slots__ = ("_above", "_controller", "_directory", "_freezer", "_proc", "path")

    def __init__(self, controller: str, mount: Mount, path: str, proc: str) -> None:
        """`path`: as /proc/PID/cgroup has it."""
        self._controller = controller
        self._directory = mount.directory(path)
        self._freezer = FREEZERS.get(controller, NONE)
        self._proc = proc
        self.path = path
        # Not taken apart from the front: Slurm may itself run in a step of another Slurm's.
        above = [os.path.dirname(path)]  # the job; on v2 the step, and the job
        if controller == UNIFIED:
            above.append(os.path.dirname(above[0]))
        self._above = [mount.directory(one) for one in above]

    def look(self, deadline: Deadline) -> Found:
        """Return what is in it and below, as far as there is time; stepds do not count."""
        found = Found()
        walk = Walk(self._directory, deadline.within(LOOK))
        for place in walk:
            found.frozen += self._freezer.is_frozen(place)
            pids = _listed(place, walk)
            found.foreign += pids.count(0)
            found.pids.update(pid for pid in pids if pid)
        found.missed = walk.missed
        for place in self._opened_above():
            found.frozen += self._freezer.is_frozen(place)
        if found.pids:
            found.pids -= self._stepds()
        if self._controller == UNIFIED:
            self._ask_kernel(found)
        return found

    def _ask_kernel(self, found: Found) -> None:
        """Correct what was found by what v2 says of it all: whether there is any process."""
        populated = b"".join(_populated(place) for place in _opened(self._directory))
        if populated == b"0":
            found.pids, found.foreign, found.missed = set(), 0, ""
        elif populated == b"1" and not (found.pids or found.foreign or found.missed):
            found.missed = "the kernel says that a process is in it"

    def _by_proc(self, deadline: Deadline) -> set[int]:
        """Return the processes that say themselves that they are in it, whatever hides its way."""
        found: set[int] = set()
        for pid in pids(self._proc):
            if deadline.left():
                with suppress(SetupError):  # its path is too long for the kernel to tell
                    found.update({pid} if self.holds(pid) else ())
        return found

    def _stepds(self) -> set[int]:
        """Return the stepds that may be in it: in those of v1 by which Slurm does not track."""
        if self._controller in TRACKING:
            return set()
        return set(programs(frozenset({"slurmstepd"}), self._proc))

    def holds(self, pid: int) -> bool:
        """Say whether a process is in it; SetupError if there is no telling.

        Some kernels refuse to tell a path longer than PATH_MAX (ENAMETOOLONG), others cut it off.
        """
        try:
            path = of_process(pid, self._proc).get(self._controller, "")
        except SetupError:
            if os.path.isdir(f"{self._proc}/{pid}"):
                raise
            return False  # it has ended
        return (path + "/").startswith(self.path + "/")

    def end(self, deadline: Deadline, taken: Callable[[], bool]) -> Ended:
        """End all processes in it, also those that are started meanwhile, and thaw it.

        `taken`: whether a stepd has it by now, of a job that has been requeued; then no more.
        """
        rounds = deadline.within(deadline.left() * ROUNDS)
        ended = Ended(self.look(deadline))
        while ended.left and rounds.left() and not taken():
            for top in _opened(self._directory):
                self._round(top, ended, rounds, taken)
            ended.left = self._settled(rounds, deadline)
        if ended.left.missed:  # an end is not to be claimed of those that were not seen again
            ended.left.pids |= {pid for pid in ended.killed if self._has(pid)}
        return ended

    def _round(self, top: int, ended: Ended, deadline: Deadline, taken: Callable[[], bool]) -> None:
        """Kill all that is there, and thaw it in any case, unless a stepd has it that way."""
        frozen, ours = self._freezer.is_frozen(top), True
        try:
            if ended.fresh:
                self._freezer.freeze(top, deadline)
            ours = self._kill_each(top, ended, deadline, taken)
            if ours:
                self._kill_at_once(top)
                self._wait_for_ends(top, deadline)
                self._thaw_all(deadline)
        finally:
            if ours or not frozen:
                self._freezer.thaw(top)

    def _kill_at_once(self, top: int) -> None:
        """Have the kernel kill all that is there, of other PID namespaces, too (v2, Linux 5.14).

        Not enough by itself: it misses a process whose first thread has ended (Linux 6.18).
        """
        with suppress(OSError):
            write(top, "cgroup.kill", b"1")

    def _wait_for_ends(self, top: int, deadline: Deadline) -> None:
        """Give those of v2 the time to end frozen, as they can there.

        Of one that is thawed while they end, Linux 6.18 may say `frozen 1` for ever.
        """
        waiting = deadline.within(SETTLING)
        while self._controller == UNIFIED and waiting.left() and _populated(top) == b"1":
            sleep(PAUSE)

    def _kill_each(
        self, top: int, ended: Ended, deadline: Deadline, taken: Callable[[], bool]
    ) -> bool:
        """Kill all that are there, one by one; False if a stepd has come, whose they may be."""
        spared = self._stepds()
        walk = Walk(self._directory, deadline.within(LOOK))
        for place in walk:
            pids = {*_listed(place, walk)} - spared - {0}
            if pids and taken():
                return False
            ended.killed.update(pid for pid in pids if self._kill(pid, place))
        hidden = self._by_proc(deadline) - spared if walk.missed else set()
        if hidden and taken():
            return False
        for pid in hidden:
            if self._kill(pid):
                ended.killed.add(pid)
                with suppress(OSError):  # out of where it may be frozen, and nobody can thaw it
                    write(top, "cgroup.procs", b"%d" % pid)
        return True

    def _kill(self, pid: int, place: int | None = None) -> bool:
        """Kill a process; return False if it is neither in the step nor listed in `place`."""
        process = _process(pid)
        if process is None:
            return False
        try:
            if not self._has(pid, place):  # looked at after it was opened: its pid is its own then
                return False
            with suppress(OSError):
                if process < 0:
                    os.kill(pid, signal.SIGKILL)
                else:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            if process >= 0:
                os.close(process)
        return True

    def _has(self, pid: int, place: int | None = None) -> bool:
        """Say whether a process is in it, by its own word or by that of the cgroup.

        v1 lists a process wherever one of its threads is; /proc/PID/cgroup tells of the first.
        """
        with suppress(SetupError, OSError):
            if self.holds(pid):
                return True
        with suppress(OSError):
            return place is not None and pid in _pids(place)
        return False

    def _thaw_all(self, deadline: Deadline) -> None:
        """Thaw what is frozen itself: the step, below it, and the job's own cgroups above it."""
        for place in Walk(self._directory, deadline.within(LOOK)):
            if self._freezer.is_frozen(place):
                self._freezer.thaw(place)
        for place in self._opened_above():
            if self._freezer.is_frozen(place):
                self._freezer.thaw(place)

    def _opened_above(self) -> Iterator[int]:
        for directory in self._above:
            yield from _opened(directory)

    def _settled(self, rounds: Deadline, deadline: Deadline) -> Found:
        """Return what is left once those that were killed have had a moment to end."""
        waiting = rounds.within(SETTLING)
        while (left := self.look(deadline)) and waiting.left():
            sleep(PAUSE)
        return left


def find(mounts: dict[str, Mount], job: Job, proc: str = PROC) -> Step | None:
    """Return the cgroup of a job's extern step by which its processes are told; None if it is gone.

    `mounts`: as of hierarchy.mounted().
    """
    for controller in ("freezer", UNIFIED, *CONSTRAINTS):
        if mount := mounts.get(controller):
            for path in _v2(mount, job, proc) if controller == UNIFIED else _v1(mount, job):
                if os.path.isdir(mount.directory(path)):
                    return Step(controller, mount, path, proc)
    return None


def _own(mount: Mount, places: list[str]) -> list[str]:
    """Return the first of these that is there.

    A build for several slurmd a host names its own after the node: the other is another cluster's.
    """
    return [path for path in places if os.path.isdir(mount.directory(path))][:1]


def _v1(mount: Mount, job: Job) -> list[str]:
    """Return where v1 may have the step."""
    below = f"{mount.root}/"
    tops = _own(mount, [below + top for top in paths.tops(job.node)])
    return [paths.v1_step(mount.root, top[len(below) :], job.uid, job.job_id) for top in tops]


def _v2(mount: Mount, job: Job, proc: str) -> list[str]:
    """Return where v2 may have the step's processes; the stepd, beside them, is left alone.

    The configured slice may be another than when the job began: all beside the cgroup of PID 1
    are looked at.
    """
    try:
        base = os.path.dirname(of_process(1, proc).get(UNIFIED, "/")).rstrip("/")
    except SetupError:
        return []
    base = base if base.startswith(mount.root + "/") else mount.root
    slices = sorted(name for name in listing(mount.directory(base)) if name.endswith(".slice"))
    scopes = [
        f"{base}/{one}/{scope}"
        for scope in paths.scopes(job.node)
        for one in dict.fromkeys((job.slice, *slices))
    ]
    names = paths.jobs(job.job_id, job.sluid)
    steps = [paths.v2_step(scope, name) for scope in _own(mount, scopes) for name in names]
    return [paths.user(one) for one in steps if not _procs(mount.directory(paths.stepd(one)))]


def _process(pid: int) -> int | None:
    """Return a descriptor of a process, by which it is told for good; None if it has ended.

    -1 where there are none: before Python 3.9 and Linux 5.3.
    """
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        return -1 if error.errno == ENOSYS else None


def _opened(directory: str) -> Iterator[int]:
    """Yield a descriptor of a directory; nothing if it is gone."""
    try:
        descriptor = os.open(directory, DIRECTORY)
    except OSError:
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _pids(place: int) -> list[int]:
    """Return the processes in a cgroup, 0 for one of another PID namespace; OSError if unknown.

    A threaded cgroup of v2 tells of none: they are told of where the first of them is.
    """
    try:
        return [int(word) for word in read(place, "cgroup.procs").split()]
    except OSError as error:
        if error.errno in (*GONE, EOPNOTSUPP):
            return []
        raise


def _populated(place: int) -> bytes:
    """Return what v2 says of a cgroup and all below: 1 if there is a process; b"" if it is gone."""
    with suppress(OSError):
        return read(place, "cgroup.events").partition(b"populated ")[2][:1]
    return b""


def _listed(place: int, walk: Walk) -> list[int]:
    """Return the processes in a cgroup that is visited; what cannot be read has been missed."""
    try:
        return _pids(place)
    except OSError as error:
        walk.missed = f"cannot read all of it: {error.strerror}"
        return []


def _procs(directory: str) -> list[int]:
    """Return the processes in a cgroup by its path; none if it cannot be read."""
    with suppress(OSError):
        for place in _opened(directory):
            return _pids(place)
    return []
