"""Several jobs, and a login from inside one of them to its own node, by any address of it.

The source host is this one: its slurmd is asked where it listens, whatever the source address is.
"""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Settings
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import PATIENT, from_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

IT = "(the job it comes from)"
STRICT = "action_unknown=deny"

# With slurmd as it listens by default; what is below keeps n1 otherwise until the end


def test_mapped_from_another_node(cluster: Cluster) -> None:
    """A program there with an IPv6 socket for IPv4, as Java's are: found as what it is there."""
    cluster.pam(pam.with_module(STRICT, *PATIENT))
    older, _ = (cluster.submit("alice", "n1,n2") for _ in range(2))
    landing = from_job(cluster, older, ("n2", "n1"), "::ffff:10.78.0.2")
    assert (landing.rc, landing.job) == (0, older), landing
    assert IT in landing.line


def test_own_port(cluster: Cluster) -> None:
    """The loopback is no node's address in slurm.conf: a port of its own is seen all the same."""
    node = "CPUs=2 RealMemory=16000 Gres=gpu:2"
    lines = f"NodeName=n[1-2] Port=7001-7002 {node}\n"
    ports = (("n1", 7001), ("n2", 7002))
    cluster.reconfigure(Settings(slurm_conf=lines, ports=ports))
    try:
        cluster.pam(pam.with_module(STRICT, *PATIENT))
        older, _ = (cluster.submit("alice", "n1") for _ in range(2))
        for address in ("127.0.0.1", "::1"):
            landing = from_job(cluster, older, ("n1", "n1"), address)
            assert (landing.rc, landing.job) == (0, older), landing
            assert IT in landing.line
    finally:
        cluster.cancel_all()
        cluster.reconfigure(Settings())


# Any address

# Addresses of n1 beside its first ones, and how they are taken away.
MORE = (
    ("address add 10.78.0.22/24 dev eth0", "address del 10.78.0.22/24 dev eth0"),
    ("address add fd78::22/64 dev eth0 nodad", "address del fd78::22/64 dev eth0"),
    ("address add 192.0.2.77/32 dev lo", "address del 192.0.2.77/32 dev lo"),
    ("link add veth0 type veth peer name veth1", "link del veth0"),
    ("address add 10.79.0.1/24 dev veth0", ""),
    ("link set veth0 up", ""),
)


class Address(NamedTuple):
    """An address of n1."""

    text: str
    theirs: bool  # whether the C module finds the job, with slurmd on IPv4 alone


OWN = {
    "its name": Address("n1", True),
    "loopback": Address("127.0.0.1", True),
    "another of 127": Address("127.9.9.9", True),
    "second address": Address("10.78.0.22", True),
    "alias on lo": Address("192.0.2.77", True),
    "another interface": Address("10.79.0.1", True),
    "mapped": Address("::ffff:10.78.0.2", False),
    "IPv6 loopback": Address("::1", False),
    "IPv6": Address("fd78::2", False),
    "second IPv6": Address("fd78::22", False),
    "link-local": Address("%eth0", False),
}

# How slurmd on n1 listens -> lines of slurm.conf, and what the kernel says of it.
LISTENING = {
    "any IPv4": ("", "0.0.0.0:6818"),
    "any": ("CommunicationParameters=EnableIPv6\n", "*:6818"),
    "one address": ("CommunicationParameters=NoInAddrAny\n", "10.78.0.2:6818"),
}


class Place(NamedTuple):
    """N1 with more addresses, alice's two jobs on it, and how its slurmd listens."""

    cluster: Cluster
    job: int  # the older
    listening: str
    link_local: str

    def login(self, address: str, *, asked: bool = True) -> tuple[int, int | None, str]:
        """Log in from the older job; return the status, the job and the last line of ours."""
        target = self.link_local + address if address.startswith("%") else address
        landing = from_job(self.cluster, self.job, ("n1", "n1"), target, asked=asked)
        return landing.rc, landing.job, "".join(landing.lines[-1:])


@pytest.fixture(scope="module", params=LISTENING)
def place(running_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Have slurmd listen in one of the ways.

    With NoInAddrAny it finds no job of any connection, whoever asks: as Debian builds it, it asks
    itself at 127.0.0.1 whose a process is, unless SLURMD_NODENAME says which node it is.
    """
    lines, seen = LISTENING[request.param]
    n1 = running_cluster.n1
    running_cluster.reconfigure(Settings(slurm_conf=lines))
    if request.param == "one address":
        n1.stop("slurmd")
        n1.start("slurmd", under=["env", "SLURMD_NODENAME=n1"])
        time.sleep(1)  # the node is idle in slurmctld's eyes until it registers anew
        running_cluster.wait_idle()
    assert seen in n1.run(["ss", "-Hltn", "sport = 6818"]).stdout.split()
    for add, _ in MORE:
        n1.run(["ip", *add.split()])
    try:
        older, _ = (running_cluster.submit("alice", "n1") for _ in range(2))
        show = ["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]
        (link_local,) = re.findall(r"fe80:[0-9a-f:]+", n1.run(show).stdout)
        yield Place(running_cluster, older, request.param, link_local)
    finally:
        running_cluster.cancel_all()
        for _, remove in MORE:
            if remove:
                n1.run(["ip", *remove.split()])
        running_cluster.reconfigure(Settings())


@pytest.mark.parametrize("name", OWN)
def test_any_address(place: Place, name: str) -> None:
    """It lands in the older of two jobs, and the log says that its own node said so."""
    place.cluster.pam(pam.with_module(STRICT, *PATIENT))
    rc, job, line = place.login(OWN[name].text)
    assert (rc, job) == (0, place.job), line
    assert IT in line
    if place.listening == "any IPv4":
        place.cluster.pam(pam.stack(f"{pam.C_MODULE} {STRICT}"))
        rc, job, _ = place.login(OWN[name].text, asked=False)
        assert (rc, job) == ((0, place.job) if OWN[name].theirs else (255, None))


# Takes connections where slurmd does not, and says nothing.
LISTENER = """\
import socket, time
with socket.create_server(("127.0.0.1", 6818)):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("place", ["one address"], indirect=True)
def test_what_a_user_listens_on_is_not_asked(place: Place) -> None:
    """On the same port, by the loopback: slurmd has another address, and is asked there."""
    place.cluster.pam(pam.with_module(STRICT, *PATIENT))
    listener = place.cluster.n1.popen(
        ["python3", "-c", LISTENER], "bob", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        assert listener.stdout
        assert listener.stdout.readline() == "up\n"
        assert place.login("127.0.0.1")[:2] == (0, place.job)
    finally:
        end(listener)
