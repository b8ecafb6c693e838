"""The job's variables as a session gets them: read, checked, whole groups or none.

Which there are is a table of its own (decision/variables.py).
"""

from __future__ import annotations

from slurm_adopt.decision.variables import (
    ALONE,
    ALWAYS,
    CGROUP,
    GROUP,
    MEMORY,
    MODULE,
    PROCESS,
    SAME_NODES,
    VARIABLES,
    chosen,
)
from slurm_adopt.slurm.config.hostlist import count
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.variables import Kind
    from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups
    from slurm_adopt.system.log import Log

    from .job_process import JobProcess


def own(job_id: int, uid: int, node: str) -> dict[str, str]:
    """Return the variables of the source MODULE."""
    import pwd

    found = {
        "SLURM_JOB_ID": str(job_id),
        "SLURM_JOBID": str(job_id),
        "SLURM_JOB_UID": str(uid),
        "SLURMD_NODENAME": node,
    }
    try:
        found["SLURM_JOB_USER"] = pwd.getpwuid(uid).pw_name
    except KeyError:
        pass
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
    for name in sorted(VARIABLES):
        source, kind, *_ = VARIABLES[name]
        value = sources[source].get(name)
        if value is None:
            absent.append(name)
        elif _fits(kind, value):
            found[name] = value
        else:
            misfits.append(name)
    names = chosen(given)
    apart = sorted(names & found.keys() - _whole(found, sources[PROCESS], known_here))
    for say, remark, which in (
        (log.info, "variables left out, since the job has them in no safe form", misfits),
        (log.debug, "variables that the job does not show", absent),
        (
            log.debug,
            "variables left out, since others of their group are missing or do not match",
            apart,
        ),
    ):
        if shown := [name for name in which if name in names]:
            say(f"{remark}: {' '.join(shown)}")
    return {name: value for name, value in found.items() if name in names.difference(apart)}


def _whole(found: dict[str, str], shown: dict[str, str], known_here: dict[str, str]) -> set[str]:
    """Return the variables that may come: those alone, and those of groups that are whole.

    A process with another job's id, as in a component of a heterogeneous job, shows no group.
    """
    of_job = shown.get(ALWAYS) == known_here.get(ALWAYS)
    groups = {group for group in GROUP.values() if of_job and _is_whole(group, found)}
    return {name for name, group in GROUP.items() if group in {ALONE, *groups}}


def _is_whole(group: str, found: dict[str, str]) -> bool:
    """Say whether a group's variables are there, and do not contradict each other."""
    members = [name for name in GROUP if GROUP[name] == group]
    there = [name for name in members if name in found]
    if group == MEMORY:
        return len(there) == 1
    if there != members or group not in SAME_NODES:
        return there == members
    nodes, how_many, repeated = (found[name] for name in SAME_NODES[group])
    return _nodes(nodes) == number(how_many) == _repetitions(repeated)


def _nodes(hostlist: str) -> int | None:
    """Return how many nodes are in a list; None if it is malformed."""
    try:
        return count(hostlist)
    except SetupError:
        pass
    return None


def _repetitions(counts: str) -> int | None:
    """Return how many numbers `2(x3),1` stands for; None if it is malformed."""
    found = 0
    for part in counts.split(","):
        each, times, repeated = part.removesuffix(")").partition("(x")
        many = number(repeated) if times else 1
        if number(each) is None or many is None or part.endswith(")") != bool(times):
            return None
        found += many
    return found


def _of_cgroups(cgroups: JobCgroups) -> dict[str, str]:
    cpus = cgroups.cpus()
    return {} if cpus is None else {"SLURM_CPUS_ON_NODE": str(cpus)}


def _of_process(process: JobProcess) -> dict[str, str]:
    """Return the environment as text, in which bytes beyond ASCII fit no pattern."""
    return {
        name.decode("ascii", "replace"): value.decode("ascii", "replace")
        for name, value in process.environment.items()
    }


def _fits(kind: Kind, value: str) -> bool:
    import re

    return re.fullmatch(kind.pattern, value, re.ASCII) is not None
