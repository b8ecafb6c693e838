"""What `./dev lockout` runs inside the hosts: clients, what holds sessions up, a look at sshd.

    python3 lockout.py COMMAND JSON

Run by the hosts' own Python, with the standard library only. What goes on without an end ends with
its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
LISTENER = re.compile(
    r"sshd: .*\[listener\] (\d+) of 10-60 startups"
)  # by our MaxStartups: a machine has another sshd
OUT_OF_MEMORY = "mem_cgroup_oom_synchronize"  # v1: where a process waits that is not to be killed
AUTHENTICATED = b"Authenticated to "
CHATTER = re.compile("Authenticated to |Transferred: |Bytes per second: ")  # of LogLevel=VERBOSE
USUAL = 9  # logins that show how long one takes
SLOWER = 5  # times as long as usual: it will not come any more
EVERY = 0.05  # seconds between two looks
KILLED = 10  # seconds for killed processes to go


# Clients


def clients(
    argv: list[str],
    tries: int,
    *,
    parallel: int = 1,
    fresh: int = 1,
    settled: float = 0.0,
    late: float = 40.0,
    spacing: float = 0.0,
    limit: float = 600.0,
) -> dict[str, Any]:
    """Run a command some times; return how often, and what each said: [status, out, err, times].

    `parallel` at the same time; of these, `fresh` at the most are not authenticated and were
    started less than `settled` seconds ago, or what this machine's load makes of it: more that are
    honestly about to log in would fill MaxStartups themselves. One that takes longer than `late` is
    killed. `spacing`: seconds between two starts; `limit`: for all. `usual`: seconds that a login
    takes until it is authenticated, or refused.
    """
    running: list[Client] = []
    results: Counter[tuple[str, str, str]] = Counter()
    usual: deque[float] = deque([settled / SLOWER], maxlen=USUAL)
    begun, started, following = 0, time.monotonic(), 0.0
    while running or begun < tries:
        now = time.monotonic()
        over = now - started > limit
        tries = begun if over else tries
        patience = SLOWER * statistics.median(usual)
        for one in running[:]:
            age = now - one.started
            if not one.settled and (one.process.poll() is not None or one.authenticated()):
                one.settled = True
                usual.append(age)
            if one.process.poll() is not None or age > max(late, patience) or over:
                running.remove(one)
                results[one.result()] += 1
        young = sum(not one.settled and now - one.started < patience for one in running)
        if begun < tries and len(running) < parallel and young < fresh and now >= following:
            running.append(Client(argv))
            begun, following = begun + 1, now + spacing
        else:
            time.sleep(0.01)
    seen = [[*key, times] for key, times in results.most_common()]
    return {"begun": begun, "seen": seen, "usual": statistics.median(usual)}


class Client:
    """One ssh that runs."""

    def __init__(self, argv: list[str]) -> None:
        """Start it."""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - `result` closes both
        self._complained = tempfile.TemporaryFile()  # noqa: SIM115
        self.started = time.monotonic()
        self.settled = False  # authenticated, or ended
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._complained
        )

    def authenticated(self) -> bool:
        """Say whether ssh, with LogLevel=VERBOSE, has said so."""
        return AUTHENTICATED in os.pread(self._complained.fileno(), 1 << 16, 0)

    def result(self) -> tuple[str, str, str]:
        """Return how it ended, what it has printed, and the last line of its complaints."""
        how = "late" if self.process.poll() is None else str(self.process.returncode)
        self.process.kill()
        self.process.wait()
        with self._said as said, self._complained as complained:
            said.seek(0)
            complained.seek(0)
            lines = complained.read().decode(errors="replace").splitlines()
            out = said.read().decode(errors="replace")
        told = [re.sub(r"port \d+", "port N", line) for line in lines if not CHATTER.match(line)]
        return how, out, "".join(told[-1:]).strip()


# A look at the node


class Sshd(NamedTuple):
    """One process of sshd, or of a session under it."""

    pid: int
    title: str
    uid: int


def _processes() -> dict[int, Sshd]:
    """Return every process of the host that has a command line."""
    found = {}
    for path in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if title:
                pid = int(path.name)
                found[pid] = Sshd(pid, title, path.stat().st_uid)
    return found


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _listener(processes: dict[int, Sshd]) -> tuple[int, int]:
    """Return the listening sshd's pid, and how many of its startups it counts."""
    for one in processes.values():
        if found := LISTENER.match(one.title):
            return one.pid, int(found[1])
    raise RuntimeError("no sshd that listens")


def look(user: str, uid: int) -> dict[str, Any]:
    """Return what the node's sshd shows.

    `startups`: by its title; `stopped`: its processes that are frozen or wait for memory;
    `of_user`: those that work for `user`, logged in or not; `cgroups`: /proc/PID/cgroup of the
    user's own below sshd, with how many have it.
    """
    processes = _processes()
    listener, startups = _listener(processes)
    sshds = [p for p in processes.values() if p.title.startswith("sshd") and p.pid != listener]
    own = [one for one in processes.values() if one.uid == uid and _below_sshd(one, processes)]
    return {
        "startups": startups,
        "stopped": sum(map(_is_stopped, sshds)),
        "of_user": sum(f": {user}" in one.title for one in sshds),
        "cgroups": Counter(filter(None, map(_cgroup, own))).most_common(),
    }


def _below_sshd(one: Sshd, processes: dict[int, Sshd]) -> bool:
    """Say whether a process is a session's: sshd's own for it, or below that."""
    pid = one.pid
    while pid in processes:
        title = processes[pid].title
        if title.startswith("sshd") and "@" in title:
            return True
        pid = _parent(pid)
    return False


def _cgroup(one: Sshd) -> str:
    with contextlib.suppress(OSError):
        return (PROC / str(one.pid) / "cgroup").read_text()
    return ""


def _is_stopped(one: Sshd) -> bool:
    """Say whether a process is frozen, or waits in a cgroup that has no memory left."""
    with contextlib.suppress(OSError):
        if (PROC / str(one.pid) / "wchan").read_text() == OUT_OF_MEMORY:
            return True
    for line in _cgroup(one).splitlines():
        _, names, path = line.split(":", 2)
        with contextlib.suppress(OSError):
            if names == "freezer":
                state = CGROUPS / "freezer" / path.lstrip("/") / "freezer.state"
                return not state.read_text().startswith("THAWED")
            if not names and "frozen 1" in (CGROUPS / path[1:] / "cgroup.events").read_text():
                return True
    return False


def watch() -> dict[str, Any]:
    """Return the most startups that sshd has counted until the standard input ended."""
    most, ended = 0, _input_ends()
    listener = _listener(_processes())[0]
    while not ended.wait(EVERY):
        with contextlib.suppress(OSError):
            title = (PROC / str(listener) / "cmdline").read_bytes().decode(errors="replace")
            if found := LISTENER.match(title):
                most = max(most, int(found[1]))
    return {"most": most}


def _input_ends() -> threading.Event:
    """Return what is set when the standard input has ended."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


# What holds sessions up


def _in_turn(period: float, *steps: Callable[[], None]) -> None:
    """Do one thing after the other until the standard input ends; what cannot be done is not."""
    ended = _input_ends()
    while not ended.is_set():
        for step in steps:
            with contextlib.suppress(OSError):
                step()
            if period:
                ended.wait(period)


def freeze(file: str, words: list[str], period: float) -> None:
    """Write the words into a cgroup's file in turn."""
    _in_turn(period, *(partial(_write, Path(file), word) for word in words))


def _write(file: Path, text: str) -> None:
    file.write_text(text)


def own_memory(step: str, period: float, loop: bool) -> None:
    """Put a cgroup of one's own in the place of the step's task_0: it stops whoever is in it."""
    place, own, slurms = Path(step, "task_0"), Path(step, "own"), Path(step, "slurms")

    def take() -> None:
        own.mkdir(exist_ok=True)
        (own / "memory.oom_control").write_text("1")
        (own / "memory.limit_in_bytes").write_text("4096")
        place.rename(slurms)
        own.rename(place)

    def give() -> None:
        place.rename(own)
        slurms.rename(place)
        (own / "memory.limit_in_bytes").write_text("-1")

    if loop:
        _in_turn(period, take, give)
    else:
        take()


def own_freezer(step: str, period: float, loop: bool) -> None:
    """Freeze a cgroup of one's own, called as the stepds call theirs."""
    place = Path(step, "task_0")

    def take() -> None:
        place.mkdir(exist_ok=True)
        (place / "freezer.state").write_text("FROZEN")

    def give() -> None:
        (place / "freezer.state").write_text("THAWED")
        with contextlib.suppress(OSError):  # somebody is in it
            place.rmdir()

    if loop:
        _in_turn(period, take, give)
    else:
        take()


# The end


def clean(user: str) -> dict[str, Any]:
    """Let everything of Slurm's run again, and end the user's logins; return what is left."""
    deadline = time.monotonic() + KILLED
    while True:
        for file, word in _holding():
            with contextlib.suppress(OSError):
                file.write_text(word)
        left = [
            one.pid
            for one in _processes().values()
            if one.title.startswith("sshd") and f": {user}" in one.title
        ]
        if not left or time.monotonic() > deadline:
            return {"left": left}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(EVERY)


def _holding() -> Iterator[tuple[Path, str]]:
    """Return the files that may hold up what is in a job, and what ends that."""
    for file in CGROUPS.glob("freezer/slurm*/**/freezer.state"):
        yield file, "THAWED"
    for file in CGROUPS.glob("memory/slurm*/**/step_extern/*/memory.limit_in_bytes"):
        yield file, "-1"
    for file in CGROUPS.glob("system.slice/*slurmstepd.scope/**/cgroup.freeze"):
        yield file, "0"


COMMANDS: dict[str, Callable[..., Any]] = {
    one.__name__: one for one in (clients, look, watch, freeze, own_memory, own_freezer, clean)
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](**json.loads(sys.argv[2]))), flush=True)
    os._exit(0)  # a thread may still read the standard input
