"""The node in a machine, for `./dev lockout`: cgroup v2, and everything takes longer."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.cluster.harness.config import Settings
from tests.cluster.harness.epilog import EPILOG
from tests.cluster.harness.suites import SUITES
from tests.cluster.harness.wait import NotInTimeError
from tests.cluster.tools.lockout import Pace, sshd_config
from tests.vm.node import EXTERN, SPOOL, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.vm.machine import Machine


class InMachine:
    """A node that is booted; the clients run on it, too."""

    pace = Pace(grace=60, late=45.0, patience=150.0, fresh=3, settled=10.0, ending=120.0)

    def __init__(self, node: Node) -> None:
        """Take a node."""
        self._node = node
        self._steps: dict[int, str] = {}

    @property
    def client(self) -> Machine:
        """The machine."""
        return self._node.machine

    @property
    def node(self) -> Machine:
        """The machine."""
        return self._node.machine

    def prepare(self) -> None:
        """Have our sshd_config and our Epilog."""
        self.node.write("etc/slurm/epilog", EPILOG, 0o755)
        self._node.reconfigure(Settings(slurm_conf="Epilog=/etc/slurm/epilog\n"))
        text = sshd_config(self.pace.grace, penalties=True)
        self.node.write("etc/ssh/sshd_config", text)
        self.node.sh("systemctl restart ssh")

    def pam(self, lines: Sequence[str]) -> None:
        """Write sshd's PAM stack."""
        self._node.pam(lines)

    def submit(self, user: str) -> int:
        """Start a job; note its cgroup, which shows by its stepd only."""
        job = self._node.submit(user)
        self._steps[job] = f"{self._node.step(job)}/user"
        return job

    def freezer(self, job: int) -> tuple[str, list[str]]:
        """Return v2's."""
        return f"/sys/fs/cgroup{self._steps[job]}/cgroup.freeze", ["1", "0"]

    def inside(self, job: int, cgroup: str) -> bool:
        """Say whether it is below the step's cgroup for processes."""
        return cgroup.startswith(f"0::{self._steps[job]}/")

    def ended(self, job: int) -> bool:
        """Cancel a job."""
        try:
            self._node.cancel(job)
            self._node.wait_idle()
        except NotInTimeError:
            return False
        return True

    def clear(self) -> None:
        """Leave no job behind, and no socket of a killed stepd."""
        self._node.cancel_all()
        self.node.sh(f"rm -f {SPOOL}/n1_*.{EXTERN}")
        self._node.wait_idle()


@contextlib.contextmanager
def in_machine(suite: str, report: Callable[[str], None]) -> Iterator[InMachine]:
    """Boot a machine."""
    report(f"a machine with Debian {suite}")
    with Node(SUITES[suite], report) as node:
        site = InMachine(node)
        site.prepare()
        yield site
