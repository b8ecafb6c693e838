"""Builds that keep slurm.conf elsewhere, nodes that are an alias of their host: by the defaults."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Settings
from tests.cluster.harness.host import end
from tests.cluster.harness.network import ADDRESSES
from tests.cluster.scenarios import elsewhere
from tests.cluster.scenarios.basic import LOOK, landed
from tests.cluster.scenarios.elsewhere import (
    NO_JOBS,
    fake_slurmds,
    hosts_file,
    idle,
    logged,
    of_n1,
    restart,
    started,
    with_alias,
    works,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

GENERIC = "No Slurm jobs found on node."
ETC = "/opt/slurm/etc"

IN_ENVIRONMENT = ("env", f"SLURM_CONF={ETC}/slurm.conf")


def test_in_the_environment_of_slurmd(cluster: Cluster) -> None:
    elsewhere.slurmds_environment(cluster)


# A build whose own place is /opt/slurm/etc: it sees that in the place that Debian's was built with.
PREFIX = r"""\
mkdir -p /opt/slurm/sbin
cp -L /usr/sbin/slurmd /usr/sbin/slurmstepd /opt/slurm/sbin
"""
BUILT_SO = f'mount --bind {ETC} /etc/slurm; shift; exec /opt/slurm/sbin/slurmd "$@"'
WITH_PREFIX = ("unshare", "--mount", "sh", "-ec", BUILT_SO, "sh")
OWN_STEPD = ("-d", "/opt/slurm/sbin/slurmstepd")


def test_beside_the_program(cluster: Cluster) -> None:
    """PREFIX/etc; also while slurmd is down and only its stepds run, and then without any."""
    node = cluster.n1
    node.run(["sh", "-ec", PREFIX])
    cluster.pam(pam.with_module("log_level=debug"))
    with started(cluster, ETC, under=WITH_PREFIX, options=OWN_STEPD), fake_slurmds(node):
        mark, pid = node.mark(), node.pid("slurmd")
        said = f"configuration: {ETC}/slurm.conf, as slurmd {pid} ({ETC}/slurm.conf beside its pro"
        idle(cluster)
        works(cluster)
        logged(node, mark, said)
        job = cluster.submit("alice")
        node.stop("slurmd")
        mark = node.mark()
        assert landed(cluster.ssh("alice", command=LOOK).out, "n1") == job
        logged(node, mark, f"configuration: {ETC}/slurm.conf, as slurmstepd ")
        assert NO_JOBS in cluster.ssh("bob").err
        assert "/tmp/fake" not in "".join(node.log(mark))
        restart(cluster, WITH_PREFIX, OWN_STEPD)


def test_while_slurmd_is_down(cluster: Cluster) -> None:
    """A stepd has what its slurmd was told, if that shows; where none runs, nobody says where."""
    node = cluster.n1
    cluster.pam(pam.with_module("log_level=debug"))
    with started(cluster, "/run/elsewhere", under=("env", "SLURM_CONF=/run/elsewhere/slurm.conf")):
        job = cluster.submit("alice")
        node.stop("slurmd")
        with fake_slurmds(node):
            mark = node.mark()
            assert landed(cluster.ssh("alice", command=LOOK).out, "n1") == job
            logged(node, mark, " (SLURM_CONF=/run/elsewhere/slurm.conf) was started with")
            assert NO_JOBS in cluster.ssh("bob").err
        restart(cluster, ("env", "SLURM_CONF=/run/elsewhere/slurm.conf"))


STALE = "NodeName=n1\nSlurmdSpoolDir=/var/spool/stale\n"
# How slurmd is started, what is left behind in a usual place
LEFT_BEHIND = [
    (IN_ENVIRONMENT, (), STALE),
    ((), ("-f", f"{ETC}/slurm.conf"), STALE),
    (("env", "SLURM_CONF=/run/nowhere.conf"), ("-f", f"{ETC}/slurm.conf"), STALE),
    (IN_ENVIRONMENT, (), "NodeName=old1\n"),
    (IN_ENVIRONMENT, (), "Include /run/nowhere.conf\n"),
    (IN_ENVIRONMENT, (), "NodeName=n1\nSlurmdSpoolDir=/nowhere\n"),
]


@pytest.mark.parametrize(("under", "options", "stale"), LEFT_BEHIND)
def test_file_left_behind(
    cluster: Cluster, under: Sequence[str], options: Sequence[str], stale: str
) -> None:
    """Where a file in a usual place leads to no job, that of the running slurmd counts."""
    cluster.n1.run(["mkdir", "-p", "/var/spool/stale"])
    with started(cluster, ETC, under=under, options=options, stale=stale):
        idle(cluster)
        works(cluster)


def test_file_left_behind_on_a_configless_node(cluster: Cluster) -> None:
    """A slurmd with --conf-server looks at no file of the node's."""
    conf = "SlurmctldParameters=enable_configless\n"
    stale = cluster.n1.root / "etc/slurm/slurm.conf"
    cluster.n1.run(["mkdir", "-p", "/var/spool/stale"])
    cluster.pam(pam.with_module("log_level=debug"))
    try:
        cluster.reconfigure(Settings(slurm_conf=conf, configless=True))
        for text in ("NodeName=old1\n", STALE):
            cluster.n1.write("etc/slurm/slurm.conf", text)
            mark = cluster.n1.mark()
            idle(cluster)
            works(cluster)
            logged(cluster.n1, mark, "configuration: /run/slurm/conf/slurm.conf, as slurmd ")
    finally:
        stale.unlink()
        cluster.reconfigure(Settings())
        for node in cluster.nodes:
            node.run(["rm", "-rf", "/run/slurm/conf"])  # slurmd leaves its copy


# Nothing leads to the configuration: by default nobody but root gets in while slurmd runs.

NOWHERE = ("env", "SLURM_CONF=/run/gone/slurm.conf")


def test_nowhere(cluster: Cluster) -> None:
    """The file that slurmd has read is gone since."""
    node = cluster.n1
    with started(cluster, "/run/gone", NOWHERE):
        node.run(["mv", "/run/gone", "/run/gone-away"])
        try:
            mark = node.mark()
            idle(cluster, GENERIC)
            logged(node, mark, "cannot read /run/gone/slurm.conf")
            logged(node, mark, "action_generic_failure=auto (deny, since a slurmd or slurmstepd")
            cluster.pam(pam.with_module("action_generic_failure=ignore"))
            assert cluster.ssh("alice").rc == 0  # as the line says
        finally:
            node.run(["mv", "/run/gone-away", "/run/gone"])


def test_without_the_package(cluster: Cluster) -> None:
    """The entry script alone: it is closed while slurmd runs, and else is as the C module."""
    node = cluster.n1
    node.run(["mv", "/opt/slurm_adopt/src", "/opt/slurm_adopt/away"])
    try:
        assert cluster.ssh("alice").rc == 255
        assert cluster.ssh("root").rc == 0
        node.stop("slurmd")
        with fake_slurmds(node):
            assert cluster.ssh("alice").rc == 0
        restart(cluster)
    finally:
        node.run(["mv", "/opt/slurm_adopt/away", "/opt/slurm_adopt/src"])


# A NodeName that is an alias of this host

# /etc/hosts of n1: its own name as it is, and what stands there instead
SPELT = {
    "alias": ("n1", "n1 gpu1"),
    "canonical name": ("n1", "gpu1 n1"),
    "line of its own": ("n1", "n1\n{address} gpu1 n1"),
}


@pytest.mark.parametrize("spelt", SPELT)
def test_alias_in_the_hosts_file(cluster: Cluster, spelt: str) -> None:
    address, own = ADDRESSES["n1"][0], of_n1(cluster.n1)
    name, instead = SPELT[spelt]
    assert own.split()[1:] == [name]
    changed = own.replace(name, instead.format(address=address))
    cluster.pam(pam.with_module("log_level=debug"))
    try:
        with hosts_file(cluster.n1, (own, changed)):
            cluster.reconfigure(with_alias(Settings()))
            mark = cluster.n1.mark()
            idle(cluster)
            logged(cluster.n1, mark, "node name as /etc/hosts has it: gpu1 is n1")
            works(cluster, "gpu1")
    finally:
        cluster.reconfigure(Settings())


@contextlib.contextmanager
def dns(host: Host, *known: str) -> Iterator[None]:
    """Have a DNS server on a host, which it asks."""
    before = {name: host.read(name) for name in ("etc/nsswitch.conf", "etc/resolv.conf")}
    server = host.popen(
        ["sh", "-ec", 'cd /checkout; exec "$@"', "sh", "python3", "-m",
         "tests.cluster.standins.dns", *known]
    )  # fmt: skip
    lines = before["etc/nsswitch.conf"].splitlines()
    kept = [line for line in lines if not line.startswith("hosts:")]
    host.write("etc/nsswitch.conf", "\n".join([*kept, "hosts: files dns", ""]))
    host.write("etc/resolv.conf", "nameserver 127.0.0.1\n")
    try:
        yield
    finally:
        end(server)
        for name, text in before.items():
            host.write(name, text)


def test_alias_in_the_dns(cluster: Cluster) -> None:
    """A wait for a DNS that does not answer ends; then nobody gets in while the node is idle."""
    node, address = cluster.n1, ADDRESSES["n1"][0]
    own, of_6 = of_n1(node), of_n1(node, 1)
    cluster.pam(pam.with_module("log_level=debug"))
    try:
        with (
            hosts_file(node, (own, f"{address} other")),
            hosts_file(node, (of_6, f"{ADDRESSES['n1'][1]} other-6")),
        ):
            with dns(node, f"n1=gpu1:{address}"):
                cluster.reconfigure(with_alias(Settings()))
                mark = node.mark()
                idle(cluster)
                logged(node, mark, "node name as nsswitch.conf's services has it: gpu1 is n1")
                works(cluster, "gpu1")
            with dns(node, "--silent"):
                mark = node.mark()
                idle(cluster, GENERIC)
                logged(node, mark, "cannot look up the names of n1: timed out after")
                logged(node, mark, " s; set nodename=NAME to avoid that")
                logged(node, mark, "cannot tell the node name: ")
                job = cluster.submit("alice", "gpu1")  # now its socket says the name
                assert landed(cluster.ssh("alice", command=LOOK).out, "gpu1") == job
            cluster.cancel_all()
            node.stop("slurmd")
            node.start("slurmd", options=["-N", "gpu1"])
    finally:
        cluster.reconfigure(Settings())
