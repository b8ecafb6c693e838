"""sshd under another PAM service's name: let by, with a line that says so, or ours by service=."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.landing import COMMAND, job_of
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

NAME = "sshd-compute"
PORT = 2025
THERE = ("-p", str(PORT))
SSHD = "/usr/sbin/sshd"
PID = f"/run/{NAME}.pid"
LET_BY = f"though this program is sshd; set service={NAME} to have its logins decided"
# Up to OpenSSH 9.7 the service is the name that sshd was called by.
RENAMED = f"ln -sf {SSHD} /usr/local/sbin/{NAME}; exec /usr/local/sbin/{NAME} "
OPTION = f"exec {SSHD} -o PAMServiceName={NAME} "


def has_option(node: Host) -> bool:
    """Say whether this OpenSSH knows PAMServiceName."""
    argv = [*node.front, SSHD, "-o", f"PAMServiceName={NAME}", "-t"]
    return node.run(argv, check=False).returncode == 0


@contextlib.contextmanager
def another_sshd(node: Host, command: str) -> Iterator[None]:
    """Have a second sshd, under another PAM service's name."""
    script = f"{command} -o Port={PORT} -o PidFile={PID}"
    node.run([*node.front, "sh", "-ec", script])
    try:
        wait_for("the other sshd", lambda: PORT in node.listening())
        yield
    finally:
        node.run(["sh", "-c", f"kill $(cat {PID})"])


def another_service(cluster: Cluster) -> None:
    """Say that the logins are let by; decide about them once the lines have the name."""
    node = cluster.n1
    node.pam(NAME, pam.both(*pam.PRODUCTION))
    with another_sshd(node, OPTION if has_option(node) else RENAMED):
        mark = node.mark()
        assert cluster.ssh("alice", options=THERE).rc == 0  # without a job
        lines = [line for line in node.log(mark) if "pam_slurm_adopt(" in line]
        assert [LET_BY in line for line in lines] == [True, True], lines
        assert all("authpriv.info" in line for line in lines)
        node.pam(NAME, pam.both(f"service={NAME}", *pam.PRODUCTION))
        assert "no active jobs" in cluster.ssh("alice", options=THERE).err
        job = cluster.submit("alice")
        mark = node.mark()
        said = cluster.ssh("alice", options=THERE, command=COMMAND)
        assert job_of(node, said.out) == job, said
        lines = [line for line in node.log(mark) if "pam_slurm_adopt(" in line]
        assert f"the session line will adopt into job {job} (the only job)" in lines[0]
        assert f"adopted into job {job}" in lines[1]
        assert not any(LET_BY in line for line in lines)
        assert cluster.ssh("root", options=THERE).rc == 0
