"""Real jobs whose stepd is, for the module, a stand-in that says what a test wants."""

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


class Liar(Standin):
    """A real job whose stepd sends something else than the job's namespaces."""

    def send(self, protocol: int, *pieces: str) -> None:
        """Have it answer so."""
        path = f"{SPOOL}/n1_{self.job}.4294967292"
        module = ["python3", "-m", "tests.cluster.standins.namespaces", path, "5001", str(protocol)]
        script = 'cd /checkout; setsid "$@" >/dev/null 2>&1 </dev/null &'
        self.node.run(["sh", "-c", script, "sh", *module, *pieces])
        wait_for("stand-in", (self.node.root / (path + ".pid").lstrip("/")).exists)
