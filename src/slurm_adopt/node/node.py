"""This node as the engine sees it: what decision/engine.py asks for, and which module answers.

Everything is looked up when it is first asked for, so that a login that is none of our business
reads no file of Slurm.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.errors import PeerError, SetupError

from .adopting import Adopter
from .deferral import session_line_comes
from .jobs import Jobs
from .moving import Confinement
from .phase import Phase
from .session_process import is_child, opens_session
from .stepds import Stepds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.adoption import Adoption, Choice
    from slurm_adopt.decision.login import Login
    from slurm_adopt.decision.options import Options
    from slurm_adopt.system.log import Log

    from .asking import Converse
    from .jobs import Job

OWNERS = "/run/slurm_adopt/owners"  # of steps, where there are many (step_owners.py)


class Node:
    """The real node."""

    __slots__ = ("_adopter", "_converse", "_defers", "_jobs", "_stepds", "phase")

    def __init__(
        self,
        options: Options,
        log: Log,
        hostname: str = "",
        account_of: str = "",
        converse: Converse | None = None,
        pid: int = 0,
    ) -> None:
        """`hostname` is this host's own unless given.

        `account_of`: the service whose account phase this is; "" in the session phase. `converse`
        asks the user; without it nobody can be asked. `pid`: the process that called PAM, if it is
        not this one.
        """
        self._converse = converse
        self.phase = Phase(options, log, hostname, account_of, pid)
        self._stepds = Stepds(self.phase)
        self._jobs = Jobs(self.phase, self._stepds, OWNERS)
        self._adopter = Adopter(self.phase, self._stepds)
        self._defers: bool | None = None

    @property
    def runs_slurm(self) -> bool:
        """Whether this host is a compute node: a slurmd or stepd of root's runs here."""
        return self.phase.site.runs_slurm

    def jobs(self, uid: int, only: int | None = None) -> list[Job]:
        """Return the user's jobs here, by job id; of one job id only, if that is given."""
        return self._jobs.of(uid, only)

    def awaited_jobs(self, uid: int) -> list[Job]:
        """Wait, if that is wanted, for a job that is being set up; return the user's jobs."""
        return self._jobs.awaited(uid)

    @property
    def silent(self) -> frozenset[int]:
        """Jobs, of whomever, whose stepds gave no answer when jobs() last asked."""
        return self._jobs.silent

    def source_job(self, login: Login, jobs: list[Job]) -> int | None:
        """Return the job id that the host named which the login comes from; None for none."""
        if not self.phase.options.on("callerid"):
            raise PeerError("callerid=0")
        from . import source_job

        return source_job.ask(login, max(job.protocol for job in jobs), self.phase)

    def chosen_job(self, uid: int, jobs: list[Job]) -> int | None:
        """Return the job id that the user has chosen by `slurm-adopt use`; None for none.

        PeerError or SetupError with the reason where there is a choice that does not count.
        """
        from . import user_choice

        if not uid:  # slurm-adopt use refuses root, too
            return None
        self._have_place(uid)
        try:
            chosen = user_choice.chosen(uid)
        except FileNotFoundError:
            return None
        for job in jobs if chosen else ():
            if chosen and job.job_id == chosen.job_id:
                chosen.check(job)
        return chosen.job_id if chosen else None

    def _have_place(self, uid: int) -> None:
        """See that the user can state a choice."""
        from . import user_choice

        try:
            user_choice.have_place(uid)
        except SetupError as error:
            self.phase.log.error(f"{error}; slurm-adopt use has no place to keep a choice")

    def ask(self, jobs: list[Job], newest: Job) -> int | None:
        """Return the job id that the user answers; None where nobody can be asked.

        Root is not: what logs in as root by a password may answer nothing else.
        """
        if self._converse is None or not newest.uid:
            return None
        from . import asking

        return asking.ask(jobs, newest, self._converse, self._names_of)

    def _names_of(self, jobs: list[Job]) -> dict[int, str]:
        """Return what jobs are called; nothing where sshd has no way to ask anyhow."""
        from .session_process import is_sshd

        if is_sshd(self.phase.pid) and not is_child(self.phase.pid):
            return {}
        try:
            from . import job_names

            return job_names.names(jobs, self.phase, self._stepds)
        except Exception as error:  # noqa: BLE001 - the question is as good without
            self.phase.log.error(f"jobs have no names: unexpected {error!r} (please report this)")
            return {}

    @property
    def defers(self) -> bool:
        """Whether this is an account phase whose login a session line will adopt."""
        if self._defers is None:
            self._defers = bool(self.phase.account_of) and session_line_comes(self.phase)
        return self._defers

    def look(self, job: Job) -> None:
        """Raise PeerError if a job would not take a login now; SUSPENDED if it is frozen."""
        job.check_answering()
        Confinement(job, self.phase).check_takes()

    def suspended(self, job: Job) -> str:
        """Say why nothing may be put into a job's step now; "" if it may, or nothing shows."""
        try:
            return Confinement(job, self.phase).obstacle()
        except SetupError:
            return ""

    def adopt(self, pid: int, job: Job) -> Adoption:
        """Bring the login that called us in process `pid` into the job, proven."""
        if self.phase.options.on("user_choice") and job.uid:
            self._have_place(job.uid)
        return self._adopter.adopt(pid, job)

    def keep(self, adoption: Adoption) -> Adoption:
        """See that a process is still in its job; put it back where it is not."""
        return self._adopter.keep(adoption)

    def tell(self, choice: Choice) -> None:
        """Leave word of a choice where another process answers the session phase."""
        pid = opens_session(self.phase.pid)
        if pid == os.getpid():
            return
        from . import adoption_note

        try:
            adoption_note.leave_choice(choice, pid)
        except SetupError as error:
            self.phase.log.error(f"{error}; the session line decides again")

    def noted(self, pid: int, uid: int) -> Adoption | Choice | None:
        """Return what another process has left word of, if one has."""
        from . import adoption_note

        try:
            return adoption_note.take(pid, uid)
        except Exception as error:  # noqa: BLE001 - then all is decided here
            self.phase.log.error(f"cannot read the account phase's note: {error!r}")
            return None
