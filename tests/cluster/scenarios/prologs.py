"""Logins to a node where a job is just being set up, with a prolog that is held."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import from_login, ours
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import job_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.config import Settings
    from tests.cluster.harness.landing import Landing
    from tests.cluster.harness.site import Site

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

# An InitScript that goes on until somebody talks to an extern stepd, and then for two seconds.
INIT = """\
#!/bin/sh
until [ "$(grep -c '_[0-9]*[.]4294967292$' /proc/net/unix)" -gt 1 ]; do sleep 0.1; done
sleep 2
"""


@contextmanager
def prolog_in_use(site: Site) -> Iterator[None]:
    """Have the nodes run the prolog; afterwards they can take jobs, whatever has happened."""
    before = site.settings
    for node in site.nodes:
        node.write("etc/slurm/prolog", PROLOG, 0o755)
        node.write("run/status", "0")
    site.reconfigure(with_prolog(before))
    try:
        yield
    finally:
        restore(site)
        site.reconfigure(before)


def with_prolog(settings: Settings) -> Settings:
    """Return settings with the prolog added."""
    return replace(settings, slurm_conf=settings.slurm_conf + LINE)


def restore(site: Site) -> None:
    """End all jobs; have prologs succeed, and n1 take jobs again if one has failed."""
    release(site)
    site.cancel_all()
    site.n1.write("run/status", "0")

    def idle() -> bool:
        if "drain" in state(site):
            site.ctl.run(["scontrol", "update", "NodeName=n1", "State=RESUME"])
        return state(site) == "idle"

    wait_for("n1 idle", idle, LONG, site.tails, every=0.1)


def state(site: Site) -> str:
    """Return how n1 is, in sinfo's words."""
    return site.ctl.run(["sinfo", "-hn", "n1", "-o", "%T"]).stdout.strip()


def hold(site: Site) -> None:
    """Let prologs on n1 go on until released."""
    site.n1.write("run/hold", "")


def release(site: Site) -> None:
    """Let them end."""
    site.n1.run(["rm", "-f", "/run/hold"])


@contextmanager
def in_prolog(site: Site, user: str) -> Iterator[int]:
    """Submit a job to n1; go on when its prolog runs there."""
    marker = f"/run/prolog-{user}"
    site.n1.run(["rm", "-f", marker])
    argv = ["salloc", "--no-shell", "--nodelist=n1", "--mem=10M", "--chdir=/tmp"]
    probe = lambda: site.n1.run(["cat", marker], check=False).stdout  # noqa: E731
    salloc = site.login.popen(argv, user, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield int(wait_for("the prolog", probe, LONG, site.tails))
    finally:
        end(salloc)


def option(site: Site, seconds: float) -> None:
    """Give the module this wait_for_job."""
    site.pam(pam.with_module(f"wait_for_job={seconds:g}"))


def released_meanwhile(site: Site) -> Landing:
    """Log in during a prolog that is held; let that end when the login says that it waits."""
    mark = site.n1.mark()

    def waits() -> bool:
        said = any("waiting up to" in line for line in ours(site.n1, mark))
        assert said or not login.done(), "it has not waited"
        return said

    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(from_login, site)
        try:
            wait_for("the login waits", waits, LONG, site.tails, every=0.1)
        finally:
            release(site)
        return login.result()


def gets_in(site: Site) -> None:
    """Log in during a prolog: that waits for the extern step, and is adopted."""
    hold(site)
    option(site, LONG)
    with in_prolog(site, "alice") as job:
        assert not site.has_stepd(job)
        landing = released_meanwhile(site)
    assert (landing.rc, landing.job) == (0, job), landing
    sign, decision = landing.lines
    assert f"no extern step yet, but the prolog of job {job} is running: waiting up to" in sign
    assert f"adopted into job {job} (the only job) -> PAM_SUCCESS" in decision, landing
    assert landing.seconds < AT_ONCE


def during_the_prolog(site: Site) -> None:
    """Do that on a cluster without it."""
    with prolog_in_use(site):
        gets_in(site)


def slow_start(release: str) -> job_namespaces.Plugin:
    """Return what keeps an extern stepd, once it is asked, from making its step's last cgroup."""
    conf = f"AutoBasePath=true\nBasePath={job_namespaces.BASE} InitScript=/etc/slurm/init\n"
    files = {"job_container.conf": conf, "init": INIT}
    return replace(job_namespaces.PLUGINS[release][0], files=files)
