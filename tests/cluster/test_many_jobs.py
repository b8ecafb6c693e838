"""A node with many jobs: other users' stepds say whose their steps are once, not to each login."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Callable

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.config import USERS
from tests.cluster.tools.bench.subjects import FRONTS
from tests.cluster.tools.bench.worlds import standins

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

MANY = 40  # jobs of bob's
OWNERS = "/run/slurm_adopt/owners"
SILENT = "does not answer"


class Node:
    """n1 with a job of alice's and many of bob's, and what logins of alice's come to."""

    def __init__(self, cluster: Cluster, others: subprocess.Popen[str]) -> None:
        self._others = others
        self.cluster = cluster
        self.host = cluster.n1
        self.table = cluster.n1.root / OWNERS.lstrip("/") / "table"
        self.job = cluster.submit("alice")

    def signal(self, number: int) -> None:
        """Send a signal to all stepds of bob's, and to what has brought them into the host."""
        os.killpg(self._others.pid, number)

    def login(self) -> bool:
        """Log in; return whether the log says that stepds were waited for."""
        mark = self.host.mark()
        with self.cluster.session("alice") as session:
            assert f"/job_{self.job}/" in self.host.read(f"proc/{session.pid}/cgroup")
        return any(SILENT in line for line in self.host.log(mark))


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    """Have no table."""
    cluster.n1.run(["rm", "-rf", OWNERS])
    with standins(cluster, MANY) as others:
        found = Node(cluster, others)
        try:
            yield found
        finally:
            found.signal(signal.SIGCONT)
    cluster.n1.run(["rm", "-rf", OWNERS])


@pytest.mark.parametrize("front", [front.name for front in FRONTS])
def test_others_are_asked_once(node: Node, front: str) -> None:
    """Those that have stopped since cost the next login nothing, until the table is gone."""
    with pam.front(front):
        node.cluster.pam(pam.both())
    assert not node.login()
    found = node.host.run(["stat", "-c", "%a %u %g", OWNERS, f"{OWNERS}/table"]).stdout
    assert found == "700 0 0\n600 0 0\n"
    assert node.host.run(["ls", OWNERS], "alice", check=False).returncode
    node.signal(signal.SIGSTOP)
    assert not node.login()
    node.table.unlink()
    assert node.login()


def _of_bob(text: str) -> str:
    """Say that all steps are bob's."""
    alice, bob = str(USERS["alice"]), str(USERS["bob"])
    (theirs,) = (line for line in text.splitlines() if line.startswith(bob))
    own = [line.removeprefix(alice) for line in text.splitlines() if line.startswith(alice)]
    return f"{theirs}{''.join(own)}\n"


# (what is in the table, from what was): a login is in its job all the same
WRONG: dict[str, Callable[[str], str]] = {
    "all are bob's": _of_bob,
    "all are alice's": lambda text: text.replace(str(USERS["bob"]), str(USERS["alice"])),
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "garbage": lambda _: "\0\udcff\t\n" * 99,
}


def test_a_table_that_is_wrong(node: Node) -> None:
    """The stepds say whose the steps are: the one of the job always, all where none is known."""
    node.cluster.pam(pam.both())
    assert not node.login()
    right = node.table.read_text()
    for wrong in WRONG.values():
        node.table.write_text(wrong(right), errors="surrogateescape")
        assert not node.login()
    node.table.chmod(0o666)
    node.table.write_text(_of_bob(right))
    assert not node.login()
    node.signal(signal.SIGSTOP)
    node.table.write_text(_of_bob(right))
    node.table.chmod(0o600)
    assert node.login()
