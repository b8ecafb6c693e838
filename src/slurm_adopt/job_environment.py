"""The job's variables for the session: which are known, where each comes from, what it may be.

What is not in the table is never handed over, whatever a job has in its environment: PATH, LD_*,
BASH_ENV and all others by which a program is made to run another. Values that come from a process
are the user's own writing, so each must follow its pattern, which has no control characters, no
character beyond ASCII, and none by which a shell would be made to run something.
"""

from __future__ import annotations

from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .job_process import JobProcess
    from .log import Log
    from .slurm.job_cgroup import JobCgroups

ALWAYS = "SLURM_JOB_ID"

# Where values come from.
MODULE = "this module's own knowledge"
CGROUP = "the job's cgroup on this node"
PROCESS = "a process of the job"


class Kind:
    """What a value may look like, as a pattern of re and in words."""

    __slots__ = ("pattern", "text")

    def __init__(self, pattern: str, text: str) -> None:
        """Take a pattern that the whole value has to match, and that bounds its length."""
        self.pattern = pattern
        self.text = text


# fmt: off
NUMBER    = Kind(r"[0-9]{1,18}", "a number of at most 18 digits")
COUNTS    = Kind(r"[0-9(),x]{1,4096}", "numbers with repetitions, such as 16(x2),8")
WORD      = Kind(r"[\w.,:=+@/-]{1,256}", "a word of at most 256 characters")
NAME      = Kind(r"[\w .,:=+@%/#\[\]-]{1,256}",
                 "at most 256 letters, digits, blanks and any of _.,:=+@%/#[]-")
NODES     = Kind(r"[\w.,\[\]-]{1,8192}", "a list of nodes of at most 8192 characters")
DEVICES   = Kind(r"[\w.,:/-]{1,4096}", "a list of devices of at most 4096 characters")
DIRECTORY = Kind(r"/[\w .,:=+@%/#-]{0,1023}",
                 "an absolute path of at most 1024 letters, digits, blanks and any of _.,:=+@%/#-")
# fmt: on

# fmt: off
VARIABLES = {
    # name                     source   kind
    "SLURM_JOB_ID":           (MODULE,  NUMBER),
    "SLURM_JOBID":            (MODULE,  NUMBER),
    "SLURM_JOB_UID":          (MODULE,  NUMBER),
    "SLURM_JOB_USER":         (MODULE,  WORD),
    "SLURMD_NODENAME":        (MODULE,  WORD),
    "SLURM_CPUS_ON_NODE":     (CGROUP,  NUMBER),
    "SLURM_MEM_PER_NODE":     (CGROUP,  NUMBER),  # MiB, as Slurm has it
    "SLURM_JOB_NAME":         (PROCESS, NAME),
    "SLURM_JOB_PARTITION":    (PROCESS, WORD),
    "SLURM_JOB_ACCOUNT":      (PROCESS, WORD),
    "SLURM_JOB_QOS":          (PROCESS, WORD),
    "SLURM_JOB_RESERVATION":  (PROCESS, WORD),
    "SLURM_CLUSTER_NAME":     (PROCESS, WORD),
    "SLURM_SUBMIT_HOST":      (PROCESS, WORD),
    "SLURM_SUBMIT_DIR":       (PROCESS, DIRECTORY),
    "SLURM_JOB_NODELIST":     (PROCESS, NODES),
    "SLURM_NODELIST":         (PROCESS, NODES),
    "SLURM_JOB_NUM_NODES":    (PROCESS, NUMBER),
    "SLURM_NNODES":           (PROCESS, NUMBER),
    "SLURM_JOB_CPUS_PER_NODE": (PROCESS, COUNTS),
    "SLURM_TASKS_PER_NODE":   (PROCESS, COUNTS),
    "SLURM_NTASKS":           (PROCESS, NUMBER),
    "SLURM_CPUS_PER_TASK":    (PROCESS, NUMBER),
    "SLURM_MEM_PER_CPU":      (PROCESS, NUMBER),
    "SLURM_JOB_START_TIME":   (PROCESS, NUMBER),
    "SLURM_JOB_END_TIME":     (PROCESS, NUMBER),
    "SLURM_ARRAY_JOB_ID":     (PROCESS, NUMBER),
    "SLURM_ARRAY_TASK_ID":    (PROCESS, NUMBER),
    "SLURM_ARRAY_TASK_COUNT": (PROCESS, NUMBER),
    "SLURM_ARRAY_TASK_MIN":   (PROCESS, NUMBER),
    "SLURM_ARRAY_TASK_MAX":   (PROCESS, NUMBER),
    "SLURM_ARRAY_TASK_STEP":  (PROCESS, NUMBER),
    "SLURM_JOB_GPUS":         (PROCESS, DEVICES),
    "SLURM_GPUS_ON_NODE":     (PROCESS, NUMBER),
    "CUDA_VISIBLE_DEVICES":   (PROCESS, DEVICES),
    "ROCR_VISIBLE_DEVICES":   (PROCESS, DEVICES),
    "ZE_AFFINITY_MASK":       (PROCESS, DEVICES),
    "GPU_DEVICE_ORDINAL":     (PROCESS, DEVICES),
    "TMPDIR":                 (PROCESS, DIRECTORY),
}
# fmt: on

# Not among `all`: PAM's environment reaches root's own scripts, by pam_exec, and a shell writes its
# here-documents to TMPDIR.
ONLY_BY_NAME = ("TMPDIR",)


def spelled(given: str) -> str | None:
    """Return a value of job_env, names of the table or `all`, as the table spells it; else None."""
    names = ["all" if name.lower() == "all" else name.upper() for name in given.split(",")]
    value = ",".join(names)
    return value if _chosen(value) <= VARIABLES.keys() else None


def asks_a_process(given: str) -> bool:
    """Say whether job_env has a variable that only a process of the job can show."""
    return any(VARIABLES[name][0] == PROCESS for name in _chosen(given))


def own(job_id: int, uid: int, node: str) -> dict[str, str]:
    """Return the variables of the source MODULE."""
    import pwd

    found = {
        "SLURM_JOB_ID": str(job_id),
        "SLURM_JOBID": str(job_id),
        "SLURM_JOB_UID": str(uid),
        "SLURMD_NODENAME": node,
    }
    with suppress(KeyError):
        found["SLURM_JOB_USER"] = pwd.getpwuid(uid).pw_name
    return found


def variables(
    given: str,
    known_here: dict[str, str],
    cgroups: JobCgroups,
    process: JobProcess | None,
    log: Log,
) -> dict[str, str]:
    """Return the variables that job_env names, as far as the job has them.

    `known_here`: those of the source MODULE.
    """
    sources = {
        MODULE: known_here,
        CGROUP: _of_cgroups(cgroups),
        PROCESS: _of_process(process) if process else {},
    }
    found, absent, misfits = {}, [], []
    for name in sorted(_chosen(given)):
        source, kind = VARIABLES[name]
        value = sources[source].get(name)
        if value is None:
            absent.append(name)
        elif _fits(kind, value):
            found[name] = value
        else:
            misfits.append(name)
    if misfits:
        log.info(f"left out, since the job has them in no form that is safe: {' '.join(misfits)}")
    if absent:
        log.debug(f"variables that the job does not show: {' '.join(absent)}")
    return found


def _chosen(given: str) -> set[str]:
    names = set(given.split(","))
    if "all" in names:
        names |= VARIABLES.keys() - set(ONLY_BY_NAME)
        names.remove("all")
    return names


def _of_cgroups(cgroups: JobCgroups) -> dict[str, str]:
    figures = {"SLURM_CPUS_ON_NODE": cgroups.cpus(), "SLURM_MEM_PER_NODE": cgroups.memory()}
    return {name: str(figure) for name, figure in figures.items() if figure is not None}


def _of_process(process: JobProcess) -> dict[str, str]:
    """Return the environment as text, in which bytes beyond ASCII fit no pattern."""
    return {
        name.decode("ascii", "replace"): value.decode("ascii", "replace")
        for name, value in process.environment.items()
    }


def _fits(kind: Kind, value: str) -> bool:
    import re

    return re.fullmatch(kind.pattern, value, re.ASCII) is not None
