"""What sshd is started with, and in: another PAM service's name, a container without syslog."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.cluster import pam, services
from tests.cluster.host import end
from tests.cluster.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster

PORT = 2024
THERE = ("-p", str(PORT))
OPTIONS = ("-o", f"Port={PORT}", "-o", "PidFile=none")


def test_another_service(cluster: Cluster) -> None:
    services.another_service(cluster)


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
