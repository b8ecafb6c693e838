"""A stepd that claims more than it does, to run inside a host.

`python3 -m tests.cluster.standin_stepd SOCKET UID REPLY [CGROUP.PROCS...]` answers as the stepd of
a job of UID; to ADD_EXTERN_PID it writes the pid into the given files only, then answers REPLY.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from sys import byteorder

from tests.standin import Stepd, int32

ADD = 22
# What the C module asks of a job besides: REQUEST_X11_DISPLAY (no display, no XAUTHORITY) and
# REQUEST_GET_NS_FD (no namespace).
NONE = {23: int32(0) + int32(0), 26: int32(0)}


class Mover(Stepd):
    """Moves the process where it was told to before it answers."""

    files: tuple[Path, ...] = ()

    def heard(self, number: int, body: bytes) -> None:
        """Move the process."""
        if number == ADD:
            for file in self.files:
                file.write_text(str(int.from_bytes(body, byteorder)))


def main(path: str, uid: str, reply: str, *files: str) -> None:
    """Serve until killed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    standin = Mover(Path(path), int(uid), replies={ADD: int32(int(reply)), **NONE})
    standin.files = tuple(map(Path, files))
    with standin:
        Path(path + ".pid").write_text(str(os.getpid()))
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
