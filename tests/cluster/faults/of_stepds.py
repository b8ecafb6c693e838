"""Faults of stepds: stopped, dead, half way through an answer, too many in front of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.cluster.faults.bring import EXTERN, SPOOL, program, standin
from tests.cluster.faults.fault import ADOPT, NEWEST, NO_JOBS, PHASES, UNKNOWN, Fault
from tests.cluster.harness.stopped import Stopped
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

CHOSEN = {"one": ADOPT, "two": ADOPT}  # by the account phase; the session phase cannot adopt
BACKLOG = f"""
import socket, sys, time
waiting = []
for job in sys.argv[1:]:
    try:
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect(f"{SPOOL}/n1_{{job}}.{EXTERN}")
            waiting.append(client)
    except BlockingIOError:
        pass
print("full", flush=True)
time.sleep(600)
"""


def stopped(*names: str) -> Bring:
    """Stop the stepds of jobs."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(Stopped(arena.node, arena.stepd(name)))
            yield

    return brought


@contextlib.contextmanager
def backlogs_full(arena: Arena) -> Iterator[None]:
    """Stop all stepds, and fill their backlogs."""
    with stopped(*arena.jobs)(arena):
        jobs = map(str, arena.jobs.values())
        with program(arena, "python3", "-c", BACKLOG, *jobs):
            yield


def killed(*names: str) -> Bring:
    """Kill the stepds of jobs: their sockets stay."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        sockets = [arena.cluster.socket("n1", arena.jobs[name]) for name in names]
        for pid in [arena.stepd(name) for name in names]:
            arena.sh(f"kill -KILL {pid}")
            wait_for("the stepd gone", lambda: not arena.node.alive(int(pid)))  # noqa: B023
        assert all(path.is_socket() for path in sockets)
        try:
            yield
        finally:
            arena.end_jobs()
            for path in sockets:
                path.unlink(missing_ok=True)

    return brought


def through_proxy(point: str, how: str) -> Bring:
    """Have a stand-in in front of the stepd of `one`, that stops or dies at a point."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        path, real = f"{SPOOL}/n1_{arena.jobs['one']}.{EXTERN}", f"{SPOOL}/real"
        arena.sh(f"mv {path} {real}")
        try:
            with standin(arena, "proxy", path, real, "alice", point, how):
                yield
        finally:
            arena.sh(f"mv -f {real} {path}")

    return brought


def breaks(
    name: str,
    point: str,
    how: str,
    expected: Mapping[str, str],
    says: str,
    settled: bool = False,
    phases: tuple[str, ...] = tuple(PHASES),
) -> Fault:
    """Return the fault of a stepd that stops or dies at a point (standins/proxy.py)."""
    bring = through_proxy(point, how)
    return Fault(f"stepd {name}", bring, expected, says, settled=settled, phases=phases)


FAILS, ENDED = {"one": ADOPT}, {"one": NO_JOBS}

FAULTS = (
    Fault("stepds stopped", stopped("one", "old", "new"), {"one": ADOPT, "two": UNKNOWN},
          "does not answer", CHOSEN),
    Fault("other users' stepds stopped", stopped("old", "new"), {"two": UNKNOWN},
          "does not answer", {"two": ADOPT}),
    Fault("stepds' backlogs full", backlogs_full, {"one": ADOPT, "two": UNKNOWN},
          "does not accept connections", CHOSEN),
    # The job that `two` comes from has no stepd here any more: the other one is the only job.
    Fault("stepds dead", killed("one", "old"), {"one": NO_JOBS, "two": NEWEST},
          "no job on this node", jobs_end=True),
    breaks("stopped after connect", "accepted", "stop", FAILS, "does not answer"),
    breaks("dead after connect", "accepted", "die", ENDED, "no job on this node"),
    breaks("stopped when asked", "asked", "stop", FAILS, "does not answer"),
    breaks("stopped in mid-reply", "answering", "stop", FAILS, "does not answer"),
    # pam_exec keeps no answer without an adoption: its session line would find the job gone.
    breaks("dead in mid-reply", "answering", "die", FAILS, "closed the connection in mid-reply",
           phases=("account", "session")),
    breaks("stopped when it is to take a process", "taking", "stop", FAILS, "may still take"),
    breaks("dead when it is to take a process", "taking", "die", ENDED, "has ended"),
    breaks("stopped when it has taken a process", "taken", "stop", FAILS, "may still take", True),
    breaks("dead when it has taken a process", "taken", "die", ENDED, "has ended"),
)  # fmt: skip
