"""What a login of a user would come to now, by the engine of the module."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.decision.engine import decide
from slurm_adopt.decision.login import Claims, Login

from .looking_node import LookingNode
from .remarks import Remarks

if TYPE_CHECKING:
    from slurm_adopt.decision.options import Options
    from slurm_adopt.decision.outcome import Outcome
    from slurm_adopt.node.ssh_connection import Connection


class Verdict(NamedTuple):
    """The engine's answer to a login that is not there, and what a log would have of it."""

    login: Login
    outcome: Outcome
    node: LookingNode
    remarks: Remarks

    @property
    def job_id(self) -> int | None:
        """The job that the login would be adopted into; None for none."""
        adoption = self.outcome.adoption
        return adoption.job_id if adoption else None


def verdict(
    user: str,
    uid: int | None,
    options: Options,
    service: str = "sshd",
    source: Connection | None = None,
) -> Verdict:
    """Decide about a login of a user. Raises nothing that a node is meant to raise."""
    remarks = Remarks()
    node = LookingNode(options, remarks, source=source)
    login = Login(user, uid, service, os.getpid(), Claims(str(source) if source else None))
    return Verdict(login, decide(login, options, node), node, remarks)
