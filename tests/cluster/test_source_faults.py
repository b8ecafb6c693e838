"""Daemons fail that asking the source host needs: bounded, logged, and action_unknown decides."""

from __future__ import annotations

import contextlib
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from tests.cluster.harness.host import DAEMONS
from tests.cluster.harness.landing import BOUND, Scene, limit, several_jobs
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.cluster.harness.landing import Landing

    Fault = Callable[[Host], AbstractContextManager[None]]

IT = "(the job it comes from)"
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@pytest.fixture
def scene(cluster: Cluster) -> Iterator[Scene]:
    """Give alice several jobs, and a session inside the older one."""
    with several_jobs(cluster) as found:
        yield found


# What goes wrong with a daemon of a host; each leaves things as they were


@contextlib.contextmanager
def stopped(host: Host, daemon: str) -> Iterator[None]:
    host.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        host.kill(daemon, signal.SIGCONT)


@contextlib.contextmanager
def ended(host: Host, daemon: str, how: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    host.kill(daemon, how)
    wait_for(f"{daemon} ended", lambda: not host.pid(daemon), 20)
    try:
        yield
    finally:
        start(host, daemon)


@contextlib.contextmanager
def socket_stale(host: Host) -> Iterator[None]:
    """Kill munged: its socket stays, and nobody listens on it."""
    with ended(host, "munged", signal.SIGKILL):
        assert (host.root / str(DAEMONS["munged"].path)).is_socket()
        yield


@contextlib.contextmanager
def another_munged(host: Host, *options: str, under: tuple[str, ...] = ()) -> Iterator[None]:
    """Run munged otherwise than it should be."""
    with ended(host, "munged"):
        host.start("munged", under=under, options=options)
        try:
            yield
        finally:
            host.stop("munged")


@contextlib.contextmanager
def clock_wrong(host: Host, seconds: int) -> Iterator[None]:
    """Run munged with a clock of its own."""
    under = ("env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME={seconds:+}s")
    with another_munged(host, under=under):
        said = host.run(["sh", "-c", "date +%s; munge -n | unmunge -k ENCODE_TIME"]).stdout
        clock, _, encoded = said.partition("\n")
        assert abs(int(encoded.rpartition("(")[2].rstrip(")\n")) - int(clock) - seconds) < 60
        yield


@contextlib.contextmanager
def other_key(host: Host) -> Iterator[None]:
    """Run munged with another key than the other hosts."""
    path = "/run/munge/other.key"
    host.run(["sh", "-c", f"umask 077; head -c 128 /dev/urandom >{path}"], "munge")
    with another_munged(host, f"--key-file={path}"):
        yield


def start(host: Host, daemon: str) -> None:
    """Start a daemon whose socket may have been left behind."""
    if path := DAEMONS[daemon].path:
        (host.root / path).unlink(missing_ok=True)
    host.start(daemon)


SLURMD = "slurmd at 10.78.0.3:6818: "
MUNGED = "munged at /run/munge/munge.socket.2: "
SILENT = SLURMD + (
    "no reply within the time limit: slurmd there, or the daemon that makes its "
    "credentials, is stopped or overloaded"
)
REFUSED = SLURMD + "connection refused: slurmd does not run there, or on another port"
CLOSED = SLURMD + (
    "closed without an answer: its munge key or clock differs, or it runs another release "
    "of Slurm; asked as Slurm 22.05"
)
NO_REPLY = MUNGED + (
    "no reply header within the time limit: munged is stopped or overloaded; restart munge on "
    "this node"
)
NOBODY = MUNGED + "connection refused: nobody listens on it; restart munge on this node"
NOTHING = MUNGED + "no such file or directory: start munge on this node, or set AuthInfo=socket="

slurmd_stopped, slurmd_ended = partial(stopped, daemon="slurmd"), partial(ended, daemon="slurmd")
munged_stopped, munged_ended = partial(stopped, daemon="munged"), partial(ended, daemon="munged")
ahead, behind = partial(clock_wrong, seconds=600), partial(clock_wrong, seconds=-600)

# fmt: off
FAULTS: dict[str, tuple[str, Fault, str]] = {
    # what is wrong          host  how it is brought about  what the log says
    "slurmd there stopped": ("n2", slurmd_stopped,          SILENT),
    "slurmd there ended":   ("n2", slurmd_ended,            REFUSED),
    "munged here stopped":  ("n1", munged_stopped,          NO_REPLY),
    "socket here stale":    ("n1", socket_stale,            NOBODY),
    "socket here missing":  ("n1", munged_ended,            NOTHING),
    "key here another":     ("n1", other_key,               CLOSED),
    "clock here ahead":     ("n1", ahead,                   CLOSED),
    "clock here behind":    ("n1", behind,                  CLOSED),
    "munged there stopped": ("n2", munged_stopped,          SILENT),
    "socket there stale":   ("n2", socket_stale,            SILENT),
    "socket there missing": ("n2", munged_ended,            SILENT),
    "key there another":    ("n2", other_key,               CLOSED),
    "clock there ahead":    ("n2", ahead,                   CLOSED),
    "clock there behind":   ("n2", behind,                  CLOSED),
}
# fmt: on


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(scene: Scene, fault: str) -> None:
    """Each value of action_unknown, in bounded time; and afterwards all is well again."""
    name, bring_about, reason = FAULTS[fault]
    with bring_about(scene.cluster.hosts[name]):
        scene.expect_unknown(scene.from_inside, reason, limit(reason))
    scene.options()
    assert scene.from_inside().job == scene.older


def asked_by(host: Host, address: str) -> bool:
    """Return whether somebody at an address is connected to a host's slurmd."""
    packed = bytes(map(int, address.split(".")))[::-1].hex().upper()
    rows = Path(f"/proc/{host.init.pid}/net/tcp").read_text().splitlines()[1:]
    ends = [row.split()[1:4] for row in rows]
    return any(
        local.endswith(":1AA2") and remote.startswith(packed) and state == "01"
        for local, remote, state in ends
    )


def test_slurmd_dies_while_it_is_asked(scene: Scene) -> None:
    """The end of the connection ends the wait, long before the deadline."""
    n2 = scene.cluster.n2
    with stopped(n2, "slurmd"), ThreadPoolExecutor(1) as pool:
        login = pool.submit(
            scene.expect, "newest", scene.from_inside, SLURMD, "callerid_timeout=30"
        )
        wait_for("slurmd asked", lambda: asked_by(n2, "10.78.0.2"), 20)
        with ended(n2, "slurmd", signal.SIGKILL):
            assert login.result().seconds < 15


def test_slurmd_restarts_all_the_time(scene: Scene) -> None:
    """A login lands in one or the other of the user's jobs, and says why.

    A slurmd that has just started answers that it knows no job.
    """
    n2 = scene.cluster.n2
    over = threading.Event()
    landings: list[Landing] = []

    def restart() -> None:
        while not over.is_set():
            n2.stop("slurmd")
            n2.start("slurmd")

    def both_seen() -> bool:
        landings.append(scene.from_inside())
        return {landing.job for landing in landings} >= {scene.older, scene.newest}

    with ThreadPoolExecutor(1) as pool:
        restarting = pool.submit(restart)
        try:
            wait_for("logins with and without a slurmd", both_seen, 120)
        finally:
            over.set()
        restarting.result()
    why = {
        scene.older: (IT,),
        scene.newest: (
            f"the newest of 2; {SLURMD}",
            "the newest of 2; the source host knows no job",
        ),
    }
    for landing in landings:
        assert landing.job in why
        assert any(reason in landing.line for reason in why[landing.job])
        assert landing.seconds < BOUND
    assert scene.from_inside().job == scene.older
