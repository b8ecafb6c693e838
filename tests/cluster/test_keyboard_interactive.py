"""Keyboard-interactive: sshd runs the account phase in a child of what becomes the session."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.host import end
from tests.cluster.harness.login import Session, asking, ssh, ssh_argv
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_methods
from tests.cluster.scenarios.axes import INETD
from tests.cluster.scenarios.login_methods import (
    ONE_PROMPT,
    PUBLIC_KEY,
    TWO_METHODS,
    Taken,
    Way,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

DENIED = "failed to adopt process into cgroup, denying access because action_adopt_failure=deny"
MANY = 10


@pytest.fixture
def prepared(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with n1 prepared for the stacks of `phases`, and without notes."""
    cluster.n1.run(["rm", "-rf", "/run/slurm_adopt"])
    with login_methods.prepared(cluster.n1):
        yield cluster
    cluster.n1.run(["rm", "-rf", "/run/slurm_adopt"])


def in_job(cluster: Cluster, way: Way) -> bool:
    """Log in; say whether that is in the user's only job, and nothing else of sshd's is."""
    job = cluster.submit(way.user)
    taken = Taken(cluster.n1)
    with way.session(cluster) as session:
        monitor = login_methods.privileged(session)
        found = login_methods.job_with(cluster.n1, session.pid)
        assert login_methods.listens_outside(cluster.n1)
        assert found in (None, job)
        assert found == login_methods.job_with(cluster.n1, monitor)
        assert found is None or taken.pids() == {(job, monitor): 1}
    return found == job


# The note


def test_the_next_login_sweeps(prepared: Cluster) -> None:
    """With the account line alone a note stays until its process is gone and another is written."""
    cluster, node = prepared, prepared.n1
    cluster.pam(login_methods.stack("account"))
    cluster.submit("alice")
    with ONE_PROMPT.session(cluster) as first:
        gone = login_methods.privileged(first)
        (note,) = login_methods.notes(node)
        assert note.startswith(f"{gone}-")
    wait_for("logged out", lambda: not node.alive(gone))
    assert login_methods.notes(node) == [note]
    with TWO_METHODS.session(cluster) as second, ONE_PROMPT.session(cluster) as third:
        pids = sorted(login_methods.privileged(session) for session in (second, third))
        assert sorted(int(name.partition("-")[0]) for name in login_methods.notes(node)) == pids
    cluster.pam(login_methods.stack("both"))
    assert cluster.ssh("alice", method=ONE_PROMPT.method).rc == 0
    assert login_methods.notes(node) == []


def test_the_note_is_root_s(prepared: Cluster) -> None:
    """Nobody else reads it, and what belongs to somebody else is not believed."""
    cluster, node = prepared, prepared.n1
    cluster.pam(login_methods.stack("account"))
    cluster.submit("alice")
    with ONE_PROMPT.session(cluster) as session:
        assert "Permission denied" in session.run("ls /run/slurm_adopt/adoptions")
        modes = node.run(["stat", "-c", "%U %a", "/run/slurm_adopt", "/run/slurm_adopt/adoptions"])
        assert modes.stdout.splitlines() == ["root 711", "root 700"]
        (note,) = login_methods.notes(node)
        found = node.run(["stat", "-c", "%U %a", f"/{login_methods.NOTES}/{note}"]).stdout
        assert found.strip() == "root 600"


@pytest.mark.parametrize("where", ["/run/slurm_adopt", "/run/slurm_adopt/adoptions"])
@pytest.mark.parametrize("lines", ["account", "both"])
def test_no_place_for_the_note(prepared: Cluster, lines: str, where: str) -> None:
    """The login is adopted all the same, and the log says what is wrong."""
    cluster, node = prepared, prepared.n1
    node.run(["install", "-d", "/run/slurm_adopt"])
    node.run(["install", "-d", "-o", "alice", where])
    cluster.pam(login_methods.stack(lines))
    job = cluster.submit("alice")
    mark = node.mark()
    with ONE_PROMPT.session(cluster) as session:
        assert login_methods.job_with(node, session.pid) == job
    why = {
        "account": "a session line will ask the stepd a second time",
        "both": "the session line decides again",
    }[lines]
    assert any(why in line for line in node.log(mark))
    assert login_methods.notes(node) == []


def test_many_at_once(prepared: Cluster) -> None:
    """Logins at the same instant, among what others have left, are each adopted once."""
    cluster, node = prepared, prepared.n1
    cluster.submit("alice", mem="2000M")
    cluster.pam(login_methods.stack("both"))
    method = ONE_PROMPT.method
    command = "grep -c step_extern /proc/self/cgroup"
    argv = [*asking(cluster.login, "alice", method), *ssh_argv("n1", "alice", (), method), command]
    notes = f"/{login_methods.NOTES}"
    stale = f"mkdir -pm 700 {notes}; cd {notes}; touch $(seq -f %.0f-1 99000 99400)"
    node.run(["sh", "-ec", stale])
    mark, taken = node.mark(), Taken(node)
    script = 'for n in $(seq $0); do "$@" & done; wait'
    said = cluster.login.run(["sh", "-c", script, str(MANY), *argv], "alice", timeout=60).stdout
    assert len(said.split()) == MANY
    assert all(int(number) for number in said.split())
    assert [*taken.pids().values()] == [1] * MANY
    assert not [line for line in node.log(mark) if "cannot write" in line]
    assert login_methods.notes(node) == []


# Another sshd


@pytest.mark.parametrize("lines", ["account", "both"])
def test_started_for_each_connection(prepared: Cluster, lines: str) -> None:
    """A sshd that something else starts for one connection has no parent of its kind."""
    cluster = prepared
    cluster.pam(login_methods.stack(lines))
    inetd = cluster.n1.popen(["python3", "-c", INETD])
    try:
        wait_for("its port", lambda: 2022 in cluster.n1.listening())
        assert in_job(cluster, Way("by inetd", ONE_PROMPT.method, port=2022))
    finally:
        end(inetd)


# Keeps a connection of its own in sshd, as modules that ask a directory or a database do.
ASKS_A_SERVER = """\
import _socket

KEPT = _socket.socket()


def pam_sm_authenticate(pamh, flags, argv):
    KEPT.connect(("127.0.0.1", 22))
    return pamh.PAM_IGNORE


def pam_sm_setcred(pamh, flags, argv):
    return pamh.PAM_IGNORE
"""


@pytest.mark.parametrize("lines", ["account", "both"])
def test_beside_a_module_with_a_connection_of_its_own(prepared: Cluster, lines: str) -> None:
    """It is in sshd's child alone; ssh's own is in both."""
    prepared.n1.write("etc/security/asks.py", ASKS_A_SERVER)
    asks = "auth optional pam_python.so /etc/security/asks.py"
    prepared.n1.pam("sshd", [asks, *login_methods.stack(lines)])
    for way in (ONE_PROMPT, PUBLIC_KEY):
        assert in_job(prepared, way)


# Starts sshd for each connection to a unix socket, or with pipes to whatever has that connection.
OVER_UNIX = """\
import os, signal, socket, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
sshd = ["/usr/sbin/sshd", "-i"]
with socket.socket(socket.AF_UNIX) as server:
    server.bind("/run/ssh.sock")
    os.chmod("/run/ssh.sock", 0o666)
    server.listen()
    while True:
        with server.accept()[0] as client:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for fd in (0, 1):
                    os.dup2(client.fileno(), fd)
                if sys.argv[1] == "pipes":
                    with subprocess.Popen(sshd, stdin=-1, stdout=-1) as run:
                        pump(0, 1, run.stdout.fileno(), run.stdin.fileno())
                os.execv(sshd[0], sshd)
"""
PUMP = """\
import os, select

def pump(source, to, back, on):
    ways = {source: on, back: to}
    while data := os.read(fd := select.select([*ways], [], [])[0][0], 65536):
        os.write(ways[fd], data)
    os._exit(0)

"""
PROXY = """\
import socket
sock = socket.socket(socket.AF_UNIX)
sock.connect("/run/ssh.sock")
pump(0, 1, sock.fileno(), sock.fileno())
"""


@contextlib.contextmanager
def over_unix(cluster: Cluster, what: str) -> Iterator[tuple[str, ...]]:
    """Have a sshd on n1 for connections to a unix socket; yield ssh's options to get there."""
    node = cluster.n1
    node.write("tmp/proxy.py", PUMP + PROXY)
    inetd = node.popen(["python3", "-c", PUMP + OVER_UNIX, what])
    try:
        wait_for("its socket", (node.root / "run/ssh.sock").exists)
        yield "-o", "ProxyCommand=python3 /tmp/proxy.py"
    finally:
        end(inetd)
        node.run(["rm", "-f", "/run/ssh.sock"])


@pytest.mark.parametrize("lines", ["account", "both"])
@pytest.mark.parametrize("method", ["publickey", "keyboard-interactive"])
def test_over_a_unix_socket(prepared: Cluster, lines: str, method: str) -> None:
    """As systemd's `ssh .host` has it."""
    prepared.pam(login_methods.stack(lines))
    node, job = prepared.n1, prepared.submit("alice")
    taken = Taken(node)
    with (
        over_unix(prepared, "socket") as options,
        Session(node, node, "alice", method=method, options=options, timeout=60) as session,
    ):
        assert login_methods.job_with(node, session.pid) == job
        assert taken.pids() == {(job, login_methods.privileged(session)): 1}


def test_over_pipes(prepared: Cluster) -> None:
    """Nothing tells for certain which process becomes the session: not guessed, but refused."""
    node = prepared.n1
    prepared.pam(login_methods.stack("account"))
    job = prepared.submit("alice")
    with over_unix(prepared, "pipes") as options:
        mark = node.mark()
        result = ssh(node, "n1", "alice", "true", options, method="keyboard-interactive")
        assert result.rc == 255
        assert DENIED in result.out + result.err
        assert any("may become the session instead of this one" in x for x in node.log(mark))
        with Session(node, node, "alice", options=options, timeout=60) as session:
            assert login_methods.job_with(node, session.pid) == job
