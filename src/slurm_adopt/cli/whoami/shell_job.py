"""`slurm-adopt whoami`: which job holds this shell, and what the job has here.

Its cgroups say which job; SLURM_JOB_ID is the user's own writing and only compared. `prompt()`
stands in users' prompts: it imports little, and neither click nor rich.
"""

from __future__ import annotations

import os

from slurm_adopt.cli.sessions.places import Places
from slurm_adopt.slurm.cgroup import paths
from slurm_adopt.slurm.cgroup.hierarchy import UNIFIED
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.proc import PROC, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from slurm_adopt.cli.sessions.places import Place

    from .job_resources import Resources

SCHEMA = 1
IN_JOB, OUTSIDE = 0, 1  # exit status
SHOWN = 200  # characters of a name


def prompt() -> int:
    """Print `job 42`, or nothing outside of a job; return the exit status."""
    place = Places({}).of("self")  # who has made the directories is not looked at
    if not place.job:
        return OUTSIDE
    job_id = _job_id(place)
    print(f"job {place.job if job_id is None else job_id}")  # noqa: T201
    return IN_JOB


def _job_id(place: Place, proc: str = PROC) -> int | None:
    """Return the id of the job; where its cgroup has another name, as its stepd's title says.

    Where that is hidden, the environment translates. It is believed only if it has that other name,
    too (SLURM_JOB_SLUID, 26.05).
    """
    if place.job_id is not None or not place.job:
        return place.job_id
    titled = _in_title(place, proc)
    if titled is None and os.environ.get("SLURM_JOB_SLUID") == place.job:
        return said_job()
    return titled


def _in_title(place: Place, proc: str) -> int | None:
    """Return the id in the title of the stepd beside a process on v2: `slurmstepd: [42.extern]`."""
    step = place.steps.get(UNIFIED)
    job = Places(proc=proc).directory(place, UNIFIED) if step else ""
    for pid in read(f"{job}/{step}/{paths.STEPD}/cgroup.procs").split() if job else ():
        title = read(f"{proc}/{pid.decode()}/cmdline").decode("ascii", "replace")
        if title.startswith("slurmstepd: ["):
            return number(title[len("slurmstepd: [") :].partition(".")[0])
    return None


def said_job() -> int | None:
    """Return the number in SLURM_JOB_ID; None if there is none."""
    return number(os.environ.get("SLURM_JOB_ID", ""))


class Shell:
    """What is known of this shell and its job."""

    def __init__(self, proc: str = PROC) -> None:
        """Look at everything."""
        from .job_resources import Resources

        places = Places(proc=proc)
        self.place = places.of("self")
        self.job_id = _job_id(self.place, proc)
        self.resources: Resources | None = None
        if self.place.job:
            self.resources = Resources(places, self.place)

    @property
    def environment_fits(self) -> bool:
        """Whether the environment is of this job."""
        return self.job_id is not None and said_job() == self.job_id

    @property
    def name(self) -> str | None:
        """The job's name, as the environment says; None where that is not of this job."""
        return os.environ.get("SLURM_JOB_NAME") or None if self.environment_fits else None

    @property
    def end(self) -> int | None:
        """When the job ends at the latest, seconds since the epoch; None where it is not known."""
        said = os.environ.get("SLURM_JOB_END_TIME", "") if self.environment_fits else ""
        return number(said)

    @property
    def difference(self) -> str:
        """What is at odds with the environment; "" for nothing."""
        said = os.environ.get("SLURM_JOB_ID", "")
        if not said or self.environment_fits:
            return ""
        if not self.place.job:
            return f"SLURM_JOB_ID is {said[:SHOWN]}, but this shell is in no job"
        if self.job_id is None:
            return ""
        return f"SLURM_JOB_ID is {said[:SHOWN]}, but this shell is in job {self.job_id}"

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON has of it."""
        place, found = self.place, self.resources
        return {
            "schema": SCHEMA,
            "in_job": bool(place.job),
            "job": self.job_id,
            "cgroup": place.job or None,
            "steps": place.steps,
            "missing": list(place.missing),
            "name": self.name,
            "end_time": self.end,
            "cpus": found.cpus if found else None,
            "memory_bytes": found.memory if found else None,
            "gpus": found.gpus if found else None,
            "remarks": self.remarks(),
        }

    def remarks(self) -> list[str]:
        """Return what a user should know beyond that."""
        found = [self.difference] if self.difference else []
        if self.place.missing:
            found.append(
                f"in some of the job's cgroups only, not in its {', '.join(self.place.missing)}"
            )
        return found
