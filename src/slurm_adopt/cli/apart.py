"""Work in a child that is left behind where it cannot end.

A thread that waits for a dead file system may hold up the end of its process, also SIGKILL's (FUSE,
some of Lustre's). So the child says its status, closes its output, and is not waited for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    # What runs the work in this process, at its end: flushes, and gives the last status.
    Work = Callable[[], int]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run(work: Work) -> int:
    """Return the status of work that a child does; it writes to our output, and dies with us."""
    told, tell = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(told)
        _work(work, parent, tell)
    os.close(tell)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child has it, too, and says what comes of it
    if said := os.read(told, 1):
        return said[0]
    _, ended = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(ended)
    return 128 - status if status < 0 else status  # as a shell has it for a signal


def _work(work: Work, parent: int, tell: int) -> None:
    """Do the work; say its status where threads are left, else exit with it."""
    _die_with(parent)
    status = work()
    if threading.active_count() > 1:
        silence = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(silence, fd)
        os.write(tell, bytes([status]))
    os._exit(status)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent is."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGKILL)
