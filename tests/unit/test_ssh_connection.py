"""Which TCP connection a login is: real sockets, faked tables, and what is said about them."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.decision.login import Login
from slurm_adopt.node import ssh_connection
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.peers import no_descriptor_left, takes_at_most

if TYPE_CHECKING:
    from collections.abc import Iterator

SSH = Connection("10.0.0.1", 50000, "10.0.0.2", 22)
LDAP = Connection("10.0.0.9", 389, "10.0.0.2", 40000)
SECOND = Connection("10.0.0.1", 50001, "10.0.0.2", 22)
SSH6 = Connection("fd00::1", 50000, "fd00::2", 22)

# Addresses


@pytest.mark.parametrize(
    ("text", "family", "canonical"),
    [
        ("10.0.0.1", socket.AF_INET, "10.0.0.1"),
        ("::ffff:10.0.0.1", socket.AF_INET, "10.0.0.1"),
        ("::FFFF:a00:1", socket.AF_INET, "10.0.0.1"),
        ("fd00:0:0::1", socket.AF_INET6, "fd00::1"),
        ("::10.0.0.1", socket.AF_INET6, "::10.0.0.1"),
        ("fe80::1%eth0", socket.AF_INET6, "fe80::1"),
        ("::1", socket.AF_INET6, "::1"),
    ],
)
def test_normal(text: str, family: int, canonical: str) -> None:
    """One address has one text."""
    assert ssh_connection.normal(text) == (family, canonical)


@pytest.mark.parametrize(
    "text",
    ["", "n2", "n2.example.org", "10.0.0", "10.0.0.1.", "1::2::3", "UNKNOWN", "10.0.0.1\0", "é:"],
)
def test_not_an_address(text: str) -> None:
    """Names and garbage are no addresses."""
    with pytest.raises(ValueError, match="not a numeric address"):
        ssh_connection.normal(text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [("fe80::1", True), ("febf::1%eth0", True), ("fec0::1", False), ("fd00::1", False)],
)
def test_link_local(source: str, expected: bool) -> None:
    """fe80::/10."""
    assert Connection(source, 1, "fd00::2", 22).link_local is expected
    assert not SSH.link_local


# Real sockets


@contextlib.contextmanager
def connected(listen: str, connect: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the accepted and the connecting end of a connection."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(listen != "::"))
        listener.bind((listen, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((connect, port)) as there, listener.accept()[0] as here:
            yield here, there


@pytest.mark.parametrize(
    ("listen", "connect", "source", "family"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", socket.AF_INET),
        ("::1", "::1", "::1", socket.AF_INET6),
        ("::", "127.0.0.1", "127.0.0.1", socket.AF_INET),  # IPv4-mapped, as with socket activation
    ],
)
def test_both_ways_agree(listen: str, connect: str, source: str, family: int) -> None:
    """Getsockname on our own descriptors and the kernel's tables give the same connections."""
    with connected(listen, connect) as (here, there), socket.socket() as idle:
        expected = Connection(*there.getsockname()[:2], *there.getpeername()[:2])
        assert idle.fileno() >= 0  # a TCP socket without a peer is in neither answer
        with no_descriptor_left():
            own = ssh_connection.asked_connections(os.getpid())
            looked_up = ssh_connection.connections_of(os.getpid())
            argv = [sys.executable, "-c", "input()"]
            kept = [here.fileno()]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=kept) as process:
                lent = ssh_connection.asked_connections(process.pid)
                process.communicate(b"\n")
    assert lent == [expected]
    assert set(own) == set(looked_up)
    assert expected in own
    assert (expected.family, expected.source) == (family, source)


def test_sockets_stay_as_they_are() -> None:
    """Looking changes neither the descriptor nor its flags."""
    with connected("127.0.0.1", "127.0.0.1") as (here, there):
        here.setblocking(False)
        there.setblocking(True)
        ssh_connection.asked_connections(os.getpid())
        assert not os.get_blocking(here.fileno())
        assert os.get_blocking(there.fileno())
        there.sendall(b"x")
        assert here.recv(1) == b"x"


def test_other_sockets_are_none() -> None:
    """Unix, UDP, listening and unconnected sockets are not connections, nor are files."""
    before = ssh_connection.asked_connections(os.getpid())
    left, right = socket.socketpair()
    with left, right, socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as listener:
        udp.connect(("127.0.0.1", 9))
        listener.listen()
        assert ssh_connection.asked_connections(os.getpid()) == before
        assert set(ssh_connection.connections_of(os.getpid())) == set(before)


def test_closed_by_peer() -> None:
    """A connection whose other end has closed is still ours, in both ways."""
    with connected("127.0.0.1", "127.0.0.1") as (_, there):
        there.close()
        assert (
            ssh_connection.asked_connections(os.getpid())
            == ssh_connection.connections_of("self")
            != []
        )


# The kernel's tables


def end(address: str, port: int) -> str:
    """Return one end as the kernel prints it: 32-bit words in native order."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"


def row(connection: Connection, inode: int, state: str = "01", mapped: str = "") -> bytes:
    """Return a row of /proc/net/tcp."""
    here = end(mapped + connection.destination, connection.destination_port)
    there = end(mapped + connection.source, connection.source_port)
    return (
        f"   1: {here} {there} {state} 00000000:00000000 02:000A7214 00000000"
        f"     0        0 {inode} 2 00000000f4d2bd56 20 4 30 10 -1"
    ).encode()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (row(SSH, 7), (7, SSH)),
        (row(SSH6, 7), (7, SSH6)),
        (row(SSH, 7, mapped="::ffff:"), (7, SSH)),
        (row(SSH, 7, state="08"), (7, SSH)),
        (row(SSH, 7, state="02"), None),
        (row(SSH, 7, state="07"), None),
        (row(Connection("0.0.0.0", 0, "0.0.0.0", 22), 7, state="0A"), None),
        (b"", None),
        (b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt", None),
        (row(SSH, 7).replace(b" 7 ", b" x "), None),
        (row(SSH, 7).replace(b" 7 ", b" %s " % (b"7" * 5000)), None),
        (row(SSH, 7).replace(b":0016", b":00016"), None),
        (row(SSH, 7).replace(b":0016", b":00g6"), None),
        (row(SSH, 7).replace(b":0016", b""), None),
        (row(SSH, 7).replace(b":0016", b":\xff016"), None),
        (row(SSH, 7).replace(b"0200000A", b"0200000A" * 2), None),
        (row(SSH, 7).replace(b"0200000A", b"0200000A" * 4), None),  # IPv6 here, IPv4 there
    ],
)
def test_row(line: bytes, expected: tuple[int, Connection] | None) -> None:
    """Rows that say something, and lines that do not."""
    assert ssh_connection.parse_row(line) == expected


def test_row_cut_anywhere() -> None:
    """A cut row is either no row or the right one, never another."""
    whole = row(SSH, 1234567)
    for cut in range(len(whole)):
        assert ssh_connection.parse_row(whole[:cut]) in (None, (1234567, SSH))


class Proc:
    """A faked /proc with one process."""

    def __init__(self, root: Path) -> None:
        """Start with a process 42 that has no sockets, and empty tables."""
        self.root = root
        self._fd = root / "42" / "fd"
        self._net = root / "42" / "net"
        self._fd.mkdir(parents=True)
        self._net.mkdir()

    def sockets(self, *inodes: int) -> None:
        """Give the process sockets, and other descriptors."""
        (self._fd / "0").symlink_to("/dev/null")
        (self._fd / "1").symlink_to("pipe:[99]")
        for fd, inode in enumerate(inodes, 3):
            (self._fd / str(fd)).symlink_to(f"socket:[{inode}]")

    def table(self, name: str, *lines: bytes, ending: bytes = b"\n") -> None:
        """Write a table."""
        (self._net / name).write_bytes(b"  sl  local_address\n" + b"\n".join(lines) + ending)

    def connections(self, deadline: Deadline | None = None) -> list[Connection]:
        """Look up the process."""
        return ssh_connection.connections_of(42, str(self.root), deadline)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """Return a faked /proc."""
    return Proc(tmp_path)


def test_lookup(proc: Proc) -> None:
    """The process's rows are found in both tables, others are not taken."""
    proc.sockets(7, 8, 9)
    proc.table("tcp", row(SECOND, 6), row(SSH, 7), row(LDAP, 77))
    proc.table("tcp6", row(SSH6, 9), row(LDAP, 8, mapped="::ffff:"))
    assert proc.connections() == [SSH, LDAP, SSH6]


@pytest.mark.parametrize(
    "lines",
    [
        [b"\xff" * 300_000, row(SSH, 7)],
        [b"\0\0\0", b"7 7 7 7 7 7 7 7 7 7 7 7", row(SSH, 7)[:60], row(SSH, 7)],
        [row(LDAP, 7)[:30] + b"\n" + row(LDAP, 7)[31:], row(SSH, 7)],
        [row(SSH, 7), row(SSH, 7)],
    ],
    ids=["line of 300 kB", "garbage", "broken in two", "twice"],
)
def test_garbled_table(proc: Proc, lines: list[bytes]) -> None:
    """Garbage around the row does not hide it."""
    proc.sockets(7)
    proc.table("tcp", *lines)
    assert proc.connections() == [SSH]


def test_table_cut(proc: Proc) -> None:
    """A table that ends in the middle of the row: no row, or the right one."""
    proc.sockets(7, 12345)
    for cut in range(len(row(SSH, 12345))):
        proc.table("tcp", row(SSH, 12345)[:cut], ending=b"")
        assert proc.connections() in ([], [SSH])


def test_nothing_there(proc: Proc) -> None:
    """No process, no tables, no sockets: no connections."""
    assert ssh_connection.connections_of(43, str(proc.root)) == []
    assert proc.connections() == []
    proc.sockets(7)
    assert proc.connections() == []
    assert ssh_connection.asked_connections(43, str(proc.root)) == []


def test_row_appears_in_the_second_pass(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was skipped while others changed is found in the second reading."""
    proc.sockets(7)
    proc.table("tcp")
    proc.table("tcp6")
    passed = []

    class Moving(Deadline):
        def left(self) -> float:
            passed.append(1)
            proc.table("tcp", row(SSH, 7))
            return super().left()

    monkeypatch.setattr(ssh_connection, "_CHUNK", 64)
    assert proc.connections(Moving(5)) == [SSH]
    assert passed


def test_a_million_rows(proc: Proc) -> None:
    """A huge table costs time in proportion, and no memory to speak of."""
    proc.sockets(123456789)
    chunk = b"\n".join(row(SECOND, inode) for inode in range(1000, 11000))
    proc.table("tcp", *[chunk] * 100, row(SSH, 123456789), ending=b"")
    tracemalloc.start()
    try:
        with takes_at_most(10), no_descriptor_left():
            assert proc.connections() == [SSH]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_deadline_ends_the_reading(proc: Proc) -> None:
    """After the deadline no more is read."""
    proc.sockets(7)
    proc.table("tcp", *[row(SECOND, 6)] * 100_000, row(SSH, 7))
    with takes_at_most(10), no_descriptor_left():
        assert proc.connections(Deadline(0)) == []


def test_random_bytes(proc: Proc) -> None:
    """No bytes make it raise."""
    dice = random.Random(1)
    proc.sockets(7)
    for _ in range(200):
        line = bytearray(row(SSH, 7))
        for _ in range(dice.randrange(1, 20)):
            line[dice.randrange(len(line))] = dice.randrange(256)
        proc.table("tcp", bytes(line))
        for found in proc.connections():
            assert isinstance(found, Connection)


# Which of them is ssh's


@pytest.mark.parametrize(
    ("connections", "said", "rhost", "expected"),
    [
        # one socket
        ([SSH], None, None, SSH),
        ([SSH], str(SSH), None, SSH),
        ([SSH], str(SSH), "10.0.0.1", SSH),
        ([SSH], str(SSH), "n1.example.org", SSH),
        ([SSH], "UNKNOWN 65535 UNKNOWN 65535", None, SSH),
        ([SSH], "::ffff:10.0.0.1 50000 ::ffff:10.0.0.2 22", "::ffff:10.0.0.1", SSH),
        ([SSH6], str(SSH6), "fd00:0::1", SSH6),
        # several: what is said tells which
        ([LDAP, SSH], str(SSH), None, SSH),
        ([LDAP, SSH], None, "10.0.0.1", SSH),
        ([LDAP, SSH, SECOND], str(SECOND), "10.0.0.1", SECOND),
        ([LDAP, SSH], str(LDAP), "10.0.0.1", SSH),  # the two disagree: the service's peer counts
        ([SSH, SSH], None, None, SSH),  # one connection, two descriptors
        # unknown
        ([], str(SSH), "10.0.0.1", None),
        ([LDAP, SSH], None, None, None),
        ([LDAP, SSH], None, "n1", None),
        ([SSH, SECOND], None, "10.0.0.1", None),
        ([SSH, SECOND], str(LDAP), "10.0.0.1", None),
        ([LDAP], str(SSH), None, None),
        ([LDAP], str(SSH), "10.0.0.1", None),
        ([SSH], None, "10.0.0.7", None),
        ([SSH], str(SSH), "10.0.0.7", None),
    ],
)
def test_choose(
    connections: list[Connection], said: str | None, rhost: str | None, expected: Connection | None
) -> None:
    """What is said confirms what the kernel shows; the source is unknown where that is unclear."""
    found, remark = ssh_connection.choose(connections, said, rhost)
    assert found == expected
    assert bool(remark) == (expected is None or (said == str(LDAP)))
    assert "\n" not in remark


@pytest.mark.parametrize(
    "said",
    [
        "",
        "1 2 3",
        "a b c d",
        "é é é é",
        f"{SSH} 5",
        "10.0.0.1 x 10.0.0.2 22",
        "10.0.0.1 -1 10.0.0.2 22",
        "10.0.0.1 65536 10.0.0.2 22",
        "10.0.0.1 50000 fd00::1 22",
    ],
)
def test_garbled_ssh_connection(said: str) -> None:
    """An SSH_CONNECTION that is none says nothing."""
    assert ssh_connection.choose([SSH], said, None) == (SSH, "")


def test_find_holder(proc: Proc) -> None:
    """Another process is looked at when this one holds no connection, and only then."""
    proc.sockets(7)
    proc.table("tcp", row(SSH, 7))
    child = proc.root / "41"
    child.mkdir()

    def found(pid: int, said: str | None) -> tuple[Connection | None, str]:
        return ssh_connection.find(Login("x", 1, "sshd", pid, ssh_connection=said), str(proc.root))

    assert found(41, str(SSH))[0] is None
    (child / "status").write_text("Name:\tsshd\nPPid:\t42\n")
    assert found(41, str(SSH)) == (SSH, "")
    with connected("127.0.0.1", "127.0.0.1") as (here, there):
        own = proc.root / str(os.getpid()) / "fd"
        own.mkdir(parents=True)
        (own / str(here.fileno())).symlink_to(f"/proc/self/fd/{here.fileno()}")
        expected = Connection(*there.getsockname(), *there.getpeername())
        assert found(os.getpid(), None) == (expected, "")


def test_remark_is_short() -> None:
    """A process with a thousand connections does not flood the log."""
    many = [Connection("10.0.0.1", port, "10.0.0.2", 22) for port in range(1000, 2000)]
    assert len(ssh_connection.choose(many, None, None)[1]) < 400
