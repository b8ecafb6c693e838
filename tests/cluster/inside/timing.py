"""Time commands inside a host: `timing.py ROUNDS [OPTION...] -- COMMAND -- COMMAND`.

The commands take turns, so that a busy moment meets all alike, and rest between: to move a process
between cgroups the kernel waits for all cores unless it has just done so, which would favour
whatever comes soon after another. Options:

    --accept PORT   a connection to that port is waited for; only this do the commands inherit
    --warm N        all run that often before, which is not measured
    --forget FOLDER what is in it is removed before each run
    --any           a command may fail
    --ask           in each turn the slurmd where that connection comes from has to name its job

Prints as JSON the milliseconds of each command's runs, those of CPU time, which a busy machine
changes less, and their statuses; and those of the slurmd's answers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import socket
import sys
import time

REST = 0.08  # seconds before each run
FILES = 1024  # that the commands may open: pam_exec closes each up to the hard limit
CONNECTION = 9  # the descriptor the commands find the connection at


def main(argv: list[str]) -> None:
    """Run and print."""
    own, *commands = split(argv)
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int)
    parser.add_argument("--accept", type=int)
    parser.add_argument("--warm", type=int, default=0)
    parser.add_argument("--forget")
    parser.add_argument("--any", action="store_true")
    parser.add_argument("--ask", action="store_true")
    given = parser.parse_args(own)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    both = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (both, both))
    if given.accept:
        accept(given.accept)
    times: list[list[float]] = [[] for _ in commands]
    cpu: list[list[float]] = [[] for _ in commands]
    statuses: list[list[int]] = [[] for _ in commands]
    answers: list[float] = []
    for turn in range(-given.warm, given.rounds):
        for number, command in enumerate(commands):
            if given.forget:
                forget(given.forget)
            elapsed, used, status = run(command)
            if status and not given.any:
                raise SystemExit(f"{command}: status {status}")
            statuses[number].append(status)
            if turn >= 0:
                times[number].append(elapsed)
                cpu[number].append(used)
        if given.ask and turn >= 0:
            answers.append(answer())
    print(json.dumps({"ms": times, "cpu_ms": cpu, "status": statuses, "answers": [answers]}))


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
    connection.close()
    listener.close()


def forget(folder: str) -> None:
    """Remove what is in a folder."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def answer() -> float:
    """Return the milliseconds that the slurmd takes where the connection comes from."""
    module = importlib.import_module("source_answer")  # beside this file
    time.sleep(REST)
    return float(module.ask(CONNECTION))


def run(command: list[str]) -> tuple[float, float, int]:
    """Return the milliseconds that a command takes, those of CPU time, and its status."""
    time.sleep(REST)
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=QUIET)
    _, status, usage = os.wait4(pid, 0)
    elapsed = (time.perf_counter() - started) * 1000
    return elapsed, (usage.ru_utime + usage.ru_stime) * 1000, os.waitstatus_to_exitcode(status)


QUIET = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)]

if __name__ == "__main__":
    main(sys.argv[1:])
