"""A node that looks and changes nothing: the engine over it says what a login would come to.

Stepds are asked for uid and state, as at every login. None is asked to add a process, nothing is
written, no note is left, no namespace entered.
"""

from __future__ import annotations

from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.node.node import Node
from slurm_adopt.slurm.errors import PeerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.adoption import Choice
    from slurm_adopt.decision.login import Login
    from slurm_adopt.decision.options import Options
    from slurm_adopt.node.jobs import Job
    from slurm_adopt.node.ssh_connection import Connection
    from slurm_adopt.system.log import Log


class LookingNode(Node):
    """The real node, as far as it can be looked at."""

    __slots__ = ("_source", "job_of_adoption")

    def __init__(
        self, options: Options, log: Log, hostname: str = "", source: Connection | None = None
    ) -> None:
        """`source`: the connection that the login is to come by, if one is given."""
        super().__init__(options, log, hostname)
        self._source = source
        self.job_of_adoption: Job | None = None

    @property
    def defers(self) -> bool:
        """Return that all is decided here: what either phase comes to is the same."""
        return False

    def source_job(self, login: Login, jobs: list[Job]) -> int | None:  # noqa: ARG002
        """Ask the slurmd at the other end of the given connection; without one it is not known."""
        if not self.phase.options.on("callerid"):
            raise PeerError("callerid=0")
        if self._source is None:
            raise PeerError("source unknown: no connection is given (--from ADDRESS:PORT)")
        from slurm_adopt.node import source_job

        return source_job.ask_about(self._source, max(job.protocol for job in jobs), self.phase)

    def adopt(self, pid: int, job: Job) -> Adoption:
        """Return the adoption that there would be, where the job would take the login."""
        self.look(job)
        self.job_of_adoption = job
        return Adoption(pid, job.uid, job.job_id)

    def keep(self, adoption: Adoption) -> Adoption:
        """Change nothing."""
        return adoption

    def tell(self, choice: Choice) -> None:
        """Tell nobody."""
