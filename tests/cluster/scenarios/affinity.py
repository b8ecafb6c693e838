"""The CPUs of a session where sshd has not all of the node's: those of the job, as srun gives."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

PORT = 2026
PID = "/run/bound-sshd.pid"
LOOK = "grep Cpus_allowed_list: /proc/self/status"

# From Linux 6.2 on a process keeps the CPUs that it is bound to in another cpuset, too.
_KERNEL = tuple(map(int, os.uname().release.partition("-")[0].split(".")[:2]))
BOUND_STAYS_BOUND = _KERNEL >= (6, 2)


@contextlib.contextmanager
def bound_sshd(node: Host, cpu: int = 0) -> Iterator[tuple[str, ...]]:
    """Have a second sshd on one CPU, as CPUAffinity= makes it; yield what ssh is told."""
    sshd = ["/usr/sbin/sshd", "-o", f"Port={PORT}", "-o", f"PidFile={PID}"]
    node.run([*node.front, "taskset", "-c", str(cpu), *sshd])
    try:
        wait_for("the bound sshd", lambda: PORT in node.listening())
        yield ("-p", str(PORT))
    finally:
        node.run(["sh", "-c", f"kill $(cat {PID})"])


def of_login(cluster: Cluster, there: tuple[str, ...], user: str = "alice", **how: str) -> str:
    """Return the CPUs that a login may use."""
    result = cluster.ssh(user, command=LOOK, options=there, timeout=60, **how)
    assert result.rc == 0, result
    return _list(result.out)


def of_step(cluster: Cluster, job: int, user: str = "alice") -> str:
    """Return the CPUs that srun gives in a job."""
    return _list(cluster.in_job(job, user, "n1", ["sh", "-c", LOOK]).out)


def _list(said: str) -> str:
    return said.partition(":")[2].strip()
