"""A stepd that sends what it likes for its job's namespaces, to run inside a host.

`python3 -m tests.cluster.standins.namespaces SOCKET UID PROTOCOL PIECE...` answers the request for
namespaces by the pieces: a number is sent as an int32, a path as a descriptor of that file.
Without any it closes the connection.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.fakes.requests import REQUEST_GET_NS_FD, REQUEST_GET_NS_FDS, REQUEST_X11_DISPLAY
from tests.fakes.stepd import Pieces, Stepd, int32


def main(path: str, uid: str, protocol: str, *pieces: str) -> None:
    """Serve until killed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).unlink(missing_ok=True)
    reply: Pieces = [
        os.open(piece, os.O_RDONLY) if piece.startswith("/") else int32(int(piece))
        for piece in pieces
    ]
    replies = {
        REQUEST_X11_DISPLAY: bytes(8),
        **dict.fromkeys((REQUEST_GET_NS_FD, REQUEST_GET_NS_FDS), reply or None),
    }
    with Stepd(Path(path), int(uid), protocol=int(protocol), replies=replies):
        Path(path + ".pid").write_text(str(os.getpid()))
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
