"""Logins from this host to itself: is the source here, and where its slurmds can be asked."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from slurm_adopt.node import own_address
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.slurmd.callerid import Cluster
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.peers import Peer, no_descriptor_left
from tests.fakes.slurmd import BY_NAME, Auth, answer, reply

LONG = 20.0
ME = os.geteuid()
R2205 = BY_NAME["22.05"]
JOB = 4711

# Documentation's own networks are nobody's; 255.255.255.255 and 224.0.0.1 are everybody's.
ADDRESSES = [
    ("127.0.0.1", True),
    ("127.200.3.4", True),
    ("::1", True),
    ("192.0.2.1", False),
    ("224.0.0.1", False),
    ("255.255.255.255", False),
    ("2001:db8::1", False),
    ("fe80::1", False),
    ("ff02::1", False),
    ("n1", False),
    ("", False),
]


@pytest.mark.parametrize(("address", "own"), ADDRESSES)
def test_is_own(address: str, own: bool) -> None:
    """The kernel says so, and no socket stays."""
    with no_descriptor_left():
        assert own_address.is_own(address) is own


class Answered:
    """A netlink socket that answers this, or fails."""

    def __init__(self, said: bytes | OSError) -> None:
        self.said = said
        self.closed = False

    def sendto(self, *_: object) -> None:
        """Take the question."""

    def recv(self, *_: object) -> bytes:
        if isinstance(self.said, OSError):
            raise self.said
        return self.said

    def close(self) -> None:
        self.closed = True


ROUTE = own_address._native(44, 4) + own_address._native(24, 2) + bytes(10) + bytes(7)
ANSWERS: list[tuple[bytes | OSError, bool]] = [
    (ROUTE + b"\2" + bytes(20), True),
    (ROUTE + b"\1" + bytes(20), False),  # RTN_UNICAST
    (ROUTE, False),  # cut off
    (b"", False),
    (own_address._native(44, 4) + own_address._native(2, 2) + bytes(17) + b"\2", False),  # error
    (BlockingIOError(11, "no answer yet"), False),
    (PermissionError(13, "not with this SELinux"), False),
]


@pytest.mark.parametrize(("said", "own"), ANSWERS)
def test_what_the_kernel_says(
    monkeypatch: pytest.MonkeyPatch, said: bytes | OSError, own: bool
) -> None:
    """What is no route to this host is none."""
    sock = Answered(said)
    monkeypatch.setattr("slurm_adopt.node.own_address._socket.socket", lambda *_: sock)
    assert own_address.is_own("192.0.2.1") is own
    assert sock.closed


# Where slurmd can be asked

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \n"
ANY4, ANY6 = "00000000", "0" * 32
LOOPBACK, OTHER = "0100007F", "02004E0A"  # 127.0.0.1, 10.78.0.2
OTHER6 = "000078FD000000000000000002000000"  # fd78::2
MAPPED = "0000000000000000FFFF000002004E0A"

SSH4 = Connection("10.78.0.2", 50000, "10.78.0.2", 22)
SSH6 = Connection("fd78::2", 50000, "fd78::2", 22)
LO4 = Connection("127.0.0.1", 50000, "127.0.0.1", 22)
LO6 = Connection("::1", 50000, "::1", 22)
LINK = Connection("fe80::2", 50000, "fe80::2", 22)


def row(address: str, port: int, uid: int = 0, state: str = "0A") -> str:
    """Return a row of /proc/net/tcp."""
    return (
        f"   0: {address}:{port:04X} {'0' * len(address)}:0000 {state} 00000000:00000000 "
        f"00:00000000 00000000 {uid:5} 0 1234 1 0 100 0 0 10 0\n"
    )


# (rows of tcp, of tcp6, connection, where it is asked about)
PLACES = {
    "any IPv4, as ever": ([row(ANY4, 6818)], [], SSH4, [("10.78.0.2", 6818)]),
    "any IPv4, loopback": ([row(ANY4, 6818)], [], LO4, [("127.0.0.1", 6818)]),
    "any IPv4, ::1": ([row(ANY4, 6818)], [], LO6, [("127.0.0.1", 6818)]),
    "any IPv4, own IPv6": ([row(ANY4, 6818)], [], SSH6, [("127.0.0.1", 6818)]),
    "any IPv4, link-local": ([row(ANY4, 6818)], [], LINK, [("127.0.0.1", 6818)]),
    "any, IPv4": ([], [row(ANY6, 6818)], SSH4, [("10.78.0.2", 6818), ("::1", 6818)]),
    "any, IPv6": ([], [row(ANY6, 6818)], SSH6, [("fd78::2", 6818)]),
    "any, ::1": ([], [row(ANY6, 6818)], LO6, [("::1", 6818)]),
    "any, link-local": ([], [row(ANY6, 6818)], LINK, [("::1", 6818)]),
    "one address, loopback": ([row(OTHER, 6818)], [], LO4, [("10.78.0.2", 6818)]),
    "one address, ::1": ([row(OTHER, 6818)], [], LO6, [("10.78.0.2", 6818)]),
    "one IPv6 address": ([], [row(OTHER6, 6818)], SSH4, [("fd78::2", 6818)]),
    "one mapped address": ([], [row(MAPPED, 6818)], LO6, [("10.78.0.2", 6818)]),
    "several slurmd": (
        [row(ANY4, 7011), row(OTHER, 6818)],
        [],
        LO4,
        [("127.0.0.1", 7011), ("10.78.0.2", 6818)],
    ),
    "a user's": ([row(LOOPBACK, 6818, 5001), row(OTHER, 6818)], [], LO4, [("10.78.0.2", 6818)]),
    "SlurmdUser's": ([row(OTHER, 6818, 64030)], [], LO4, [("10.78.0.2", 6818)]),
    "another port": ([row(ANY4, 22)], [row(ANY6, 22)], LO4, []),
    "it only has a connection there": ([row(OTHER, 6818, state="01")], [], LO4, []),
    "behind those that listen": ([row(OTHER, 22, state="01"), row(ANY4, 6818)], [], LO4, []),
    "garbage": ([row("0100", 6818), row(OTHER, 6818)], ["x\n"], LO4, [("10.78.0.2", 6818)]),
    "no sockets": ([], [], LO4, []),
}


@pytest.mark.parametrize("case", PLACES)
def test_places(tmp_path: Path, case: str) -> None:
    tcp, tcp6, connection, expected = PLACES[case]
    net = tmp_path / "self/net"
    net.mkdir(parents=True)
    (net / "tcp").write_text(HEAD + "".join(tcp))
    (net / "tcp6").write_text(HEAD + "".join(tcp6))
    ports, trusted = {6818, 7011}, {0, 64030}
    found = own_address.places(connection, ports, trusted, Deadline(LONG), str(tmp_path))
    assert found == expected


def test_no_tables(tmp_path: Path) -> None:
    """Nothing is known then."""
    assert own_address.places(LO4, {6818}, {0}, Deadline(LONG), str(tmp_path)) == []


def test_no_time(tmp_path: Path) -> None:
    """A user can listen on as many ports as there are: the time for all of it is not for that."""
    (tmp_path / "self/net").mkdir(parents=True)
    (tmp_path / "self/net/tcp").write_text(HEAD + row(OTHER, 6818))
    assert own_address.places(LO4, {6818}, {0}, Deadline(0), str(tmp_path)) == []


FAMILIES = {
    "IPv4": (socket.AF_INET, "127.0.0.1"),
    "IPv6": (socket.AF_INET6, "::1"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("connection", [SSH4, SSH6, LO4, LO6, LINK], ids=str)
def test_the_question_has_the_connection_s_addresses(family: str, connection: Connection) -> None:
    """Wherever it is asked."""
    number, _ = FAMILIES[family]
    with no_descriptor_left(), Peer(reply(R2205, answer(R2205, JOB)), family=number) as slurmd:
        here = own_address.places(connection, {slurmd.port}, {ME}, Deadline(LONG))
        assert here == [slurmd.place]
        found = callerid.ask_each(connection, here, Cluster(R2205.protocol, Auth()), Deadline(LONG))
    assert found == JOB
    assert slurmd.received[0].endswith(callerid.request_body(connection))
