"""What a job has on this node, as its cgroups say: CPUs, memory, GPUs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.slurm.cgroup import cpuset
from slurm_adopt.slurm.cgroup.hierarchy import UNIFIED
from slurm_adopt.slurm.digits import number

if TYPE_CHECKING:
    from slurm_adopt.cli.sessions.places import Place, Places

UNKNOWN = "not known"
_NO_LIMIT = 1 << 60  # bytes: v1 has a limit of nearly 2^63 where there is none
GIB = 1 << 30


class Resources:
    """What the job of a process has here."""

    def __init__(self, places: Places, place: Place, dev: str = "/dev") -> None:
        """Read it all."""
        self._places = places
        self._place = place
        self.cpus = self._cpus()
        self.memory = self._memory()
        self.gpus = usable_gpus(dev)

    # CPUs

    def _cpus(self) -> list[int] | None:
        """Return the CPUs of the job; None where it has no cpuset of its own."""
        v1 = self._directory("cpuset")
        if v1:
            name = cpuset.EFFECTIVE_V1
            said = cpuset.text(v1, name) or cpuset.text(v1, cpuset.OWN_V2)
            return sorted(cpuset.parse(said)) or None
        v2 = self._directory(UNIFIED)
        if v2 and cpuset.text(v2, cpuset.OWN_V2):
            return sorted(cpuset.parse(cpuset.text(v2, cpuset.EFFECTIVE_V2))) or None
        return None

    @property
    def cpus_text(self) -> str:
        """The CPUs in words."""
        if self.cpus is None:
            return "not confined: all of this node's"
        return f"{len(self.cpus)} ({ranges(self.cpus)})"

    # Memory

    def _memory(self) -> int | None:
        """Return how many bytes the job may use; None where there is no limit."""
        v1, v2 = self._directory("memory"), self._directory(UNIFIED)
        limits = [
            number(cpuset.text(directory, name))
            for directory, name in ((v1, "memory.limit_in_bytes"), (v2, "memory.max"))
            if directory
        ]
        found = [limit for limit in limits if limit is not None and limit < _NO_LIMIT]
        return min(found) if found else None

    @property
    def memory_text(self) -> str:
        """The memory in words."""
        if self.memory is None:
            return "not confined: all of this node's"
        if self.memory >= GIB:
            return f"{self.memory / GIB:.1f} GiB"
        return f"{self.memory / (1 << 20):.0f} MiB"

    # GPUs

    @property
    def gpus_text(self) -> str:
        """The GPUs in words."""
        if self.gpus is None:
            return UNKNOWN
        return " ".join(self.gpus) or "none"

    def _directory(self, controller: str) -> str:
        return self._places.directory(self._place, controller)


def usable_gpus(dev: str = "/dev") -> list[str] | None:
    """Return the device files of GPUs that this process may open; None where /dev does not show.

    The kernel asks the cgroup as for open(2) (devcgroup_inode_permission, v1 and v2). v1's file
    devices.list shows less: not what is denied where all else is allowed. Nothing is opened, since
    that may wake a GPU up.
    """
    try:
        found = _numbered(dev, "nvidia") or _numbered(f"{dev}/dri", "renderD")
    except OSError:
        return None
    return [os.path.basename(path) for path in found if os.access(path, os.R_OK)]


def _numbered(directory: str, prefix: str) -> list[str]:
    """Return the files whose names are a prefix and a number, by that number."""
    if not os.path.isdir(directory):
        return []
    rests = {name: number(name[len(prefix) :]) for name in os.listdir(directory)}
    names = [name for name, rest in rests.items() if name.startswith(prefix) and rest is not None]
    return [f"{directory}/{name}" for name in sorted(names, key=lambda name: rests[name] or 0)]


def ranges(numbers: list[int]) -> str:
    """Return sorted numbers as the kernel lists CPUs: `0-3,8`."""
    parts: list[list[int]] = []
    for one in numbers:
        if parts and parts[-1][-1] == one - 1:
            parts[-1].append(one)
        else:
            parts.append([one])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)
