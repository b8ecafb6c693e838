"""PerSourcePenalties of OpenSSH 9.8 and later: refused logins, and who else comes from there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.cluster import pam

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster
    from tests.cluster.host import Host

PORT = 2023
PID = "/run/penalties.pid"
NOBODY = "PerSourcePenaltyExemptList=192.0.2.1/32"
ENOUGH = 4  # failed logins, each of which costs 5 s of at least 15
SAID = "penalty: failed authentication"


@contextlib.contextmanager
def without_the_exemption(node: Host) -> Iterator[tuple[str, ...]]:
    """Have a second sshd that exempts nobody; return what ssh is told to reach it."""
    options = (f"Port={PORT}", f"PidFile={PID}", NOBODY)
    node.run(["/usr/sbin/sshd", *(word for o in options for word in ("-o", o))])
    try:
        yield ("-p", str(PORT))
    finally:
        node.run(["sh", "-c", f"kill $(cat {PID})"])


def a_shared_source(cluster: Cluster) -> None:
    """Refuse a user so often that root cannot come from the same host, unless that is exempt."""
    cluster.n1.pam("sshd", pam.both(*pam.PRODUCTION))
    for _ in range(ENOUGH):
        assert "you have no active jobs" in cluster.ssh("alice").err
    assert cluster.ssh("root").rc == 0
    with without_the_exemption(cluster.n1) as there:
        for _ in range(ENOUGH):
            assert "you have no active jobs" in cluster.ssh("alice", options=there).err
        mark = cluster.n1.mark()
        assert cluster.ssh("root", options=there).rc == 255
        assert any(SAID in line for line in cluster.n1.log(mark))
        assert cluster.ssh("root", options=there, source="n2").rc == 0
