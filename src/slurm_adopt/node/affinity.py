"""The CPUs that an adopted process may use: all of its job's, whatever sshd was bound to.

Since Linux 6.2 a process keeps the CPUs that it was bound to (sched_setaffinity(2), systemd's
CPUAffinity=) when it comes into another cpuset, as far as that has them; before it got all. So a
session of a bound sshd would have some of its job's CPUs alone, where srun gives it all. The kernel
lets nobody have more than the cpuset.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.cgroup import cpuset
from slurm_adopt.slurm.cgroup.hierarchy import UNIFIED, of_process
from slurm_adopt.slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout


def widen(pid: int, layout: Layout) -> str:
    """Let a process use all CPUs of its cpuset; say what was changed, "" if nothing.

    SetupError if it cannot use them.
    """
    wanted = of_cpuset(pid, layout)
    try:
        had = os.sched_getaffinity(pid)
        if wanted <= had:
            return ""
        os.sched_setaffinity(pid, wanted)
        has = os.sched_getaffinity(pid)
    except OSError as error:
        raise SetupError(f"cannot be bound to other CPUs: {error.strerror}") from None
    if not wanted <= has:
        raise SetupError(
            f"may use only the CPUs {_shown(has)}, though its job has {_shown(wanted)}"
        )
    return f"CPUs {_shown(has)} instead of {_shown(had)}"


def restore(pid: int, before: set[int]) -> str:
    """Bind a process to the CPUs that it had; return why not, "" if it has them."""
    try:
        if os.sched_getaffinity(pid) != before:
            os.sched_setaffinity(pid, before)
    except OSError as error:
        return "" if isinstance(error, ProcessLookupError) else f"{error.strerror}"
    return ""


def of_cpuset(pid: int, layout: Layout) -> set[int]:
    """Return the CPUs of a process's cpuset; none where it cannot be told.

    v2: of the cgroup next above that has the controller.
    """
    paths = of_process(pid, layout.proc)
    if "cpuset" in layout.mounts:
        directory = layout.mounts["cpuset"].directory(paths.get("cpuset", ""))
        return cpuset.parse(cpuset.text(directory, cpuset.EFFECTIVE_V1))
    mount, path = layout.mounts.get(UNIFIED), paths.get(UNIFIED, "")
    while mount and path.startswith(mount.root) and path not in ("", mount.root):
        if text := cpuset.text(mount.directory(path), cpuset.EFFECTIVE_V2):
            return cpuset.parse(text)
        path = path.rpartition("/")[0]
    return set()


def _shown(cpus: set[int]) -> str:
    return ",".join(map(str, sorted(cpus)))
