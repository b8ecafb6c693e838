"""welcome=1: a shell is told its job; commands, copies and other services are told nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.landing import job_of
from tests.cluster.scenarios.welcome import BEGINS, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

DAY = 86400


@pytest.fixture
def job(cluster: Cluster) -> Iterator[int]:
    """Return a job of alice's, which logins to n1 are welcomed to."""
    cluster.pam(pam.both("welcome=1"))
    yield cluster.submit("alice")
    cluster.login.run(["sh", "-c", "rm -f /tmp/w-*"])
    cluster.n1.run(["sh", "-c", "rm -f /tmp/w-* /home/alice/.hushlogin"])


@pytest.mark.parametrize("method", ["publickey", "password", "keyboard-interactive"])
def test_a_shell_on_a_terminal_is_told(cluster: Cluster, job: int, method: str) -> None:
    said = shell(cluster, "-tt", method=method)
    assert said.count(BEGINS) == 1
    assert f"{BEGINS}{job} and ends with it." in said.replace("\r", "")
    assert job_of(cluster.n1, said.replace("\r", "")) == job


def test_a_shell_without_one_is_told_as_of_the_day(cluster: Cluster, job: int) -> None:
    """`ssh node <script` gets it, too: sshd shows the message of the day there as well."""
    assert shell(cluster).startswith(f"{BEGINS}{job} and ends with it.\n")


def test_nobody_else_is_told(cluster: Cluster, job: int) -> None:
    """Commands, with a terminal or without; a quiet user; copies; a service that is not sshd."""
    node, login = cluster.n1, cluster.login
    done = cluster.ssh("alice", command="echo out; echo err >&2")
    assert (done.rc, done.out, done.err) == (0, "out\n", "err\n")
    done = cluster.ssh("alice", command="echo out", options=("-tt",))
    assert BEGINS not in done.out + done.err
    login.write("tmp/w-1", "x" * 100_000)
    copies = (
        "scp -q /tmp/w-1 n1:/tmp/w-2 && scp -q n1:/tmp/w-2 /tmp/w-3 && scp -qO n1:/tmp/w-2 /tmp/w-4"
        " && echo 'get /tmp/w-2 /tmp/w-5' | sftp -q -b - n1"
        " && rsync -c n1:/tmp/w-2 /tmp/w-6 && ssh n1 cat /tmp/w-2 >/tmp/w-7"
    )
    said = login.run(["sh", "-ec", f"({copies}) 2>&1; cmp /tmp/w-1 /tmp/w-3"], "alice").stdout
    assert BEGINS not in said
    for number in range(3, 8):
        login.run(["cmp", "/tmp/w-1", f"/tmp/w-{number}"])
    node.run(["touch", "/home/alice/.hushlogin"])
    assert BEGINS not in shell(cluster, "-tt")
    node.run(["rm", "/home/alice/.hushlogin"])
    assert BEGINS in shell(cluster, "-tt")
    # Who is in no job is not told of one, and by default nobody is.
    assert BEGINS not in shell(cluster, "-tt", user="root")
    cluster.pam(pam.both("welcome=1", "action_no_jobs=ignore"))
    assert BEGINS not in shell(cluster, "-tt", user="carol")
    cluster.pam(pam.both())
    said = shell(cluster, "-tt")
    assert BEGINS not in said
    assert job_of(node, said.replace("\r", "")) == job


def test_with_two_session_lines_it_is_told_once(cluster: Cluster, job: int) -> None:
    cluster.pam([*pam.both("welcome=1"), *pam.session_lines("welcome=1")])
    assert shell(cluster, "-tt").count(f"{BEGINS}{job} ") == 1


@pytest.mark.parametrize(
    ("ahead", "ends"),
    [(3 * DAY, ", at {day} {clock} at the latest."), (None, "."), (10**17, ".")],
)
def test_when_the_job_ends(cluster: Cluster, job: int, ahead: int | None, ends: str) -> None:
    """As SLURM_JOB_END_TIME of the job says, where job_env hands it over."""
    cluster.cancel(job)
    cluster.wait_gone(job)
    end = int(time.time()) + (ahead or 0)
    script = f"SLURM_JOB_END_TIME={end if ahead else 'soon'} exec sleep 900"
    newest = cluster.submit("alice", script=script)
    cluster.pam(pam.both("welcome=1", "job_env=SLURM_JOB_END_TIME"))
    said = shell(cluster, "-tt").replace("\r", "")
    then = cluster.n1.run(["date", "-d", f"@{end}", "+%Y-%m-%d %H:%M"], check=False).stdout
    day, _, clock = then.strip().partition(" ")
    assert f"{BEGINS}{newest} and ends with it{ends.format(day=day, clock=clock)}\n" in said
