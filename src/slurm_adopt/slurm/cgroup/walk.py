"""Visiting a cgroup and all below it by descriptors, and the files in there.

On v1 of 22.05 the directory of a step is the user's. Users may nest cgroups in it thousands deep,
until their path is longer than PATH_MAX, with names that are not UTF-8, and rename and remove them
while they are visited. A descriptor goes with its directory whatever becomes of the name.
"""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.slurm.waiting import Deadline

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
GONE = (ENOENT, ENODEV)  # a cgroup that has been removed: nothing is in it


class Walk:
    """Yields a descriptor of a directory and of each below it, each good until the next one.

    `missed`: why not all has been visited, "" if all has. Two descriptors are open at most: the way
    up is `..`, which a rename cannot change, since the kernel lets none leave its parent.
    """

    __slots__ = ("_deadline", "_here", "_levels", "_top", "missed")

    def __init__(self, top: str, deadline: Deadline) -> None:
        """Nothing is opened before the first is asked for."""
        self._top = top
        self._deadline = deadline
        self._here = -1
        self._levels: list[tuple[tuple[int, int], list[str]]] = []  # who it is, what is to visit
        self.missed = ""

    def __iter__(self) -> Iterator[int]:
        """Visit them all, as far as there is time: each before what is below it."""
        if not self._in_time() or not self._down(self._top):
            return
        try:
            while True:
                yield self._here
                self._levels.append((_identity(self._here), self._below()))
                if not self._next():
                    return
        finally:
            os.close(self._here)
            self._here = -1

    def _next(self) -> bool:
        """Go to the next one; False if there is none, or no way to it."""
        while self._levels and self._in_time():
            names = self._levels[-1][1]
            if names and self._down(names.pop()):
                return True
            if not names:
                self._levels.pop()
                if self._levels and not self._up():
                    break
        return False

    def _in_time(self) -> bool:
        if self._deadline.left():
            return True
        self.missed = "no time was left to look into all of it"
        return False

    def _down(self, name: str) -> bool:
        where = None if self._here < 0 else self._here
        try:
            below = os.open(name, DIRECTORY, dir_fd=where)
        except OSError as error:
            if where is not None or error.errno not in GONE:
                self.missed = f"cannot look into all of it: {error.strerror}"
            return False
        self._go(below)
        return True

    def _up(self) -> bool:
        """Go to the directory above; False if that is another one than before."""
        try:
            above = os.open("..", DIRECTORY, dir_fd=self._here)
        except OSError as error:
            self.missed = f"cannot look into all of it: {error.strerror}"
            return False
        self._go(above)
        if _identity(above) == self._levels[-1][0]:
            return True
        self.missed = "cannot look into all of it: it has been moved"
        return False

    def _go(self, descriptor: int) -> None:
        if self._here >= 0:
            os.close(self._here)
        self._here = descriptor

    def _below(self) -> list[str]:
        try:
            with os.scandir(self._here) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno not in GONE:
                self.missed = f"cannot look into all of it: {error.strerror}"
            return []


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def read(directory: int, name: str) -> bytes:
    """Return the content of a file of a cgroup; OSError if there is none."""
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        return file.read()


def write(directory: int, name: str, data: bytes) -> None:
    """Write to a file of a cgroup; OSError if there is none, or the kernel refuses."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
