"""The job's variables for the session: which are known, where each comes from, what it may be.

What is not in the table is never handed over, whatever a job has in its environment: PATH, LD_*,
BASH_ENV and all others by which a program is made to run another. Values that come from a process
are the user's own writing, so each must follow its pattern, which has no control characters, no
character beyond ASCII, and none by which a shell would be made to run something.
"""

from __future__ import annotations

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
NODELIST  = Kind(r"[\w.,\[\]-]{1,8192}", "a list of nodes of at most 8192 characters")
DEVICES   = Kind(r"[\w.,:/-]{1,4096}", "a list of devices of at most 4096 characters")
DIRECTORY = Kind(r"/[\w .,:=+@%/#-]{0,1023}",
                 "an absolute path of at most 1024 letters, digits, blanks and any of _.,:=+@%/#-")
# fmt: on

# Groups. What only means something together is handed over whole or not at all, and only from a
# process that names this very job.
ALONE = ""
LAUNCH = "what MPI's launchers go by"  # Open MPI takes SLURM_JOBID for a promise of the others
NODES = "the job's nodes"
ARRAY = "the task of a job array"
MEMORY = "one of the three"  # srun refuses to start where it finds two

# How a variable is asked for. What `all` stands for, Slurm sets again in a job that is submitted
# from the session; those of GPUs on nodes that have some, on others they mean nothing. All else the
# new job would inherit (sbatch and salloc, 20.11 to 26.05), and srun in it would take for options;
# or it reaches root's own scripts, by pam_exec: a shell writes its here-documents to TMPDIR.
ALL = "all"
NAMED = "only by its name"

# fmt: off
VARIABLES = {
    # name                     source   kind       group    asked for
    "SLURM_JOB_ID":           (MODULE,  NUMBER,    ALONE,   ALL),
    "SLURM_JOBID":            (MODULE,  NUMBER,    LAUNCH,  ALL),
    "SLURM_JOB_UID":          (MODULE,  NUMBER,    ALONE,   ALL),
    "SLURM_JOB_USER":         (MODULE,  WORD,      ALONE,   ALL),
    "SLURMD_NODENAME":        (MODULE,  WORD,      ALONE,   ALL),
    "SLURM_CPUS_ON_NODE":     (CGROUP,  NUMBER,    ALONE,   ALL),
    "SLURM_JOB_SLUID":        (PROCESS, WORD,      ALONE,   ALL),  # since 26.05
    "SLURM_JOB_NAME":         (PROCESS, NAME,      ALONE,   ALL),
    "SLURM_JOB_PARTITION":    (PROCESS, WORD,      ALONE,   ALL),
    "SLURM_JOB_ACCOUNT":      (PROCESS, WORD,      ALONE,   ALL),
    "SLURM_JOB_QOS":          (PROCESS, WORD,      ALONE,   ALL),
    "SLURM_JOB_RESERVATION":  (PROCESS, WORD,      ALONE,   NAMED),
    "SLURM_CLUSTER_NAME":     (PROCESS, WORD,      ALONE,   ALL),
    "SLURM_SUBMIT_HOST":      (PROCESS, WORD,      ALONE,   ALL),
    "SLURM_SUBMIT_DIR":       (PROCESS, DIRECTORY, ALONE,   ALL),
    "SLURM_JOB_NODELIST":     (PROCESS, NODELIST,  NODES,   ALL),
    "SLURM_JOB_NUM_NODES":    (PROCESS, NUMBER,    NODES,   ALL),
    "SLURM_JOB_CPUS_PER_NODE": (PROCESS, COUNTS,   NODES,   ALL),
    "SLURM_NODELIST":         (PROCESS, NODELIST,  LAUNCH,  ALL),
    "SLURM_NNODES":           (PROCESS, NUMBER,    LAUNCH,  ALL),
    "SLURM_TASKS_PER_NODE":   (PROCESS, COUNTS,    LAUNCH,  ALL),
    "SLURM_NTASKS":           (PROCESS, NUMBER,    ALONE,   NAMED),
    "SLURM_CPUS_PER_TASK":    (PROCESS, NUMBER,    ALONE,   NAMED),
    "SLURM_MEM_PER_CPU":      (PROCESS, NUMBER,    MEMORY,  NAMED),  # MiB, all three
    "SLURM_MEM_PER_GPU":      (PROCESS, NUMBER,    MEMORY,  NAMED),
    "SLURM_MEM_PER_NODE":     (PROCESS, NUMBER,    MEMORY,  NAMED),
    "SLURM_JOB_START_TIME":   (PROCESS, NUMBER,    ALONE,   ALL),
    "SLURM_JOB_END_TIME":     (PROCESS, NUMBER,    ALONE,   ALL),
    "SLURM_ARRAY_JOB_ID":     (PROCESS, NUMBER,    ARRAY,   NAMED),
    "SLURM_ARRAY_TASK_ID":    (PROCESS, NUMBER,    ARRAY,   NAMED),
    "SLURM_ARRAY_TASK_COUNT": (PROCESS, NUMBER,    ARRAY,   NAMED),
    "SLURM_ARRAY_TASK_MIN":   (PROCESS, NUMBER,    ARRAY,   NAMED),
    "SLURM_ARRAY_TASK_MAX":   (PROCESS, NUMBER,    ARRAY,   NAMED),
    "SLURM_ARRAY_TASK_STEP":  (PROCESS, NUMBER,    ARRAY,   NAMED),
    "SLURM_JOB_GPUS":         (PROCESS, DEVICES,   ALONE,   ALL),
    "SLURM_GPUS_ON_NODE":     (PROCESS, NUMBER,    ALONE,   ALL),
    "CUDA_VISIBLE_DEVICES":   (PROCESS, DEVICES,   ALONE,   ALL),
    "ROCR_VISIBLE_DEVICES":   (PROCESS, DEVICES,   ALONE,   ALL),
    "ZE_AFFINITY_MASK":       (PROCESS, DEVICES,   ALONE,   ALL),
    "GPU_DEVICE_ORDINAL":     (PROCESS, DEVICES,   ALONE,   ALL),
    "TMPDIR":                 (PROCESS, DIRECTORY, ALONE,   NAMED),
}
# fmt: on

GROUP = {name: group for name, (_, _, group, _) in VARIABLES.items()}

# The variables of a group that count the same nodes: a list, a number, numbers with repetitions.
SAME_NODES = {
    LAUNCH: ("SLURM_NODELIST", "SLURM_NNODES", "SLURM_TASKS_PER_NODE"),
    NODES: ("SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_JOB_CPUS_PER_NODE"),
}


def spelled(given: str) -> str | None:
    """Return a value of job_env, names of the table or `all`, as the table spells it; else None."""
    names = [ALL if name.lower() == ALL else name.upper() for name in given.split(",")]
    return ",".join(names) if {*names} <= {ALL, *VARIABLES} else None


def asks_a_process(given: str) -> bool:
    """Say whether job_env has a variable that only a process of the job can show."""
    return any(VARIABLES[name][0] == PROCESS for name in chosen(given))


def chosen(given: str) -> set[str]:
    """Return the names that job_env stands for; who names one of a group has named them all."""
    names = set(given.split(","))
    if ALL in names:
        names |= {name for name, (*_, asked_for) in VARIABLES.items() if asked_for == ALL}
        names.remove(ALL)
    groups = {GROUP.get(name, ALONE) for name in names} - {ALONE}
    return names | {name for name in VARIABLES if GROUP[name] in groups}
