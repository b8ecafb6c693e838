"""Freezing cgroups and thawing them: v1's freezer and what v2 has in each cgroup.

SIGKILL ends a process of a frozen cgroup at once on v2, on v1 only when it is thawed, and with it
each frozen cgroup above. `scancel -s STOP` freezes; who owns a cgroup may freeze it (v1, 22.05).
Source: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst, cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

from contextlib import suppress
from time import sleep

from slurm_adopt.slurm import time_limits

from .hierarchy import UNIFIED
from .walk import read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.waiting import Deadline

FREEZING = time_limits.FROZEN.last  # a process that waits for a dead file system never freezes
PAUSE = 0.002  # seconds until it is looked again whether all is frozen


class Freezer:
    """The files of one kind of hierarchy by which cgroups, open directories, are frozen."""

    __slots__ = ("_file", "_freeze", "_own", "_state", "_thaw")

    def __init__(
        self, file: str, freeze: bytes, thaw: bytes, own: str, state: tuple[str, bytes]
    ) -> None:
        """`own`: the file that has 1 if the cgroup itself is frozen, not one above it.

        `state`: a file, and what is in it once all processes are.
        """
        self._file = file
        self._freeze = freeze
        self._thaw = thaw
        self._own = own
        self._state = state

    def is_frozen(self, cgroup: int) -> bool:
        """Say whether it is frozen itself, or about to be."""
        try:
            return read(cgroup, self._own).strip() == b"1"
        except OSError:  # it has been removed, or this hierarchy freezes nothing
            return False

    def freeze(self, cgroup: int, deadline: Deadline) -> None:
        """Freeze it, and wait a moment for its processes: then none of them starts another."""
        with suppress(OSError):
            write(cgroup, self._file, self._freeze)
            waiting = deadline.within(FREEZING)
            while waiting.left() and self._state[1] not in read(cgroup, self._state[0]):
                sleep(PAUSE)

    def thaw(self, cgroup: int) -> None:
        """Thaw it; not what is below it and frozen itself."""
        with suppress(OSError):
            write(cgroup, self._file, self._thaw)


NONE = Freezer("", b"", b"", "", ("", b""))  # of v1's other hierarchies: all it opens is refused
FREEZERS = {
    "freezer": Freezer(
        "freezer.state", b"FROZEN", b"THAWED", "freezer.self_freezing", ("freezer.state", b"FROZEN")
    ),
    UNIFIED: Freezer("cgroup.freeze", b"1", b"0", "cgroup.freeze", ("cgroup.events", b"frozen 1")),
}
