"""`slurm-adopt sessions` finds every ssh session of a node, no other, and those in no job."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import cli, pam, scancel
from tests.cluster.harness.cluster import EXTERN, Settings
from tests.cluster.harness.host import end
from tests.cluster.harness.login import ssh_argv
from tests.cluster.harness.moved import move, parent, unmove
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.cluster.harness.login import Session


@pytest.fixture(autouse=True)
def nothing_moved(cluster: Cluster) -> Iterator[None]:
    """Take away the cgroups that a test has moved processes into."""
    yield
    unmove(cluster.n1)


def monitor(session: Session, node: Host) -> int:
    """Return the process of root's that a session is known by."""
    return parent(node, parent(node, session.pid))


def seen(node: Host, *arguments: str, user: str | None = None) -> list[dict[str, Any]]:
    said = cli.run_json(node, "sessions", *arguments, user=user)
    assert said["schema"] == 1
    sessions: list[dict[str, Any]] = said["sessions"]
    return sessions


def facts(found: list[dict[str, Any]]) -> dict[int, tuple[Any, ...]]:
    return {one["pid"]: (one["user"], one["job"], one["outside"]) for one in found}


FAKE = """\
cp /bin/sleep /tmp/sshd && cat >/tmp/fake.py <<'END'
import os
os.execv("/tmp/sshd", ["sshd: root@pts/7", "999"])
END
setsid python3 /tmp/fake.py >&- 2>&- <&- & echo $!
"""


def test_every_session_and_no_other(cluster: Cluster) -> None:
    """Of several users in several jobs; let in by an option; moved away; root; with a terminal."""
    node = cluster.n1
    cluster.pam(pam.both("action_no_jobs=ignore"))
    older = cluster.submit("alice")
    with contextlib.ExitStack() as opened:
        of_older = opened.enter_context(cluster.session("alice"))
        newest, bobs = cluster.submit("alice"), cluster.submit("bob")
        of_newest = opened.enter_context(cluster.session("alice", method="keyboard-interactive"))
        of_bob = opened.enter_context(cluster.session("bob", method="password"))
        moved = opened.enter_context(cluster.session("bob"))
        carols = opened.enter_context(cluster.session("carol"))
        roots = opened.enter_context(cluster.session("root"))
        by_pid = [of_older, of_newest, of_bob, moved, carols]
        of_moved = [monitor(moved, node), parent(node, moved.pid), moved.pid]
        move(node, of_moved)
        # What is no session: a user's process that is called like one, and who has not logged in.
        fake = int(of_older.run(FAKE))
        knocking = opened.enter_context(_knocking(cluster))
        expected = {
            monitor(of_older, node): ("alice", older, None),
            monitor(of_newest, node): ("alice", newest, None),
            monitor(of_bob, node): ("bob", bobs, None),
            of_moved[0]: ("bob", None, "no job"),
            monitor(carols, node): ("carol", None, "no job"),
            parent(node, roots.pid): ("root", None, "root"),
        }
        assert len(expected) == len(by_pid) + 1
        found = seen(node)
        assert facts(found) == expected
        assert knocking.poll() is None

        rows = {one["pid"]: one for one in found}
        row = rows[monitor(of_older, node)]
        # The fake is the user's, and begun by the session: it counts as that.
        assert row["pids"] == sorted([row["pid"], parent(node, of_older.pid), of_older.pid, fake])
        for one in found:
            assert one["from"]["address"] == "10.78.0.4"
            assert one["cpu_seconds"] >= 0
            assert one["memory_bytes"] > 1 << 20
            assert one["terminal"] is None
        ports = _peers(node)
        assert {one["from"]["port"] for one in found} <= ports
        assert len({one["from"]["port"] for one in found}) == len(found)
        assert f"job {bobs}" in rows[of_moved[0]]["why"]
        assert rows[of_moved[0]]["cgroup"].endswith("/elsewhere")
        assert "let in by an option" in rows[monitor(carols, node)]["why"]

        _selections(node, facts(found), older)
        _plain_user(node, facts(found))
        node.run(["kill", "-KILL", str(fake)])
    wait_for("no session left", lambda: not seen(node), 20)
    assert cli.run(node, "sessions").stdout == "no ssh sessions\n"
    done = cli.run(node, "sessions", "--outside")
    assert (done.returncode, done.stdout) == (0, "no ssh session of a user outside of jobs\n")
    node.run(["rm", "-f", "/tmp/sshd", "/tmp/fake.py"])


@contextlib.contextmanager
def _knocking(cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """Have bob's ssh wait for a password that nobody gives."""
    cluster.login.write("tmp/silent", "#!/bin/sh\nexec sleep 600\n", 0o755)
    argv = ["env", "SSH_ASKPASS=/tmp/silent", "SSH_ASKPASS_REQUIRE=force"]
    argv += [*ssh_argv("n1", "bob", method="password"), "true"]
    process = cluster.login.popen(argv, "bob", stdin=subprocess.DEVNULL)
    try:
        waits = lambda: "[net]" in cluster.n1.run(["ps", "-eo", "args"]).stdout  # noqa: E731
        wait_for("bob asked for a password", waits)
        yield process
    finally:
        process.kill()
        process.wait()
        cluster.login.run(["pkill", "-f", "sleep 600"], check=False)


def _peers(node: Host) -> set[int]:
    """Return the ports of the other ends of the connections to port 22."""
    rows = (
        node.read("proc/1/net/tcp").splitlines()[1:] + node.read("proc/1/net/tcp6").splitlines()[1:]
    )
    ends = [row.split()[1:3] for row in rows]
    return {int(there.split(":")[1], 16) for here, there in ends if here.endswith(":0016")}


def _selections(node: Host, every: dict[int, tuple[Any, ...]], older: int) -> None:
    """See what an argument or --outside leaves of them."""
    bobs = {pid: row for pid, row in every.items() if row[0] == "bob"}
    assert facts(seen(node, "bob")) == bobs
    assert [row[1] for row in facts(seen(node, str(older))).values()] == [older]
    outside = {pid: row for pid, row in every.items() if row[2] == "no job"}
    assert facts(seen(node, "--outside")) == outside
    done = cli.run(node, "sessions", "--outside")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1 + len(outside)
    assert cli.run(node, "sessions", "alice", "--outside").returncode == 0
    assert cli.run(node, "sessions").returncode == 0


def _plain_user(node: Host, every: dict[int, tuple[Any, ...]]) -> None:
    """They see their own, and hear what they do not see."""
    said = cli.run_json(node, "sessions", user="alice")
    assert facts(said["sessions"]) == {pid: row for pid, row in every.items() if row[0] == "alice"}
    assert all(one["from"] is None for one in said["sessions"])
    assert "only your own sessions: root sees all" in said["remarks"]
    done = cli.run(node, "sessions", user="alice")
    assert "addresses do not show" in done.stderr
    assert done.returncode == 0


def test_terminals_and_those_without_a_shell(cluster: Cluster) -> None:
    """`ssh -t` has a terminal, `ssh -N` has no process of a shell."""
    node = cluster.n1
    job = cluster.submit("alice")
    argv = ["ssh", "-tt", "alice@n1"], ["ssh", "-N", "alice@n1"]
    clients = [
        cluster.login.popen(one, "alice", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for one in argv
    ]
    try:

        def both() -> list[dict[str, Any]]:
            found = [one for one in seen(node) if one["job"] == job]
            by_terminal = sorted(found, key=lambda one: one["terminal"] or "")
            ready = len(found) == 2 and by_terminal[1]["terminal"]
            return by_terminal if ready else []

        without, with_one = wait_for("both sessions", both, 20)
        assert with_one["terminal"].startswith("pts/")
        assert len(without["pids"]) == 2
    finally:
        for client in clients:
            client.kill()
            client.wait()


def test_half_in(cluster: Cluster) -> None:
    """In some hierarchies of its job, or with some of its processes alone."""
    node = cluster.n1
    job = cluster.submit("alice")
    with cluster.session("alice") as session, cluster.session("alice") as other:
        first = [monitor(session, node), parent(node, session.pid), session.pid]
        move(node, first, "memory")
        move(node, [other.pid])
        rows = {one["pid"]: one for one in seen(node, "--outside")}
        assert facts(list(rows.values())) == {
            first[0]: ("alice", job, "in part"),
            monitor(other, node): ("alice", job, "in part"),
        }
        assert rows[first[0]]["why"] == f"in job {job}, but not in its memory"
        assert rows[monitor(other, node)]["why"] == f"not wholly in job {job}: process {other.pid}"


def test_left_by_a_job_that_has_ended(cluster: Cluster) -> None:
    """Its stepd has died, so nothing of Slurm's has ended the session."""
    node = cluster.n1
    job, bobs = cluster.submit("alice"), cluster.submit("bob")
    with cluster.session("alice") as session, cluster.session("bob") as living:
        node.run(["pkill", "-KILL", "-f", rf"^slurmstepd: \[{job}\.extern\]"])
        scancel.end(cluster, job)
        (row,) = seen(node, "--outside")
        assert (row["pid"], row["job"], row["outside"]) == (
            monitor(session, node),
            job,
            "job ended",
        )
        assert row["why"] == f"job {job} has ended and has left it"
        assert facts(seen(node, "bob")) == {monitor(living, node): ("bob", bobs, None)}
        node.run(["kill", "-KILL", str(session.pid)])
    cluster.cancel_all()
    node.run(["sh", "-c", f"rm -f {cluster.settings.spool}/n1_*.{EXTERN}"])


# (arguments, what is on standard error)
BAD = [
    (("nosuch",), "slurm-adopt: no such user: nosuch (a job is given by its number)"),
    (("99999",), "slurm-adopt: no job 99999 on this node"),
    (("9" * 5000,), "slurm-adopt: no such user: 999"),
    (("alice", "bob"), "slurm-adopt: Got unexpected extra argument (bob)"),
    (("--watch=0",), "slurm-adopt: Invalid value for '--watch'"),
    (("--watch=x",), "slurm-adopt: Invalid value for '--watch'"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_bad_input(cluster: Cluster, arguments: tuple[str, ...], said: str) -> None:
    """One line says what is wrong, and the status is 3."""
    done = cli.run(cluster.n1, "sessions", *arguments)
    assert done.returncode == 3
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_without_slurm(cluster: Cluster) -> None:
    """On a host that has no slurm.conf sessions show all the same; whether jobs live does not."""
    node = cluster.n1
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        node.run(["mv", "/etc/slurm", "/etc/slurm.away"])
        node.run(["sh", "-c", "pkill -STOP -x slurmd; true"])
        try:
            found = seen(node)
        finally:
            node.run(["mv", "/etc/slurm.away", "/etc/slurm"])
            node.run(["sh", "-c", "pkill -CONT -x slurmd; true"])
        assert facts(found) == {monitor(session, node): ("alice", job, None)}


@pytest.mark.parametrize("stack", [pam.both, pam.by_pam_exec], ids=["pam_python", "pam_exec"])
def test_what_the_log_says(cluster: Cluster, stack: pam.Stack) -> None:
    """How the job was chosen; which option has let a session in; which job one was moved from."""
    node = cluster.n1
    cluster.pam(stack("action_no_jobs=ignore", "callerid=0"))
    older = cluster.submit("alice")
    mark = node.mark()
    with contextlib.ExitStack() as opened:
        only = opened.enter_context(cluster.session("alice"))
        newest = cluster.submit("alice")
        other = opened.enter_context(cluster.session("alice", method="keyboard-interactive"))
        carols = opened.enter_context(cluster.session("carol"))
        moved = opened.enter_context(cluster.session("alice"))
        of_moved = monitor(moved, node)
        move(node, [of_moved, parent(node, moved.pid), moved.pid])
        stamp = node.run(["date", "+%Y-%m-%dT%H:%M:%S%:z"]).stdout.strip()
        lines = [one.split(" ", 2)[2] for one in node.log(mark) if " authpriv." in one]
        node.write("var/log/auth.log", "".join(f"{stamp} n1 {line}\n" for line in lines))
        try:
            rows = {one["pid"]: one for one in seen(node, "--log")}
        finally:
            node.run(["rm", "/var/log/auth.log"])
        assert rows[monitor(only, node)]["job"] == older
        assert rows[monitor(only, node)]["how"] == "the only job"
        assert rows[monitor(other, node)]["job"] == newest
        assert "newest" in rows[monitor(other, node)]["how"]
        why = rows[monitor(carols, node)]["why"]
        assert why.startswith("let in without a job: no jobs; action_no_jobs=ignore: in ")
        why = rows[of_moved]["why"]
        assert why.startswith(f"adopted into job {newest}, and moved away since: in ")
        done = cli.run(node, "sessions", "--log")
        assert done.returncode == 0
        assert "lines of /var/log/syslog cannot be read as a log's" in done.stderr


def test_where_slurm_makes_no_cgroups(cluster: Cluster) -> None:
    """A job does not show there: neither that a session is in one nor that it is in none."""
    before = cluster.settings
    conf = "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
    cluster.reconfigure(Settings(jobacct="jobacct_gather/none", slurm_conf=conf))
    try:
        cluster.submit("alice")
        with cluster.session("alice"):
            (one,) = seen(cluster.n1)
            assert (one["job"], one["in_job"], one["outside"]) == (None, None, "not known")
            done = cli.run(cluster.n1, "sessions", "--outside")
            assert done.returncode == 3
            assert "jobs do not show: Slurm makes no cgroups on this node" in done.stderr
    finally:
        cluster.reconfigure(before)


def test_without_what_it_can_do_without(cluster: Cluster) -> None:
    """Neither pyroute2 nor rich; by sock_diag the addresses are the same."""
    node = cluster.n1
    cluster.submit("alice")
    for name in ("pyroute2", "rich", "psutil"):
        node.write(f"opt/without/{name}.py", "raise ImportError('not here')\n")
    with cluster.session("alice") as session:
        (usual,) = seen(node)
        env = {"PYTHONPATH": "/opt/without:/checkout/src"}
        done = cli.run(node, "sessions", env=env)
        assert usual["from"]["address"] in done.stdout
        assert done.stderr == ""
        asked = (
            "from slurm_adopt.cli.sessions import sockets; known = dict(sockets._asked()); "
            "from slurm_adopt.node.ssh_connection import socket_inodes; "
            f"print(*(known[one] for one in socket_inodes('/proc/{monitor(session, node)}/fd') "
            "if one in known))"
        )
        env_argv = [f"{name}={value}" for name, value in cli.FROM_CHECKOUT.items()]
        said = node.run(["env", *env_argv, cli.PROGRAM[0], "-c", asked]).stdout.split()
        assert said[:2] == [usual["from"]["address"], str(usual["from"]["port"])]
    node.run(["rm", "-r", "/opt/without"])


def test_narrow_terminal_and_closed_pipe(cluster: Cluster) -> None:
    node = cluster.n1
    cluster.submit("alice")
    with cluster.session("alice"):
        command = "stty cols 20 && slurm_adopt() { python3 -m slurm_adopt sessions; }; slurm_adopt"
        argv = ["env", *(f"{n}={v}" for n, v in cli.FROM_CHECKOUT.items()), "TERM=xterm"]
        done = node.run([*argv, "script", "-qec", command, "/dev/null"])
        lines = done.stdout.splitlines()
        assert "USER alice" in lines
        assert max(map(len, lines)) <= 20
        closed = f"{' '.join(cli.PROGRAM)} sessions | head -c 0"
        done = node.run([*argv, "bash", "-c", closed])
        assert (done.stdout, done.stderr) == ("", "")


def test_it_watches(cluster: Cluster) -> None:
    """It looks again and again, until it is told to end."""
    node = cluster.n1
    argv = ["env", *(f"{n}={v}" for n, v in cli.FROM_CHECKOUT.items())]
    argv += [*cli.PROGRAM, "sessions", "--watch=0.3"]
    watching = node.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watching.stdout
    assert watching.stderr
    try:
        for _ in range(3):
            assert watching.stdout.readline() == "no ssh sessions\n"
        node.run(["pkill", "-INT", "-f", "^/usr/bin/python3 -m slurm_adopt sessions --watch"])
        said = watching.stderr.read()
        assert (watching.wait(30), said.strip()) == (130, "")
    finally:
        end(watching)
