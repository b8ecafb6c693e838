"""Hold TCP sockets inside a host: `sockets.py NUMBER FOLDER`.

Pairs on loopback, spread over processes, addresses and ports, since a process may open some
thousands of files and a port pair is used once. Each process makes a file in the folder when it
has its part. All end with the first.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct
import sys
import time

PER_WORKER = 8_000  # pairs
FIRST_PORT = 20_000
PR_SET_PDEATHSIG = 1


def main(number: int, folder: str) -> None:
    """Open them and stay."""
    os.makedirs(folder, exist_ok=True)
    pairs = number // 2
    for worker in range(workers(number)):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            part = min(PER_WORKER, pairs - worker * PER_WORKER)
            held = opened(worker, part)
            with open(f"{folder}/{worker}", "w") as file:
                file.write(str(len(held)))
            break
    while True:
        time.sleep(60)


def workers(number: int) -> int:
    """Return how many processes hold so many sockets."""
    return -(-number // 2 // PER_WORKER)


def opened(worker: int, pairs: int) -> list[socket.socket]:
    """Return both ends of so many connections."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * PER_WORKER + 100, 2 * PER_WORKER + 100))
    where = (f"127.0.2.{worker + 1}", FIRST_PORT + worker)
    held = []
    with socket.create_server(where, backlog=4096) as server:
        for _ in range(pairs):
            held += [socket.create_connection(where), server.accept()[0]]
    for one in held:  # no TIME_WAIT of a minute after the end
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return held


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
