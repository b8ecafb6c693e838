"""Faults of sshd and of its clients: ended, stopped, gone, in the middle of the module's work.

Stepds that are stopped see to it that the module is at work then: it waits for them for seconds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from tests.cluster.faults.fault import ADOPT, GONE, NO_JOBS, Fault
from tests.cluster.harness import cgroups
from tests.cluster.harness.config import USERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

ALL = {"one": GONE, "two": GONE, "none": GONE}
WITH_JOBS = {"one": GONE, "two": GONE}
IN_CALL = 2.0  # seconds after which the module waits for a stepd, mostly


@contextlib.contextmanager
def silent(arena: Arena) -> Iterator[None]:
    """Have all stepds of n1 stopped."""
    stepds = " ".join(arena.stepd(name) for name in arena.jobs)
    arena.sh(f"kill -STOP {stepds}")
    try:
        yield
    finally:
        arena.sh(f"kill -CONT {stepds}")


def meanwhile(act: Callable[[Arena], object]) -> Bring:
    """Do something while the module waits for stepds."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        timer = threading.Timer(IN_CALL, act, [arena])
        with silent(arena):
            timer.start()
            try:
                yield
            finally:
                timer.join()

    return brought


def hooked(script: str) -> Bring:
    """Have sshd start a script for each user but root, in front of our lines; it goes on alone."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        alone = f"test $PAM_USER = root || setsid sh -c '{script}' >/dev/null 2>&1 </dev/null &"
        with silent(arena), arena.hook(alone):
            yield

    return brought


def hang_up(arena: Arena) -> None:
    """End the ssh of all users but root."""
    uids = ",".join(map(str, USERS.values()))
    for host in (arena.cluster.login, arena.cluster.n2):
        host.run(["pkill", "-KILL", "-x", "-u", uids, "ssh"], check=False)


def reset(arena: Arena) -> None:
    """Have the kernel break the connections of all clients; root's, which is in, as well."""
    arena.sh("ss --kill --no-header --tcp state established sport = :ssh >/dev/null")


def hurried(*options: str) -> Bring:
    """Have an sshd with more options."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with arena.with_sshd(options=[word for option in options for word in ("-o", option)]):
            yield

    return brought


def listener(signal: str) -> Callable[[Arena], object]:
    """Return what sends the sshd that listens a signal."""
    return lambda arena: arena.sh(f"kill -{signal} {arena.node.pid('sshd')}")


ENDED = (
    Fault(
        "LoginGraceTime expires in the call",
        silent,
        {"one": GONE, "two": GONE},
        setting=hurried("LoginGraceTime=5"),
        phases=("account",),  # it is over before the session phase
    ),
    Fault("the client hangs up in the call", meanwhile(hang_up), ALL, in_session=WITH_JOBS),
    Fault(
        "the session's sshd gets SIGTERM in the call",
        hooked(f"sleep {IN_CALL}; kill -TERM $sshd"),
        ALL,
        in_session=WITH_JOBS,
        hooked="before",
    ),
    Fault(
        "the session's sshd gets SIGKILL in the call",
        hooked(f"sleep {IN_CALL}; kill -KILL $sshd"),
        ALL,
        in_session=WITH_JOBS,
        hooked="before",
    ),
)


@contextlib.contextmanager
def restarted(arena: Arena) -> Iterator[None]:
    """Have the sshd that listens read its configuration again, which starts it again."""
    timer = threading.Timer(0.5, listener("HUP"), [arena])
    timer.start()
    try:
        yield
    finally:
        timer.join()
        time.sleep(0.2)


STOPPED = (
    Fault("sshd gets SIGHUP meanwhile", restarted),
    Fault(
        "the session's sshd is stopped for 7 s in the call",
        hooked("sleep 0.03; kill -STOP $sshd; sleep 7; kill -CONT $sshd"),
        {"one": ADOPT, "two": ADOPT},
        phases=("session",),
        hooked="before",
    ),
)

FAULTS = (*ENDED, *STOPPED)
