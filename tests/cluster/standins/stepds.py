"""Many stepds in one process, to run inside a host: `stepds.py SPOOL NODE UID FIRST NUMBER`.

They answer as those of running jobs of UID, with the job ids from FIRST on, and adopt nothing.
Prints a line when all listen. All end with this program, and take their sockets with them. Run by
the host's own Python as a module.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import signal
import socket
import sys
from pathlib import Path
from sys import byteorder

from tests.fakes.requests import REQUEST_ADD_EXTERN_PID, REQUEST_STATE, REQUEST_STEP_UID
from tests.fakes.stepd import OWN, int32

EXTERN = 0xFFFFFFFC
RUNNING = 2
FAILED = -1


class Stepds:
    """Sockets of as many jobs, served from one loop."""

    def __init__(self, uid: int) -> None:
        """Answer for this user."""
        self._answers = {
            REQUEST_STEP_UID: int32(uid),
            REQUEST_STATE: int32(RUNNING),
            REQUEST_ADD_EXTERN_PID: int32(FAILED),
        }
        self._selector = selectors.DefaultSelector()
        self._greeted: set[socket.socket] = set()

    def listen(self, path: Path) -> None:
        """Have one more."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen(32)
        self._selector.register(listener, selectors.EVENT_READ, data=True)

    def serve(self) -> None:
        """Answer until killed."""
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data:
                    client, _ = sock.accept()
                    self._selector.register(client, selectors.EVENT_READ, data=False)
                elif not self._answered(sock):
                    self._greeted.discard(sock)
                    self._selector.unregister(sock)
                    sock.close()

    def _answered(self, client: socket.socket) -> bool:
        """Answer what has come, the client's protocol version first; False at its end."""
        with contextlib.suppress(OSError):
            said = client.recv(4096)
            words = [said[at : at + 4] for at in range(0, len(said), 4)]
            if words and client not in self._greeted:
                self._greeted.add(client)
                client.sendall(int32(OWN))
                del words[0]
            numbers = (int.from_bytes(word, byteorder) for word in words)
            client.sendall(b"".join(self._answers.get(number, int32(0)) for number in numbers))
            return bool(said)
        return False


def main(spool: str, node: str, uid: str, first: str, number: str) -> None:
    """Serve until killed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    jobs = range(int(first), int(first) + int(number))
    paths = [Path(spool) / f"{node}_{job}.{EXTERN}" for job in jobs]
    stepds = Stepds(int(uid))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        for path in paths:
            stepds.listen(path)
        print("ready", flush=True)
        stepds.serve()
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
