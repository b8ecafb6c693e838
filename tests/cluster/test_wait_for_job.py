"""wait_for_job: logins while a real slurmd sets a job up, with a prolog that is held."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import BATCH, Cluster, Settings
from tests.cluster.harness.landing import from_login
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import job_namespaces
from tests.cluster.scenarios.prologs import (
    AT_ONCE,
    LONG,
    gets_in,
    hold,
    in_prolog,
    option,
    prolog_in_use,
    released_meanwhile,
    state,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
WITHOUT_EXTERN_STEPS = Settings(slurm_conf="PrologFlags=Alloc\n")


@pytest.fixture
def slow(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with the prolog."""
    with prolog_in_use(cluster):
        yield cluster


def test_during_the_prolog(slow: Cluster) -> None:
    gets_in(slow)


# A site's InitScript, and a PAM line before ours, that wait until a file is gone.
INIT = "#!/bin/sh\nwhile [ -e /run/init ]; do sleep 0.1; done\n"
GATE = "#!/bin/sh\n: >/run/at-gate\nwhile [ -e /run/gate ]; do sleep 0.1; done\n"
GATE_LINE = "account optional pam_exec.so quiet /etc/slurm/gate"
ASKED = re.compile(r"handling REQUEST_STATE", re.IGNORECASE)
OFTEN = 50  # times: the module asks 100 times a second, slurmd now and then


def test_while_the_stepd_makes_its_step_ready(slow: Cluster) -> None:
    """From the stepd's socket to the step's last cgroup, made long by a script of the site's.

    Slurm gives that 10 s, so the login is there before, and only its module waits.
    """
    node = slow.n1
    for host in slow.nodes:
        host.write("etc/slurm/init", INIT, 0o755)
        host.write("etc/slurm/gate", GATE, 0o755)
    node.run(["sh", "-c", "rm -f /run/at-gate; touch /run/gate /run/init"])
    conf = f"AutoBasePath=true\nBasePath={job_namespaces.BASE} InitScript=/etc/slurm/init\n"
    plugin = job_namespaces.Plugin(job_namespaces.TMPFS.line, {"job_container.conf": conf})
    lines = pam.with_module("wait_for_job=0")
    lines.insert(lines.index(pam.ROOT_GUARD), GATE_LINE)
    with job_namespaces.plugin_in_use(slow, plugin), ThreadPoolExecutor(1) as pool:
        node.pam("sshd", lines)
        try:
            login = pool.submit(from_login, slow)
            wait_for("the login", (node.root / "run/at-gate").exists, 30, slow.tails)
            with in_prolog(slow, "alice") as job:
                wait_for("the stepd", slow.socket("n1", job).is_socket, 20, slow.tails)
                before = asked(slow)
                node.run(["rm", "/run/gate"])
                often = lambda: asked(slow) >= before + OFTEN  # noqa: E731
                wait_for("its state asked for again and again", often, 20, slow.tails)
                assert not login.done()
                node.run(["rm", "/run/init"])
                landing = login.result()
        finally:
            node.run(["rm", "-f", "/run/gate", "/run/init"])
            slow.cancel_all()
    assert (landing.rc, landing.job) == (0, job), landing
    assert f"adopted into job {job} (the only job) -> PAM_SUCCESS" in landing.line
    assert landing.seconds < AT_ONCE


def asked(cluster: Cluster) -> int:
    """Return how often stepds on n1 have been asked for their state."""
    return len(ASKED.findall(cluster.n1.read("var/log/slurmd.log")))


@pytest.mark.parametrize("seconds", [0, 1])
def test_the_prolog_takes_longer(slow: Cluster, seconds: int) -> None:
    """Refused at once, or when the time is over; the prolog goes on all the while."""
    hold(slow)
    option(slow, seconds)
    with in_prolog(slow, "alice") as job:
        landing = from_login(slow)
        assert not slow.socket("n1", job).exists()
    assert landing.rc == 255
    assert NO_JOBS in landing.said
    assert seconds <= landing.seconds < AT_ONCE
    waited = [line for line in landing.lines if f"the prolog of job {job} is running" in line]
    assert len(waited) == seconds


def test_the_prolog_of_another_user(slow: Cluster) -> None:
    """Who has no job is refused at once."""
    hold(slow)
    option(slow, LONG)
    with in_prolog(slow, "bob") as job:
        landing = from_login(slow)
        assert not slow.socket("n1", job).exists()
    assert landing.rc == 255
    assert NO_JOBS in landing.said
    assert landing.seconds < AT_ONCE
    assert "waiting" not in landing.line


def test_without_any_job(slow: Cluster) -> None:
    option(slow, LONG)
    landing = from_login(slow)
    assert landing.rc == 255
    assert NO_JOBS in landing.said
    assert landing.seconds < AT_ONCE
    assert "waiting" not in landing.line


def test_the_prolog_fails(slow: Cluster) -> None:
    """The wait ends when the sign has gone, not when the time is over."""
    hold(slow)
    slow.n1.write("run/status", "1")
    option(slow, LONG)
    with in_prolog(slow, "alice") as job:
        landing = released_meanwhile(slow)
    assert landing.rc == 255
    assert NO_JOBS in landing.said
    assert landing.seconds < AT_ONCE
    assert f"the prolog of job {job} is running" in landing.lines[0]
    wait_for("n1 drained", lambda: "drain" in state(slow), 20, slow.tails)


def test_a_job_that_never_gets_an_extern_step(cluster: Cluster) -> None:
    """Its batch step is a sign, so the time is waited for."""
    cluster.reconfigure(WITHOUT_EXTERN_STEPS)
    try:
        option(cluster, 1)
        argv = ["sbatch", "--parsable", "--output=/dev/null", "--nodelist=n1", "--chdir=/tmp"]
        script = "#!/bin/sh\nsleep 300\n"
        job = int(cluster.login.run(argv, "alice", input=script).stdout)
        wait_for("its batch step", cluster.socket("n1", job, BATCH).is_socket, 20, cluster.tails)
        landing = from_login(cluster)
        assert landing.rc == 255
        assert NO_JOBS in landing.said
        assert 1 <= landing.seconds < AT_ONCE
        assert any(
            f"no extern step yet, but job {job} has another step" in x for x in landing.lines
        )
        assert "waiting" not in "".join(from_login(cluster, "bob").lines)
    finally:
        cluster.cancel_all()
        cluster.reconfigure(Settings())
