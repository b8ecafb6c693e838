"""What the account phase keeps for the session phase: a process in a job, or the job alone."""

from __future__ import annotations


class Choice:
    """The job that the session line is to adopt the login into."""

    __slots__ = ("environment", "how", "job_id", "uid")

    def __init__(self, job_id: int, uid: int, how: str = "") -> None:
        """`how`: why this job, for the log."""
        self.job_id = job_id
        self.uid = uid
        self.how = how
        self.environment = {"SLURM_JOB_ID": str(job_id)}


class Adoption:
    """One adoption; the kernel has shown the process in the job."""

    __slots__ = ("environment", "job_id", "paths", "pid", "started", "uid", "written")

    def __init__(
        self,
        pid: int,
        uid: int,
        job_id: int,
        paths: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
        written: tuple[str, ...] = (),
        *,
        started: int = 0,
    ) -> None:
        """`paths`: where it was read back, by controller; `environment`: for the session.

        `written`: the cgroups that this module had to write it into. `started`: when the process
        was started (process.start_time), where it is not the one that we run in.
        """
        self.pid = pid
        self.uid = uid
        self.job_id = job_id
        self.paths = paths or {}
        self.environment = environment or {}
        self.written = written
        self.started = started
