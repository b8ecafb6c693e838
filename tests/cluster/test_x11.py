"""X11: a client in a session reaches the X server of the user who started the job by --x11."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.cluster import pam
from tests.cluster.cells import CELLS
from tests.cluster.cluster import Cluster, Settings
from tests.cluster.host import end
from tests.cluster.login import asking, ssh_argv
from tests.cluster.phases import KBDINT, STRICT
from tests.cluster.wait import wait_for
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STANDIN = "/checkout/tests/cluster/standin_x11.py"
FAR = "the far X server"
OWN = ":7"  # DISPLAY on the login node
WITH_X11 = Settings(slurm_conf="PrologFlags=contain,x11\n")
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


@pytest.fixture
def display(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with Slurm's X11 forwarding, and an X server of alice's."""
    cluster.reconfigure(WITH_X11)
    with x_server(cluster):
        yield cluster
    cluster.reconfigure(Settings())


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


@pytest.mark.parametrize("starter", STARTERS, ids=" ".join)
def test_a_job_with_x11(display: Cluster, starter: Sequence[str]) -> None:
    reaches_the_far_server(display, starter)


@pytest.mark.cluster
@pytest.mark.parametrize("cell", ["trixie"])
def test_a_job_with_x11_of_another_release(cell: str, request: pytest.FixtureRequest) -> None:
    with Cluster(f"x11-{os.getpid()}", WITH_X11, roots=CELLS[cell].roots) as cluster:
        show_logs_of(request.config, cluster)
        with x_server(cluster):
            reaches_the_far_server(cluster, STARTERS[0])


@pytest.mark.parametrize("disabled", [0, 1])
def test_a_job_without_x11(display: Cluster, disabled: int) -> None:
    """What ssh has set stays."""
    display.pam(pam.with_module(f"disable_x11={disabled}"))
    with job(display, STARTERS[0]):
        assert look(display)[:2] == ("", "none")
        alone = look(display, "-X")
        assert OF_SSH.fullmatch(alone[0]), alone
        assert alone[1:] == ("none", FAR)


# With an account line of ours as well, that one has set the variables for most methods.
@pytest.mark.parametrize("method", ["publickey", KBDINT])
def test_the_session_line(display: Cluster, method: str) -> None:
    """It sets the variables where it is alone."""
    display.pam([*pam.stack(), *pam.session_lines(*STRICT)])
    with job(display, STARTERS[0], "--x11"):
        shown, authority, server = look(display, method=method)
        assert OF_JOB.fullmatch(shown), shown
        assert authority.startswith("/tmp/.Xauthority-")
        assert server == FAR


def test_the_cookie_is_needed(display: Cluster) -> None:
    """The stand-in refuses who has none, so an answer of it says that XAUTHORITY is right."""
    display.pam(pam.with_module())
    with job(display, STARTERS[0], "--x11"):
        without = LOOK.replace("python3", "XAUTHORITY=/tmp/none python3")
        done = display.ssh("alice", command=without)
    assert done.rc != 0
    assert "wrong cookie" in done.err
