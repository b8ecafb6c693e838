"""Over the real cgroups of a real step: a stand-in stepd answers, the module's own write counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

CONF = "/etc/slurm-standin/slurm.conf"
SPOOL = "/run/standin"
CONFINED = ("cpuacct", "cpuset", "devices", "freezer", "memory")
DENIED = "Access denied by pam_slurm_adopt: failed to adopt process into cgroup"


class Standin:
    """A real job whose stepd is, for the module, the stand-in."""

    def __init__(self, cluster: Cluster, cpus: int = 1) -> None:
        self.node = cluster.n1
        self.job = cluster.submit("alice", cpus=cpus)
        self.step = f"/slurm_n1/uid_5001/job_{self.job}/step_extern"
        conf = self.node.read("etc/slurm/slurm.conf") + f"SlurmdSpoolDir={SPOOL}\n"
        self.node.write(CONF, conf)
        self.node.write("etc/slurm-standin/cgroup.conf", self.node.read("etc/slurm/cgroup.conf"))
        cluster.pam(pam.with_module(f"slurm_conf={CONF}", "action_adopt_failure=deny"))

    def start(self, reply: int, *controllers: str, user: str | None = None) -> None:
        """Have it answer so after it has moved the process in these hierarchies only.

        `memory/task_0` means that child of the step in the memory hierarchy. `user`: whose it is.
        """
        path = f"{SPOOL}/n1_{self.job}.4294967292"
        places = [name.partition("/") for name in controllers]
        files = [f"/sys/fs/cgroup/{c}{self.step}/{leaf}/cgroup.procs" for c, _, leaf in places]
        module = ["python3", "-m", "tests.cluster.standins.stepd", path, "5001", str(reply), *files]
        script = 'cd /checkout; setsid "$@" >/dev/null 2>&1 </dev/null &'
        self.node.run(["install", "-d", "-m", "1777", SPOOL])
        self.node.run(["sh", "-c", script, "sh", *module], user)
        wait_for("stand-in", (self.node.root / (path + ".pid").lstrip("/")).exists)

    def stop(self) -> None:
        """End it and remove what was its."""
        self.node.run(["sh", "-c", f"kill $(cat {SPOOL}/*.pid); rm -r {SPOOL}"], check=False)


@pytest.fixture
def standin(cluster: Cluster) -> Iterator[Standin]:
    """Give a real job a stand-in for its stepd."""
    found = Standin(cluster)
    yield found
    found.stop()


@pytest.mark.parametrize("moved", [(), ("freezer",), ("memory", "devices")], ids=" ".join)
def test_what_the_stepd_left_out_is_written(
    cluster: Cluster, standin: Standin, moved: tuple[str, ...]
) -> None:
    """A 0 from the stepd proves nothing: the module completes the adoption and reads it back."""
    standin.start(0, *moved)
    mark = cluster.n1.mark()
    with cluster.session("alice") as session:
        found = cluster.n1.cgroups(session.pid)
        assert {name: found[name] for name in CONFINED} == dict.fromkeys(CONFINED, standin.step)
        assert session.run("echo $SLURM_JOB_ID").strip() == str(standin.job)
    written = [line for line in cluster.n1.log(mark) if "it is written there" in line]
    assert len(written) == len(CONFINED) - len(moved)


def test_a_socket_that_the_user_planted_is_no_job(cluster: Cluster, standin: Standin) -> None:
    """It speaks the protocol, and names a job that is alice's: nobody is let in for it."""
    standin.start(0, user="alice")
    mark = cluster.n1.mark()
    result = cluster.ssh("alice")
    assert result.rc == 255
    assert "you have no active jobs on this node" in result.out + result.err
    planted = f"{SPOOL}/n1_{standin.job}.4294967292 is a socket of uid 5001, not of Slurm: ignored"
    assert planted in "".join(cluster.n1.log(mark))
    standin.stop()
    standin.start(0)
    assert cluster.ssh("alice").rc == 0


def test_below_the_step_s_directory_is_in(cluster: Cluster, standin: Standin) -> None:
    """A process that the stepd put into a task of the step is not moved up."""
    standin.start(0, "memory/task_0", "freezer")
    with cluster.session("alice") as session:
        found = cluster.n1.cgroups(session.pid)
        assert found["memory"] == f"{standin.step}/task_0"
        assert found["freezer"] == found["cpuset"] == standin.step


def test_refused_means_nothing_is_written(cluster: Cluster, standin: Standin) -> None:
    """A pid that the stepd refused is written nowhere, and the login is refused."""
    standin.start(-1)
    result = cluster.ssh("alice")
    assert result.rc == 255
    assert DENIED in result.err
    cluster.pam(pam.with_module(f"slurm_conf={CONF}"))  # action_adopt_failure=allow
    with cluster.session("alice") as session:
        found = cluster.n1.cgroups(session.pid)
        assert all(found[name] == "/" for name in CONFINED)
        assert not session.run("echo $SLURM_JOB_ID").strip()
