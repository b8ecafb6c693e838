"""What sshd is started with, and in: another PAM service's name, some CPUs, a container."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import affinity, services
from tests.cluster.scenarios.standin_step import CONF, Liar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

PORT = 2024
THERE = ("-p", str(PORT))
OPTIONS = ("-o", f"Port={PORT}", "-o", "PidFile=none")


def test_another_service(cluster: Cluster) -> None:
    services.another_service(cluster)


# Some of the node's CPUs

STACKS = {
    "both": pam.both(*pam.PRODUCTION),
    "account": pam.with_module(*pam.PRODUCTION),
    "session": [*pam.stack(), *pam.session_lines(*pam.PRODUCTION)],
}


@pytest.mark.parametrize("method", ["publickey", "keyboard-interactive"])
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_a_session_has_its_job_s_cpus(cluster: Cluster, stack: list[str], method: str) -> None:
    """All of them, as srun has; no other, whichever sshd is bound to."""
    whole = f"0-{(os.cpu_count() or 0) - 1}"
    cluster.pam(stack)
    job = cluster.submit("alice", cpus=os.cpu_count() or 0)
    with affinity.bound_sshd(cluster.n1) as there:
        assert affinity.of_step(cluster, job) == whole
        assert affinity.of_login(cluster, there, method=method) == whole
        assert affinity.of_login(cluster, there, user="root") == "0"
    cluster.cancel_all()
    jobs = {user: cluster.submit(user) for user in ("alice", "bob")}
    with affinity.bound_sshd(cluster.n1) as there:
        found = {user: affinity.of_login(cluster, there, user, method=method) for user in jobs}
        assert found == {user: affinity.of_step(cluster, job, user) for user, job in jobs.items()}
        assert found["alice"] != found["bob"]


def test_the_c_module_beside_it(cluster: Cluster) -> None:
    cluster.pam(pam.with_module(line=pam.C_MODULE))
    cluster.submit("alice", cpus=os.cpu_count() or 0)
    with affinity.bound_sshd(cluster.n1) as there:
        assert (affinity.of_login(cluster, there) == "0") == affinity.BOUND_STAYS_BOUND


# (what confines cores, in slurm.conf and cgroup.conf)
UNCONFINED = [("TaskPlugin=task/affinity\n", ""), ("", "ConstrainCores=no\n")]


@pytest.mark.parametrize(("slurm_conf", "cgroup_conf"), UNCONFINED, ids=["affinity", "no cores"])
def test_where_cores_are_not_confined(cluster: Cluster, slurm_conf: str, cgroup_conf: str) -> None:
    """The job has no CPUs that a session could be held to: it keeps sshd's."""
    usual = cluster.settings
    more = usual.slurm_conf + slurm_conf
    cluster.reconfigure(replace(usual, slurm_conf=more, cgroup_conf=cgroup_conf))
    try:
        cluster.pam(pam.both(*pam.PRODUCTION))
        cluster.submit("alice", cpus=os.cpu_count() or 0)
        with affinity.bound_sshd(cluster.n1) as there:
            assert affinity.of_login(cluster, there) == "0"
    finally:
        cluster.reconfigure(usual)


def test_an_adoption_that_fails_leaves_sshd_as_it_was(cluster: Cluster) -> None:
    """The job's namespace cannot be entered after all else: the process has its one CPU again."""
    liar = Liar(cluster, cpus=os.cpu_count() or 0)
    try:
        liar.send(38 << 8, "9", "/dev/null")
        for stack in (pam.with_module, pam.both):
            cluster.pam(stack(f"slurm_conf={CONF}", "log_level=debug"))
            mark = cluster.n1.mark()
            with affinity.bound_sshd(cluster.n1) as there:
                assert affinity.of_login(cluster, there) == "0"
            lines = cluster.n1.log(mark)
            assert any(re.search(r"may use CPUs 0,1.* instead of 0", line) for line in lines)
            assert any("adopt failure" in line for line in lines)
    finally:
        liar.stop()


# A container without syslog

POD = """\
touch /run/nothing
mount --bind /run/nothing /dev/log
exec /usr/sbin/sshd -D "$@"
"""
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@contextlib.contextmanager
def pod(cluster: Cluster, *options: str) -> Iterator[queue.Queue[str]]:
    """Have an sshd that is PID 1 of a container on n1; yield the container's log."""
    log: queue.Queue[str] = queue.Queue()
    argv = [*UNSHARE, "sh", "-ec", POD, "sh", *OPTIONS, *options]
    sshd = cluster.n1.popen(argv, stderr=subprocess.PIPE)

    def read() -> None:
        for line in sshd.stderr or ():
            log.put(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for("the container's sshd", lambda: PORT in cluster.n1.listening())
        yield log
    finally:
        end(sshd)
        reader.join()


def ours(log: queue.Queue[str]) -> str:
    """Return the next line of the module's in a container's log."""
    while True:
        if "pam_slurm_adopt(" in (line := log.get(timeout=10)):
            return line


@pytest.mark.parametrize("options", [(), ("-e",)], ids=["sshd -D", "sshd -D -e"])
def test_the_reason_is_in_the_container_s_log(cluster: Cluster, options: tuple[str, ...]) -> None:
    """Whether sshd's own lines go there or not, and when the package is away."""
    cluster.pam(pam.with_module(*pam.PRODUCTION))
    mark = cluster.n1.mark()
    with pod(cluster, *options) as log:
        assert cluster.ssh("alice", options=THERE).rc == 255
        line = ours(log)
        assert "user alice (uid 5001)" in line
        assert "no jobs: no job on this node; action_no_jobs=deny" in line
        cluster.submit("alice")  # its stepd is of another PID namespace
        assert cluster.ssh("alice", options=THERE).rc == 255
        assert "adopt failure: " in ours(log)
        cluster.n1.run(["mv", "/opt/slurm_adopt/src", "/opt/slurm_adopt/away"])
        try:
            assert cluster.ssh("alice", options=THERE).rc == 255
            assert "cannot run: ModuleNotFoundError" in ours(log)
        finally:
            cluster.n1.run(["mv", "/opt/slurm_adopt/away", "/opt/slurm_adopt/src"])
        assert cluster.ssh("root", options=THERE).rc == 0
    assert not [line for line in cluster.n1.log(mark) if "pam_slurm_adopt(" in line]
