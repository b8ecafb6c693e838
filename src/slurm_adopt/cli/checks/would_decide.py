"""What would be decided now: for some users, or for all who have jobs here.

The stepds are asked once, for all users. The engine then decides about each over these answers.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.accounts import name_of, uid_of
from slurm_adopt.cli.deadlines import QUICK, SLOW
from slurm_adopt.cli.verdict.fronts import is_exec
from slurm_adopt.cli.verdict.looking_node import LookingNode
from slurm_adopt.decision.engine import decide, our_mistake
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.outcome import SITUATIONS
from slurm_adopt.node.jobs import Jobs
from slurm_adopt.node.stepds import Stepds
from slurm_adopt.slurm.errors import SlurmAdoptError
from slurm_adopt.slurm.stepd import stepd

from .host import LateError, within

if TYPE_CHECKING:
    from typing import Callable

    from slurm_adopt.decision.options import Options
    from slurm_adopt.decision.outcome import Outcome
    from slurm_adopt.node.jobs import Job
    from slurm_adopt.node.phase import Phase
    from slurm_adopt.slurm.stepd.ask_all import Answer
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

    from .host import Host

DECISIONS = ("job", "let in", "ignored", "refused", "unknown")
_HOW = re.compile(r"adopted into job \d+ \((?P<how>.*?)(?:;.*)?\)(?:; decided again, since .*)?$")
_REASONS = {"no jobs": "no job", "unknown job": "several jobs", "job suspended": "job suspended"}
_LISTED = 8  # jobs in a line


class Decision(NamedTuple):
    """What a login of one user would come to."""

    user: str
    uid: int | None
    decision: str  # one of DECISIONS
    job: int | None
    jobs: tuple[int, ...]  # of the user, here
    situation: str
    option: str  # what has decided, with its value; "" where nothing but the situation does
    why: str

    def as_dict(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        return {**self._asdict(), "jobs": list(self.jobs)}

    def text(self, arrow: str) -> str:
        """Return it as a line."""
        what = {"job": f"job {self.job}", "let in": "let in without a job", "unknown": "not known"}
        why = f" ({self.why})" if self.why else ""
        said = f"{what.get(self.decision, self.decision)}{why}"
        return f"{self.user} {arrow} {said}" if self.user else said


def would_decide(host: Host) -> list[Decision]:
    """Return the decisions for the host's users, or for those who have jobs here, by name.

    Where they cannot be told there is one without a user that says why.
    """
    seconds = QUICK if host.quick else SLOW
    why = ""
    try:
        return within(seconds, lambda: _decisions(host))
    except LateError as error:
        why = str(error)
    except SlurmAdoptError as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 - it is shown
        why = our_mistake(error)
    return [_unknown(user, why) for user in host.users or ("",)]


def _unknown(user: str, why: str) -> Decision:
    return Decision(user, None, "unknown", None, (), "", "", why)


def _decisions(host: Host) -> list[Decision]:
    if not host.all_our_lines():
        why = f"{host.service} has no line of slurm_adopt"
        return [_unknown(user, why) for user in host.users or ("",)]
    stepds = _Answers(host.phase)
    users = host.users or tuple(sorted(map(name_of, stepds.uids())))
    return [_decision(user, host, stepds) for user in users]


def _decision(user: str, host: Host, stepds: _Answers) -> Decision:
    login = Login(user, uid_of(user), host.service, os.getpid())
    adopts = [*host.our_lines("session"), *host.our_lines("account")][:1]
    node = _AnsweredNode(host.phase, stepds, apart=any(map(is_exec, adopts)))
    outcome = decide(login, host.options, node)
    return of_outcome(login, outcome, host.options)


def of_outcome(login: Login, outcome: Outcome, options: Options) -> Decision:
    """Say in a few words what the engine has decided."""
    row = SITUATIONS[outcome.situation]
    several = outcome.situation == "unknown job" or "the newest of" in outcome.text
    name = "action_unknown" if several else row.option
    option = f"{name}={options[name]}" if name else ""
    why = _REASONS.get(outcome.situation, outcome.text)
    job = None
    if outcome.adoption:
        decision, job = "job", outcome.adoption.job_id
        found = _HOW.search(outcome.text)
        how = found["how"] if found else outcome.text
        why = how.replace("the only job", "the only one")
    elif outcome.code == "PAM_SUCCESS":
        decision = "let in"
    elif outcome.code == "PAM_IGNORE":
        decision = "ignored"
        why = "" if outcome.situation == "root" else why
    else:
        decision = "refused"
    if several:
        if not job:
            more = f" and {len(outcome.jobs) - _LISTED} more" if outcome.jobs[_LISTED:] else ""
            why = f"{why}: {' '.join(map(str, outcome.jobs[:_LISTED]))}{more}"
        if options.on("callerid"):
            why += ", where the source host names none"
    if (
        option
        and option not in why
        and not (outcome.situation == "no jobs" and decision == "refused")
    ):
        why = f"{why}: {option}"
    return Decision(
        login.user, login.uid, decision, job, outcome.jobs, outcome.situation, option, why
    )


class _Answers(Stepds):
    """What the stepds have answered, once."""

    __slots__ = ("_kept",)

    def __init__(self, phase: Phase) -> None:
        """Nothing is asked yet."""
        super().__init__(phase)
        self._kept: tuple[dict[StepSocket, Answer], dict[StepSocket, str]] | None = None

    def uids(self) -> set[int]:
        """Return the uids of all who have a job here."""
        answers, _ = self._all(self._phase.site.steps())
        return {answer.uid for answer in answers.values() if answer.state in stepd.ALIVE}

    def ask_all(
        self,
        steps: list[StepSocket],
        of_another: Callable[[StepSocket], bool],  # noqa: ARG002
    ) -> tuple[dict[StepSocket, Answer], dict[StepSocket, str]]:
        """Return what they have answered, each about its own user."""
        answers, silent = self._all(steps)
        paths = {step.path for step in steps}
        return (
            {step: answer for step, answer in answers.items() if step.path in paths},
            {step: reason for step, reason in silent.items() if step.path in paths},
        )

    def _all(
        self, steps: list[StepSocket]
    ) -> tuple[dict[StepSocket, Answer], dict[StepSocket, str]]:
        if self._kept is None:
            self._kept = super().ask_all(steps, lambda _: False)
        return self._kept


class _AnsweredNode(LookingNode):
    """A node whose stepds have answered already."""

    __slots__ = ()

    def __init__(self, phase: Phase, stepds: Stepds, *, apart: bool) -> None:
        super().__init__(phase.options, phase.log, apart=apart)
        self.phase = phase
        self._jobs = Jobs(phase, stepds)

    def awaited_jobs(self, uid: int) -> list[Job]:  # noqa: ARG002
        """Wait for no job."""
        return []
