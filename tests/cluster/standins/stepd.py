"""A stepd that claims more than it does, to run inside a host.

`python3 -m tests.cluster.standins.stepd SOCKET UID REPLY [state=N] [namespace=PATH]
[CGROUP.PROCS...]` answers as the stepd of a job of UID, in a state (2, running, if none is given)
and with a mount namespace, if one is; to ADD_EXTERN_PID it writes the pid into the given files
only, then answers REPLY.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from sys import byteorder
from typing import TYPE_CHECKING

from tests.fakes.requests import REQUEST_ADD_EXTERN_PID, REQUEST_GET_NS_FD, REQUEST_X11_DISPLAY
from tests.fakes.stepd import Stepd, int32

if TYPE_CHECKING:
    from tests.fakes.stepd import Reply

RUNNING = "2"
# What the C module asks of a job besides: REQUEST_X11_DISPLAY (no display, no XAUTHORITY) and
# REQUEST_GET_NS_FD (no namespace).
NONE: dict[int, Reply] = {REQUEST_X11_DISPLAY: int32(0) + int32(0), REQUEST_GET_NS_FD: int32(0)}


class Mover(Stepd):
    """Moves the process where it was told to before it answers."""

    files: tuple[Path, ...] = ()

    def heard(self, number: int, body: bytes) -> None:
        """Move the process."""
        if number == REQUEST_ADD_EXTERN_PID:
            for file in self.files:
                file.write_text(str(int.from_bytes(body, byteorder)))


def main(path: str, uid: str, reply: str, *more: str) -> None:
    """Serve until killed."""
    given = dict(word.split("=", 1) for word in more if "=" in word)
    replies = {**NONE, REQUEST_ADD_EXTERN_PID: int32(int(reply))}
    if "namespace" in given:
        fd = os.open(given["namespace"], os.O_RDONLY)
        replies[REQUEST_GET_NS_FD] = [int32(fd), fd]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    state = int(given.get("state", RUNNING))
    standin = Mover(Path(path), int(uid), state, replies=replies)
    standin.files = tuple(Path(word) for word in more if "=" not in word)
    with standin:
        Path(path + ".pid").write_text(str(os.getpid()))
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
