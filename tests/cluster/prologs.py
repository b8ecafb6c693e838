"""Logins to a node where a job is just being set up, with a prolog that is held."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster import pam
from tests.cluster.host import end
from tests.cluster.landing import from_login, ours
from tests.cluster.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster
    from tests.cluster.config import Settings
    from tests.cluster.landing import Landing

LONG = 60  # seconds
AT_ONCE = LONG / 2  # far less than what could be waited for

# Tells who it is for, then does what the test wants.
PROLOG = """\
#!/bin/sh
echo $SLURM_JOB_ID >/run/prolog-$SLURM_JOB_USER.new
mv /run/prolog-$SLURM_JOB_USER.new /run/prolog-$SLURM_JOB_USER
while [ -e /run/hold ]; do sleep 0.1; done
exit $(cat /run/status)
"""
LINE = "Prolog=/etc/slurm/prolog\n"


@contextmanager
def prolog_in_use(cluster: Cluster) -> Iterator[None]:
    """Have the nodes run the prolog; afterwards they can take jobs, whatever has happened."""
    before = cluster.settings
    for node in cluster.nodes:
        node.write("etc/slurm/prolog", PROLOG, 0o755)
        node.write("run/status", "0")
    cluster.reconfigure(with_prolog(before))
    try:
        yield
    finally:
        restore(cluster)
        cluster.reconfigure(before)


def with_prolog(settings: Settings) -> Settings:
    """Return settings with the prolog added."""
    return replace(settings, slurm_conf=settings.slurm_conf + LINE)


def restore(cluster: Cluster) -> None:
    """End all jobs; have prologs succeed, and n1 take jobs again if one has failed."""
    release(cluster)
    cluster.cancel_all()
    cluster.n1.write("run/status", "0")

    def idle() -> bool:
        if "drain" in state(cluster):
            cluster.ctl.run(["scontrol", "update", "NodeName=n1", "State=RESUME"])
        return state(cluster) == "idle"

    wait_for("n1 idle", idle, 20, cluster.tails, every=0.1)


def state(cluster: Cluster) -> str:
    """Return how n1 is, in sinfo's words."""
    return cluster.ctl.run(["sinfo", "-hn", "n1", "-o", "%T"]).stdout.strip()


def hold(cluster: Cluster) -> None:
    """Let prologs on n1 go on until released."""
    cluster.n1.write("run/hold", "")


def release(cluster: Cluster) -> None:
    """Let them end."""
    cluster.n1.run(["rm", "-f", "/run/hold"])


@contextmanager
def in_prolog(cluster: Cluster, user: str) -> Iterator[int]:
    """Submit a job to n1; go on when its prolog runs there."""
    marker = cluster.n1.root / f"run/prolog-{user}"
    marker.unlink(missing_ok=True)
    argv = ["salloc", "--no-shell", "--nodelist=n1", "--mem=10M", "--chdir=/tmp"]
    salloc = cluster.login.popen(argv, user, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("the prolog", marker.exists, 20, cluster.tails)
        yield int(marker.read_text())
    finally:
        end(salloc)


def option(cluster: Cluster, seconds: float) -> None:
    """Give n1's module this wait_for_job."""
    cluster.n1.pam("sshd", pam.with_module(f"wait_for_job={seconds:g}"))


def released_meanwhile(cluster: Cluster) -> Landing:
    """Log in during a prolog that is held; let that end when the login says that it waits."""
    mark = cluster.n1.mark()

    def waits() -> bool:
        said = any("waiting for it" in line for line in ours(cluster.n1, mark))
        assert said or not login.done(), "it has not waited"
        return said

    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(from_login, cluster)
        try:
            wait_for("the login waits", waits, 30, cluster.tails)
        finally:
            release(cluster)
        return login.result()


def gets_in(cluster: Cluster) -> None:
    """Log in during a prolog: that waits for the extern step, and is adopted."""
    hold(cluster)
    option(cluster, LONG)
    with in_prolog(cluster, "alice") as job:
        assert not cluster.socket("n1", job).exists()
        landing = released_meanwhile(cluster)
    assert (landing.rc, landing.job) == (0, job), landing
    sign, decision = landing.lines
    assert f"no extern step, but the prolog of job {job} is running: waiting for it" in sign
    assert f"adopted into job {job} (the only job) -> PAM_SUCCESS" in decision
    assert landing.seconds < AT_ONCE


def during_the_prolog(cluster: Cluster) -> None:
    """Do that on a cluster without it."""
    with prolog_in_use(cluster):
        gets_in(cluster)
