"""Stand-ins for what reality does not produce on demand: a stepd that misbehaves by script."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from sys import byteorder
from typing import TYPE_CHECKING, Union

from tests.fakes.background import Background
from tests.fakes.requests import (
    REQUEST_ADD_EXTERN_PID,
    REQUEST_GET_NS_FD,
    REQUEST_GET_NS_FDS,
    REQUEST_STATE,
    REQUEST_STEP_UID,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Pieces = list[Union[bytes, int]]  # an int is a descriptor, sent with one byte
Reply = Union[bytes, str, Pieces, None]

OWN = 38 << 8  # 22.05


def int32(value: int) -> bytes:
    """Pack a C int of this machine."""
    return value.to_bytes(4, byteorder, signed=value < 0)


class Stepd(Background):
    """A slurmstepd's socket; `replies` maps a request code to the bytes that answer it.

    A list is sent piece by piece; None as a reply closes the connection, "hang" leaves the client
    waiting. Requests received are kept in `received` as (code, body).
    """

    BODIES = {REQUEST_ADD_EXTERN_PID: 4, 8: 4}  # noqa: RUF012 - bytes that follow these request codes

    def __init__(
        self,
        path: Path,
        uid: int = 5001,
        state: int = 2,
        protocol: int = OWN,
        replies: Mapping[int, Reply] | None = None,
        greeting: bytes | str | None = b"",
        introduced: bool = False,
    ) -> None:
        """Answer as a stepd of `protocol` would, but for what `greeting` and `replies` replace.

        `introduced`: be one of 17.11 or 18.08, that wants a credential and answers -1 to a number.
        """
        self.path = path
        self.greeting = greeting if greeting != b"" else int32(protocol)
        self.replies: dict[int, Reply] = {
            REQUEST_STEP_UID: int32(uid),
            REQUEST_STATE: int32(state),
            REQUEST_ADD_EXTERN_PID: int32(0),
            REQUEST_GET_NS_FD: int32(0),  # no namespaces
            REQUEST_GET_NS_FDS: int32(0),
            **(replies or {}),
        }
        self.received: list[tuple[int, bytes]] = []
        self.introduced = introduced
        self.credentials: list[bytes] = []
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self._over = threading.Event()

    def start(self) -> None:
        """Serve each connection in a thread."""
        threading.Thread(target=self._serve, daemon=True).start()

    def end(self) -> None:
        """Stop listening; the socket file stays, as a crashed stepd's does."""
        self._over.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        self.connections += 1
        with connection, contextlib.suppress(OSError):
            first = self._take(connection, 4)
            if self.introduced and first and not self._introduction(connection, first):
                return
            if not first or not self._give(connection, self.greeting):
                return
            while code := self._take(connection, 4):
                number = int.from_bytes(code, byteorder)
                body = self._take(connection, self.BODIES.get(number, 0))
                self.heard(number, body)
                if not self._give(connection, self.replies.get(number)):
                    return

    def _introduction(self, connection: socket.socket, first: bytes) -> bool:
        """Take int32 0, int32 length, credential; refuse anything else with -1."""
        if first != int32(0):
            connection.sendall(int32(-1))
            return False
        size = int.from_bytes(self._take(connection, 4), byteorder)
        self.credentials.append(self._take(connection, size))
        return True

    def heard(self, number: int, body: bytes) -> None:
        """Keep a request."""
        self.received.append((number, body))

    def _take(self, connection: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size and (piece := connection.recv(size - len(data))):
            data += piece
        return data

    def _give(self, connection: socket.socket, reply: Reply) -> bool:
        if reply == "hang":
            self._over.wait(30)
            return False
        if reply is None:
            return False
        assert not isinstance(reply, str)
        for piece in reply if isinstance(reply, list) else [reply]:
            if isinstance(piece, bytes):
                connection.sendall(piece)
            else:
                send(connection, piece)
        return True


def send(connection: socket.socket, *descriptors: int) -> None:
    """Send one byte and descriptors with it."""
    data = b"".join(map(int32, descriptors))
    connection.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)])
