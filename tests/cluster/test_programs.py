"""`./dev programs` in short: what starts programs, in sessions in a job; Open MPI and MPICH too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.decision.variables import VARIABLES
from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.suites import WITH_LAUNCHERS
from tests.cluster.scenarios.of_job import STRICT, env
from tests.cluster.tools import programs
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.parametrize("suite", [WITH_LAUNCHERS], ids=["launchers"], scope="module"),
]


@pytest.fixture(scope="module")
def launchers(suite: object) -> Iterator[Cluster]:
    """Bring up a cluster of hosts that have the launchers as well."""
    assert suite is WITH_LAUNCHERS
    with Cluster(f"programs-{os.getpid()}", roots=programs.ROOTS) as cluster:
        yield cluster


@pytest.fixture
def site(launchers: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    show_logs_of(request.config, launchers)
    yield launchers
    launchers.cancel_all()


MPI = [one for one in programs.PROGRAMS if "mpi" in one.name]
HERE = {"n1": "n1", "n2": "n2"}
BOTH = {"n1": "n1 n2", "n2": "n1 n2"}
FIRST = {"n1": "n1 n2", "n2": "n2"}

# (how the job is made, where MPI's ranks are that are started on each of its nodes)
MADE = [
    ((programs.SBATCH, "--mem-per-cpu"), FIRST),
    ((programs.SBATCH, "--mem-per-gpu"), FIRST),
    ((programs.SBATCH, "uneven"), FIRST),
    ((programs.SBATCH, "a step on n2"), FIRST),
    ((programs.SALLOC, "--mem-per-cpu"), HERE),
    ((programs.SRUN, "--mem-per-cpu"), BOTH),
]


@pytest.mark.parametrize(("how", "ranks"), MADE, ids=[f"{by} {name}" for (by, name), _ in MADE])
def test_programs_start(site: Cluster, how: tuple[str, str], ranks: dict[str, str]) -> None:
    """On each node with all variables; MPI on all nodes where the list of them is known."""
    (making,) = [job for job in programs.JOBS if (job.by, job.name) == how]
    own = [one for one in programs.PROGRAMS if one.own]
    with programs.made(site, making):
        for node, where in ranks.items():
            found = programs.seen(site, programs.Row(making, node, "all"), own)
            assert [one for one in found if one.wrong] == []
            assert {one.said for one in found if one.program in {p.name for p in MPI}} == {where}


@pytest.mark.parametrize("name", ["--array", "--cpus-per-task"])
def test_jobs_are_submitted(site: Cluster, name: str) -> None:
    """They start as from the login node, whatever memory and tasks this job has and they want."""
    (making,) = [job for job in programs.JOBS if job.name == name]
    submitted = [one for one in programs.PROGRAMS if not one.own]
    with programs.made(site, making):
        found = programs.seen(site, programs.Row(making, "n1", "all"), submitted)
    assert len(found) == len(submitted)
    assert [one for one in found if one.wrong] == []


SUBMIT = "cd /tmp && sbatch --wait --output=/tmp/of-job -wn1 --wrap env >/dev/null && cat of-job"


def test_what_a_submitted_job_inherits(site: Cluster) -> None:
    """Nothing of this job's is in its environment, but all that Slurm gives to each."""
    expected = env(site.n1.run(["sh", "-c", SUBMIT], "alice").stdout).keys() & VARIABLES.keys()
    site.pam(pam.both(*STRICT, "job_env=all"))
    options = ("-n2", "-c1", "--mem-per-cpu=50M", "--array=3", "--gpus-per-node=1")
    site.submit("alice", script="exec sleep 900", options=options)
    found = env(site.ssh("alice", command=SUBMIT).out)
    assert found.keys() & VARIABLES.keys() == expected
    site.pam(pam.both(*STRICT, "job_env=all,SLURM_NTASKS,SLURM_ARRAY_TASK_ID"))
    found = env(site.ssh("alice", command=SUBMIT).out)
    assert (found["SLURM_NTASKS"], found["SLURM_ARRAY_TASK_ID"]) == ("2", "3")
