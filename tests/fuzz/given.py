"""What a target gives to the code: files in memory, and peers that have said all they will say."""

from __future__ import annotations

import _socket
import atexit
import functools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPLIT = b"\n====\n"  # between the files of one input


@functools.cache
def folder(name: str) -> str:
    """Return a folder of this process, in memory; the same one each time."""
    memory = "/dev/shm"
    above = None if "TMPDIR" in os.environ or not os.path.isdir(memory) else memory
    path = tempfile.mkdtemp(prefix=f"slurm_adopt-{name}-", dir=above)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def put(path: str, data: bytes) -> str:
    """Write a file; return its path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
    return path


def process(name: str, **files: bytes) -> str:
    """Return a /proc in which process 7 has these files; `net_tcp` is net/tcp there."""
    proc = folder(name)
    for file, data in files.items():
        path = f"{proc}/7/{file.replace('_', '/')}"
        if not os.path.exists(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        put(path, data)
    return proc


@contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Have something else by a name for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def check_said(error: Exception, part: str = "") -> None:
    """Assert that an error says something, on one line, with this in it."""
    text = str(error)
    assert text
    assert "\n" not in text
    assert part in text


def numbers(data: bytes, *sizes: int) -> tuple[list[int], bytes]:
    """Take integers of these sizes off the front, 0 where it ends; return them and the rest."""
    found = []
    for size in sizes:
        found.append(int.from_bytes(data[:size], "little"))
        data = data[size:]
    return found, data


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Assert that no descriptor is left: the lowest that is free is the same before and after."""
    before = os.dup(2)
    os.close(before)
    yield
    after = os.dup(2)
    os.close(after)
    assert after == before, f"descriptors {before} to {after - 1} are left open"


class Given(_socket.socket):
    """A connected socket whose peer has sent all its bytes and closed; they come in pieces.

    `asked`: what was sent to the peer. The peer is this process.
    """

    def __init__(self, data: bytes, piece: int = 0, descriptors: int = 0) -> None:
        """`piece`: the most bytes at a time, 0 for all; `descriptors`: how many come with them."""
        ours, theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self._piece = piece or 1 << 16
        self.asked = b""
        with theirs:
            if descriptors:
                _with_descriptors(theirs, data, descriptors)
            else:
                theirs.sendall(data)

    def connect(self, _: Any) -> None:
        """Be connected already."""

    def send(self, data: Any, _: int = 0) -> int:
        """Keep what is sent."""
        self.asked += data
        return len(data)

    def sendall(self, data: Any, _: int = 0) -> None:
        """Keep what is sent."""
        self.asked += data

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the next piece; a look ahead finds none: what is not asked for has not come."""
        if flags & socket.MSG_PEEK and self.gettimeout() == 0:
            raise BlockingIOError
        return super().recv(min(size, self._piece), flags)


def _with_descriptors(sock: socket.socket, data: bytes, count: int) -> None:
    """Send the bytes one by one, a descriptor with each of the last ones."""
    plain, last = data[: len(data) - count], data[len(data) - count :]
    sock.sendall(plain)
    for at in range(len(last)):
        socket.send_fds(sock, [last[at : at + 1]], [2])
