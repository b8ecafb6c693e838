"""Both fronts with SELinux in enforcing mode: without the policy module, and with it.

The tests build on each other: the module is installed by the commands of docs/how-to/selinux.md
once it has been seen what is denied without it. The page's tables are what is seen here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import guide
from tests.cluster.harness.login import SessionEndedError
from tests.cluster.harness.suites import SUITES
from tests.cluster.scenarios import job_namespaces, of_job
from tests.vm.cells import OF_FILE
from tests.vm.selinux import FRONTS, Confined, Denied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.login import Session

COMMAND = 150  # seconds for a command in a session
SLOW = 900  # seconds: the whole policy is compiled, by an emulated processor
NO_JOBS = "you have no active jobs on this node"
CHECK = ["/checkout/bin/slurm-adopt", "check", "--only", "SA824"]

# The page's table of what runs as what -> the program that it is seen of.
PROGRAMS = ("sshd", "slurmctld", "slurmd", "slurmstepd", "munged")


@pytest.fixture(scope="module")
def booted(request: pytest.FixtureRequest) -> Iterator[Confined]:
    """Boot the cell's node."""
    with Confined(SUITES[OF_FILE["test_selinux.py"][request.param]]) as node:
        yield node


@pytest.fixture
def node(booted: Confined) -> Iterator[Confined]:
    """Return the node without jobs."""
    yield booted
    booted.cancel_all()


def say(session: Session, command: str) -> str:
    """Run a command in a session; a slow machine has time."""
    return session.run(command, COMMAND).strip()


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table in a section of the page, without its head."""
    section = guide.page("selinux").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def words(cell: str) -> list[str]:
    """Return what stands in code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def in_the_job(node: Confined, job: int, method: str = "publickey") -> None:
    """Log in as alice: the shell is in the job, in a user's domain."""
    with node.session("alice", method) as session:
        assert node.machine.cgroup(session.pid).startswith(f"{node.step(job)}/user/")
        assert say(session, "id -Z").split(":")[2] == "unconfined_t"


# Without the policy module


def test_enforcing(node: Confined) -> None:
    """What runs as what."""
    assert node.machine.sh("getenforce") == "Enforcing\n"
    node.submit("alice")
    shown = {row[0].split("`")[1]: words(row[1])[0] for row in rows("What runs as what")[:5]}
    assert shown == {name: node.context(name) for name in PROGRAMS}


@pytest.mark.parametrize("front", FRONTS)
def test_refused_without_the_policy_module(node: Confined, front: str) -> None:
    """Users are refused, with a job as well, and the log says why. Root is in."""
    node.use(front)
    node.submit("alice")
    since, mark = node.audited(), node.mark()
    for user in ("alice", "bob"):
        result = node.ssh(user)
        assert result.rc == 255, result
    assert node.ssh("root").rc == 0
    assert Denied("read", "sshd_t", "var_spool_t", "dir") in node.denied(since)
    why = "cannot read the spool directory /var/spool/slurmd: Permission denied"
    assert sum(why in line for line in node.log(mark)) == 2


def test_what_is_denied(node: Confined) -> None:
    """In permissive mode all of it is logged: at least what the page has for Debian."""
    expected = {
        Denied(permission, "sshd_t", *words(row[1]))
        for row in rows("What is denied without it")
        if row[2] == "denied"
        for permission in words(row[0])
    }
    node.use("pam_python")
    node.submit("alice")
    node.submit("alice")
    node.machine.sh("setenforce 0")
    try:
        since = node.audited()
        with node.session("alice", "keyboard-interactive") as session:
            say(session, "ssh -n n1 true")
        assert node.ssh("bob").rc == 255
        node.use("pam_exec")
        assert node.ssh("alice").rc == 0
        node.use("pam_python", session=False)
        assert node.ssh("alice").rc == 0
        found = node.denied(since)
    finally:
        node.machine.sh("setenforce 1")
    assert expected <= found, sorted(expected - found)
    print(*sorted(found - expected), sep="\n")


def test_check_without_the_policy_module(node: Confined) -> None:
    """The command says what is missing."""
    node.submit("alice")
    said = node.machine.run(CHECK, check=False).stdout
    assert "SELinux refuses sshd (sshd_t) what the module does" in said
    assert "unix_stream_socket { connectto }" in said


# With it


def test_install(node: Confined) -> None:
    """By the page's own commands; `check` is content then."""
    for command in guide.commands("selinux", "Install the policy module"):
        node.machine.run(["sh", "-ec", f"cd /checkout && {command}"], timeout=SLOW)
    node.submit("alice")
    said = node.machine.run(CHECK, check=False).stdout
    assert "SELinux allows sshd (sshd_t) what the module does" in said, said


@pytest.mark.parametrize("method", ["publickey", "keyboard-interactive"])
@pytest.mark.parametrize("front", FRONTS)
def test_in_the_job(node: Confined, front: str, method: str) -> None:
    """With a job in it, without one refused; nothing is denied to sshd."""
    node.use(front)
    since = node.audited()
    job = node.submit("alice")
    in_the_job(node, job, method)
    result = node.ssh("bob", method=method)
    assert (result.rc, NO_JOBS in result.err) == (255, True), result
    assert node.ssh("root").rc == 0
    assert node.denied(since) == set()


@pytest.mark.parametrize("front", FRONTS)
def test_from_inside_of_a_job(node: Confined, front: str) -> None:
    """Of several jobs the one that the login comes from: munged and slurmd are asked."""
    node.use(front)
    older = node.submit("alice")
    with node.session("alice") as session:
        node.submit("alice")
        since = node.audited()
        said = say(session, "ssh -n n1 cat /proc/self/cgroup")
        assert said.startswith(f"0::{node.step(older)}/user/")
        assert node.denied(since) == set()


@pytest.mark.parametrize("method", ["publickey", "keyboard-interactive"])
def test_account_line_alone(node: Confined, method: str) -> None:
    """The account phase adopts, and a login is watched."""
    node.use("pam_python", session=False)
    since = node.audited()
    in_the_job(node, node.submit("alice"), method)
    assert node.denied(since) == set()


def test_limits_and_variables(node: Confined) -> None:
    """Soft limits reach the shell. TMPDIR does not: the C library takes it away."""
    of_job.job_limits(node)
    node.cancel_all()
    node.use("pam_python", "job_env=all,TMPDIR")
    number, _ = of_job.job(node, "TMPDIR=/tmp/of-job exec sleep 900")
    found = of_job.of_session(node)
    assert found["SLURM_JOB_ID"] == str(number)
    assert found["SLURM_JOB_NODELIST"] == "n1"
    assert "TMPDIR" not in found


@pytest.mark.parametrize("front", FRONTS)
def test_confined_user(node: Confined, front: str) -> None:
    """With pam_exec the session line runs in the user's own domain, but for two lines around it."""
    node.machine.run(["semanage", "login", "-a", "-s", "user_u", "alice"], timeout=SLOW)
    node.machine.sh("restorecon -RF /home/alice")
    try:
        job = node.submit("alice")
        if front == "pam_exec":
            node.use(front)
            since = node.audited()
            with pytest.raises(SessionEndedError), node.session("alice") as session:
                say(session, "true")
            script = f"tail -c +{since + 1} /var/log/audit/audit.log | grep -c scontext=user_u:"
            assert int(node.machine.sh(script)) > 0
        node.use(front, confined=front == "pam_exec")
        with node.session("alice") as session:
            assert node.machine.cgroup(session.pid).startswith(f"{node.step(job)}/user/")
            assert say(session, "id -Z").startswith("user_u:user_r:user_t:")
    finally:
        node.machine.run(["semanage", "login", "-d", "alice"], timeout=SLOW)
        node.machine.sh("restorecon -RF /home/alice")


def test_namespaces(node: Confined) -> None:
    """A job's /tmp is entered once the boolean is on."""
    node.use("pam_python")
    with job_namespaces.plugin_in_use(node, job_namespaces.TMPFS):
        job = node.submit("alice")
        with pytest.raises(SessionEndedError), node.session("alice") as session:
            say(session, "true")
        node.machine.sh(turn_on("slurm_adopt_join_container"))
        with node.session("alice") as session:
            assert node.machine.cgroup(session.pid).startswith(f"{node.step(job)}/user/")
            inside = say(session, "readlink /proc/self/ns/mnt")
            assert inside != node.machine.sh("readlink /proc/1/ns/mnt").strip()
        node.cancel_all()


def test_runtime_directory(node: Confined) -> None:
    """What a job that is gone has left is removed once the boolean is on."""
    node.machine.sh(turn_on("slurm_adopt_runtime_dir"))
    node.use("pam_python", "runtime_dir=job")
    left = []
    for _ in range(2):
        node.submit("alice")
        with node.session("alice") as session:
            left.append(say(session, "mkdir $XDG_RUNTIME_DIR/d; echo >$XDG_RUNTIME_DIR/d/f; pwd"))
            left[-1] = say(session, "echo $XDG_RUNTIME_DIR")
            assert say(session, "ls $XDG_RUNTIME_DIR/d") == "f"
        node.cancel_all()
    there = node.machine.sh("ls -A /run/slurm_adopt/runtime").split()
    assert there == [left[-1].rpartition("/")[2]]


def turn_on(boolean: str) -> str:
    """Return the page's command for it, without -P: that would compile the whole policy again."""
    return guide.command("selinux", boolean).replace(" -P ", " ")


def test_removed(node: Confined) -> None:
    """The page's command takes it away."""
    command = guide.command("selinux", "semodule -r")
    node.machine.run(command.split(), timeout=SLOW)
    assert "slurm_adopt" not in node.machine.run(["semodule", "-l"], timeout=SLOW).stdout
