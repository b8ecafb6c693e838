"""What a job's extern step has left in its cgroup, and ending that.

A stepd ends its step's processes; one that has been killed leaves them, and nothing of Slurm's ends
them after it. Slurm goes by the cgroup: what is in there is of the job, whoever's it is by now (the
sshd of a session is root's, and so is what a user starts by sudo). Only root can move others'
processes into or out of it; on v1 of 22.05, where the directory is the user's, users their own. So
this module goes by the cgroup, too. For the layouts see cgroup.py; nothing is removed.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from time import sleep

from .cgroup import CONSTRAINTS, PROC, UNIFIED, of_process
from .errors import SetupError
from .running import listing, programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from .cgroup import Mount
    from .deadline import Deadline

TRACKING = ("freezer", UNIFIED)  # by which Slurm finds a step's processes, and ends them
ENOSYS = 38
PAUSE = 0.01  # seconds until it is looked again who is there


class Step:
    """The cgroup of an extern step, in one hierarchy."""

    __slots__ = ("_controller", "_directory", "_proc", "path")

    def __init__(self, controller: str, mount: Mount, path: str, proc: str) -> None:
        """`path`: as /proc/PID/cgroup has it."""
        self._controller = controller
        self._directory = mount.directory(path)
        self._proc = proc
        self.path = path

    def pids(self, deadline: Deadline) -> list[int]:
        """Return the processes in it and below, as far as there is time; stepds do not count.

        The kernel writes 0 for one of another PID namespace, which kill(2) takes for our group.
        """
        names = [name for place in _tree(self._directory, deadline) for name in _procs(place)]
        found = {int(name) for name in names} - {0}
        if found and self._controller not in TRACKING:  # the stepd is in its step's, there
            found -= programs(frozenset({"slurmstepd"}), self._proc).keys()
        return sorted(found)

    def holds(self, pid: int) -> bool:
        """Say whether a process is in it."""
        try:
            path = of_process(pid, self._proc).get(self._controller, "")
        except SetupError:  # it has ended
            return False
        return (path + "/").startswith(self.path + "/")

    def end(self, deadline: Deadline, taken: Callable[[], bool]) -> tuple[int, int]:
        """End all processes in it, also those that are started meanwhile.

        `taken`: whether a stepd has it by now, of a job that has been requeued; then no more.
        Returns how many have ended, and how many are left when the time is over.
        """
        killed: set[int] = set()
        left: list[int] = []
        while deadline.left():
            found = self.pids(deadline)
            if not found and deadline.left():
                left = []
                break
            left = found or left  # none may be found since there was no time
            if taken():
                break
            killed.update(pid for pid in found if self._kill(pid))
            sleep(PAUSE)
        return len(killed.difference(left)), len(left)

    def _kill(self, pid: int) -> bool:
        """Kill a process that is in it; return False if it is not any more."""
        process = _opened(pid)
        if process is None:
            return False
        try:
            if not self.holds(pid):  # looked at after it was opened: the pid is its own until then
                return False
            with suppress(ProcessLookupError):
                if process < 0:
                    os.kill(pid, signal.SIGKILL)
                else:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            if process >= 0:
                os.close(process)
        return True


def find(
    mounts: dict[str, Mount], node: str, uid: int, job_id: int, sluid: str = "", proc: str = PROC
) -> Step | None:
    """Return the cgroup of a job's extern step by which its processes are told; None if it is gone.

    `mounts`: as of cgroup.mounted(). `sluid`: the id that 26.05 calls the job's directory by, in
    v2; "" if it has none.
    """
    for controller in ("freezer", UNIFIED, *CONSTRAINTS):
        if mount := mounts.get(controller):
            if controller == UNIFIED:
                paths = _unified(mount, node, [f"job_{job_id}", *([sluid] if sluid else [])], proc)
            else:
                job = f"uid_{uid}/job_{job_id}/step_extern"
                tops = _own(mount, [f"{mount.root}/slurm_{node}", f"{mount.root}/slurm"])
                paths = [f"{top}/{job}" for top in tops]
            for path in paths:
                if os.path.isdir(mount.directory(path)):
                    return Step(controller, mount, path, proc)
    return None


def _own(mount: Mount, paths: list[str]) -> list[str]:
    """Return the first of these that is there.

    A build for several slurmd a host names its own after the node: the other is another cluster's.
    """
    return [path for path in paths if os.path.isdir(mount.directory(path))][:1]


def _unified(mount: Mount, node: str, jobs: list[str], proc: str) -> list[str]:
    """Return where v2 may have the step's processes; the stepd, beside them, is left alone.

    The scope is in a slice beside the cgroup of PID 1 (src/plugins/cgroup/v2/cgroup_v2.c).
    """
    try:
        root = os.path.dirname(of_process(1, proc).get(UNIFIED, "/")).rstrip("/")
    except SetupError:
        return []
    root = root if root.startswith(mount.root + "/") else mount.root
    slices = sorted(name for name in listing(mount.directory(root)) if name.endswith(".slice"))
    scopes = [
        f"{root}/{slice_}/{scope}"
        for scope in (f"{node}_slurmstepd.scope", "slurmstepd.scope")
        for slice_ in slices
    ]
    steps = [f"{scope}/{job}/step_extern" for scope in _own(mount, scopes) for job in jobs]
    return [f"{step}/user" for step in steps if not _procs(mount.directory(f"{step}/slurm"))]


def _opened(pid: int) -> int | None:
    """Return a descriptor of a process, by which it is told for good; None if it has ended.

    -1 where there are none: before Python 3.9 and Linux 5.3.
    """
    if not hasattr(os, "pidfd_open") or not hasattr(signal, "pidfd_send_signal"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        return -1 if error.errno == ENOSYS else None


def _tree(top: str, deadline: Deadline) -> Iterator[str]:
    """Yield a directory and all below it, as far as there is time.

    On v1 it is the user's in some releases (22.05), who may nest many cgroups in it: os.walk()
    calls itself for each level before Python 3.12.
    """
    waiting = [top]
    while waiting and deadline.left():
        place = waiting.pop()
        yield place
        with suppress(OSError), os.scandir(place) as entries:
            waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _procs(directory: str) -> list[bytes]:
    try:
        with open(f"{directory}/cgroup.procs", "rb") as file:
            return file.read().split()
    except OSError:  # it is being removed
        return []
