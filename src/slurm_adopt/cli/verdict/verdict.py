"""What a login of a user would come to now, by the engine of the module."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.decision.engine import decide, our_mistake, spare_root, undecided
from slurm_adopt.decision.login import Login
from slurm_adopt.decision.outcome import REFUSALS, SITUATIONS

from .looking_node import NO_SOURCE, LookingNode
from .remarks import Remarks

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Literal

    from slurm_adopt.decision.options import Options
    from slurm_adopt.decision.outcome import Outcome
    from slurm_adopt.node.ssh_connection import Connection

    # Let in to a job; let in without one; left to the other modules of the stack; refused.
    End = Literal["adopted", "allowed", "ignored", "refused"]

# How an adoption's text begins to say why into this job -> the option that has decided it.
_HOW = (
    ("the newest of", "action_unknown"),
    ("the job it comes from", "callerid"),
    ("the job that the user has chosen", "user_choice"),
    ("the user's answer", "action_unknown"),
)
_DECIDED_BY = {
    "root": "ignore_root",
    "root spared": "ignore_root",
    "other service": "service",
}


class Verdict(NamedTuple):
    """The engine's answer to a login that is not there, and what a log would have of it."""

    login: Login
    outcome: Outcome
    node: LookingNode
    remarks: Remarks
    options: Options

    @property
    def job_id(self) -> int | None:
        """The job that the login would be adopted into; None for none."""
        adoption = self.outcome.adoption
        return adoption.job_id if adoption else None

    @property
    def end(self) -> End:
        """What becomes of the user."""
        if self.job_id is not None:
            return "adopted"
        if self.outcome.code in REFUSALS:
            return "refused"
        return "ignored" if self.outcome.code == "PAM_IGNORE" else "allowed"

    @property
    def why(self) -> str:
        """Why into this job, or why into none: one line, of the login's own in the log."""
        text = self.outcome.text
        if self.job_id is not None:
            return text.partition(f"into job {self.job_id} (")[2].rpartition(")")[0]
        return text

    @property
    def words(self) -> str:
        """Say it in one line: let in to job 9 (the only job)."""
        if self.job_id is not None:
            return f"let in to job {self.job_id} ({self.why})"
        if self.end == "refused":
            return f"refused: {self.outcome.message or 'no reason is shown'}"
        if self.end == "ignored":
            return "left to the other modules of the stack"
        return "let in without a job"

    @property
    def option(self) -> str:
        """The option that has decided, "" if none has: there was nothing to decide."""
        situation = self.outcome.situation
        if self.job_id is not None:
            return next((name for start, name in _HOW if self.why.startswith(start)), "")
        return SITUATIONS[situation].option or _DECIDED_BY.get(situation, "")

    def but(self, options: Options | None = None, refusing: Collection[int] = ()) -> Verdict:
        """Decide about the same login under other options, by what was looked up already.

        `refusing`: jobs whose stepds refuse, as if.
        """
        options = options or self.options
        node = self.node.but(options, refusing)
        return self._replace(outcome=_decided(self.login, options, node), options=options)

    def is_like(self, other: Verdict) -> bool:
        """Say whether another verdict comes to the same for the user."""
        mine, theirs = self.outcome, other.outcome
        alike = (mine.code, mine.message) == (theirs.code, theirs.message)
        return alike and self.job_id == other.job_id


def verdict(
    user: str,
    uid: int | None,
    options: Options,
    service: str = "sshd",
    source: Connection | None = None,
    no_source: str = NO_SOURCE,
    *,
    apart: bool = False,
) -> Verdict:
    """Decide about a login of a user. Raises nothing that a node is meant to raise.

    `source`: the connection that it is to come by; `no_source`: why none is known. `apart`: the
    line that adopts is pam_exec's.
    """
    remarks = Remarks()
    node = LookingNode(options, remarks, source=source, no_source=no_source, apart=apart)
    said = str(source) if source else None
    login = Login(user, uid, service, os.getpid(), ssh_connection=said)
    return Verdict(login, _decided(login, options, node), node, remarks, options)


def _decided(login: Login, options: Options, node: LookingNode) -> Outcome:
    try:
        return decide(login, options, node)
    except Exception as error:  # noqa: BLE001 - as for a login
        return spare_root(login, undecided(options, our_mistake(error), lambda: node.runs_slurm))
