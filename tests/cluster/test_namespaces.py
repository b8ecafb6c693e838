"""Namespaces on the cluster: entered in real logins, and what stepds send that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.traces import traces
from tests.cluster.scenarios import in_tmp, job_namespaces, x11
from tests.cluster.scenarios.standin_step import CONF, DENIED, Liar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.scenarios.login_methods import Way

(PLUGIN,) = job_namespaces.PLUGINS["22.05"]


@pytest.mark.parametrize(
    "row",
    job_namespaces.ROWS,
    ids=["account", "account, one prompt", "both", "both, one prompt", "session, one prompt"],
)
def test_logins(cluster: Cluster, row: tuple[list[str], Way, bool]) -> None:
    with job_namespaces.plugin_in_use(cluster, PLUGIN):
        job_namespaces.play(cluster, PLUGIN, *row)


def test_join_container_false(cluster: Cluster) -> None:
    with job_namespaces.plugin_in_use(cluster, PLUGIN):
        job_namespaces.outside(cluster)


def test_behind_a_line_that_may_end_the_stack(cluster: Cluster) -> None:
    with job_namespaces.plugin_in_use(cluster, PLUGIN):
        job_namespaces.behind_an_end(cluster, PLUGIN)


def test_beside_a_thread(cluster: Cluster) -> None:
    with job_namespaces.plugin_in_use(cluster, PLUGIN):
        job_namespaces.beside_a_thread(cluster, PLUGIN)


@pytest.mark.parametrize("row", in_tmp.CACHES, ids=lambda row: f"{row[0]}, {row[1]}")
def test_a_cache_of_kerberos(cluster: Cluster, row: tuple[str, str, bool, bool]) -> None:
    with job_namespaces.plugin_in_use(cluster, PLUGIN):
        in_tmp.cache(cluster, *row)


def test_an_agent_is_forwarded(cluster: Cluster) -> None:
    with job_namespaces.plugin_in_use(cluster, PLUGIN):
        in_tmp.agent(cluster)


@pytest.mark.parametrize("options", [(), ("--x11",)], ids=["ssh -X", "--x11"])
def test_x11(cluster: Cluster, options: tuple[str, ...]) -> None:
    """Of ssh, and of the job, whose XAUTHORITY is in its own /tmp."""
    with x11.display(cluster), job_namespaces.plugin_in_use(cluster, PLUGIN):
        cluster.pam(pam.both(*pam.PRODUCTION))
        with x11.job(cluster, ("salloc",), *options):
            shown, authority, server = x11.look(cluster, "-X")
            assert server == x11.FAR
            assert (x11.OF_JOB if options else x11.OF_SSH).fullmatch(shown)
            assert authority.startswith("/tmp/.Xauthority-" if options else "none")


def test_nothing_is_left_in_sshd(cluster: Cluster) -> None:
    """The privileged sshd is as it is without us, with the module in one phase and in both."""
    with job_namespaces.plugin_in_use(cluster, PLUGIN):
        cluster.submit("alice")
        found = []
        for stack in (pam.stack(), pam.with_module(), pam.both()):
            cluster.pam(stack)
            with cluster.session("alice") as session:
                found.append(traces(cluster, session.pid))
    without, account, both = found
    assert account == without
    assert both == without


# What stepds send that cannot be entered


@pytest.fixture
def liar(cluster: Cluster) -> Iterator[Liar]:
    """Give a real job a stand-in for its stepd."""
    found = Liar(cluster)
    yield found
    found.stop()


MNT, PID, USER = str(0x00020000), str(0x20000000), str(0x10000000)
OTHER = "/run/other"  # namespaces that can be entered
MAKE_OTHER = f"""\
mountpoint -q {OTHER}/pid && exit
mkdir {OTHER}
mount -t tmpfs other {OTHER}
touch {OTHER}/pid {OTHER}/uts
unshare --pid={OTHER}/pid --uts={OTHER}/uts --fork sleep infinity >/dev/null 2>&1 &
until mountpoint -q {OTHER}/pid; do sleep 0.02; done
"""

# (protocol, what is sent, what the log says)
SENT = [
    (38 << 8, (), "closed the connection"),
    (38 << 8, ("-1",), "cannot hand out the job's namespace"),
    (38 << 8, ("9", "/dev/null"), "cannot enter the job's mnt namespace: [Errno 22]"),
    (45 << 8, ("2", PID, f"{OTHER}/pid"), "does not answer"),
    (45 << 8, ("2", PID, f"{OTHER}/pid", MNT, "/dev/null"), "cannot enter the job's mnt namespace"),
    (45 << 8, ("1", USER, f"{OTHER}/uts"), "cannot enter the job's user namespace"),
    (45 << 8, ("1", "4096", f"{OTHER}/uts"), "unknown kind 0x1000"),
    (45 << 8, ("4294967",), "4294967 namespaces"),
]


@pytest.mark.parametrize("stack", [pam.with_module, pam.both], ids=["account", "both"])
@pytest.mark.parametrize(("protocol", "pieces", "said"), SENT)
def test_what_cannot_be_entered(
    cluster: Cluster,
    liar: Liar,
    protocol: int,
    pieces: tuple[str, ...],
    said: str,
    stack: Callable[..., list[str]],
) -> None:
    """An adoption failure: refused, or let in with a line in the log, as if nothing had been."""
    node, options = cluster.n1, f"slurm_conf={CONF}"
    node.run(["sh", "-c", MAKE_OTHER])
    liar.send(protocol, *pieces)
    cluster.pam(stack(options, "action_adopt_failure=deny"))
    mark = node.mark()
    result = cluster.ssh("alice", timeout=60)
    assert result.rc != 0
    assert DENIED in result.err or stack is pam.both
    assert any(said in line and "authpriv.err" in line for line in node.log(mark))
    cluster.pam(pam.stack())
    with cluster.session("alice") as session:
        without = traces(cluster, session.pid)
    cluster.pam(stack(options))
    mark = node.mark()
    with cluster.session("alice", timeout=60) as session:
        own = job_namespaces.namespaces_of(node, "1")
        assert {*job_namespaces.processes(node)} >= {str(session.pid)}
        for pid in job_namespaces.processes(node):
            assert job_namespaces.namespaces_of(node, pid) == own
        assert traces(cluster, session.pid) == without
        assert session.run("ls -d /opt/slurm_adopt").strip()
    assert any(said in line and "authpriv.err" in line for line in node.log(mark))
