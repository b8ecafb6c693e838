"""A login's slot: its place among those of a listening sshd that have not authenticated.

It is a pipe whose other end the listening sshd reads, and MaxStartups counts these. sshd closes it
once the user has authenticated (sshd.c, server_accept_loop; sshd-session.c, main).
"""

from __future__ import annotations

import os
from contextlib import suppress


class Slot:
    """A login's place among those that have not authenticated: one end of a pipe."""

    __slots__ = ("descriptor", "link", "pid")

    def __init__(self, pid: int, descriptor: int, link: str) -> None:
        """`pid` has the descriptor; `link` is what /proc/PID/fd says of it."""
        self.pid = pid
        self.descriptor = descriptor
        self.link = link

    def held(self, process: int) -> bool:
        """Say whether it is held; `process`: a descriptor of /proc/PID."""
        try:
            return os.readlink(f"fd/{self.descriptor}", dir_fd=process) == self.link
        except OSError:
            return False


def slot_of(pid: int, proc: str = "/proc") -> Slot | None:
    """Return the slot that a process of sshd's holds: its end of a pipe that its parent reads."""
    parent = status(f"{proc}/{pid}/status").get("PPid", "")
    ours, theirs = _pipes(f"{proc}/{pid}"), _pipes(f"{proc}/{parent}")
    read = {link for link, mode in theirs.values() if mode == os.O_RDONLY}
    read -= {link for link, mode in theirs.values() if mode != os.O_RDONLY}
    read -= {link for link, mode in ours.values() if mode != os.O_WRONLY}
    for descriptor, (link, _) in ours.items():
        if link in read:
            return Slot(pid, descriptor, link)
    return None


def _pipes(process: str) -> dict[int, tuple[str, int]]:
    """Return the pipes that a process has open, and how, by descriptor."""
    found = {}
    try:
        names = os.listdir(f"{process}/fd")
    except OSError:
        return {}
    for name in names:
        with suppress(OSError, ValueError):  # closed since
            link = os.readlink(f"{process}/fd/{name}")
            if link.startswith("pipe:"):
                found[int(name)] = link, _mode(f"{process}/fdinfo/{name}")
    return found


def _mode(path: str) -> int:
    """Return the access mode of a descriptor: fdinfo's flags are octal (proc(5))."""
    flags = status(path).get("flags")
    return int(flags, 8) & os.O_ACCMODE if flags else -1


def status(path: str, directory: int | None = None) -> dict[str, str]:
    """Read `name: value` lines of /proc; nothing where there is no such file any more."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return {}
    try:
        data = os.read(file, 1 << 14)
    except OSError:
        return {}
    finally:
        os.close(file)
    lines = (line.partition(":") for line in data.decode("ascii", "replace").split("\n"))
    return {name: value.strip() for name, _, value in lines}
