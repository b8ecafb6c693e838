"""What `./dev storm` runs inside the hosts: many clients of ssh at once; a look at the sessions.

    python3 storm.py storm       (JSON is the first line of the standard input)
    python3 storm.py look JSON

For a storm JSON has `commands`, a list of argument lists; `at`, seconds since the epoch, when all
are started; and `limit`, seconds that they have. Each command prints a line (the pid of its
session) and then waits for the end of its input. Once all have printed that line or ended, a JSON
list is printed: [line, status or null, last line of the complaints, seconds] for each. At the end
of the standard input the sessions get theirs. A look is at `pids`: a list of what /proc/PID/cgroup
says of each and of the two processes above it. Run by the hosts' own Python, with the standard
library only.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

EVERY = 0.05  # seconds between two looks
ENDING = 60  # seconds that all sessions have to end


class Client(NamedTuple):
    """One ssh that runs."""

    process: subprocess.Popen[bytes]
    said: IO[bytes]
    complained: IO[bytes]

    @property
    def line(self) -> str:
        """What it has printed, once that is a whole line."""
        line, newline, _ = os.pread(self.said.fileno(), 4096, 0).partition(b"\n")
        return line.decode(errors="replace") if newline else ""

    @property
    def complaint(self) -> str:
        """The last line of what it has complained of."""
        lines = os.pread(self.complained.fileno(), 1 << 16, 0).decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def start(argv: list[str], held: int) -> Client:
    """Start a command whose input is `held`."""
    said, complained = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(argv, stdin=held, stdout=said, stderr=complained)
    return Client(process, said, complained)


def storm(commands: list[list[str]], at: float, limit: float) -> None:
    """Start all, tell how it went, and end them when the standard input ends."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held, ends = os.pipe()
    time.sleep(max(0, at - time.time()))
    begun = time.monotonic()
    clients = [start(argv, held) for argv in commands]
    os.close(held)
    took: dict[int, float] = {}
    while len(took) < len(clients) and time.monotonic() - begun < limit:
        for number, client in enumerate(clients):
            if number not in took and (client.line or client.process.poll() is not None):
                took[number] = time.monotonic() - begun
        time.sleep(EVERY)
    found: list[Any] = [
        [client.line, client.process.poll(), client.complaint, round(took.get(number, limit), 2)]
        for number, client in enumerate(clients)
    ]
    print(json.dumps(found), flush=True)
    sys.stdin.read()
    os.close(ends)
    over = time.monotonic() + ENDING
    for client in clients:
        try:
            client.process.wait(max(0, over - time.monotonic()))
        except subprocess.TimeoutExpired:
            client.process.kill()
            client.process.wait()


def look(pids: list[int]) -> None:
    """Print where the shells of sessions are, the user's sshd above each, and root's above that."""
    found = []
    for shell in pids:
        pid, texts = shell, []
        for _ in range(3):
            texts.append(Path(f"/proc/{pid}/cgroup").read_text())
            stat = Path(f"/proc/{pid}/stat").read_text()
            pid = int(stat.rpartition(")")[2].split()[1])
        found.append(texts)
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "storm":
        storm(**json.loads(sys.stdin.readline()))
    else:
        look(**json.loads(sys.argv[2]))
