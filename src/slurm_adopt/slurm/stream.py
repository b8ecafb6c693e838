"""One stream socket under one deadline: each way a peer can fail becomes one PeerError.

The only place where errors of the network's system calls are turned into sentences. Used for munged
and the sack (unix sockets) and slurmd (TCP); `_socket` is imported because `socket` costs 6 ms.
"""

from __future__ import annotations

import _socket
import select
from errno import ECONNRESET, EINPROGRESS, EPIPE
from os import strerror
from time import sleep

from . import time_limits
from .errors import PeerError
from .proc import peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Union

    from .waiting import Deadline

    Address = Union[str, tuple[str, int]]  # path of a unix socket, or host and port

# Keys of a Peer's hints besides errnos
UNREACHED = -1  # no connection in time
SILENT = -2  # connected, but no answer in time
CLOSED = -3  # closed without an answer
BROKEN = -4  # closed in the middle of one
_TICK = 0.005  # seconds between two looks at a full backlog
_TRIES = 3  # connections over TCP at most, of which the first counts
_AGAIN = time_limits.BEGUN.silence


class ClosedError(PeerError):
    """The peer closed the connection; `received`: how many bytes it had sent on it."""

    def __init__(self, message: str, received: int) -> None:
        """`message`: one line for the log."""
        super().__init__(message)
        self.received = received


class UnreachedError(PeerError):
    """Nothing has taken a connection in all the time that connecting may take."""


class Peer:
    """Whom we talk to: its name in messages, and what to do about each way it can fail."""

    __slots__ = ("hints", "name")

    def __init__(self, name: str, hints: Mapping[int, str]) -> None:
        """`hints`: by errno, UNREACHED and so on, an explanation with what to do."""
        self.name = name
        self.hints = hints

    def sentence(self, what: str, key: int) -> str:
        """Return `name: what: hint`, one line."""
        hint = self.hints.get(key)
        return f"{self.name}: {what}: {hint}" if hint else f"{self.name}: {what}"

    def failed(self, what: str, error: OSError, late: int = SILENT) -> PeerError:
        """Turn an error of a system call into ours; `late`: the hint's key if time ran out."""
        if isinstance(error, _socket.timeout):
            return PeerError(self.sentence(f"{what} within the time limit", late))
        number = error.errno or 0
        reason = strerror(number).lower() if number else str(error)
        return PeerError(self.sentence(reason, number))


class Stream:
    """A connected socket; a context manager that closes it on every path."""

    __slots__ = ("_deadline", "_peer", "_received", "_socket", "_tried")

    def __init__(self, peer: Peer, deadline: Deadline) -> None:
        """Connect later; all calls end at `deadline`."""
        self._peer = peer
        self._deadline = deadline
        self._received = 0
        self._tried = False  # whether the kernel was told to connect
        self._socket: _socket.socket | None = None

    def __enter__(self) -> Stream:
        """Nothing happens before connect()."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self.close()

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, to wait for; -1 before connect() and after close()."""
        return -1 if self._socket is None else self._socket.fileno()

    def connect(self, family: int, address: Address, limit: float | None = None) -> None:
        """Connect within the deadline, and within `limit` seconds if given; PeerError otherwise.

        UnreachedError if the kernel tried for `limit` as a whole. Over TCP a lost packet costs less
        than a second: another connection is begun before the kernel sends it again (RFC 6298).
        """
        deadline = self._deadline if limit is None else self._deadline.within(limit)
        whole = limit is not None and self._deadline.left() >= limit
        try:
            if family == _socket.AF_UNIX:
                self._socket = _socket.socket(family, _socket.SOCK_STREAM)
                while not self._connected(address, deadline):
                    sleep(_TICK)
            else:
                self._socket = self._first(family, address, deadline)
        except OSError as error:
            unreached = whole and self._tried and isinstance(error, _socket.timeout)
            kind = UnreachedError if unreached else PeerError
            raise kind(str(self._peer.failed("no connection", error, UNREACHED))) from None

    def _connected(self, address: Address, deadline: Deadline) -> bool:
        """Try a unix socket once; False if its backlog is full and there is time left."""
        timed = self._timed(deadline)
        self._tried = True
        try:
            timed.connect(address)
        except BlockingIOError:  # unix(7): EAGAIN at once
            return False
        return True

    def _first(self, family: int, address: Address, deadline: Deadline) -> _socket.socket:
        """Return the first connection of several; OSError that the first of them meets."""
        if not deadline.left():
            raise _socket.timeout
        tried: dict[int, _socket.socket] = {}
        poll = select.poll()
        try:
            while True:
                left = deadline.left()
                if left and len(tried) < _TRIES:
                    self._begin(family, address, tried, poll)
                for fd, _ in poll.poll(max(1, int(1000 * min(left, _AGAIN)))):
                    number = tried[fd].getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
                    if number:
                        raise OSError(number, strerror(number))
                    return tried.pop(fd)
                if not left:
                    raise _socket.timeout
        finally:
            for other in tried.values():
                other.close()

    def _begin(
        self, family: int, address: Address, tried: dict[int, _socket.socket], poll: select.poll
    ) -> None:
        """Begin one more; where there is one already, that it cannot be done does not matter."""
        try:
            one = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        except OSError:
            if tried:
                return
            raise
        tried[one.fileno()] = one
        number = one.connect_ex(address)
        if number in (0, EINPROGRESS):
            poll.register(one.fileno(), select.POLLOUT)
            self._tried = True
        elif len(tried) == 1:
            raise OSError(number, strerror(number))

    def peer_uid(self) -> int:
        """Return the uid of who listens on a unix socket."""
        if self._socket is None:
            raise PeerError(f"{self._peer.name}: not connected")
        return peer(self._socket)[1]

    def send(self, data: bytes) -> None:
        """Send all; PeerError if the peer takes it not, ClosedError if it closed."""
        try:
            # No SIGPIPE: its handler is sshd's, not ours.
            self._timed(self._deadline).sendall(data, _socket.MSG_NOSIGNAL)
        except OSError as error:
            raise self._failed("request not accepted", error) from None

    def receive(self, size: int, field: str) -> bytes:
        """Return exactly `size` bytes; ClosedError at an early end, PeerError if it is too slow."""
        data = bytearray()
        while len(data) < size:
            try:
                part = self._timed(self._deadline).recv(size - len(data))
            except OSError as error:
                raise self._failed(f"no {field}", error) from None
            if not part:
                raise self._closed(f"closed after {len(data)} of {size} bytes of {field}")
            data += part
            self._received += len(part)
        return bytes(data)

    def _timed(self, deadline: Deadline) -> _socket.socket:
        """Return the socket, set to give up at the deadline; timeout if that is over."""
        left = deadline.left()
        if self._socket is None or not left:
            raise _socket.timeout
        self._socket.settimeout(left)
        return self._socket

    def _failed(self, what: str, error: OSError) -> PeerError:
        if error.errno in (ECONNRESET, EPIPE):
            return self._closed("connection reset")
        return self._peer.failed(what, error)

    def _closed(self, what: str) -> ClosedError:
        if not self._received:
            return ClosedError(self._peer.sentence("closed without an answer", CLOSED), 0)
        return ClosedError(self._peer.sentence(what, BROKEN), self._received)
