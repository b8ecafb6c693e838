"""PerSourcePenalties of OpenSSH 9.8 and later: what a refusal costs, and whom it keeps out."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.login import METHODS
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

PORT = 2023
PID = "/run/penalties.pid"
NOBODY = "PerSourcePenaltyExemptList=192.0.2.1/32"
ENOUGH = 4  # failed logins, each of which costs 5 s of at least 15
SAID = "penalty: failed authentication"
REFUSAL = "you have no active jobs"


@dataclass(frozen=True)
class Setup:
    """What sshd is told, its PAM stack, and whether others still get in after many refusals."""

    options: tuple[str, ...]
    stack: Callable[..., list[str]] = pam.both
    others: bool = True


def session_line_alone(*options: str) -> list[str]:
    """Return the stack that refuses in the session phase."""
    return [*pam.stack(), *pam.session_lines(*options)]


SETUPS = (
    Setup((NOBODY,), others=False),
    Setup(("PerSourcePenaltyExemptList=10.78.0.0/24,fd78::/64",)),
    Setup((NOBODY, "PerSourcePenalties=authfail:0")),
    Setup((NOBODY, "PerSourcePenalties=no")),
    Setup((NOBODY,), session_line_alone),
)

# Seconds that a refusal costs, by the stack that refuses; the same for each method.
COSTS: dict[Callable[..., list[str]], float | None] = {
    pam.both: 5,
    session_line_alone: None,
}
_COST = re.compile(r"penalty of ([0-9.]+) seconds for (.*)")


@contextlib.contextmanager
def second_sshd(node: Host, *more: str) -> Iterator[tuple[str, ...]]:
    """Have a second sshd with options of its own; return what ssh is told to reach it."""
    options = (f"Port={PORT}", f"PidFile={PID}", *more)
    node.run(["/usr/sbin/sshd", *(word for o in options for word in ("-o", o))])
    try:
        yield ("-p", str(PORT))
    finally:
        node.run(["sh", "-c", f"kill $(cat {PID})"])
        wait_for("the second sshd gone", lambda: PORT not in node.listening())


def a_shared_source(cluster: Cluster) -> None:
    """Refuse a user often; see whether others come from the same host, by how sshd is set up."""
    node = cluster.n1
    job = cluster.submit("bob")
    for setup in SETUPS:
        node.pam("sshd", setup.stack(*pam.PRODUCTION))
        with second_sshd(node, *setup.options) as there:
            for _ in range(ENOUGH):
                refused = cluster.ssh("alice", options=there)
                assert REFUSAL in refused.out + refused.err, (setup, refused)
            mark = node.mark()
            results = {user: cluster.ssh(user, options=there).rc for user in ("root", "bob")}
            assert results == dict.fromkeys(results, 0 if setup.others else 255), setup
            assert any(SAID in line for line in node.log(mark)) is not setup.others, setup
            assert cluster.ssh("root", options=there, source="n2").rc == 0
    cluster.cancel(job)
    _costs(cluster)
    an_idle_connection_ends(cluster)


def _costs(cluster: Cluster) -> None:
    """See what a refusal costs, by phase and method."""
    for method in METHODS:
        for stack, seconds in COSTS.items():
            cluster.n1.pam("sshd", stack(*pam.PRODUCTION))
            assert _cost(cluster, method) == seconds, (method, stack)


def _cost(cluster: Cluster, method: str) -> float | None:
    """Return what the first refusal costs: of later ones sshd says nothing until it is enough."""
    node = cluster.n1
    with second_sshd(node, NOBODY) as there:
        mark = node.mark()
        said = cluster.ssh("alice", options=there, method=method)
        assert REFUSAL in said.out + said.err, said
        assert cluster.ssh("root", options=there).rc == 0  # so sshd has seen the end of the first
        found = [_COST.search(line) for line in node.log(mark)]
    costs = [(float(one[1]), one[2]) for one in found if one]
    assert all(reason == SAID for _, reason in costs)
    assert len(costs) <= 1
    return costs[0][0] if costs else None


def an_idle_connection_ends(cluster: Cluster) -> None:
    """Refuse `ssh -N` in the session phase: it stays, and sshd can be told to end it."""
    node = cluster.n1
    node.pam("sshd", session_line_alone(*pam.PRODUCTION))
    with second_sshd(node, "UnusedConnectionTimeout=2") as there:
        said = cluster.login.run(["ssh", "-N", *there, "n1"], "alice", check=False, timeout=60)
        assert (said.returncode, said.stderr) == (255, "Connection to n1 closed by remote host.\n")
