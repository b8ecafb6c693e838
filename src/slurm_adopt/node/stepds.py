"""This node's stepds: who is taken for one, how they are greeted, how long they are waited for."""

from __future__ import annotations

from time import sleep

from slurm_adopt.slurm.stepd import ask_all, stepd
from slurm_adopt.slurm.waiting import Deadline, Patience
from slurm_adopt.time_limits import ADOPTED, COUNTED, STARTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from slurm_adopt.slurm.stepd.step_sockets import StepSocket
    from slurm_adopt.slurm.time_limits import Limit

    from .jobs import Job
    from .phase import Phase

POLL = 0.01  # seconds between looks whether a step is ready, at first: mostly after 10 to 30 ms
SLOWEST = 0.2  # seconds between them later on: hundreds may be looking


class Stepds:
    """The terms on which one login asks stepds."""

    __slots__ = ("_bounds", "_phase", "_starting")

    def __init__(self, phase: Phase) -> None:
        """Nothing is asked yet."""
        self._phase = phase
        self._starting: Deadline | None = None
        self._bounds: dict[Limit, Deadline] = {}

    def ask_all(
        self, steps: list[StepSocket], of_another: Callable[[StepSocket], bool]
    ) -> tuple[dict[StepSocket, ask_all.Answer], dict[StepSocket, str]]:
        """Ask all whose they are; return their answers, and why the others gave none.

        `of_another`: whether a step is another user's, as far as that shows without an answer.
        """
        patience = self._patience(COUNTED)
        return ask_all.ask_all(
            steps, self._phase.site.trusted, patience, self._introduce, of_another
        )

    def of(self, job: Job, deadline: Deadline | None = None) -> stepd.Stepd:
        """Return a conversation, not yet begun, with the stepd of a job's extern step."""
        deadline = deadline or self._patience(ADOPTED)
        return stepd.Stepd(job.socket, self._phase.site.trusted, deadline, self._introduce)

    def await_start(self, job: Job) -> None:
        """Wait for a stepd that answers, but has not made all of its step's cgroups yet.

        It would refuse the process, and leave it in some of them. It says that it is running when
        all are there (seen on 20.11 to 26.05). An InitScript of job_container.conf comes before.
        """
        if self._starting is None:  # one wait for all that a login tries
            seconds = self._phase.options.seconds("wait_for_job")
            self._starting = Deadline(max(STARTED.last, seconds))
        silence = STARTED.silence
        patience, pause = Patience(silence, self._starting.left() + silence), POLL
        with self.of(job, patience) as step:
            while step.state() == stepd.STARTING:
                if not self._starting.left():
                    self._phase.log.error(
                        f"the extern step of job {job.job_id} is still starting: does an "
                        "InitScript of Slurm's need longer? Set wait_for_job= to wait longer"
                    )
                    return
                sleep(pause)
                pause = min(SLOWEST, 1.2 * pause)

    def _patience(self, limit: Limit) -> Patience:
        """Return a wait for stepds: of all that a login tries none goes on after the last end.

        But each has the time that silence takes.
        """
        bound = self._bounds.setdefault(limit, Deadline(limit.last))
        return Patience(limit.silence, max(limit.silence, bound.left()))

    def _introduce(self, deadline: Deadline) -> bytes:
        """Make the greeting that stepds of 17.11 and 18.08 want."""
        from slurm_adopt.slurm import auth
        from slurm_adopt.slurm.stepd import old_greeting

        return old_greeting.make(auth.of(self._phase.site.conf), deadline)
