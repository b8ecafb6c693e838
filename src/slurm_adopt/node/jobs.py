"""The user's jobs on this node: what its stepds say, and the cgroups of those that say nothing."""

from __future__ import annotations

from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.proc import start_time
from slurm_adopt.slurm.stepd import step_sockets, stepd
from slurm_adopt.slurm.waiting import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.stepd import starting

    from .phase import Phase
    from .stepds import Stepds

UNKNOWN = 1 << 64  # later than all ticks since boot
MANY = 16  # extern steps here; where there are more, step_owners.py keeps whose they are


class Job:
    """A job of the user that has an extern step on this node."""

    __slots__ = ("job_id", "protocol", "socket", "starting", "trouble", "uid")

    def __init__(
        self,
        socket: step_sockets.StepSocket,
        uid: int,
        protocol: int = 0,
        trouble: str = "",
        *,
        starting: bool = False,
    ) -> None:
        """`protocol`: number of its stepd's release; `trouble`: why that does not answer, if so.

        `starting`: it was still making its step ready when it was asked.
        """
        self.job_id = socket.job_id
        self.socket = socket
        self.uid = uid
        self.protocol = protocol
        self.trouble = trouble
        self.starting = starting

    @property
    def started(self) -> int:
        """When the extern step was started: clock ticks since boot, of its stepd.

        The socket's change time would be finer, but everybody may write to the sockets, so
        everybody may change that. Where no connection was to be had, which everybody can bring
        about, it is not known, and counts as the newest: then the login is in no older one.
        """
        return start_time(self.socket.pid) if self.socket.pid else UNKNOWN

    def check_answering(self) -> None:
        """Raise PeerError where its stepd has not answered."""
        if self.trouble:
            raise PeerError(f"stepd of job {self.job_id}: {self.trouble}")


class Jobs:
    """Counts the jobs of a user."""

    __slots__ = ("_owners", "_phase", "_said", "_stepds", "silent")

    def __init__(self, phase: Phase, stepds: Stepds, owners: str = "") -> None:
        """Nothing is asked yet; `silent`: jobs, of whomever, whose stepds gave no answer.

        `owners`: the directory of the table that says whose the steps are; "": all are asked.
        """
        self._phase = phase
        self._stepds = stepds
        self._owners = owners
        self._said: dict[step_sockets.StepSocket, int] = {}  # whose steps are, when last asked
        self.silent: frozenset[int] = frozenset()

    def of(self, uid: int, only: int | None = None) -> list[Job]:
        """Return the user's jobs that have an extern step here and have not begun to end.

        `only`: the one of that id, if it is among them. Raises SetupError if this cannot be told.
        """
        site = self._phase.site
        steps = site.steps(only)
        many = self._owners and len(steps) > MANY
        jobs, alive = self._of_many(steps, uid) if many else self._among(steps, uid)
        dead = f" ({len(steps) - alive} sockets without a stepd)" if len(steps) > alive else ""
        self._phase.log.debug(f"{alive} extern steps here{dead}, {len(jobs)} of uid {uid}")
        if not alive and only is None:
            from .hints import hint

            if said := hint(site, nodename=self._phase.options["nodename"], dead=len(steps)):
                self._phase.log.error(said)
        return jobs

    def _of_many(self, steps: list[step_sockets.StepSocket], uid: int) -> tuple[list[Job], int]:
        """Do as _among(), without a question to the stepds of steps that are known to be others'.

        But where the user has no job among the rest those are asked, too: nobody is refused by
        what is kept.
        """
        from .step_owners import Owners

        owners = Owners(steps, self._owners)
        others = owners.others(uid)
        jobs, alive = self._among([step for step in steps if step not in others], uid)
        if others and not jobs:
            said, silent = self._said, self.silent
            jobs, more = self._among([step for step in steps if step in others], uid)
            alive, others = alive + more, set()
            self._said, self.silent = {**said, **self._said}, silent | self.silent
        try:
            owners.learn(self._said)
        except OSError as error:
            self._phase.log.debug(
                f"cannot write {self._owners}: {error.strerror}; the next login asks all stepds"
            )
        return jobs, alive + len(others)

    def awaited(self, uid: int) -> list[Job]:
        """Wait up to wait_for_job for an extern step that is being set up; return the jobs then.

        Without a sign of one there is a second look, and no wait.
        """
        seconds = self._phase.options.seconds("wait_for_job")
        if not seconds:
            return []
        from slurm_adopt.slurm.stepd import starting

        site = self._phase.site
        watch = self._watch(uid)
        if sign := self._sign(watch, uid) or watch.nameless:
            self._phase.log.info(f"no extern step yet, but {sign}: waiting up to {seconds:g} s")
        return starting.wait(
            lambda: self._among(site.steps(), uid)[0],
            lambda: self._sign(watch, uid),
            bool(sign),
            Deadline(seconds),
        )

    def sign(self, uid: int) -> str:
        """Say what shows now that a job may be being set up for the user; "" if nothing does."""
        watch = self._watch(uid)
        return self._sign(watch, uid) or watch.nameless

    def _watch(self, uid: int) -> starting.Watch:
        from slurm_adopt.slurm.stepd import starting

        site = self._phase.site
        known = frozenset(step.job_id for step in step_sockets.steps(site.spool, site.name))
        return starting.Watch(uid, site.name, known)

    def _sign(self, watch: starting.Watch, uid: int) -> str:
        """Say what shows that a job of the user is being set up here; "" if nothing does."""
        if (job_id := watch.prolog()) is not None:
            return f"the prolog of job {job_id} is running"
        site = self._phase.site
        for job in self._among(step_sockets.lone_steps(site.spool, site.name), uid)[0]:
            return f"job {job.job_id} has another step"
        return ""

    def _among(self, steps: list[step_sockets.StepSocket], uid: int) -> tuple[list[Job], int]:
        """Return the user's jobs among these steps, by job id, that have not begun to end.

        And how many of the steps, of whomever, have a stepd; that a socket lies there says nothing.
        """
        answers, silent = self._stepds.ask_all(steps, lambda step: self._of_another(step, uid))
        self._said = {step: answer.uid for step, answer in answers.items()}
        jobs = [
            Job(step, uid, answer.protocol, starting=answer.state == stepd.STARTING)
            for step, answer in answers.items()
            if answer.uid == uid and answer.state in stepd.ALIVE
        ]
        jobs += self._silent(silent, uid)
        return sorted(jobs, key=lambda job: job.job_id), len(answers) + len(silent)

    def _of_another(self, step: step_sockets.StepSocket, uid: int) -> bool:
        """Say whether a job is another user's, by its cgroups; False where they do not tell."""
        try:
            layout = self._phase.site.layout()
        except SetupError:
            return False
        uids = layout.uids(step) if layout else set()
        return bool(uids) and uid not in uids

    def _silent(self, silent: dict[step_sockets.StepSocket, str], uid: int) -> list[Job]:
        """Return the user's jobs, told by their cgroups, whose stepds gave no answer."""
        log = self._phase.log
        for step in [step for step in silent if step.stranger]:
            log.error(silent.pop(step))
        self.silent = frozenset(step.job_id for step in silent)
        if not silent:
            return []
        try:
            layout = self._phase.site.layout()
        except SetupError as error:
            log.error(str(error))
            layout = None
        jobs = []
        for step, reason in silent.items():
            owner = layout.owner(step) if layout else None
            whose = "of an unknown user" if owner is None else f"of uid {owner}"
            log.error(f"stepd of job {step.job_id} ({whose}): {reason}")
            if owner == uid:
                jobs.append(Job(step, uid, trouble=reason))
        return jobs
