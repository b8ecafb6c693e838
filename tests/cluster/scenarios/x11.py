"""X11: clients in sessions reach the X server of the user who started the job by --x11."""

from __future__ import annotations

import re
import secrets
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.host import end
from tests.cluster.harness.login import asking, ssh_argv
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster

STANDIN = "/checkout/tests/cluster/standins/x11.py"
FAR = "the far X server"
OWN = ":7"  # DISPLAY on the login node
WITH_X11 = "PrologFlags=contain,x11\n"
OF_SSH = re.compile(r"localhost:1\d\.0")  # sshd begins at 10 (X11DisplayOffset)
OF_JOB = re.compile(r"localhost:\d+\.0")

# DISPLAY, XAUTHORITY, and who answers there.
LOOK = f'echo "$DISPLAY" "${{XAUTHORITY-none}}"; python3 {STANDIN} ask'
STARTERS = (("salloc",), ("srun",))


@contextmanager
def x_server(cluster: Cluster) -> Iterator[None]:
    """Run alice's X server on the login node; her cookie is in her ~/.Xauthority there."""
    cookie = secrets.token_hex(16)
    argv = ["python3", STANDIN, "serve", OWN[1:], cookie, FAR]
    server = cluster.login.popen(argv, "alice", stdout=subprocess.PIPE)
    try:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        add = ["xauth", "-q", "add", OWN, "MIT-MAGIC-COOKIE-1", cookie]
        cluster.login.run(add, "alice")
        yield
    finally:
        end(server)
        cluster.login.run(["rm", "-rf", "/tmp/.X11-unix", "/home/alice/.Xauthority"])


@contextmanager
def job(cluster: Cluster, starter: Sequence[str], *options: str) -> Iterator[int]:
    """Start a job of alice's on n1 that ends with the block: Slurm forwards through its command."""
    argv = ["env", f"DISPLAY={OWN}", *starter, *options, "--nodelist=n1", "--chdir=/tmp", "sleep"]
    running = cluster.login.popen([*argv, "300"], "alice", stdin=subprocess.DEVNULL)
    try:
        yield wait_for("the job", lambda: allocated(cluster), 20, cluster.tails)
    finally:
        end(running)
        cluster.cancel_all()


def allocated(cluster: Cluster) -> int | None:
    """Return alice's job once it runs, so that its prolog is done."""
    said = cluster.ctl.run(["squeue", "-h", "-u", "alice", "-t", "RUNNING", "-o", "%A"])
    there = [int(word) for word in said.stdout.split()]
    return there[0] if there and cluster.socket("n1", there[0]).is_socket() else None


def look(cluster: Cluster, *options: str, method: str = "publickey") -> tuple[str, str, str]:
    """Log in to n1; return DISPLAY, XAUTHORITY, and the name of the X server there."""
    ask = asking(cluster.login, "alice", method)
    argv = ["env", f"DISPLAY={OWN}", *ask, *ssh_argv("n1", "alice", options, method), LOOK]
    done = cluster.login.run(argv, "alice", check=False)
    variables, _, server = done.stdout.partition("\n")
    display, _, authority = variables.partition(" ")
    return display, authority, server.strip() or done.stderr.strip().rpartition("\n")[2]


def reaches_the_far_server(cluster: Cluster, starter: Sequence[str]) -> None:
    """See that a session has the job's display, over that of ssh -X, unless disable_x11 is set."""
    cluster.pam(pam.with_module())
    with job(cluster, starter, "--x11"):
        for options in ((), ("-X",)):
            display, authority, server = look(cluster, *options)
            assert OF_JOB.fullmatch(display), display
            assert authority.startswith("/tmp/.Xauthority-")
            assert server == FAR
            owner = cluster.n1.run(["stat", "-c", "%U %a", authority]).stdout
            assert owner == "alice 600\n"
        displays = {look(cluster)[0], look(cluster, "-X")[0]}
        assert displays == {display}  # the job's, not one that sshd counts up
        cluster.pam(pam.with_module("disable_x11=1"))
        assert look(cluster)[:2] == ("", "none")
        alone = look(cluster, "-X")
        assert OF_SSH.fullmatch(alone[0]), alone
        assert alone[1:] == ("none", FAR)


@contextmanager
def display(cluster: Cluster) -> Iterator[None]:
    """Have the cluster forward X11, and an X server of alice's run."""
    before = cluster.settings
    cluster.reconfigure(replace(before, slurm_conf=before.slurm_conf + WITH_X11))
    try:
        with x_server(cluster):
            yield
    finally:
        cluster.reconfigure(before)


def x11_of_the_job(cluster: Cluster) -> None:
    """See that on a cluster without X11."""
    with display(cluster):
        reaches_the_far_server(cluster, STARTERS[0])
