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
    """One adoption: of which process, into which job, and what has shown that it is there."""

    __slots__ = ("environment", "how", "job_id", "paths", "pid", "started", "uid", "written")

    def __init__(self, pid: int, uid: int, job_id: int, started: int = 0) -> None:
        """Nothing is shown yet, see proven().

        `started`: when the process was started (proc.start_time), where it is not the one that we
        run in.
        """
        self.pid = pid
        self.uid = uid
        self.job_id = job_id
        self.started = started
        self.how = ""  # why this job, for the log
        self.paths: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.written: tuple[str, ...] = ()

    def proven(
        self,
        paths: dict[str, str],
        environment: dict[str, str] | None = None,
        written: tuple[str, ...] = (),
    ) -> Adoption:
        """Return the same adoption as the kernel has shown it.

        `paths`: where the process was read back, by controller. `environment`: for the session.
        `written`: the cgroups that this module had to write it into.
        """
        found = Adoption(self.pid, self.uid, self.job_id, self.started)
        found.paths, found.environment, found.written = paths, environment or {}, written
        found.how = self.how
        return found
