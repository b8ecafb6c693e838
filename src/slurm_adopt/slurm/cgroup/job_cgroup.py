"""The cgroups of a job: who is in it, how many CPUs it has.

Told from a process in its extern step, or from where that step's cgroups are.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.proc import PROC

from . import cpuset
from .hierarchy import UNIFIED, mounted, of_process
from .paths import MOUNTPOINT, parse_v1, parse_v2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

    from .hierarchy import Mount
    from .step_cgroup import Layout


class JobCgroups:
    """The job's directories by controller; none where it is not confined by cgroups."""

    __slots__ = ("_mounts", "paths")

    def __init__(self, paths: dict[str, str], mounts: dict[str, Mount]) -> None:
        """`paths`: of a process of the extern step; in other hierarchies there is no job."""
        self._mounts = mounts
        self.paths: dict[str, str] = {}
        for controller, path in paths.items():
            root = mounts[controller].root if controller in mounts else ""
            place = (parse_v2 if controller == UNIFIED else parse_v1)(path, root)
            if place:
                self.paths[controller] = place.job

    @classmethod
    def of(cls, pid: int, mountpoint: str = MOUNTPOINT, proc: str = PROC) -> JobCgroups:
        """Look at a process that is in the job; SetupError if it is gone.

        `mountpoint`: where cgroup.conf says that hierarchies are mounted.
        """
        return cls(of_process(pid, proc), mounted(mountpoint, proc))

    @classmethod
    def of_step(cls, layout: Layout, step: StepSocket, uid: int) -> JobCgroups:
        """Look where an extern step's cgroups are, which may have no process."""
        known = of_process(os.getpid(), layout.proc)  # mount options have other names
        paths = {name: top for name, top in layout.tops_of(step, uid) if name in known}
        return cls(paths, layout.mounts)

    def hold(self, paths: dict[str, str]) -> bool:
        """Say whether a process with these cgroups is in the job; True where there are none."""
        return all(
            (paths.get(controller, "") + "/").startswith(job + "/")
            for controller, job in self.paths.items()
        )

    def cpus(self) -> int | None:
        """Return how many CPUs the job has here; None where it has no cpuset of its own."""
        if "cpuset" in self.paths:
            return self._count("cpuset", cpuset.EFFECTIVE_V1)
        if self._text(UNIFIED, cpuset.OWN_V2):  # else the effective ones are the whole node's
            return self._count(UNIFIED, cpuset.EFFECTIVE_V2)
        return None

    def _count(self, controller: str, name: str) -> int | None:
        return len(cpuset.parse(self._text(controller, name))) or None

    def _text(self, controller: str, name: str) -> str:
        """Return what a file of the job's directory says, "" where that is not there."""
        if controller not in self.paths or controller not in self._mounts:
            return ""
        return cpuset.text(self._mounts[controller].directory(self.paths[controller]), name)
