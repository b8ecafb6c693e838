"""Daemons fail that asking the source host needs: bounded, logged, and action_unknown decides."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Callable

import pytest

from tests.cluster.harness.daemons import (
    asked_by,
    clock_wrong,
    ended,
    other_key,
    socket_stale,
    stopped,
)
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


@pytest.fixture
def scene(cluster: Cluster) -> Iterator[Scene]:
    """Give alice several jobs, and a session inside the older one."""
    with several_jobs(cluster) as found:
        yield found


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
