"""Sockets that a user listens on in the spool directory: `planted UID HOW PATH=CLAIMED...`.

Root's hand makes them, since nobody else can; then the process becomes the user's. Each answers as
the extern stepd of a job of the claimed uid. `HOW`: `answers`, or `full` for one that takes no
connection. Prints a line when all listen. Run it as a module.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

from tests.fakes.stepd import Stepd


def main(uid: str, how: str, *planted: str) -> None:
    """Serve until killed."""
    pairs = [word.rsplit("=", 1) for word in planted]
    stepds = [Stepd(Path(path), int(claimed)) for path, claimed in pairs]
    for path, _ in pairs:
        Path(path).chmod(0o777)  # as Slurm's are
    os.setresuid(int(uid), int(uid), int(uid))
    waiting = []
    for stepd in stepds:
        # again: who listens is who has called that last (net/unix/af_unix.c, unix_listen)
        stepd.listener.listen(64 if how == "answers" else 1)
        if how == "answers":
            stepd.start()
            continue
        with contextlib.suppress(BlockingIOError):
            while True:
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                client.connect(str(stepd.path))
                waiting.append(client)
    print("planted", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
