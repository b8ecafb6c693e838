"""Time commands inside a host: `timing.py ROUNDS [--accept PORT] -- COMMAND -- COMMAND`.

The commands take turns, so that a busy moment meets all alike, and rest between: to move a process
between cgroups the kernel waits for all cores unless it has just done so, which would favour
whatever comes soon after another. With --accept, a connection to
that port is waited for and is the only socket that the commands inherit. Prints as JSON the
milliseconds of each command's runs, and those of CPU time, which a busy machine changes less.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import time

REST = 0.05  # seconds before each run
CONNECTION = 9  # the descriptor the commands find the connection at


def main(argv: list[str]) -> None:
    """Run and print."""
    rounds, commands = int(argv[0]), split(argv[1:])
    options = commands.pop(0)
    if options[:1] == ["--accept"]:
        accept(int(options[1]))
    times: list[list[float]] = [[] for _ in commands]
    cpu: list[list[float]] = [[] for _ in commands]
    for _ in range(rounds):
        for number, command in enumerate(commands):
            elapsed, used = run(command)
            times[number].append(elapsed)
            cpu[number].append(used)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"ms": times, "cpu_ms": cpu, "peak_kib": peak}))


def split(argv: list[str]) -> list[list[str]]:
    """Split at each `--`."""
    parts: list[list[str]] = [[]]
    for word in argv:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def accept(port: int) -> None:
    """Take one connection and keep it where the commands inherit it."""
    listener = socket.create_server(("0.0.0.0", port))
    connection, _ = listener.accept()
    os.dup2(connection.fileno(), CONNECTION, inheritable=True)
    listener.close()


def run(command: list[str]) -> tuple[float, float]:
    """Return the milliseconds that a command takes, and those of CPU time."""
    time.sleep(REST)
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=QUIET)
    _, status, usage = os.wait4(pid, 0)
    elapsed = (time.perf_counter() - started) * 1000
    if status:
        raise SystemExit(f"{command}: status {status}")
    return elapsed, (usage.ru_utime + usage.ru_stime) * 1000


QUIET = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)]

if __name__ == "__main__":
    main(sys.argv[1:])
