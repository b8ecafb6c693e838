"""What users can do to their own job: their own logins suffer, root and others still get in.

Freezing the job and cgroups in the place of Slurm's that stop processes are in test_lockout.py.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import cgroups, pam, scancel
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import job_of
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import job_namespaces, own_job
from tests.cluster.scenarios.login_methods import KBDINT, STRICT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster


LINES = {"both": pam.both, "account": pam.with_module}
WAYS = pytest.mark.parametrize(
    ("lines", "method"),
    [("both", "publickey"), ("both", KBDINT), ("account", "publickey"), ("account", KBDINT)],
)


@pytest.fixture(scope="module")
def startups(running_cluster: Cluster) -> Iterator[None]:
    """Give sshd few startups."""
    with own_job.few_startups(running_cluster.n1):
        yield


@pytest.fixture
def attacked(cluster: Cluster, startups: None) -> Cluster:
    """Return the cluster; bob has a job."""
    assert startups is None
    cluster.submit("bob")
    return cluster


# Limits of the job


@WAYS
def test_memory_is_full(attacked: Cluster, lines: str, method: str) -> None:
    """The kernel kills in the job: root's sshd there as well, which then holds no slot."""
    attacked.pam(LINES[lines](*STRICT))
    job = attacked.submit("alice", mem="60M")
    with own_job.full_memory(attacked, job):
        said = own_job.all_try(attacked, method)
        assert own_job.killed(attacked.n1, job) > 0, said


@WAYS
def test_no_process_more(attacked: Cluster, lines: str, method: str) -> None:
    """Where the site limits processes by a cgroup, sshd cannot fork there, and ends."""
    attacked.pam(LINES[lines](*STRICT))
    job = attacked.submit("alice")
    with own_job.site_limit(attacked, job, "pids", {"pids.max": "1"}, "exec sleep 60"):
        said = own_job.all_try(attacked, method)
    assert "step_extern" not in "".join(said)


def test_hardly_any_cpu_time(attacked: Cluster) -> None:
    """1 % of a CPU: an unfinished login is slow in its job, and nobody else is."""
    attacked.pam(pam.with_module(*STRICT))
    job = attacked.submit("alice")
    busy = "while :; do :; done"
    with own_job.site_limit(attacked, job, "cpu", {"cpu.cfs_quota_us": "1000"}, busy):
        (said,) = own_job.all_try(attacked, "publickey", 1)
    assert job_of(attacked.n1, said) == job


@pytest.mark.parametrize(("lines", "method"), [("both", "publickey"), ("account", KBDINT)])
def test_as_many_processes_as_pam_limits_allows(attacked: Cluster, lines: str, method: str) -> None:
    """Nproc counts for processes of the user's own only: root's sshd goes on to its end."""
    attacked.pam(LINES[lines](*STRICT))
    job = attacked.submit("alice")
    attacked.n1.write("etc/security/limits.d/nproc.conf", "alice hard nproc 1\n")
    try:
        with own_job.in_job(attacked, job, ["sh", "-c", "echo begun; exec sleep 60"]) as process:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
            said = own_job.all_try(attacked, method, 1)
        assert "exec request failed on channel 0" in said[0]
    finally:
        attacked.n1.run(["rm", "/etc/security/limits.d/nproc.conf"])


NONE = "--core=0:0 --memlock=0:0 --sigpending=0:0 --msgqueue=0:0 --cpu=1:1"
SMALL = f"{NONE} --nofile=1:1 --as=4096:4096 --data=4096:4096 --stack=4096:4096"


@pytest.mark.parametrize("limits", ["--fsize=0:0", SMALL, "--nproc=0:0"])
def test_resource_limits_of_the_job(attacked: Cluster, limits: str) -> None:
    """With job_limits they are set on root's sshd, which serves the session all the same."""
    attacked.pam(pam.both(*STRICT, "job_limits=1"))
    attacked.submit("alice", script=f"sleep 60 & prlimit --pid $$ {limits}; wait")
    for method in ("publickey", KBDINT):
        (said,) = own_job.all_try(attacked, method, 1)
        assert ("step_extern" in said) == ("nproc" not in limits), said


# Signals


# Its process group is orphaned (setpgid(2)): the kernel drops what would stop it.
@pytest.mark.parametrize("name", ["TSTP", "TTIN"])
def test_signal_that_does_not_reach_an_unfinished_login(attacked: Cluster, name: str) -> None:
    """Scancel sends it to root's sshd in the job, which goes on."""
    attacked.pam(pam.with_module(*STRICT))
    job = attacked.submit("alice")
    with own_job.held(attacked, job) as pid:
        scancel.send(attacked.login, name, job)
        assert own_job.stays(attacked.n1, pid)
        own_job.others_get_in(attacked)


@pytest.mark.parametrize("name", ["USR1", "ALRM", "KILL", "STOP"])
def test_unfinished_login_that_dies_in_the_job(attacked: Cluster, name: str) -> None:
    """Its slot is given back, though its client stays connected and says nothing."""
    attacked.pam(pam.with_module(*STRICT))
    job, node = attacked.submit("alice"), attacked.n1
    mark = node.mark()
    with own_job.held(attacked, job) as pid:
        full = "--full" if name == "KILL" else "--quiet"
        scancel.send(attacked.login, name, job, how=full)
        wait_for("the login ended", lambda: not node.alive(pid))
        own_job.nothing_left(node)
        own_job.others_get_in(attacked)
    watched = [line for line in node.log(mark) if f"login of process {pid} into job" in line]
    assert bool(watched) == (name == "STOP"), watched
    if name != "STOP":  # it was the end of the stepd's own process in the step as well
        wait_for("the extern stepd ended", lambda: not attacked.has_stepd(job))
        assert "you have no active jobs" in attacked.ssh("alice").err


# Cgroups of the user's own

MADE, PUT_IN = "is a cgroup that uid 5001 has made", ""
OWN = {
    "mv {memory}/task_0 {memory}/mine": PUT_IN,
    "rmdir {memory}/task_0": PUT_IN,
    "mkdir {cpuset}/task_0": MADE,
    "mkdir {freezer}/task_1": MADE,
    "mkdir {memory}/task_special": MADE,
    "mkdir {cpuset}/mine; echo 0 >{cpuset}/mine/cpuset.cpus": PUT_IN,
    "mv {freezer} {freezer}.mine": PUT_IN,
}


@pytest.mark.parametrize("command", OWN)
def test_cgroups_of_one_s_own(attacked: Cluster, command: str) -> None:
    """What takes its name is refused; nothing else makes a difference to a login."""
    job = attacked.submit("alice")
    steps = {name: f"{own_job.cgroup(name, job)}/step_extern" for name in cgroups.CONFINING}
    attacked.n1.run(["sh", "-c", command.format(**steps)], "alice", check=False)
    for lines, method in (("both", KBDINT), ("account", "publickey")):
        attacked.pam(LINES[lines](*STRICT))
        mark = attacked.n1.mark()
        (said,) = own_job.all_try(attacked, method, 1)
        assert job_of(attacked.n1, said) == (None if OWN[command] else job), said
        assert OWN[command] in "".join(attacked.n1.log(mark))


# The stepd

FLOOD = """\
import resource, socket, sys, time
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept, ends = [], time.monotonic() + 60
while time.monotonic() < ends:
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect(sys.argv[1])
        kept.append(one)
    except OSError:
        one.close()
        time.sleep(0.005)
    if len(kept) == 1000:
        print("begun", flush=True)
        kept[:100] = []
"""


def test_flood_of_connections_to_the_stepd(attacked: Cluster) -> None:
    """It may cost others' logins the two seconds that all stepds have, and no more."""
    attacked.pam(pam.both(*STRICT))
    job, node = attacked.submit("alice"), attacked.n1
    node.write("usr/local/bin/flood", FLOOD)
    socket = f"{attacked.settings.spool}/n1_{job}.{0xFFFFFFFC}"
    argv = ["python3", "-IS", "/usr/local/bin/flood", socket]
    flood = node.popen(argv, "alice", stdout=subprocess.PIPE)
    try:
        assert flood.stdout
        assert flood.stdout.readline() == "begun\n"
        mark = node.mark()
        own_job.all_try(attacked, "publickey")
    finally:
        end(flood)
    decided = [line for line in node.log(mark) if "user bob" in line and "(sshd:account)" in line]
    assert len(decided) == 1
    assert float(decided[0].split()[-2]) < 5000, decided


# Namespaces


@contextlib.contextmanager
def full(cluster: Cluster, enter: list[str]) -> Iterator[None]:
    """Leave no room in the job's /tmp."""
    cluster.n1.run([*enter, "mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs", "/tmp"])
    done = cluster.n1.run([*enter, "sh", "-c", "cat /dev/zero >/tmp/fill"], check=False)
    assert "No space left on device" in done.stderr
    yield


@contextlib.contextmanager
def silent(cluster: Cluster, enter: list[str]) -> Iterator[None]:
    """Mount over the job's /tmp what never answers root either, as a FUSE with allow_other may."""
    node = cluster.n1
    node.run(["sh", "-c", "test -e /dev/fuse || mknod /dev/fuse c 10 229"])
    argv = [*enter, "python3", "/checkout/tests/cluster/standins/fuse.py", "/tmp"]
    server = node.popen(argv, stdout=subprocess.PIPE)
    try:
        assert server.stdout
        assert server.stdout.readline() == "mounted\n"
        found = node.run(["pgrep", "-xf", "python3 /checkout/.*standins/fuse.py /tmp"])
        node.run(["kill", "-STOP", *found.stdout.split()])
        waits = node.run([*enter, "timeout", "-s", "KILL", "0.5", "ls", "/tmp"], check=False)
        assert waits.returncode == -signal.SIGKILL, waits
        yield
    finally:
        end(server)


def test_private_tmp(attacked: Cluster) -> None:
    """A job's own /tmp is full, or never answers: sshd and PAM want nothing in there."""
    with job_namespaces.plugin_in_use(attacked, job_namespaces.TMPFS):
        attacked.submit("bob")
        for stack in LINES.values():
            attacked.pam(stack(*STRICT))
            job = attacked.submit("alice")
            with own_job.in_job(attacked, job, ["sh", "-c", "echo $$; exec sleep 60"]) as process:
                assert process.stdout
                pid = process.stdout.readline().strip()
                for attack in (full, silent):
                    with attack(attacked, ["nsenter", "-t", pid, "-m"]):
                        (said,) = own_job.all_try(attacked, "publickey", 1)
                        assert job_of(attacked.n1, said) == job, said


# Other ways to track processes


def test_tracked_by_other_means_than_cgroups(attacked: Cluster) -> None:
    """With linuxproc scancel reaches no login: it is none of the stepd's children."""
    before = attacked.settings
    attacked.reconfigure(replace(before, slurm_conf="ProctrackType=proctrack/linuxproc\n"))
    try:
        attacked.submit("bob")
        attacked.pam(pam.with_module(*STRICT))
        for name in ("STOP", "ALRM"):
            job = attacked.submit("alice")
            with own_job.held(attacked, job) as pid:
                scancel.send(attacked.login, name, job)
                assert own_job.stays(attacked.n1, pid)
                own_job.others_get_in(attacked)
            own_job.nothing_left(attacked.n1)
    finally:
        attacked.reconfigure(before)
