"""What the kernel says of this process, and a handler of its signals, for what must leave none."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_fds() -> list[str]:
    return os.listdir("/proc/self/fd")


SIGNALS = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")


def signals() -> dict[str, str]:
    """Return what the kernel says of this process's signals: pending, blocked, ignored, caught."""
    rows = (line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {row[0]: row[1] for row in rows if row[0] in SIGNALS}


@contextlib.contextmanager
def handling(handler: object = None) -> Iterator[list[int]]:
    """Have a handler for SIGCHLD, or another disposition; return what the handler has seen."""
    seen: list[int] = []
    before = signal.signal(
        signal.SIGCHLD,
        handler or (lambda number, _: seen.append(number)),  # type: ignore[arg-type]
    )
    try:
        yield seen
    finally:
        signal.signal(signal.SIGCHLD, before)
