"""Which TCP connection is this login: the sockets of a process, and which of them is ssh's.

A process's own sockets are asked directly (getsockname, getpeername). Those of another process are
looked up by inode in the kernel's tables /proc/PID/net/tcp and tcp6, as src/common/callerid.c of
Slurm does for all. "Source" is the other end, where the user comes from; "destination" is this end.
"""

from __future__ import annotations

import _socket
import os
import stat
import sys

from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import parent_of

from .sockets import copied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.decision.login import Login
    from slurm_adopt.slurm.waiting import Deadline

_FAMILIES = (_socket.AF_INET, _socket.AF_INET6)
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_ALL_PORTS = 65535

# Layout of a row of /proc/net/tcp and tcp6 (net/ipv4/tcp_ipv4.c, get_tcp4_sock).
_LOCAL, _REMOTE, _STATE, _INODE = 1, 2, 3, 9  # columns
_COLUMNS = 11  # the fewest of a whole row: one more than the inode, which is whole then
_NO_PEER = frozenset({b"02", b"07"})  # SYN_SENT, CLOSE: getpeername fails there as well
_CHUNK = 1 << 16  # bytes read at a time
_LISTED = 4  # connections named in a remark
_PASSES = 2  # a row can be skipped when others come and go during a read


class Connection:
    """The two ends of a TCP connection; addresses are numeric, without zone, IPv4 where mapped."""

    __slots__ = ("destination", "destination_port", "family", "source", "source_port")

    def __init__(
        self, source: str, source_port: int, destination: str, destination_port: int
    ) -> None:
        """Take addresses in any numeric form; ValueError if they are not of one family."""
        self.family, self.source = normal(source)
        family, self.destination = normal(destination)
        if family != self.family or not 0 <= source_port <= _ALL_PORTS >= destination_port >= 0:
            raise ValueError(f"no TCP connection: {source} {source_port} {destination}")
        self.source_port = source_port
        self.destination_port = destination_port

    @property
    def link_local(self) -> bool:
        """Whether the source is an IPv6 address that means something on its own link only."""
        return self.family == _socket.AF_INET6 and (
            int.from_bytes(_socket.inet_pton(self.family, self.source)[:2], "big") & 0xFFC0
            == 0xFE80
        )

    def _key(self) -> tuple[str, int, str, int]:
        return (self.source, self.source_port, self.destination, self.destination_port)

    def __eq__(self, other: object) -> bool:
        """Compare both ends."""
        return isinstance(other, Connection) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash of the ends."""
        return hash(self._key())

    def __str__(self) -> str:
        """Text as in SSH_CONNECTION: source, port, destination, port."""
        return "{} {} {} {}".format(*self._key())

    __repr__ = __str__


def normal(address: str) -> tuple[int, str]:
    """Return family and canonical text of a numeric address; ValueError if it is none.

    A zone (`%eth0`) is cut off, an IPv4-mapped IPv6 address becomes IPv4.
    """
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    try:
        packed = _socket.inet_pton(family, address.partition("%")[0])
    except (OSError, ValueError) as error:
        raise ValueError(f"not a numeric address: {address!r}") from error
    return _from_packed(packed)


def _from_packed(packed: bytes) -> tuple[int, str]:
    if packed[:12] == _MAPPED and len(packed) == 16:
        packed = packed[12:]
    family = _socket.AF_INET if len(packed) == 4 else _socket.AF_INET6
    return int(family), _socket.inet_ntop(family, packed)


# The sockets that can be asked: our own, and those that another process lends


def asked_connections(pid: int, proc: str = "/proc") -> list[Connection]:
    """Return the TCP connections of a process in the order of its descriptors; SetupError."""
    directory = f"{proc}/{pid}/fd"
    connections = [_connection_of(fd, pid, directory) for fd in _descriptors(directory)]
    return [connection for connection in connections if connection is not None]


def _descriptors(directory: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(directory) if name.isdecimal())
    except OSError:
        return []


def _connection_of(fd: int, pid: int, directory: str) -> Connection | None:
    """Return the connection of a descriptor, None if it has none; the descriptor stays as it is."""
    try:
        if not stat.S_ISSOCK(os.stat(f"{directory}/{fd}").st_mode):
            return None
        here, there = _ends(fd, pid)
        return Connection(there[0], there[1], here[0], here[1])
    except (OSError, ValueError):  # closed since, no TCP socket, or without a peer
        return None


def _ends(fd: int, pid: int) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return both ends of a TCP socket; OSError or ValueError if it has none."""
    sock = copied(fd, pid)
    try:
        if sock.family not in _FAMILIES or sock.type != _socket.SOCK_STREAM:
            raise ValueError(f"descriptor {fd} is no TCP socket")
        return sock.getsockname()[:2], sock.getpeername()[:2]
    finally:
        sock.close()


def connected_sockets(pid: int, proc: str = "/proc") -> set[int]:
    """Return the inodes of a process's sockets that somebody has connected to, or it to others.

    TCP, vsock, and unix streams whose own end has a name: `sshd -i` is given one of these. Of
    another process that cannot lend its sockets those of TCP alone.
    """
    directory = f"{proc}/{pid}/fd"
    try:
        found = {fd: _inode(fd, directory) for fd in _descriptors(directory)}
        return {inode for fd, inode in found.items() if inode and _is_connected(fd, pid)}
    except SetupError:
        inodes = {*socket_inodes(directory)}
        tables = (f"{proc}/{pid}/net/{table}" for table in ("tcp", "tcp6"))
        return {inode for table in tables for inode in _rows(table, inodes, None)}


def _inode(fd: int, directory: str) -> int:
    """Return the inode of a socket; 0 if the descriptor is none."""
    try:
        found = os.stat(f"{directory}/{fd}")
    except OSError:  # closed since
        return 0
    return found.st_ino if stat.S_ISSOCK(found.st_mode) else 0


def _is_connected(fd: int, pid: int) -> bool:
    try:
        sock = copied(fd, pid)
    except OSError:
        return False
    try:
        sock.getpeername()
        unnamed = sock.family == _socket.AF_UNIX and not sock.getsockname()
    except OSError:  # it listens, or nobody is there
        return False
    else:  # unnamed ones lead to journald, and to other processes of sshd's
        return sock.type == _socket.SOCK_STREAM and not unnamed
    finally:
        sock.close()


# The sockets of another process


def shares(pid: int, sockets: set[int], proc: str = "/proc") -> bool:
    """Say whether a process has one of these sockets open."""
    return not sockets.isdisjoint(socket_inodes(f"{proc}/{pid}/fd"))


def connections_of(
    pid: int | str, proc: str = "/proc", deadline: Deadline | None = None
) -> list[Connection]:
    """Return the TCP connections of a process, from the kernel's tables.

    Memory is bounded whatever the size of the tables; after `deadline` no more is read, and what
    was found until then is returned. Lines that are not rows are passed over.
    """
    inodes = {*socket_inodes(f"{proc}/{pid}/fd")}
    found: dict[int, Connection] = {}
    for _ in range(_PASSES):
        for table in ("tcp", "tcp6"):
            if inodes - found.keys():
                found.update(_rows(f"{proc}/{pid}/net/{table}", inodes, deadline))
        if found or not inodes:
            break
    return [found[inode] for inode in sorted(found)]


def socket_inodes(directory: str) -> list[int]:
    """Return the inodes of the sockets a process has open, in the order of its descriptors."""
    inodes = []
    for fd in _descriptors(directory):
        try:
            target = os.readlink(f"{directory}/{fd}")
        except OSError:  # closed since, or not ours to see
            continue
        inode = number(target[8:-1]) if target.startswith("socket:[") else None
        if inode is not None:
            inodes.append(inode)
    return inodes


def _rows(path: str, inodes: set[int], deadline: Deadline | None) -> dict[int, Connection]:
    """Return the rows of some inodes in one table; nothing if there is no such table."""
    wanted = [b" %d " % inode for inode in inodes]
    found: dict[int, Connection] = {}
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        for lines in _chunks(fd):
            if deadline is not None and not deadline.left():
                break
            if any(inode in lines for inode in wanted):  # a search in C, before any parsing
                rows = (parse_row(line) for line in lines.split(b"\n"))
                found.update(row for row in rows if row is not None and row[0] in inodes)
    finally:
        os.close(fd)
    return found


def _chunks(fd: int) -> Iterator[bytes]:
    """Yield a file in pieces of whole lines; an unreadable rest is left out."""
    rest = b""
    while data := _read(fd):
        lines, _, rest = (rest + data).rpartition(b"\n")
        yield lines
        rest = rest[-_CHUNK:]  # a line without end is garbage
    yield rest


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError:
        return b""


def parse_row(line: bytes) -> tuple[int, Connection] | None:
    """Return inode and connection of a row; None if it is no row or has no other end."""
    columns = line.split()
    inode = number(columns[_INODE]) if len(columns) >= _COLUMNS else None
    if inode is None or columns[_STATE] in _NO_PEER:
        return None
    try:
        here, here_port = end(columns[_LOCAL])
        there, there_port = end(columns[_REMOTE])
        connection = Connection(there, there_port, here, here_port)
    except ValueError:
        return None
    return (inode, connection) if there_port else None


def end(text: bytes) -> tuple[str, int]:
    """Return address and port of `HEX:HEX`: 32-bit words in native order, port as a number."""
    address, _, port = text.decode("ascii").partition(":")
    if len(address) not in (8, 32) or len(port) != 4:
        raise ValueError(f"no end of a connection: {text!r}")
    packed = bytes.fromhex(address)
    if sys.byteorder == "little":
        packed = b"".join(packed[word : word + 4][::-1] for word in range(0, len(packed), 4))
    return _from_packed(packed)[1], int.from_bytes(bytes.fromhex(port), "big")


# Which of them is ssh's


def find(
    login: Login, proc: str = "/proc", deadline: Deadline | None = None
) -> tuple[Connection | None, str]:
    """Return the connection of a login, None if unknown, and a remark for the log or "".

    Where the process that called PAM holds no TCP connection its parent is looked at.
    """
    try:
        connections = asked_connections(login.pid, proc)
    except SetupError:
        connections = connections_of(login.pid, proc, deadline)
    if not connections:
        connections = connections_of(parent_of(login.pid, proc), proc, deadline)
    return choose(connections, login.ssh_connection, login.rhost)


def choose(
    connections: list[Connection], ssh_connection: str | None, rhost: str | None
) -> tuple[Connection | None, str]:
    """Return which connection is ssh's, None if that cannot be known, and a remark or "".

    What is said (SSH_CONNECTION, PAM_RHOST) only confirms what the kernel shows. Where the two
    disagree, the one connection from the service's peer (PAM_RHOST) counts.
    """
    shown = list(dict.fromkeys(connections))
    if not shown:
        return None, "no TCP connection found: this process has none, or /proc cannot be read"
    said, peer = _said(ssh_connection), _peer(rhost)
    if said in shown and peer in (None, said.source):
        return said, ""
    if peer is not None:
        return _from_peer(shown, said, peer)
    if said is not None:
        return None, f"SSH_CONNECTION says {said}, but the sockets are {_list(shown)}"
    if len(shown) > 1:
        return None, f"cannot tell which of these connections is ssh's: {_list(shown)}"
    return shown[0], ""


def _from_peer(
    shown: list[Connection], said: Connection | None, peer: str
) -> tuple[Connection | None, str]:
    """Choose by the address in PAM_RHOST alone."""
    matching = [connection for connection in shown if connection.source == peer]
    remark = (
        f"PAM_RHOST is {peer}, SSH_CONNECTION {said or 'unset'}, the sockets are {_list(shown)}"
    )
    if len(matching) != 1:
        return None, remark
    return matching[0], remark if said else ""


def _said(ssh_connection: str | None) -> Connection | None:
    """Read SSH_CONNECTION: `source port destination port`; None if it is not that."""
    try:
        source, source_port, destination, port = (ssh_connection or "").split()
        return Connection(source, int(source_port), destination, int(port))
    except ValueError:
        return None


def _peer(rhost: str | None) -> str | None:
    """Read PAM_RHOST: an address, or None for a name or nothing."""
    try:
        return normal(rhost or "")[1]
    except ValueError:
        return None


def _list(connections: list[Connection]) -> str:
    more = ", …" if len(connections) > _LISTED else ""
    return ", ".join(f"[{connection}]" for connection in connections[:_LISTED]) + more
