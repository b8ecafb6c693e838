"""Recipes of the guide for programs of other people: podman, and LBNL's Node Health Check."""

from __future__ import annotations

import contextlib
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import guide, pam
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.job_namespaces import PLUGINS, plugin_in_use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.login import Result

# podman

IMPORT = """\
mkdir -p rootfs/bin && cp /bin/busybox rootfs/bin && tar -c -C rootfs . | podman import - tiny
"""
RUN = "podman run --rm --network=none tiny /bin/busybox echo hello"
STORAGE = "/home/alice/.local/share/containers/storage"
CONF = "etc/containers/storage.conf"
WRAPPER = "usr/local/bin/podman"
VFS = '[storage]\ndriver = "vfs"\n'  # overlay is not to be had in each kind of test machine


def printed(first: str, last: str) -> str:
    """Return a file that the guide's section on podman prints."""
    return "".join(f"{line}\n" for line in guide.commands_between("podman", first, last))


@pytest.fixture
def podman(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with what rootless podman wants on n1."""
    node = cluster.n1
    cluster.pam(pam.both(*pam.PRODUCTION, "runtime_dir=job"))
    for path in ("etc/subuid", "etc/subgid"):
        node.write(path, "alice:100000:65536\n")
    node.write(CONF, VFS)
    yield cluster
    cluster.cancel_all()
    node.run(["rm", "-rf", f"/{CONF}", f"/{WRAPPER}", "/home/alice/.local", "/home/alice/rootfs",
              "/run/slurm_adopt", "/tmp/podman-run-5001"])  # fmt: skip


def ran(result: Result) -> bool:
    """Say whether a container has run."""
    return result.rc == 0 and "hello" in result.out.split()


def test_podman_without_a_recipe(podman: Cluster) -> None:
    """It fails in the second job as the guide says, until the database is gone."""
    podman.submit("alice")
    assert ran(podman.ssh("alice", command=IMPORT + RUN))
    assert ran(podman.ssh("alice", command=RUN))
    podman.cancel_all()
    podman.submit("alice")
    error = re.sub("[0-9]+", "[0-9]+", guide.command("podman", "Error: creating events dirs"))
    for command in (RUN, "podman ps", "podman system reset -f"):
        result = podman.ssh("alice", command=command)
        assert result.rc == 125
        assert re.search(error, result.err), result
    assert podman.ssh("alice", command=guide.command("podman", "rm -f")).rc == 0
    assert ran(podman.ssh("alice", command=RUN))


def test_podman_that_does_not_see_the_variable(podman: Cluster) -> None:
    """One job after the other, two at once, and in a step."""
    podman.n1.write(WRAPPER, printed("#!/bin/sh", "exec env"), 0o755)
    first = podman.submit("alice", mem="100M")
    assert ran(podman.ssh("alice", command=IMPORT + RUN))
    podman.cancel(first)
    podman.wait_gone(first)
    for _ in range(2):
        job = podman.submit("alice", mem="100M")
        assert ran(podman.ssh("alice", command=RUN))
        assert ran(podman.in_job(job, "alice", "n1", ["sh", "-c", RUN]))


def test_podman_whose_storage_is_the_job_s(podman: Cluster) -> None:
    (plugin,) = PLUGINS["22.05"]
    podman.n1.write(CONF, printed("[storage]", "rootless_storage_path"))
    with plugin_in_use(podman, plugin):
        for _ in range(2):
            podman.cancel_all()
            job = podman.submit("alice")
            assert ran(podman.ssh("alice", command=IMPORT + RUN))
            assert ran(podman.ssh("alice", command=RUN))
            assert ran(podman.in_job(job, "alice", "n1", ["sh", "-c", RUN]))
        assert not (podman.n1.root / STORAGE.lstrip("/")).exists()
        podman.cancel_all()


# Node health checks

ASK = """\
. /tmp/slurm_adopt.nhc
for pid; do nhc_ps_pid_lineage "$pid" /slurmstepd/ && echo "$pid"; done; true
"""
STEP = "(setsid sleep 1011 &); exec sleep 1012"
FAR_OFF = "/user.slice/step_extern"  # a cgroup of the user's own, as below a delegated one


# (/proc/PID/cgroup, whether that is a step of a job)
CGROUPS = [
    ("6:freezer:/slurm/uid_5001/job_8/step_extern\n0::/\n", True),
    ("6:freezer:/slurm_n1/uid_5001/job_8/step_batch/task_0\n", True),
    ("4:memory:/slurm_n1/uid_5001/job_8/step_extern/task_0\n6:freezer:/\n0::/\n", False),
    ("0::/system.slice/slurmstepd.scope/job_8/step_0/user/task_0\n", True),
    ("0::/system.slice/n1_slurmstepd.scope/s0A1B2C3D4E5F6/step_extern/user/task_special\n", True),
    ("0::/user.slice/user-5001.slice/user@5001.service/slurm/job_8/step_extern\n", False),
    ("0::/user.slice/user-5001.slice/session-3.scope\n", False),
    ("0::/system.slice/slurmd.service\n", False),
]


@pytest.mark.parametrize(("cgroups", "is_step"), CGROUPS)
def test_which_cgroups_are_steps(tmp_path: Path, cgroups: str, is_step: bool) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(cgroups)
    script = function().replace("/proc/", f"{tmp_path}/") + "\nnhc_ps_pid_lineage 7"
    assert (subprocess.run(["bash", "-c", script], check=False).returncode == 0) == is_step


def function() -> str:
    """Return what the guide has for NHC."""
    lines = guide.commands_between("monitoring", "# Say whether", "}")
    return "\n".join(lines)


def test_what_is_in_a_job_by_its_cgroup(cluster: Cluster) -> None:
    """The function that the guide gives to NHC, asked as NHC does.

    NHC itself is not in Debian. By hand its check was seen to do the same with this function.
    """
    node = cluster.n1
    job = cluster.submit("alice", cpus=2)
    cluster.pam(pam.both(*pam.PRODUCTION))
    node.write("tmp/slurm_adopt.nhc", function())
    with contextlib.ExitStack() as opened:
        session = opened.enter_context(cluster.session("alice"))
        detached = session.run("(setsid sleep 1010 >&- 2>&- <&- & echo $!)").strip()
        srun = ["srun", f"--jobid={job}", "--overlap", "-n1", "sh", "-c", STEP]
        opened.callback(end, cluster.login.popen(srun, "alice", stdout=subprocess.DEVNULL))
        outside = node.popen(["sleep", "1013"], "alice")
        opened.callback(end, outside)
        moved = node.popen(["sh", "-c", f"{MOVE} exec setpriv --reuid=alice sleep 1014"])
        opened.callback(end, moved)
        of_step = [_pid(cluster, 1011), _pid(cluster, 1012)]
        away = [_pid(cluster, 1013), _pid(cluster, 1014)]
        inside = [str(session.pid), detached, *of_step]
        ended = "4194304"
        said = node.run(["bash", "-c", ASK, "bash", *inside, *away, ended]).stdout.split()
        assert said == [*inside, ended]


MOVE = f"""\
for top in freezer memory; do
    mkdir -p /sys/fs/cgroup/$top{FAR_OFF}
    echo $$ >/sys/fs/cgroup/$top{FAR_OFF}/cgroup.procs
done
"""


def _pid(cluster: Cluster, seconds: int) -> str:
    """Return the pid of a sleep of alice's, told by its time."""

    def find() -> str:
        argv = ["pgrep", "-u", "alice", "-fx", f"(/bin/)?sleep {seconds}"]
        return cluster.n1.run(argv, check=False).stdout.strip()

    wait_for(f"sleep {seconds}", find)
    return find()
