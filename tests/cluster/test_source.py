"""Several jobs: the login lands in the one it comes from, else where action_unknown says."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.cluster import Settings
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import (
    PATIENT,
    UNKNOWN,
    Scene,
    from_job,
    from_login,
    from_session,
    several_jobs,
    write_askpass,
)
from tests.cluster.harness.login import METHODS
from tests.cluster.standins.slurmd import StandinSlurmd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

IT = "(the job it comes from)"
PIPE: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.DEVNULL,
}


@pytest.fixture
def scene(cluster: Cluster) -> Iterator[Scene]:
    """Give alice several jobs, and a session inside the older one."""
    with several_jobs(cluster) as found:
        yield found


@pytest.fixture
def two_jobs(cluster: Cluster) -> list[int]:
    """Give alice two jobs on both nodes."""
    cluster.pam(pam.with_module(*PATIENT))
    return [cluster.submit("alice", "n1,n2") for _ in range(2)]


# The job that it comes from

# nodes on the way, and how the last one is called
WAYS = {
    "to the other node": (("n2", "n1"), ""),
    "and back": (("n1", "n2"), ""),
    "by address": (("n2", "n1"), "10.78.0.2"),
    "second hop": (("n2", "n1", "n2"), ""),
    "third hop": (("n2", "n1", "n2", "n1"), ""),
    "own node": (("n1", "n1"), ""),
    "own node by loopback": (("n1", "n1"), "127.0.0.1"),
    "own node, second hop": (("n2", "n1", "n1"), "127.0.0.1"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_job_it_comes_from(cluster: Cluster, two_jobs: list[int], way: str) -> None:
    """Each of two jobs in turn; the log of the last hop says why."""
    path, target = WAYS[way]
    for job in two_jobs:
        landing = from_job(cluster, job, path, target)
        assert landing.job == job
        assert IT in landing.lines[-1]


def test_each_method(scene: Scene) -> None:
    """The connection is found in the child in which sshd asks for the answers as well."""
    write_askpass(scene.cluster.n2)
    for method in METHODS:
        landing = from_session(scene.cluster, scene.inside, method=method)
        assert landing.rc == 0, landing
        assert f"adopted into job {scene.older} {IT}" in landing.line


def test_ipv6(cluster: Cluster, two_jobs: list[int]) -> None:
    """A slurmd listens there with EnableIPv6 only; the log says so."""
    landing = from_job(cluster, two_jobs[0], target="n1-6")
    assert landing.job == two_jobs[1]
    assert "slurmd at [fd78::3]:6818: connection refused" in landing.line
    assert "or without EnableIPv6" in landing.line
    cluster.reconfigure(Settings(slurm_conf="CommunicationParameters=EnableIPv6\n"))
    try:
        for job in [cluster.submit("alice", "n1,n2") for _ in range(2)]:
            assert from_job(cluster, job, target="n1-6").job == job
    finally:
        cluster.reconfigure(Settings())


def test_one_job_is_not_asked_about(cluster: Cluster) -> None:
    """The login takes the only job, though it comes from another one, and asks nobody."""
    job = cluster.submit("alice", "n1")
    other = cluster.submit("alice", "n2")
    cluster.pam(pam.with_module("action_unknown=deny"))
    landing = from_job(cluster, other)
    assert landing.job == job
    assert f"adopted into job {job} (the only job)" in landing.line


def test_one_job_is_asked_about(cluster: Cluster) -> None:
    """With single_job_skip_rpc=0; whatever the answer is, the only job is taken."""
    job = cluster.submit("alice", "n1,n2")
    cluster.pam(pam.with_module("single_job_skip_rpc=0", "action_unknown=deny", *PATIENT))
    landing = from_job(cluster, job)
    assert landing.job == job
    assert IT in landing.line
    landing = from_login(cluster)
    assert landing.job == job
    assert "(the only job; slurmd at 10.78.0.4:6818: connection refused" in landing.line
    other = cluster.submit("alice", "n2")
    landing = from_job(cluster, other)
    assert landing.job == job
    assert f"the source host named job {other}, which is not one of the user's jobs here" in (
        landing.line
    )


# The source host cannot tell


@contextlib.contextmanager
def firewall(host: Host, verdict: str) -> Iterator[None]:
    """Give a host a rule for what comes to slurmd's port; none for an empty verdict."""
    rule = f"tcp dport 6818 {verdict};" if verdict else ""
    chain = f"chain input {{ type filter hook input priority 0; {rule} }}"
    host.run(["nft", "-f", "-"], input=f"table inet adopt {{\n{chain}\n}}\n")
    try:
        yield
    finally:
        host.run(["nft", "delete", "table", "inet", "adopt"])


REFUSES = "slurmd at 10.78.0.4:6818: connection refused: slurmd does not run there"
REJECTS = (
    "slurmd at 10.78.0.4:6818: no route to host: there is no route to it, or a firewall rejects it"
)
DROPS = (
    "slurmd at 10.78.0.4:6818: no connection within the time limit: the host is down, or a "
    "firewall drops it"
)
NOT_ASKED = "slurmd at 10.78.0.4:6818: not asked: nothing took a connection there "


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ("", REFUSES),
        ("reject with tcp reset", REFUSES),
        ("reject with icmpx host-unreachable", REJECTS),
    ],
    ids=["no slurmd", "reset", "unreachable"],
)
def test_from_the_login_node(scene: Scene, verdict: str, reason: str) -> None:
    """A refusal is no wait, however long it might be waited for."""
    with firewall(scene.cluster.login, verdict):
        seconds = scene.expect_unknown(scene.from_login, reason, "callerid_timeout=30")
    assert seconds < 15


def test_from_the_login_node_behind_a_firewall(scene: Scene) -> None:
    """Silence is waited for as long as connecting may take, and once in a minute.

    Other sources are asked meanwhile, and where the note is gone this one, too.
    """
    first, *others = UNKNOWN
    notes = scene.cluster.n1.root / "run/slurm_adopt/unreached"
    option = "callerid_timeout=30"
    with firewall(scene.cluster.login, "drop"):
        assert 0.9 < scene.expect(first, scene.from_login, DROPS, option).seconds < 15
        assert [note.name for note in notes.iterdir()] == ["10.78.0.4-6818"]
        scene.expect_unknown(scene.from_login, NOT_ASKED, option, values=others)
        assert scene.from_inside().job == scene.older
        shutil.rmtree(notes)
        scene.expect(first, scene.from_login, DROPS, option)
    shutil.rmtree(notes)
    scene.expect(first, scene.from_login, REFUSES, option)


FIRST_OF_TWO = "tcp flags & (syn | ack) == syn numgen inc mod 2 0 drop"


def test_a_packet_that_is_lost(scene: Scene) -> None:
    """The kernel would send it again after a second, and the slurmd would pass for a dead one."""
    notes = scene.cluster.n1.root / "run/slurm_adopt/unreached"
    with firewall(scene.cluster.n2, FIRST_OF_TWO):
        for _ in range(3):
            assert scene.from_inside().job == scene.older
    assert not notes.exists()


def test_escaped_from_its_job(scene: Scene) -> None:
    """What is in no job's cgroups any more comes from no job."""
    assert scene.from_inside().job == scene.older
    script = 'for file in /sys/fs/cgroup/*/cgroup.procs; do echo "$0" >$file; done'
    scene.cluster.n2.run(["sh", "-ec", script, str(scene.inside.pid)])
    scene.expect_unknown(scene.from_inside, "the source host knows no job for this connection")


@contextlib.contextmanager
def stopped_slurmd(host: Host) -> Iterator[None]:
    """Keep a host's slurmd from answering; its port still accepts connections."""
    host.kill("slurmd", signal.SIGSTOP)
    try:
        yield
    finally:
        host.kill("slurmd", signal.SIGCONT)


def test_callerid_0(scene: Scene) -> None:
    """Nobody is asked: where the answer would be silence, the login takes no time."""
    with stopped_slurmd(scene.cluster.n2):
        options = ("callerid=0", "callerid_timeout=30")
        assert scene.expect_unknown(scene.from_inside, "callerid=0", *options) < 15


def test_callerid_timeout(scene: Scene) -> None:
    """Silence is waited for as long as the option says, 2 s if it is not there."""
    said = "slurmd at 10.78.0.3:6818: no reply within the time limit"
    with stopped_slurmd(scene.cluster.n2):
        scene.cluster.pam(pam.with_module())
        landing = scene.from_inside()
        short, long = (
            scene.expect("newest", scene.from_inside, said, f"callerid_timeout={limit}").seconds
            for limit in ("0.3", "4")
        )
    assert landing.job == scene.newest
    assert said in landing.line
    assert 1.9 < landing.seconds < 2 + 15
    assert short < 15
    assert 3.9 < long < 4 + 15


# The newest


def test_newest_stays_when_others_are_adopted_into(scene: Scene) -> None:
    """Nor when anybody makes the older one's socket, which is open to all, look newer."""
    assert scene.from_login().job == scene.newest
    older = scene.cluster.socket("n1", scene.older)
    path = str(older).partition("/root")[2]
    for _ in range(3):
        assert scene.from_inside().job == scene.older
        before = older.stat().st_ctime_ns
        scene.cluster.n1.run(["touch", path], "bob")
        assert older.stat().st_ctime_ns > before
        assert scene.from_login().job == scene.newest


def test_newest_is_the_one_started_last(cluster: Cluster) -> None:
    """Not the one with the highest number."""
    argv = ["sbatch", "--parsable", "--hold", "--nodelist=n1", "--output=/dev/null", "--chdir=/tmp"]
    held = int(cluster.login.run([*argv, "--wrap=sleep 600"], "alice").stdout)
    other = cluster.submit("alice")
    cluster.ctl.run(["scontrol", "release", str(held)])
    cluster.wait_running(held, ["n1"])
    assert held < other
    for _ in range(2):
        landing = from_login(cluster)
        assert landing.job == held
        assert "the newest of 2" in landing.line


# The job it comes from cannot be adopted into


def extern_stepd(scene: Scene, signum: signal.Signals) -> bool:
    """Send a signal to the stepd of the older job on n1; say whether it is still there."""
    n1 = scene.cluster.n1
    pattern = rf"^slurmstepd: \[{scene.older}\.extern\]"
    pids = n1.run(["pgrep", "-f", pattern], check=False).stdout.split()
    n1.run(["kill", f"-{signum}", *pids], check=False)
    return bool(pids)


def test_its_stepd_is_stopped(scene: Scene) -> None:
    extern_stepd(scene, signal.SIGSTOP)
    try:
        reason = f"comes from job {scene.older}, but stepd of job {scene.older}: does not answer"
        scene.expect_unknown(scene.from_inside, reason, lines=2)
    finally:
        extern_stepd(scene, signal.SIGCONT)
    assert scene.from_inside().job == scene.older


# Fills the backlog of a socket, as any user can where the stepd accepts nothing.
FILL = """\
import socket, sys
held = []
while True:
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect(sys.argv[1])
    except BlockingIOError:
        break
    held.append(one)
print(len(held), flush=True)
sys.stdin.read()
"""


def test_nobody_else_makes_the_newest_look_older(scene: Scene) -> None:
    """A stepd that takes no connections does not show when it was started."""
    scene.options("action_adopt_failure=deny", "callerid=0")
    pattern = rf"^slurmstepd: \[{scene.newest}\.extern\]"
    scene.cluster.n1.run(["pkill", "-STOP", "-f", pattern])
    path = str(scene.cluster.socket("n1", scene.newest)).partition("/root")[2]
    argv = ["python3", "-c", FILL, path]
    filling = scene.cluster.n1.popen(argv, "bob", **{**PIPE, "stdin": subprocess.PIPE})
    try:
        assert filling.stdout
        assert int(filling.stdout.readline()) > 1
        landing = scene.from_login()
    finally:
        end(filling)
        scene.cluster.n1.run(["pkill", "-CONT", "-f", pattern])
    assert (landing.rc, landing.job) == (255, None), landing
    assert f"job {scene.newest} (the newest of 2; " in landing.lines[-1]
    assert "does not accept connections" in landing.lines[-1]


def crashed(scene: Scene) -> None:
    extern_stepd(scene, signal.SIGKILL)


def halted(scene: Scene) -> None:
    extern_stepd(scene, signal.SIGSTOP)


def cancelled(scene: Scene) -> None:
    scancel.end(scene.cluster, scene.older)


# what becomes of the job after its user's jobs were counted, what the log says, action_unknown
MEANWHILE = [
    *((crashed, "cannot be reached: Connection refused", value) for value in UNKNOWN),
    *((cancelled, "cannot be reached: No such file or directory", value) for value in UNKNOWN),
]


@pytest.fixture
def doomed(scene: Scene) -> Iterator[Scene]:
    """Clear away afterwards what keeps the older job from ending."""
    yield scene
    if not extern_stepd(scene, signal.SIGCONT):
        scene.cluster.socket("n1", scene.older).unlink(missing_ok=True)


@contextlib.contextmanager
def named_too_late(scene: Scene, event: Callable[[Scene], None]) -> Iterator[None]:
    """Have the source host name the older job, but not before something has become of it."""
    with StandinSlurmd(scene.cluster.login, "job", str(scene.older), hold=True) as slurmd:

        def meanwhile() -> None:
            try:
                slurmd.wait_asked()
                event(scene)
            finally:
                slurmd.go()

        with ThreadPoolExecutor(1) as pool:
            happened = pool.submit(meanwhile)
            yield
            happened.result()


@pytest.mark.parametrize(("event", "said", "value"), MEANWHILE)
def test_it_ends_while_its_name_is_on_the_way(
    doomed: Scene, event: Callable[[Scene], None], said: str, value: str
) -> None:
    """All is decided anew: one job is left, and that is the one, whatever action_unknown is."""
    job = doomed.older
    with named_too_late(doomed, event):
        doomed.options(f"action_unknown={value}", "callerid_timeout=30")
        landing = doomed.from_login()
    assert (landing.rc, landing.job) == (0, doomed.newest), landing
    assert f"decided again, since job {job} has ended: stepd of job {job} {said}" in landing.line
    assert "(the only job)" in landing.line


@pytest.mark.parametrize("value", UNKNOWN)
def test_it_ends_and_several_are_left(doomed: Scene, value: str) -> None:
    """All is decided anew: the source names a job that is gone, and action_unknown governs."""
    job, newest = doomed.older, doomed.cluster.submit("alice", "n1")
    with named_too_late(doomed, cancelled):
        doomed.options(f"action_unknown={value}", "callerid_timeout=30")
        landing = doomed.from_login()
    assert landing.job == (newest if value == "newest" else None), landing
    assert landing.rc == (255 if value == "deny" else 0), landing
    assert f"named job {job}, which is not one of the user's jobs here" in landing.line
    assert f"decided again, since job {job} has ended" in landing.line


def test_it_halts_while_its_name_is_on_the_way(doomed: Scene) -> None:
    """It is still there, and may still take the process: no other stepd is asked."""
    job = doomed.older
    with named_too_late(doomed, halted):
        reason = f"comes from job {job}, but stepd of job {job} does not answer"
        doomed.expect("newest", doomed.from_login, reason, "callerid_timeout=30", lines=2)


# X11

COOKIE = "00112233445566778899aabbccddeeff"
X_SERVER = """\
import socket
with socket.create_server(("127.0.0.1", 6010)) as listener:
    print("up", flush=True)
    while True:
        with listener.accept()[0] as client:
            client.sendall(b"display of " + client.recv(99))
"""
X_CLIENT = """\
import os, socket
port = 6000 + int(os.environ["DISPLAY"].removeprefix("localhost:").removesuffix(".0"))
with socket.create_connection(("localhost", port)) as server:
    server.sendall(b"alice")
    print(server.recv(99).decode())
"""


@contextlib.contextmanager
def x11_job(cluster: Cluster) -> Iterator[int]:
    """Give alice a job with X11 forwarding to a display of the login node that only echoes."""
    login = cluster.login
    cookie = ["add", "localhost:10", "MIT-MAGIC-COOKIE-1", COOKIE]
    login.run(["env", "HOME=/home/alice", "xauth", *cookie], "alice")
    argv = ["env", "DISPLAY=localhost:10", "salloc", "--x11", "--nodelist=n1", "--chdir=/tmp"]
    script = ["sh", "-c", "echo job $SLURM_JOB_ID; exec sleep 600"]
    server = login.popen(["python3", "-c", X_SERVER], **PIPE)
    salloc = login.popen([*argv, *script], "alice", **PIPE)
    try:
        assert server.stdout
        assert server.stdout.readline() == "up\n"
        assert salloc.stdout
        job = int(salloc.stdout.readline().removeprefix("job "))
        cluster.wait_running(job, ["n1"], batch=False)
        yield job
    finally:
        end(salloc)
        end(server)


@pytest.fixture
def x11(cluster: Cluster) -> Iterator[Cluster]:
    """Let jobs have X11."""
    cluster.reconfigure(Settings(slurm_conf="PrologFlags=contain,x11\n"))
    yield cluster
    cluster.reconfigure(Settings())


def test_x11(x11: Cluster) -> None:
    """A program in the session reaches the display of the user's salloc, by the job's cookie."""
    with x11_job(x11) as job, x11.session("alice") as session:
        assert session.run("echo $SLURM_JOB_ID").strip() == str(job)
        assert session.run(f"python3 -c '{X_CLIENT}'").strip() == "display of alice"
        assert COOKIE in session.run("xauth -f $XAUTHORITY list")


def test_disable_x11(x11: Cluster) -> None:
    x11.pam(pam.with_module("disable_x11=1"))
    with x11_job(x11) as job, x11.session("alice") as session:
        assert session.run("echo $SLURM_JOB_ID").strip() == str(job)
        assert session.run("echo $DISPLAY $XAUTHORITY").strip() == ""


def test_job_without_x11(x11: Cluster) -> None:
    """A job that asked for none has none."""
    job = x11.submit("alice")
    with x11.session("alice") as session:
        assert session.run("echo $SLURM_JOB_ID $DISPLAY $XAUTHORITY").strip() == str(job)


# Many sockets

SOCKETS = 60_000
PROCESSES = 3  # that hold them: a process may have 20,000 descriptors or less
CROWD = """\
import socket, sys, time
sockets = []
while len(sockets) < int(sys.argv[2]):
    listener = socket.socket()
    listener.bind(("127.0.%s.1" % sys.argv[1], 0))
    listener.listen(2000)
    sockets.append(listener)
    for _ in range(1999):  # the other ends wait in the backlog: sockets without a descriptor
        sockets.append(socket.create_connection(listener.getsockname()))
print("up", flush=True)
time.sleep(600)
"""
FIND = """\
import sys, time
sys.path.insert(0, "/opt/slurm_adopt/src")
from slurm_adopt.node.ssh_connection import connections_of
started = time.monotonic()
print(*connections_of(int(sys.argv[1])), time.monotonic() - started, sep="\\n")
"""


@pytest.fixture
def crowd(cluster: Cluster) -> Iterator[None]:
    """Open the sockets on n1."""
    argv = ["python3", "-c", CROWD]
    each = str(SOCKETS // 2 // PROCESSES)
    processes = [
        cluster.n1.popen([*argv, str(number), each], **PIPE) for number in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
        rows = cluster.n1.run(["cat", "/proc/net/tcp"]).stdout.count("\n")
        assert rows > SOCKETS * 0.99
        yield
    finally:
        for process in processes:
            end(process)


@pytest.mark.usefixtures("crowd")
def test_60000_sockets(cluster: Cluster, two_jobs: list[int]) -> None:
    """On the node that is logged in to, and on the one it is done from: this is both."""
    for job in two_jobs:
        landing = from_job(cluster, job, ("n1", "n1"))
        assert landing.job == job
        assert landing.seconds < 15


@pytest.mark.usefixtures("crowd")
def test_60000_sockets_and_one_of_another_process(cluster: Cluster, two_jobs: list[int]) -> None:
    """The kernel's table shows the connection that sshd says it is."""
    assert two_jobs
    with cluster.session("alice") as session:
        said = session.run("echo $SSH_CONNECTION").strip()
        sshd = session.run("ps -o ppid= -p $$").strip()
        found = cluster.n1.run(["python3", "-c", FIND, sshd]).stdout.splitlines()
    assert found[:-1] == [said]
    assert float(found[-1]) < 10
