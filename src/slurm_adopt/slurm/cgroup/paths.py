"""The grammar of Slurm's cgroup paths: the one place that composes them and takes them apart.

Paths are as /proc/PID/cgroup has them. ROOT is the cgroup that is seen at a mount point, "" for the
whole hierarchy. A job's extern step is, on v1 in each hierarchy, and on v2:

    ROOT/TOP/uid_UID/job_JOBID/step_extern[/TASK]
    BASE/SLICE/SCOPE/JOB/step_extern/user[/TASK]        its processes
    BASE/SLICE/SCOPE/JOB/step_extern/slurm              its stepd

    part    what it is                 where
    TOP     slurm_NODENAME             builds for several slurmd a host (--enable-multiple-slurmd)
            slurm                      all others
    JOBID   the job's own              all releases but
            the leader's               19.05 and 20.02, components of heterogeneous jobs
    BASE    ROOT                       22.05
            the parent of PID 1's      since 23.02; on a usual host that is ROOT
    SLICE   system.slice               unless cgroup.conf has CgroupSlice, since 25.11
    SCOPE   NODENAME_slurmstepd.scope  builds for several slurmd a host
            slurmstepd.scope           all others
    JOB     job_JOBID                  22.05 to 25.11, since 26.05.2 with CgroupJobIdPaths=yes
            SLUID                      since 26.05: `s` and 13 characters, not derivable from JOBID
    TASK    task_N, task_special       what adds a process decides; users of 22.05 may add others

Sources: src/plugins/cgroup/v1, before 21.08 src/slurmd/common/xcgroup.c; since 22.05
src/plugins/cgroup/v2/cgroup_v2.c (_set_int_cg_ns); src/interfaces/cgroup.c; src/common/sluid.c.
"""

from __future__ import annotations

from slurm_adopt.slurm.digits import id_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.config.conf import Conf

MOUNTPOINT = "/sys/fs/cgroup"  # CgroupMountpoint
SLICE = "system.slice"  # CgroupSlice
EXTERN = "step_extern"
USER = "user"
STEPD = "slurm"
SLUID = 14  # characters


def mountpoint(cgroup_conf: Conf) -> str:
    """Return where cgroup.conf says that hierarchies are mounted, or below."""
    return cgroup_conf.get("CgroupMountpoint", MOUNTPOINT).rstrip("/")


def slice_of(cgroup_conf: Conf) -> str:
    """Return the slice that cgroup.conf says the scope is in; Slurm takes it as it is written."""
    return cgroup_conf.get("CgroupSlice", SLICE).strip("/")


# Composing


def tops(node: str) -> tuple[str, str]:
    """Return what v1's TOP may be: the node's own counts, if it is there."""
    return f"slurm_{node}", "slurm"


def scopes(node: str) -> tuple[str, str]:
    """Return what v2's SCOPE may be: the node's own counts, if it is there."""
    return f"{node}_slurmstepd.scope", "slurmstepd.scope"


def jobs(job_id: int, sluid: str = "") -> tuple[str, ...]:
    """Return what v2's JOB may be; `sluid`: "" where it is not known."""
    return (f"job_{job_id}", sluid) if is_sluid(sluid) else (f"job_{job_id}",)


def v1_step(root: str, top: str, uid: int, job_id: int) -> str:
    """Return the extern step of a job on v1; `job_id`: the leader's where that is in the names."""
    return f"{root}/{top}/uid_{uid}/job_{job_id}/{EXTERN}"


def v2_step(scope: str, job: str) -> str:
    """Return the extern step of a job on v2; `scope`: BASE/SLICE/SCOPE."""
    return f"{scope}/{job}/{EXTERN}"


def user(step: str) -> str:
    """Return the cgroup of a v2 step's processes."""
    return f"{step}/{USER}"


def stepd(step: str) -> str:
    """Return the cgroup of a v2 step's stepd."""
    return f"{step}/{STEPD}"


# Taking apart


class Place:
    """A path of an extern step, or of what is below it, taken apart."""

    __slots__ = ("above", "below", "job", "job_id", "step", "top", "uid")

    def __init__(self, names: list[str], at: int, step: int) -> None:
        """`at`: where the first of our parts is among the names of a path; `step`: where EXTERN is.

        `above` is the path before that part; `job` and `step` are paths; `below` is what follows
        the step, "" for itself. `job_id`, v1's `top` and `uid` are None where they do not show.
        """
        self.above = "/".join(names[:at])
        self.job = "/".join(names[:step])
        self.step = f"{self.job}/{EXTERN}"
        self.below = "/".join(names[step + 1 :])
        self.job_id = job_id_of(names[step - 1])
        self.uid: int | None = None
        self.top: str | None = None

    def may_be_of(self, job_id: int) -> bool:
        """Say whether it may be of a job: not if it carries another name that has a job's id."""
        return self.job_id == job_id or not self.job.rpartition("/")[2].startswith("job_")


def parse_v1(path: str, root: str = "") -> Place | None:
    """Take a path of v1 apart, by the first step in it: users' directories may be below one."""
    names = path.split("/")
    for at in range(_first(path, root), len(names) - 3):
        top, uid = names[at], uid_of(names[at + 1])
        is_step = names[at + 3] == EXTERN and job_id_of(names[at + 2]) is not None
        if is_step and uid is not None and (top == "slurm" or top.startswith("slurm_")):
            found = Place(names, at, at + 3)
            found.top, found.uid = top, uid
            return found
    return None


def parse_v2(path: str, root: str = "") -> Place | None:
    """Take a path of v2 apart, by the first step in it, wherever the scope is."""
    names, first = path.split("/"), _first(path, root) + 1
    if EXTERN not in names[first:]:
        return None
    step = names.index(EXTERN, first)
    return Place(names, step - 1, step)


def parse_stepd(path: str) -> Place | None:
    """Take the path apart of a stepd's own cgroup on v2: what Slurm itself is in may be above."""
    names = path.split("/")
    fits = len(names) > 3 and names[-2:] == [EXTERN, STEPD]
    return Place(names, len(names) - 3, len(names) - 2) if fits else None


def any_step(path: str) -> tuple[str, str] | None:
    """Return the path of a job and the name of its step, by the first step in a path of v1 or v2.

    Any step: `step_extern`, `step_batch`, `step_0`. None for a path without one.
    """
    names = path.split("/")
    for at in range(2, len(names)):
        if names[at].startswith("step_"):
            job = names[at - 1]
            if job_id_of(job) is not None or is_sluid(job):
                return "/".join(names[:at]), names[at]
    return None


def _first(path: str, root: str) -> int:
    """Return which name of a path is the first below ROOT."""
    return root.count("/") + 1 if path.startswith(root + "/") else 1


def uid_of(name: str) -> int | None:
    """Return the uid in `uid_UID`; None for any other name."""
    return id_of(name[4:]) if name.startswith("uid_") else None


def job_id_of(name: str) -> int | None:
    """Return the job id in `job_JOBID`; None for any other name."""
    return id_of(name[4:]) if name.startswith("job_") else None


def is_sluid(text: str) -> bool:
    """Say whether this may be the id that 26.05 calls jobs by."""
    return len(text) == SLUID and text.startswith("s") and text.isascii() and text.isalnum()


def is_task(name: str) -> bool:
    """Say whether this is what Slurm calls a cgroup for processes of a step."""
    return name == "task_special" or (name.startswith("task_") and name[5:].isdecimal())
