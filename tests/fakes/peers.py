"""Peers that misbehave by script: servers on a TCP or unix socket in a thread of the test."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Callable, Union

from tests.fakes.background import Background

if TYPE_CHECKING:
    from collections.abc import Iterator

# What to do with a connection: send bytes and close, close at once (None), or call a function.
Script = Union[bytes, None, Callable[[socket.socket], None]]

DEADLINE = 5.0  # seconds in which a whole test must be over


class Peer(Background):
    """A server: each connection gets the next script, the last script all that follow.

    `prefix` is the number of bytes of a request that end in the u32 length of its rest. What was
    asked is in `received`.
    """

    def __init__(
        self, *scripts: Script, path: str = "", family: int = socket.AF_INET, prefix: int = 4
    ) -> None:
        """Listen on the unix socket `path` if given, else on the loopback of `family`."""
        self._scripts = list(scripts)
        self._prefix = prefix
        self._over = False
        self.received: list[bytes] = []
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
        else:
            self._listener = socket.socket(family)
            self._listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
            self.place = self._listener.getsockname()[:2]
            self.port = self.place[1]
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def end(self) -> None:
        """Stop, and leave no descriptor behind."""
        self._over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while not self._over:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(DEADLINE)
                self._play(connection)

    def _play(self, connection: socket.socket) -> None:
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if script is None:
            return
        self.received.append(self._request(connection))
        if callable(script):
            script(connection)
        else:
            connection.sendall(script)

    def _request(self, connection: socket.socket) -> bytes:
        prefix = _exactly(connection, self._prefix)
        return prefix + _exactly(connection, int.from_bytes(prefix[-4:], "big"))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def slowly(data: bytes, seconds: float = 0.02) -> Script:
    """Send one byte at a time."""

    def play(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(seconds)

    return play


def never(connection: socket.socket) -> None:
    """Send nothing until the other end closes."""
    connection.recv(1)


def silent(connection: socket.socket) -> None:
    """Leave the connection open without an answer, and be free for the next one."""
    threading.Thread(target=_drain, args=(connection.dup(),), daemon=True).start()


def _drain(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.recv(1)


def after(data: bytes) -> Script:
    """Send bytes, then keep the connection open until the other end closes."""

    def play(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.recv(1)

    return play


def reset(connection: socket.socket) -> None:
    """Break the connection off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Fail if other descriptors are open afterwards; peers' threads may take a while."""
    before = _descriptors()
    yield
    until = time.monotonic() + DEADLINE
    while (left := _descriptors() - before) and time.monotonic() < until:
        time.sleep(0.001)
    assert not left


def _descriptors() -> set[tuple[str, str]]:
    """Return numbers and targets of the open descriptors; each socket is a target of its own."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own, and what a thread has closed since
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
    return found


@contextlib.contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Fail if it takes longer."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@contextlib.contextmanager
def filled(address: tuple[str, int]) -> Iterator[None]:
    """Fill a listener's backlog, so that the kernel drops what comes."""
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield
