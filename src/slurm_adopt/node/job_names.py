"""What a user's jobs are called, for the question which of them a login is for.

Stepds and cgroups do not have it: it is SLURM_JOB_NAME of a process of the user's own in the job,
which is read and checked as for job_env. A job without such a process here has no name. Where the
job is is told by its extern step's cgroups: a process in there it need not have (26.05).
"""

from __future__ import annotations

from slurm_adopt.session import environment
from slurm_adopt.session.job_process import Search, Wanted
from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups
from slurm_adopt.slurm.errors import PeerError, SlurmAdoptError
from slurm_adopt.slurm.versions import LEADER, layout_of
from slurm_adopt.slurm.waiting import Deadline, Patience
from slurm_adopt.time_limits import JOB_NAMES, STEP_READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.stepd.stepd import Stepd

    from .jobs import Job
    from .phase import Phase
    from .stepds import Stepds

NAME = "SLURM_JOB_NAME"


def names(jobs: list[Job], phase: Phase, stepds: Stepds) -> dict[int, str]:
    """Return the names of jobs by job id, as far as they are found in time."""
    deadline, found = Deadline(JOB_NAMES.last), {}
    for job in jobs:
        if not deadline.left():
            phase.log.info(f"name of job {job.job_id} and others not looked up: no time is left")
            break
        try:
            name = _name(job, phase, stepds)
        except SlurmAdoptError as error:
            phase.log.debug(f"name of job {job.job_id} not found: {error}")
            continue
        if name:
            found[job.job_id] = name
    return found


def _name(job: Job, phase: Phase, stepds: Stepds) -> str:
    job.check_answering()
    with stepds.of(job, Patience(STEP_READ.silence, STEP_READ.last)) as step:
        if step.uid() != job.uid:
            raise PeerError("its extern step is another user's now")
        cgroups = _cgroups(job, phase, step)
        wanted = Wanted(job.job_id, job.uid, cgroups)
        process = Search(wanted, phase.log).find(step, phase.site.name)
    return environment.variables(NAME, {}, cgroups, process, phase.log).get(NAME, "")


def _cgroups(job: Job, phase: Phase, step: Stepd) -> JobCgroups:
    """Return the job's cgroups; none where Slurm makes none here."""
    layout = phase.site.layout()
    if layout is None:
        return JobCgroups({}, {})
    release = layout_of(step.protocol)
    if release and release.het_cgroup == LEADER:
        layout.follow_leader(job.socket, job.uid, step.pids())
    found = JobCgroups.of_step(layout, job.socket, job.uid)
    if not found.paths:  # else any process would be taken for one of the job's
        raise PeerError("its extern step's cgroups are not found")
    return found
