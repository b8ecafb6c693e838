"""Where a scenario is played: on a cluster in namespaces, or on a node in a virtual machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tests.cluster.harness.login import Machine, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.cluster.harness.config import Settings


class LoggedMachine(Machine, Protocol):
    """A host whose log can be read."""

    def mark(self) -> Any:
        """Return the present end of its log."""

    def log(self, since: Any) -> list[str]:
        """Return the log's lines after a mark."""


class Site(Protocol):
    """What is asked of either."""

    settings: Settings

    @property
    def n1(self) -> LoggedMachine:
        """The node that jobs run on and logins end on."""

    @property
    def ctl(self) -> Machine:
        """Where slurmctld runs."""

    @property
    def login(self) -> Machine:
        """Where jobs are submitted."""

    @property
    def hosts(self) -> Mapping[str, Machine]:
        """All hosts by name."""

    @property
    def nodes(self) -> Sequence[Machine]:
        """The compute nodes."""

    def tails(self) -> str:
        """Return the ends of the logs."""

    def pam(self, lines: Sequence[str]) -> None:
        """Write sshd's PAM stack."""

    def reconfigure(self, settings: Settings) -> None:
        """Restart Slurm's daemons with other settings; running jobs are cancelled first."""

    def submit(
        self,
        user: str,
        *,
        script: str | None = None,
        mem: str | None = None,
        gres: str | None = None,
        options: Sequence[str] = (),
    ) -> int:
        """Start a job on n1; return its id when its steps are there."""

    def cancel_all(self) -> None:
        """End every job and wait until nothing of any is left."""

    def has_stepd(self, job: int) -> bool:
        """Say whether the socket of the job's extern stepd is there."""

    def cpuset(self, job: int) -> str:
        """Return the path of the file that has the CPUs of alice's job, without the first slash."""

    def job_of(self, cgroup: str) -> int | None:
        """Return the job that a /proc/PID/cgroup shows, if it is an extern step's."""

    def ssh(
        self, user: str, *, command: str = ..., method: str = ..., timeout: float = ...
    ) -> Result:
        """Log in to n1."""
