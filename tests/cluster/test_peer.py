"""The cluster itself, proved with the peer: Slurm's own C module adopts a login there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.scenarios import basic

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster


@pytest.fixture(autouse=True)
def c_module(cluster: Cluster) -> None:
    """Put the C module in the place of ours."""
    cluster.pam(pam.with_module(line=pam.C_MODULE))


@pytest.mark.parametrize("method", ["publickey", "password"])
@pytest.mark.parametrize("target", ["n1", "n1-6"])
def test_one_job(cluster: Cluster, method: str, target: str) -> None:
    """A login is in the extern step in every hierarchy that the configuration confines."""
    job = cluster.submit("alice")
    with cluster.session("alice", target, method=method) as session:
        assert session.run("echo $SLURM_JOB_ID").strip() == str(job)
        step = f"/slurm_n1/uid_5001/job_{job}/step_extern"
        found = cluster.n1.cgroups(session.pid)
        for controller in ("freezer", "cpuset", "devices"):
            assert found[controller] == step
        assert found["memory"] == found["cpuacct"] == f"{step}/task_0"


def test_scancel(cluster: Cluster) -> None:
    """The end of the job is the end of the session and of what it started."""
    basic.scancel(cluster, job_gone=20, session_gone=15)


def test_memory(cluster: Cluster) -> None:
    """More memory than the job has kills what takes it, and the session stays."""
    cluster.submit("alice", mem="100M")
    with cluster.session("alice") as session:
        assert session.run("python3 -c 'b\"x\" * (300 << 20)'; echo $?").split()[-1] == "137"


def test_device(cluster: Cluster) -> None:
    """A device is open to the job that asked for it, and to no other."""
    cluster.submit("alice", gres="gpu:1")
    with cluster.session("alice") as session:
        assert session.run("head -c1 /dev/fakegpu0 | wc -c").strip() == "1"
        assert "Operation not permitted" in session.run("head -c1 /dev/fakegpu1")


def test_no_job(cluster: Cluster) -> None:
    """Jobs of another user or on another node do not count."""
    cluster.submit("bob")
    cluster.submit("alice", nodes="n2")
    result = cluster.ssh("alice")
    assert result.rc == 255
    assert "you have no active jobs on this node" in result.err


def test_root(cluster: Cluster) -> None:
    """Root logs in everywhere."""
    assert cluster.ssh("root").rc == 0


def test_from_inside_a_job(cluster: Cluster) -> None:
    """A login from a job of several lands in that job."""
    jobs = [cluster.submit("bob"), cluster.submit("bob", nodes="n2,n1"), cluster.submit("bob")]
    answer = cluster.in_job(jobs[1], "bob", "n2", ["ssh", "n1", "echo $SLURM_JOB_ID"])
    assert answer.out.strip() == str(jobs[1])
