"""wait_for_job: logins while a real slurmd sets a job up, with a prolog that takes time."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cluster import pam, private
from tests.cluster.cells import CELLS
from tests.cluster.cluster import BATCH, Cluster, Settings
from tests.cluster.host import end
from tests.cluster.landing import from_login
from tests.cluster.wait import wait_for
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
AT_ONCE = 15.0  # seconds: far less than what could be waited for
LONG = 60

# Tells who it is for, then does what the test wants.
PROLOG = """\
#!/bin/sh
echo $SLURM_JOB_ID >/run/prolog-$SLURM_JOB_USER.new
mv /run/prolog-$SLURM_JOB_USER.new /run/prolog-$SLURM_JOB_USER
sleep 3
while [ -e /run/hold ]; do sleep 0.1; done
exit $(cat /run/status)
"""
WITH_PROLOG = Settings(slurm_conf="Prolog=/etc/slurm/prolog\n")
WITHOUT_EXTERN_STEPS = Settings(slurm_conf="PrologFlags=Alloc\n")


@pytest.fixture
def slow(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with the prolog."""
    prepare(cluster)
    cluster.reconfigure(WITH_PROLOG)
    yield cluster
    release(cluster)
    cluster.cancel_all()
    cluster.reconfigure(Settings())


def prepare(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.write("etc/slurm/prolog", PROLOG, 0o755)
        node.write("run/status", "0")


def hold(cluster: Cluster) -> None:
    """Let prologs on n1 go on until released."""
    cluster.n1.write("run/hold", "")


def release(cluster: Cluster) -> None:
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
    cluster.n1.pam("sshd", pam.with_module(f"wait_for_job={seconds:g}"))


def gets_in(cluster: Cluster) -> None:
    """Log in during a prolog of 3 s: that waits for the extern step, and is adopted."""
    option(cluster, LONG)
    with in_prolog(cluster, "alice") as job:
        assert not cluster.socket("n1", job).exists()
        landing = from_login(cluster)
    assert (landing.rc, landing.job) == (0, job), landing
    sign, decision = landing.lines
    assert f"no extern step, but the prolog of job {job} is running: waiting for it" in sign
    assert f"adopted into job {job} (the only job) -> PAM_SUCCESS" in decision
    assert landing.seconds < AT_ONCE


def test_during_the_prolog(slow: Cluster) -> None:
    gets_in(slow)


@pytest.mark.cluster
@pytest.mark.parametrize("cell", ["trixie"])
def test_during_the_prolog_of_another_release(cell: str, request: pytest.FixtureRequest) -> None:
    roots = CELLS[cell].roots
    with Cluster(f"wait-{os.getpid()}", WITH_PROLOG, roots=roots) as cluster:
        show_logs_of(request.config, cluster)
        prepare(cluster)
        gets_in(cluster)


def test_while_the_stepd_makes_its_step_ready(slow: Cluster) -> None:
    """From the stepd's socket to the step's last cgroup, made long by a script of the site's."""
    for node in slow.nodes:
        node.write("etc/slurm/init", "#!/bin/sh\nsleep 2\n", 0o755)
    conf = f"AutoBasePath=true\nBasePath={private.BASE} InitScript=/etc/slurm/init\n"
    plugin = private.Plugin(private.TMPFS.line, {"job_container.conf": conf})
    option(slow, 0)
    with private.plugin_in_use(slow, plugin), in_prolog(slow, "alice") as job:
        wait_for("the stepd", slow.socket("n1", job).is_socket, 20, slow.tails)
        landing = from_login(slow)
        slow.cancel_all()
    assert (landing.rc, landing.job) == (0, job), landing
    assert f"adopted into job {job} (the only job) -> PAM_SUCCESS" in landing.line
    assert 1 < landing.seconds < AT_ONCE


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
    slow.n1.write("run/status", "1")
    option(slow, LONG)
    with in_prolog(slow, "alice") as job:
        landing = from_login(slow)
    assert landing.rc == 255
    assert NO_JOBS in landing.said
    assert landing.seconds < LONG / 2
    assert f"the prolog of job {job} is running" in landing.lines[0]
    slow.cancel_all()
    slow.n1.write("run/status", "0")
    wait_for("n1 drained", lambda: "drain" in state(slow), 20, slow.tails)
    slow.ctl.run(["scontrol", "update", "NodeName=n1", "State=RESUME"])
    slow.wait_idle()


def state(cluster: Cluster) -> str:
    return cluster.ctl.run(["sinfo", "-hn", "n1", "-o", "%T"]).stdout


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
        assert any(f"no extern step, but job {job} has another step" in x for x in landing.lines)
        assert "waiting" not in "".join(from_login(cluster, "bob").lines)
    finally:
        cluster.cancel_all()
        cluster.reconfigure(Settings())
