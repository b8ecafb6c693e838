"""Faults of daemons: slurmd and munged on either node, slurmctld, the clocks."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from tests.cluster.faults.fault import HASTY, PATIENT, UNKNOWN, Fault, shell
from tests.cluster.harness import daemons
from tests.cluster.harness.wait import NotInTimeError, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring
    from tests.cluster.harness.host import Host

    OfHost = Callable[[Host], contextlib.AbstractContextManager[None]]

SLURMD = "slurmd at 10.78.0.3:6818: "
MUNGED = "munged at /run/munge/munge.socket.2: "
SILENT = SLURMD + "no reply within the time limit: slurmd there, or the daemon that makes its cr"
NOBODY = SLURMD + "connection refused: slurmd does not run there"
CLOSED = SLURMD + "closed without an answer: its munge key or clock differs"
EITHER_SEES_IT = "clock"  # the source host, or this one when the answer is there
CLOCK = "/run/munge/clock"  # what is added to a clock: read again at each look
# No host may set its clock, which is the machine's: libfaketime shows a daemon another one.
ANOTHER_CLOCK = (
    "env",
    f"LD_PRELOAD={daemons.FAKETIME}",
    f"FAKETIME_TIMESTAMP_FILE={CLOCK}",
    "FAKETIME_NO_CACHE=1",
    "FAKETIME_DONT_FAKE_MONOTONIC=1",
)
# With libfaketime in sshd, Python's own sleep() fails. So what steps is what Python has for the
# time of day, by a script that pam_python runs before ours: at each look at it.
SCRIPT = "/usr/local/lib/another_clock.py"
ANOTHER_TIME = """
import time
real, step, looks = time.time, STEP, 0

def shown():
    global looks
    looks += 1
    return real() + looks * step

time.time = shown

def pam_sm_acct_mgmt(pamh, flags, argv):
    return pamh.PAM_IGNORE
"""
HOUR = 3600  # seconds


def on(host: str, bring: OfHost) -> Bring:
    """Bring a fault about on a host."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with bring(arena.cluster.hosts[host]):
            yield

    return brought


def stopped(daemon: str) -> OfHost:
    """Stop a daemon by SIGSTOP."""
    return lambda host: daemons.stopped(host, daemon)


def ended(daemon: str, how: signal.Signals = signal.SIGTERM) -> OfHost:
    """End a daemon."""
    return lambda host: daemons.ended(host, daemon, how)


def restarted(daemon: str) -> OfHost:
    """End a daemon and start it again: all this before the login."""

    @contextlib.contextmanager
    def brought(host: Host) -> Iterator[None]:
        with daemons.ended(host, daemon):
            pass
        yield

    return brought


def clock(seconds: int) -> OfHost:
    """Have a munged whose clock is off."""
    return lambda host: daemons.clock_wrong(host, seconds)


@contextlib.contextmanager
def _slurmctld(arena: Arena, how: signal.Signals) -> Iterator[None]:
    cluster = arena.cluster
    with daemons.ended(cluster.ctl, "slurmctld", how):
        yield

    def knows_its_jobs() -> bool:
        return all(cluster.job_state(job) == "RUNNING" for job in arena.jobs.values())

    wait_for("slurmctld", knows_its_jobs, 40)


def slurmctld(how: signal.Signals) -> Bring:
    """End slurmctld; it knows its jobs again in the end."""
    return lambda arena: _slurmctld(arena, how)


def munged_s_clock_steps(seconds: int) -> Bring:
    """Step the clock of n1's munged between the question to n2's slurmd and the answer."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        n1, n2 = arena.cluster.n1, arena.cluster.n2
        n1.write(CLOCK, "+0s\n")

        def step() -> None:
            with contextlib.suppress(NotInTimeError):
                wait_for("slurmd asked", lambda: daemons.asked_by(n2, "10.78.0.2"), 30)
            n1.write(CLOCK, f"{seconds:+}s\n")
            n2.kill("slurmd", signal.SIGCONT)

        with daemons.another_munged(n1, under=ANOTHER_CLOCK), daemons.stopped(n2, "slurmd"):
            thread = threading.Thread(target=step)
            thread.start()
            try:
                yield
            finally:
                thread.join()
                arena.sh(f"rm -f {CLOCK}")

    return brought


def module_s_clock_steps(seconds: int) -> Bring:
    """Step the clock that the module sees, at each look at it."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        arena.node.write(SCRIPT, ANOTHER_TIME.replace("STEP", str(seconds)))
        usual = arena.node.read("etc/pam.d/sshd")
        arena.node.pam("sshd", f"account optional pam_python.so {SCRIPT}\n{usual}")
        try:
            yield
        finally:
            arena.node.pam("sshd", usual)
            arena.sh(f"rm -f {SCRIPT}")

    return brought


def source(name: str, bring: Bring, says: str = "", more: tuple[str, ...] = HASTY) -> Fault:
    """Return a fault of asking the source host: `two` alone is touched, before a job is chosen."""
    return Fault(name, bring, {"two": UNKNOWN}, says, {}, says_in_session="", more=more)


def harmless(name: str, bring: Bring) -> Fault:
    """Return a fault that touches nobody."""
    return Fault(name, bring)


KILL = signal.SIGKILL
NOTHING = shell("true", "true")

FAULTS = (
    harmless("slurmd here stopped", on("n1", stopped("slurmd"))),
    harmless("slurmd here ended", on("n1", ended("slurmd"))),
    harmless("slurmd here killed", on("n1", ended("slurmd", KILL))),
    harmless("slurmd here restarted", on("n1", restarted("slurmd"))),
    source("slurmd there stopped", on("n2", stopped("slurmd")), SILENT),
    source("slurmd there ended", on("n2", ended("slurmd")), NOBODY),
    source("slurmd there killed", on("n2", ended("slurmd", KILL)), NOBODY),
    harmless("slurmd there restarted", on("n2", restarted("slurmd"))),
    source("munged here stopped", on("n1", stopped("munged")),
           MUNGED + "no reply header within the time limit: munged is stopped or overloaded"),
    source("munged here ended", on("n1", ended("munged")), MUNGED + "no such file or directory"),
    source("munged here killed", on("n1", daemons.socket_stale), MUNGED + "connection refused"),
    source("munge key here another", on("n1", daemons.other_key), CLOSED, PATIENT),
    source("clock here ten minutes ahead", on("n1", clock(600)), CLOSED, PATIENT),
    source("clock here ten minutes behind", on("n1", clock(-600)), CLOSED, PATIENT),
    source("munged there stopped", on("n2", stopped("munged")), SILENT),
    source("munged there ended", on("n2", ended("munged")), SILENT),
    source("munged there killed", on("n2", daemons.socket_stale), SILENT),
    source("munge key there another", on("n2", daemons.other_key), CLOSED, PATIENT),
    source("clock there ten minutes ahead", on("n2", clock(600)), CLOSED, PATIENT),
    source("clock there ten minutes behind", on("n2", clock(-600)), CLOSED, PATIENT),
    source("clock here steps ten minutes ahead in mid-call", munged_s_clock_steps(600),
           EITHER_SEES_IT, PATIENT),
    source("clock here steps ten minutes back in mid-call", munged_s_clock_steps(-600),
           EITHER_SEES_IT, PATIENT),
    # What pam_exec runs is another process than what that script is run in.
    Fault("the module's clock steps ahead", NOTHING, setting=module_s_clock_steps(HOUR),
          fronts=("pam_python",)),
    Fault("the module's clock steps back", NOTHING, setting=module_s_clock_steps(-HOUR),
          fronts=("pam_python",)),
    harmless("slurmctld ended", slurmctld(signal.SIGTERM)),
    harmless("slurmctld stopped", on("ctl", stopped("slurmctld"))),
)  # fmt: skip
