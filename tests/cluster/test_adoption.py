"""One job, no job: real sshd, real slurmd, and the kernel's word."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import cgroups, pam
from tests.cluster.harness.traces import traces
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

from tests.cluster.harness.cluster import Settings

NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
GATHERING = ("jobacct_gather/cgroup", "jobacct_gather/linux")


@pytest.fixture(params=GATHERING)
def gathering(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Run with each way of gathering accounting data."""
    cluster.reconfigure(Settings(jobacct=request.param))
    yield request.param
    cluster.reconfigure(Settings())


@pytest.mark.parametrize("method", ["publickey", "password"])
def test_one_job(cluster: Cluster, gathering: str, method: str) -> None:
    """The shell is in the job's extern step in every hierarchy that is confined."""
    job = cluster.submit("alice")
    with cluster.session("alice", method=method) as session:
        assert session.run("echo $SLURM_JOB_ID").strip() == str(job)
        expected = cgroups.adopted("n1", 5001, job, gathering)
        found = cluster.n1.cgroups(session.pid)
        assert {controller: found[controller] for controller in expected} == expected


def test_usage_is_charged_once(cluster: Cluster, gathering: str) -> None:
    """What the session burns is what the job's extern step is charged, not a part, not twice."""
    assert gathering
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        burn = "sh -c 'ulimit -t 4; while :; do :; done'"
        minutes, seconds = session.run(f"{burn}; {burn}; times", 120).split()[-2].split("m")
        burned = int(minutes) * 60 + float(seconds.rstrip("s"))

        def charged() -> int:
            fields = "--format=TresUsageInTot%60,NTasks"
            said = cluster.login.run(["sstat", "-nP", "-j", f"{job}.extern", fields]).stdout
            usage, tasks = said.strip().split("|")
            assert tasks == "1"
            hours, minutes, seconds = usage.partition("cpu=")[2].partition(",")[0].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + int(seconds)

        # accounting counts in ticks: on a busy machine not all of them are seen
        wait_for(
            f"{burned} s charged", lambda: charged() >= burned * 0.6, 20, lambda: f"{charged()}"
        )
        assert charged() <= burned * 1.3 + 1


def test_memory(cluster: Cluster, gathering: str) -> None:
    """What takes more memory than the job has is killed."""
    assert gathering
    cluster.submit("alice", mem="100M")
    with cluster.session("alice") as session:
        assert session.run("python3 -c 'b\"x\" * (60 << 20)'; echo $?").split()[-1] == "0"
        assert session.run("python3 -c 'b\"x\" * (300 << 20)'; echo $?").split()[-1] == "137"


def test_device(cluster: Cluster) -> None:
    """A device that is not the job's is refused."""
    cluster.submit("alice", gres="gpu:1")
    with cluster.session("alice") as session:
        assert session.run("head -c1 /dev/fakegpu0 | wc -c").strip() == "1"
        assert "Operation not permitted" in session.run("head -c1 /dev/fakegpu1")


def test_cores(cluster: Cluster) -> None:
    """The session has the job's core only."""
    job = cluster.submit("alice")
    cgroup = cgroups.folder("cpuset", cgroups.of_job("n1", 5001, job))
    mine = cluster.n1.read(f"{cgroup}/cpuset.cpus").strip()
    with cluster.session("alice") as session:
        status = session.run("grep Cpus_allowed_list /proc/self/status")
        assert status.split()[1] == mine
        assert mine.isdecimal()


def test_no_job(cluster: Cluster) -> None:
    """Refused with the text, before anything of the user runs; other users' jobs do not count."""
    for _ in range(40):
        cluster.submit("bob", mem="10M")
    cluster.submit("alice", nodes="n2")
    result = cluster.ssh("alice", command="touch /tmp/ran")
    assert result.rc == 255
    assert NO_JOBS in result.err
    assert not (cluster.n1.root / "tmp/ran").exists()
    job = cluster.submit("alice", mem="10M")
    assert cluster.ssh("alice", command="echo $SLURM_JOB_ID").out.strip() == str(job)


def test_twenty_at_once(cluster: Cluster) -> None:
    """Logins at the same instant are all adopted."""
    job = cluster.submit("alice", mem="2000M")
    expected = cgroups.adopted("n1", 5001, job, Settings().jobacct)
    with ThreadPoolExecutor(20) as pool:
        logins = [
            pool.submit(cluster.ssh, "alice", command="cat /proc/self/cgroup", timeout=60)
            for _ in range(20)
        ]
    for login in logins:
        result = login.result()
        assert result.rc == 0, result.err
        paths = {line.split(":")[1]: line.split(":")[2] for line in result.out.splitlines()}
        assert {name: paths.get(name, paths[""]) for name in expected} == expected


def test_checkout_in_place(cluster: Cluster) -> None:
    """The script runs from a checkout by its absolute path, with nothing installed."""
    line = pam.OURS.replace("/opt/slurm_adopt", "/checkout")
    cluster.pam(pam.with_module(line=line))
    for node in cluster.nodes:
        node.run(["mv", "/opt/slurm_adopt", "/opt/elsewhere"])
    try:
        job = cluster.submit("alice")
        assert cluster.ssh("alice", command="echo $SLURM_JOB_ID").out.strip() == str(job)
    finally:
        for node in cluster.nodes:
            node.run(["mv", "/opt/elsewhere", "/opt/slurm_adopt"])


def test_nothing_is_left_in_sshd(cluster: Cluster) -> None:
    """The privileged sshd has the same descriptors, threads and signal handlers as without us."""
    cluster.submit("alice")
    found = []
    for stack in (pam.stack(), pam.with_module("log_level=debug5")):
        cluster.pam(stack)
        with cluster.session("alice") as session:
            found.append(traces(cluster, session.pid))
    without, ours = found
    assert ours == without
