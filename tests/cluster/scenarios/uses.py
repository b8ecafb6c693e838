"""What ssh is used for: each kind in the job, and gone with it."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import COMMAND, land
from tests.cluster.harness.login import asking
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_methods
from tests.cluster.scenarios.login_methods import Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

BIG = "/tmp/big"  # on the login host
SLOW = ("-l", "8")  # kbit/s: a copy that does not end by itself
HERE, THERE, TO, BACK = 7001, 7002, 7003, 7004  # TCP ports of what is forwarded
CONFIG = "home/alice/.ssh/config"
MASTER = ("-o", "ControlPath=/tmp/master")

# Answers each connection to a port with what it was sent.
ECHO = """\
import socket, sys, threading
def answer(client):
    while data := client.recv(999):
        client.sendall(data)
with socket.create_server(("localhost", int(sys.argv[1]))) as server:
    while True:
        threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()
"""
ASK = """\
import socket, sys
with socket.create_connection(("localhost", int(sys.argv[1])), 30) as sock:
    sock.sendall(sys.argv[2].encode())
    print(sock.recv(999).decode())
"""


@dataclass(frozen=True)
class Use:
    """One command of ssh's kind that stays, and the process that it runs on n1."""

    argv: tuple[str, ...]
    runs: str = ": alice"  # its terminal and command line; here: nothing but sshd itself
    connects: bool = True  # a connection of its own


USES = (
    Use(("ssh", "-tt", "n1"), "pts/0 -bash"),
    Use(("ssh", "n1", "sleep 1001"), "? sleep 1001"),
    Use(("scp", *SLOW, BIG, "n1:/tmp/scp"), "sftp-server"),
    Use(("scp", "-O", *SLOW, BIG, "n1:/tmp/scp-O"), "scp -t /tmp/scp-O"),
    Use(("sftp", "n1"), "sftp-server"),
    Use(("rsync", "--bwlimit=1", BIG, "n1:/tmp/rsync"), "rsync --server"),
    Use(("ssh", "-N", "-L", f"{HERE}:localhost:{THERE}", "n1")),
    Use(("ssh", "-N", "-R", f"{TO}:localhost:{BACK}", "n1")),
    Use(("ssh", *MASTER, "-M", "n1", "sleep 1002"), "sleep 1002"),
    Use(("ssh", *MASTER, "n1", "sleep 1003"), "sleep 1003", connects=False),
)


@contextlib.contextmanager
def running(host: Host, argv: tuple[str, ...], user: str = "alice") -> Iterator[None]:
    """Have a command run; its input stays open."""
    process = host.popen(
        argv,
        user,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        end(process)
        assert process.stdin
        process.stdin.close()


def processes(node: Host) -> dict[int, str]:
    """Return the terminals and command lines of alice's processes."""
    said = node.run(["ps", "-u", "alice", "-o", "pid=,tty=,args="], check=False).stdout
    rows = (line.split(None, 1) for line in said.splitlines())
    return {int(pid): " ".join(rest.split()) for pid, rest in rows}


def in_every_kind_of_use(cluster: Cluster, method: str = "publickey") -> None:
    """Have all kinds of use run at once, see where their processes are, and end the job."""
    node, login = cluster.n1, cluster.login
    cluster.pam(pam.both(*login_methods.STRICT))
    login.write(CONFIG, f"PreferredAuthentications {method}\n")
    answered = asking(login, "alice", method)
    login.run(["sh", "-c", f"head -c 3000000 /dev/zero >{BIG}"])
    job, taken = cluster.submit("alice", cpus=2), Taken(node)
    with contextlib.ExitStack() as opened:
        opened.callback((login.root / CONFIG).unlink)
        for host, port in ((node, THERE), (login, BACK)):
            opened.enter_context(running(host, ("python3", "-c", ECHO, str(port)), "root"))
            wait_for(f"port {port}", partial(_listens, host, port))
        for use in USES:
            before = processes(node)
            opened.enter_context(running(login, (*answered, *use.argv)))
            wait_for(f"{use}", partial(_runs, node, use, before))
        wait_for("forwarded ports", lambda: HERE in login.listening() and TO in node.listening())
        assert _ask(login, HERE, "from here") == "from here"
        assert _ask(node, TO, "and back") == "and back"
        found = processes(node)
        assert {pid: login_methods.job_with(node, pid) for pid in found} == dict.fromkeys(
            found, job
        )
        asked = taken.pids()
        assert len(asked) == sum(use.connects for use in USES)
        assert {*asked.values()} == {1}
        assert {login_methods.job_with(node, pid) for _, pid in asked} == {job}
        scancel.end(cluster, job, timeout=60)
        wait_for("all of it gone", lambda: not processes(node), 30)
        assert not [pid for _, pid in asked if node.alive(pid)]
        assert TO not in node.listening()


def _listens(host: Host, port: int) -> bool:
    """Say whether something on a host listens on a port."""
    return port in host.listening()


def _runs(node: Host, use: Use, before: Container[int]) -> bool:
    """Say whether a use has brought what it runs."""
    new = [args for pid, args in processes(node).items() if pid not in before]
    return any(use.runs in args for args in new)


def _ask(host: Host, port: int, text: str) -> str:
    """Send a text to a port of a host; return the answer."""
    return host.run(["python3", "-c", ASK, str(port), text], "alice").stdout.strip()


def copies(cluster: Cluster) -> None:
    """Copy files to and fro by each tool; nothing that PAM's modules say gets in the way."""
    cluster.pam(pam.both(*login_methods.STRICT))
    cluster.submit("alice")
    script = """\
        head -c 300000 /dev/urandom >/tmp/out
        scp -q /tmp/out n1:/tmp/1; scp -q n1:/tmp/1 /tmp/2; scp -qO n1:/tmp/1 /tmp/3
        echo 'get /tmp/1 /tmp/4' | sftp -q -b - n1; rsync -c n1:/tmp/1 /tmp/5
        for n in 2 3 4 5; do cmp /tmp/out /tmp/$n; done
    """
    done = cluster.login.run(["sh", "-ec", script], "alice", timeout=60)
    assert not done.stderr, done


JUMPS = (("-J", "n1"), ("-o", "ProxyCommand=ssh -W %h:%p n1"))


def through_a_node(cluster: Cluster) -> None:
    """Log in to n2 through n1: the jump is in a job there, and n2 finds that one."""
    cluster.pam(pam.both(*login_methods.STRICT))
    older = cluster.submit("alice", "n1,n2")
    newest = cluster.submit("alice", "n2")
    for jump in JUMPS:
        login = partial(cluster.ssh, "alice", "n2", COMMAND, options=jump, timeout=60)
        assert land(cluster.n2, login).job == older, jump
    assert land(cluster.n2, partial(cluster.ssh, "alice", "n2", COMMAND)).job == newest
    with cluster.session("alice", "n2", options=JUMPS[0]) as through:
        inside = {pid: login_methods.job_with(cluster.n1, pid) for pid in processes(cluster.n1)}
        assert inside
        assert {*inside.values()} == {older}
        scancel.end(cluster, older, timeout=60)
        wait_for("the jump and the session gone", lambda: not processes(cluster.n1), 30)
        through.wait_gone(30)
    assert "you have no active jobs" in cluster.ssh("alice", "n2", options=JUMPS[0]).err


def already_connected(cluster: Cluster) -> None:
    """Log in over a connection that is there: it is in the job that the connection is in."""
    cluster.pam(pam.both(*login_methods.STRICT))
    older = cluster.submit("alice")
    with running(cluster.login, ("ssh", *MASTER, "-MN", "n1")):
        wait_for("the connection there", partial(_connected, cluster.login))
        newest = cluster.submit("alice")
        cases = ((MASTER, older), ((*MASTER, "-S", "none"), newest))
        for options, job in cases:
            done = cluster.login.run(["ssh", *options, "n1", COMMAND], "alice")
            assert cluster.job_of(done.stdout) == job, options
        scancel.end(cluster, older, timeout=60)
        wait_for("the connection gone", lambda: not _connected(cluster.login), 30)


def _connected(login: Host) -> bool:
    """Say whether alice's connection for others is there."""
    check = ["ssh", *MASTER, "-O", "check", "n1"]
    return not login.run(check, "alice", check=False).returncode


EVERYWHERE: tuple[Callable[[Cluster], None], ...] = (
    in_every_kind_of_use, copies, through_a_node, already_connected,
)  # fmt: skip
