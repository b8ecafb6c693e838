"""The cgroups of a job: who is in it, how many CPUs it has; told from a process in its extern step.

v1: `cpuset.effective_cpus` (Documentation/admin-guide/cgroup-v1); v2: `cpuset.cpus.effective`
(Documentation/admin-guide/cgroup-v2.rst).
"""

from __future__ import annotations

from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.files import read
from slurm_adopt.slurm.proc import PROC

from .paths import MOUNTPOINT, parse_v1, parse_v2
from .step_cgroup import UNIFIED, mounted, of_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .step_cgroup import Mount

LARGEST = 1 << 16  # bytes of a file read here


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

    def hold(self, paths: dict[str, str]) -> bool:
        """Say whether a process with these cgroups is in the job; True where there are none."""
        return all(
            (paths.get(controller, "") + "/").startswith(job + "/")
            for controller, job in self.paths.items()
        )

    def cpus(self) -> int | None:
        """Return how many CPUs the job has here; None where it has no cpuset of its own."""
        if "cpuset" in self.paths:
            return _count(self._text("cpuset", "cpuset.effective_cpus"))
        if self._text(UNIFIED, "cpuset.cpus"):  # else the effective ones are the whole node's
            return _count(self._text(UNIFIED, "cpuset.cpus.effective"))
        return None

    def _text(self, controller: str, name: str) -> str:
        """Return what a file of the job's directory says, "" where that is not there."""
        if controller not in self.paths or controller not in self._mounts:
            return ""
        directory = self._mounts[controller].directory(self.paths[controller])
        try:
            return read(f"{directory}/{name}", LARGEST).decode("ascii", "replace").strip()
        except SetupError:
            return ""


def _count(cpus: str) -> int | None:
    """Count a list such as `0-3,8`; None where it is empty or something else."""
    found = 0
    for part in cpus.split(","):
        first, dash, last = part.partition("-")
        low, high = number(first), number(last if dash else first)
        if low is None or high is None:
            return None
        found += high - low + 1
    return found
