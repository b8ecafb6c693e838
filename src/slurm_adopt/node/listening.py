"""Whether another process listens for connections, whatever others on this host listen on.

Its own sockets are asked: pidfd_getfd(2) (Linux 5.6) lends one, SO_ACCEPTCONN says. Before that
there are the kernel's tables, in which the sockets that listen come first (net/ipv4/tcp_ipv4.c,
tcp_seq_start): a user may have a hundred thousand, so they are read for a bounded time.
"""

from __future__ import annotations

import _socket
import os
from time import sleep

from slurm_adopt import time_limits
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.waiting import Deadline

from .sockets import copied
from .ssh_connection import socket_inodes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

READING = time_limits.LISTENS.last
RESTART = time_limits.RESTARTED.last
PAUSE = 0.02  # seconds until it is looked again whether it listens
_STATE, _INODE = 3, 9  # columns
_COLUMNS = 11  # the fewest of a whole row
_LISTEN = b"0A"


def listens(pid: int, proc: str = "/proc") -> bool:
    """Say whether a process listens for connections; SetupError where that cannot be told."""
    inodes = {*socket_inodes(f"{proc}/{pid}/fd")}
    if not inodes:
        return False
    try:
        return any(_accepts(pid, int(name)) for name in _sockets(f"{proc}/{pid}/fd"))
    except (SetupError, OSError):
        pass
    return _looked_up(pid, inodes, proc)


def listens_soon(pid: int, proc: str = "/proc") -> bool:
    """Say whether a process listens, or does so again in a moment; SetupError as listens().

    An sshd that gets SIGHUP closes its sockets and starts itself again: the same process, which
    listens once it has read its configuration (sshd.c, sighup_restart).
    """
    deadline = Deadline(RESTART)
    while not listens(pid, proc):
        if not deadline.left():
            return False
        sleep(PAUSE)
    return True


def _accepts(pid: int, descriptor: int) -> bool:
    """Say whether a socket takes connections; no if it is none any more. SetupError."""
    try:
        sock = copied(descriptor, pid)
    except OSError:
        return False
    try:
        return bool(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN))
    finally:
        sock.close()


def _sockets(directory: str) -> Iterator[str]:
    """Yield the descriptors of a process that are sockets."""
    for name in os.listdir(directory):
        try:
            if os.readlink(f"{directory}/{name}").startswith("socket:"):
                yield name
        except OSError:  # closed since
            pass


def _looked_up(pid: int, inodes: set[int], proc: str) -> bool:
    deadline = Deadline(READING)
    tables = (f"{proc}/{pid}/net/{table}" for table in ("tcp", "tcp6"))
    try:
        listening = (number(row[_INODE]) for path in tables for row in rows(path, deadline))
        return any(inode in inodes for inode in listening)
    except TooManyError as error:
        raise SetupError(
            f"cannot tell whether process {pid} listens: {error} to be read in {READING:g} s"
        ) from None


class TooManyError(SetupError):
    """A table has more sockets that listen than can be read in the time."""


def rows(path: str, deadline: Deadline) -> Iterator[list[bytes]]:
    """Yield the columns of the sockets that listen, of one table; TooManyError."""
    try:
        with open(path, "rb") as file:
            next(file, b"")  # the head of the table
            for line in file:
                columns = line.split()
                if len(columns) < _COLUMNS or columns[_STATE] != _LISTEN:
                    return
                if number(columns[_INODE]) is None:
                    return
                if not deadline.left():
                    raise TooManyError(f"{path} has too many sockets")
                yield columns
    except OSError:
        return
