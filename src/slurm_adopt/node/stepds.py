"""This node's stepds: who is taken for one, how they are greeted, how long they are waited for."""

from __future__ import annotations

from time import sleep

from slurm_adopt.slurm.deadline import Deadline, Patience
from slurm_adopt.slurm.stepd import ask_all, stepd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

    from .jobs import Job
    from .phase import Phase

# Of silence, in seconds: nothing answers, and nothing shows that a stepd is at work (deadline.py).
ASKING = 5.0  # of all stepds that are asked whose they are; of stopped ones 2 (ask_all.QUIET)
ADOPTING = 5.0  # of the one that adopts: it may take 4.1 s to say that it failed
# For all that a login tries, in seconds: no sign of life makes it longer.
ASKING_LONGEST = 30.0
ADOPTING_LONGEST = 100.0  # less than LoginGraceTime's 120 s, which a silent client has as well
STARTING = 10.0  # seconds that a stepd may take to make its step ready: mostly 10 to 30 ms
POLL = 0.01  # seconds between looks whether it is, at first
SLOWEST = 0.2  # seconds between them later on: hundreds may be looking


class Stepds:
    """The terms on which one login asks stepds."""

    __slots__ = ("_bounds", "_phase", "_starting")

    def __init__(self, phase: Phase) -> None:
        """Nothing is asked yet."""
        self._phase = phase
        self._starting: Deadline | None = None
        self._bounds: dict[float, Deadline] = {}

    def ask_all(
        self, steps: list[StepSocket], of_another: Callable[[StepSocket], bool]
    ) -> tuple[dict[StepSocket, ask_all.Answer], dict[StepSocket, str]]:
        """Ask all whose they are; return their answers, and why the others gave none.

        `of_another`: whether a step is another user's, as far as that shows without an answer.
        """
        patience = self._patience(ASKING, ASKING_LONGEST)
        return ask_all.ask_all(
            steps, self._phase.site.trusted, patience, self._introduce, of_another
        )

    def of(self, job: Job, deadline: Deadline | None = None) -> stepd.Stepd:
        """Return a conversation, not yet begun, with the stepd of a job's extern step."""
        deadline = deadline or self._patience(ADOPTING, ADOPTING_LONGEST)
        return stepd.Stepd(job.socket, self._phase.site.trusted, deadline, self._introduce)

    def await_start(self, job: Job) -> None:
        """Wait for a stepd that answers, but has not made all of its step's cgroups yet.

        It would refuse the process, and leave it in some of them. It says that it is running when
        all are there (seen on 20.11 to 26.05). An InitScript of job_container.conf comes before.
        """
        if self._starting is None:  # one wait for all that a login tries
            seconds = self._phase.options.seconds("wait_for_job")
            self._starting = Deadline(max(STARTING, seconds))
        patience, pause = Patience(ADOPTING, self._starting.left() + ADOPTING), POLL
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

    def _patience(self, silence: float, longest: float) -> Patience:
        """Return a wait for stepds: of all that a login tries none goes on after `longest`.

        But each has the time that silence takes.
        """
        bound = self._bounds.setdefault(longest, Deadline(longest))
        return Patience(silence, max(silence, bound.left()))

    def _introduce(self, deadline: Deadline) -> bytes:
        """Make the greeting that stepds of 17.11 and 18.08 want."""
        from slurm_adopt.slurm import auth
        from slurm_adopt.slurm.stepd import old_greeting

        return old_greeting.make(auth.of(self._phase.site.conf), deadline)
