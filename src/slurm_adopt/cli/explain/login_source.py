"""Where a login comes from: `--from ADDRESS[:PORT]`, and the connection that this means.

The kernel's tables of sockets are searched for the other end; any user may read them. Which process
holds a connection is seen by root only.
"""

from __future__ import annotations

import _socket
import sys
from contextlib import suppress
from typing import NamedTuple

from slurm_adopt.cli.deadlines import SHARED
from slurm_adopt.cli.errors import USAGE, CliError
from slurm_adopt.node import listening, ssh_connection
from slurm_adopt.node.ssh_connection import Connection, normal
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import PROC, pids, program_of
from slurm_adopt.slurm.waiting import Deadline

SSH = 22
_PORTS = 65535
_TABLES = ("tcp", "tcp6")
_LOCAL, _INODE = 1, 9  # columns


class Given(NamedTuple):
    """What `--from` says."""

    address: str
    port: int | None

    def __str__(self) -> str:
        """Text as it may be given."""
        address = f"[{self.address}]" if self.port and ":" in self.address else self.address
        return f"{address}:{self.port}" if self.port else address


class Source(NamedTuple):
    """What is known of where a login comes from."""

    connection: Connection | None  # that it is taken to come by
    is_there: bool = False  # whether the kernel shows this connection now
    holder: int = 0  # the process of sshd's that has it; 0 where none shows
    remark: str = ""  # why there is no connection, or how it was chosen


def parse(text: str) -> Given:
    """Read ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; CliError."""
    address, port = text, ""
    if text.startswith("[") and "]" in text:
        address, _, port = text[1:].partition("]")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
        port = f":{port}"
    try:
        numeric = normal(address)[1]
    except ValueError:
        raise CliError(
            f"--from {text}: give a numeric address, as ADDRESS or ADDRESS:PORT, for IPv6 "
            "[ADDRESS]:PORT",
            USAGE,
        ) from None
    given = number(port[1:]) if port[:1] == ":" else None
    if port and (given is None or not 0 < given <= _PORTS):
        raise CliError(f"--from {text}: the port is a number from 1 to {_PORTS}", USAGE)
    return Given(numeric, given)


def find(given: Given, proc: str = PROC) -> Source:
    """Return the connection to this host that is meant: one of sshd's.

    By address and port it may also be another program's. Where the sockets of sshd do not show,
    its port tells which are.
    """
    held = sshd_sockets(proc)
    found = connections(given, proc)
    port = ssh_port(held, proc)
    at_sshd = {
        inode: one
        for inode, one in found.items()
        if (inode in held if held else one.destination_port == port)
    }
    shown = at_sshd or (found if given.port else {})
    if len(shown) == 1:
        ((inode, connection),) = shown.items()
        return Source(connection, True, held.get(inode, 0))
    if shown:
        ends = ", ".join(sorted(f"{given.address}:{one.source_port}" for one in shown.values()))
        return Source(None, remark=f"source unknown: several connections are here: {ends}")
    if given.port is None:
        return Source(None, remark=f"source unknown: no connection from {given} is here")
    connection = assumed(given, port)
    return Source(connection, remark=f"no connection from {given} is here now")


def connections(given: Given, proc: str = PROC) -> dict[int, Connection]:
    """Return the established connections of this host to an address and port, by inode."""
    wanted = b":%04X 01 " % given.port if given.port else _end_of(given.address) + b":"
    found: dict[int, Connection] = {}
    for table in _TABLES:
        with suppress(OSError), open(f"{proc}/self/net/{table}", "rb") as file:
            for line in file:
                row = ssh_connection.parse_row(line) if wanted in line and b" 01 " in line else None
                if row and row[1].source == given.address:
                    found[row[0]] = row[1]
    return found


def _end_of(address: str) -> bytes:
    """Return how the kernel's tables end the hexadecimal digits of an address."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    packed = _socket.inet_pton(family, address)
    if sys.byteorder == "little":
        packed = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    return packed.hex().upper().encode()


def assumed(given: Given, port: int = SSH) -> Connection:
    """Return the connection that there would be: to the address from which the kernel answers."""
    family = _socket.AF_INET6 if ":" in given.address else _socket.AF_INET
    own = given.address
    sock = _socket.socket(family, _socket.SOCK_DGRAM)
    try:
        with suppress(OSError):
            sock.connect((given.address, given.port or SSH))  # this sends nothing
            own = sock.getsockname()[0]
    finally:
        sock.close()
    return Connection(given.address, given.port or 0, own, port)


def ssh_port(held: dict[int, int], proc: str = PROC) -> int:
    """Return the port on which sshd listens: the usual one, else its lowest, if that shows.

    `held`: sshd's sockets. Those of a session may listen as well, for a forwarding.
    """
    deadline, ports = Deadline(SHARED), set()
    with suppress(SetupError):
        for table in _TABLES:
            for columns in listening.rows(f"{proc}/self/net/{table}", deadline):
                if int(columns[_INODE]) in held:
                    ports.add(ssh_connection.end(columns[_LOCAL])[1])
    return SSH if SSH in ports else min(ports, default=SSH)


def sshd_sockets(proc: str = PROC) -> dict[int, int]:
    """Return which process of sshd's has which socket, by inode; root sees them."""
    found: dict[int, int] = {}
    for pid in pids(proc):
        if program_of(pid, proc).startswith("sshd"):
            for inode in ssh_connection.socket_inodes(f"{proc}/{pid}/fd"):
                found.setdefault(inode, pid)
    return found
