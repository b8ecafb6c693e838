"""Where Slurm is, if not in the usual places: slurm.conf elsewhere, a node by an alias of its host.

Scenarios like those of scenarios.py, with the module's defaults; test_where_slurm_is.py has more.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.host import end
from tests.cluster.harness.network import ADDRESSES
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.axes import NODE, commands
from tests.cluster.scenarios.basic import LOOK, landed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.config import Settings
    from tests.cluster.harness.host import Host

NO_JOBS = "you have no active jobs on this node"
ETC = "/run/site/etc"  # which an sshd in another root folder has, too
MOVE = 'mkdir -p "$1"; mv /etc/slurm/*.conf "$1"'
MOVE_BACK = 'mv "$1"/*.conf /etc/slurm'
BOUND = 20  # seconds; what must not hang takes a fraction of this

# What users can start: a program of that name with slurm.conf and node name of their own, as
# themselves and as the root of a user namespace of theirs.
FAKE = r"""\
mkdir -p /tmp/fake/etc /tmp/fake/sbin; cd /tmp/fake
cp /usr/bin/tail sbin/slurmd; cp /usr/bin/tail sbin/slurmstepd
printf 'NodeName=n1\nSlurmdSpoolDir=/tmp\nSlurmdUser=alice\n' | tee etc/slurm.conf >slurm.conf
export SLURM_CONF=/tmp/fake/slurm.conf
unshare --user --map-root-user /tmp/fake/sbin/slurmd -f /tmp/fake/slurm.conf &
/tmp/fake/sbin/slurmstepd -f /tmp/fake/slurm.conf &
exec /tmp/fake/sbin/slurmd -f /tmp/fake/slurm.conf
"""


@contextlib.contextmanager
def fake_slurmds(host: Host) -> Iterator[None]:
    """Have alice run what she would like to be taken for slurmd."""
    process = host.popen(["sh", "-ec", FAKE], "alice")
    try:
        there = lambda: " ".join(commands(host, "alice")).count("/tmp/fake/sbin/slurm") >= 3  # noqa: E731
        wait_for("alice's slurmds", there)
        yield
    finally:
        host.run(["pkill", "-u", "alice", "-f", "/tmp/fake/sbin/"])
        end(process)


def restart(cluster: Cluster, under: Sequence[str] = (), options: Sequence[str] = ()) -> None:
    """Start n1's slurmd, which has ended, and wait until it can take jobs."""
    cluster.n1.start("slurmd", under=under, options=options)
    time.sleep(1)  # the node is idle in slurmctld's eyes until it registers anew
    cluster.wait_idle()


@contextlib.contextmanager
def started(
    cluster: Cluster,
    etc: str,
    under: Sequence[str] = (),
    options: Sequence[str] = (),
    stale: str = "",
) -> Iterator[None]:
    """Have Slurm's files of n1 in a directory, and slurmd started to find them there.

    `stale`: what is left in the usual place, if anything is.
    """
    node = cluster.n1
    node.stop("slurmd")
    node.run(["sh", "-ec", MOVE, "sh", etc])
    if stale:
        node.write("etc/slurm/slurm.conf", stale)
    try:
        restart(cluster, under, options)
        yield
    finally:
        cluster.cancel_all()
        node.stop("slurmd")
        node.run(["sh", "-ec", MOVE_BACK, "sh", etc])
        restart(cluster)


def idle(cluster: Cluster, says: str = NO_JOBS) -> None:
    """See that a user without a job is refused, and why."""
    result = cluster.ssh("alice", timeout=60)
    assert (result.rc, says in result.err) == (255, True), result
    assert result.seconds < BOUND
    assert cluster.ssh("root").rc == 0


def works(cluster: Cluster, node: str = "n1") -> None:
    """See that a session is in the user's job, others stay out, and it ends with the job."""
    job = cluster.submit("alice", node)
    assert landed(cluster.ssh("alice", command=LOOK).out, node) == job
    assert NO_JOBS in cluster.ssh("bob").err
    with cluster.session("alice") as session:
        scancel.end(cluster, job)
        session.wait_gone()


def logged(host: Host, mark: int, text: str) -> None:
    """Assert that the module has said something."""
    lines = [line for line in host.log(mark) if "pam_slurm_adopt(" in line]
    assert any(text in line for line in lines), lines


def slurmds_environment(cluster: Cluster) -> None:
    """Read what SLURM_CONF names in the environment of root's slurmd, and of nobody else's."""
    path = f"{ETC}/slurm.conf"
    cluster.pam(pam.with_module("log_level=debug"))
    with started(cluster, ETC, ("env", f"SLURM_CONF={path}")), fake_slurmds(cluster.n1):
        mark, pid = cluster.n1.mark(), cluster.n1.pid("slurmd")
        idle(cluster)
        works(cluster)
        logged(cluster.n1, mark, f"configuration: {path}, as slurmd {pid} (SLURM_CONF={path}) was")
        assert "/tmp/fake" not in "".join(cluster.n1.log(mark))


# A NodeName that is an alias of this host

ALIAS = f"NodeName=gpu1 NodeAddr={ADDRESSES['n1'][0]} {NODE}\nNodeName=n2 {NODE}\n"


def with_alias(settings: Settings) -> Settings:
    """Return settings in which n1's node has another name and slurm.conf does not say of whom."""
    nodes = (("gpu1", "n1"), ("n2", "n2"))
    return replace(settings, slurm_conf=settings.slurm_conf + ALIAS, nodes=nodes)


@contextlib.contextmanager
def hosts_file(host: Host, change: tuple[str, str]) -> Iterator[None]:
    """Change a host's /etc/hosts."""
    before = host.read("etc/hosts")
    after = before.replace(*change)
    assert before != after
    files = [f"{root}/etc/hosts" for root in ("", *host.front[1:])]
    for file in files:
        host.write(file, after)
    try:
        yield
    finally:
        for file in files:
            host.write(file, before)


def host_alias(cluster: Cluster) -> None:
    """Take a node for this one whose name stands beside the host's in /etc/hosts."""
    own = of_n1(cluster.n1)
    cluster.pam(pam.with_module("log_level=debug"))
    with hosts_file(cluster.n1, (own, f"{own} gpu1")):
        cluster.reconfigure(with_alias(cluster.settings))
        mark = cluster.n1.mark()
        idle(cluster)
        logged(cluster.n1, mark, "node name as /etc/hosts has it: gpu1 is n1")
        works(cluster, "gpu1")


def of_n1(host: Host, version: int = 0) -> str:
    """Return the line of n1 in a host's /etc/hosts; `version`: 1 for that of IPv6."""
    lines = host.read("etc/hosts").splitlines()
    return next(line for line in lines if line.split()[0] == ADDRESSES["n1"][version])


EVERYWHERE: tuple[Callable[[Cluster], None], ...] = (slurmds_environment, host_alias)
