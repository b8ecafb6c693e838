"""Seconds that go by only while the RPC waits for what does not come.

With these it does not matter how slow the machine is, and nobody waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Callable

from slurm_adopt.slurm.slurmd import rpc
from tests.fakes.background import Background

if TYPE_CHECKING:
    import pytest

NEVER = float("inf")
REAL = 10.0  # seconds that a machine may take for what comes at once


class Clock(Background):
    """The clock of deadlines; a context manager that closes the connections it keeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the monotonic clock and for poll(2)."""
        self.now = 0.0
        self._later: list[tuple[float, object, socket.socket, bytes]] = []
        monkeypatch.setattr("slurm_adopt.slurm.waiting.monotonic", lambda: self.now)
        module = SimpleNamespace(poll=lambda: _Poll(self), POLLIN=select.POLLIN)
        monkeypatch.setattr(rpc, "select", module)

    def end(self) -> None:
        for later in self._later:
            later[2].close()

    def after(self, seconds: float, data: bytes = b"") -> Callable[[socket.socket], None]:
        """Return a script that answers when so many of these seconds have gone by."""

        def play(connection: socket.socket) -> None:
            address = connection.getpeername()
            self._later.append((self.now + seconds, address, connection.dup(), data))

        return play

    def quiet(self) -> set[object]:
        """Return the addresses of those that wait for what the clock has not come to."""
        return {address for _, address, _, _ in self._later}

    def advance(self, end: float) -> bool:
        """Go to what is next, at most to `end`; say whether something was sent."""
        first = min(self._later, default=None, key=lambda later: later[0])
        if first is None or first[0] > end:
            self.now = end
            return False
        self.now, _, connection, data = first
        with connection, contextlib.suppress(OSError):
            connection.sendall(data)
        self._later.remove(first)
        return True


class _Poll:
    """A poll(2) that waits really for what comes at once only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._poll = select.poll()
        self._addresses: set[object] = set()

    def register(self, fd: int, events: int) -> None:
        self._poll.register(fd, events)
        with socket.socket(fileno=os.dup(fd)) as one:
            self._addresses.add(one.getsockname())

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        end = self._clock.now + milliseconds / 1000
        ready = self._now()
        while not ready and self._clock.advance(end):
            ready = self._now()
        return ready

    def _now(self) -> list[tuple[int, int]]:
        until = time.monotonic() + REAL
        while time.monotonic() < until:
            quiet = self._addresses <= self._clock.quiet()  # first: what is sent may be no more
            if (ready := self._poll.poll(10)) or quiet:
                return ready
        raise AssertionError("neither an answer nor silence")
