"""A socket in front of a real stepd's that stops or dies at a point: `proxy SOCKET REAL USER ...`.

`... POINT HOW`. It passes on what is asked and answered. When a login of the user's has come to the
point (POINTS) it stops (`stop`) or dies (`die`), as a whole. It is root's, as a stepd is. Prints a
line when it listens. Run it as a module.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from sys import byteorder

from tests.fakes.requests import REQUEST_ADD_EXTERN_PID

POINTS = (
    "accepted",  # a connection is made, nothing is read
    "asked",  # the first questions are read, nothing is answered
    "answering",  # some bytes of the first answer are sent
    "taking",  # the request to take a process is read, and nothing is done
    "taken",  # the process is taken, and half of the answer is sent
)
FEW = 6  # bytes of the first answer, of 12
HALF = 2  # bytes of the answer to ADD_EXTERN_PID, of 4
TAKE = REQUEST_ADD_EXTERN_PID.to_bytes(4, byteorder)


class Proxy:
    """All connections to one socket."""

    def __init__(self, real: str, user: str, point: str, how: str) -> None:
        """Say where the stepd is, for whose logins, when and how all this ends."""
        self.real, self.user, self.point, self.how = real, user, point, how

    def reached(self, point: str, client: socket.socket) -> None:
        """Stop or die if this is the point of a login of the user's."""
        if point == self.point and self._is_user_s(client):
            number = signal.SIGKILL if self.how == "die" else signal.SIGSTOP
            # to this thread: another one might take it while this one goes on
            signal.pthread_kill(threading.get_ident(), number)
            os._exit(0)  # what goes on after SIGSTOP is not wanted any more

    def _is_user_s(self, client: socket.socket) -> bool:
        """Look at the title of the sshd that asks, or whose child asks."""
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid = str(struct.unpack("3i", credentials)[0])
        status = Path(f"/proc/{pid}/status").read_text()
        parent = status.partition("\nPPid:")[2].split()[0]
        titles = [Path(f"/proc/{one}/cmdline").read_text() for one in (pid, parent)]
        return any(title.startswith(f"sshd: {self.user}") for title in titles)

    def talk(self, client: socket.socket) -> None:
        """Pass on both ways."""
        self.reached("accepted", client)
        with client, socket.socket(socket.AF_UNIX) as stepd:
            stepd.connect(self.real)
            answered = 0
            taking = False
            while True:
                ready, _, _ = select.select([client, stepd], [], [])
                data = ready[0].recv(4096)
                if not data:
                    return
                if ready[0] is client:
                    self.reached("asked", client)
                    taking = data.startswith(TAKE)
                    if taking:
                        self.reached("taking", client)
                    stepd.sendall(data)
                    continue
                if self.point == "answering" and answered + len(data) > FEW:
                    self._send_some(client, data, FEW - answered)
                if self.point == "taken" and taking:
                    self._send_some(client, data, HALF)
                answered += len(data)
                client.sendall(data)

    def _send_some(self, client: socket.socket, data: bytes, size: int) -> None:
        if size > 0 and self._is_user_s(client):
            client.sendall(data[:size])
            self.reached(self.point, client)


def main(path: str, real: str, user: str, point: str, how: str) -> None:
    """Serve until killed."""
    assert point in POINTS
    proxy = Proxy(real, user, point, how)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("listens", flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=proxy.talk, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
