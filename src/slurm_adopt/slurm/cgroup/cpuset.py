"""Which CPUs a cpuset has, as its files say.

v1: Documentation/admin-guide/cgroup-v1/cpusets.rst of the kernel; v2: cgroup-v2.rst.
"""

from __future__ import annotations

from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.files import read

EFFECTIVE_V1 = "cpuset.effective_cpus"
EFFECTIVE_V2 = "cpuset.cpus.effective"
OWN_V2 = "cpuset.cpus"  # empty where the cgroup above decides
LARGEST = 1 << 16  # bytes of a list of CPUs, and CPUs in it


def text(directory: str, name: str) -> str:
    """Return what a file of a cgroup's directory says; "" where that is not there."""
    try:
        return read(f"{directory}/{name}", LARGEST).decode("ascii", "replace").strip()
    except SetupError:
        return ""


def parse(cpus: str) -> set[int]:
    """Return the CPUs of a list such as `0-3,8`, in their order; none where it is another text."""
    found: set[int] = set()
    least = 0
    for part in cpus.split(","):
        first, dash, last = part.partition("-")
        low, high = number(first), number(last if dash else first)
        if low is None or high is None or not least <= low <= high < LARGEST:
            return set()
        found.update(range(low, high + 1))
        least = high + 1
    return found
