"""Real logins, and what `slurm-adopt logins` says of them from the node's log."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.cluster.harness import cli, pam
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

STRICT = (*pam.PRODUCTION, "action_unknown=deny", "callerid=0", "reference=1")
NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
UNKNOWN = "Access denied by pam_slurm_adopt: unable to determine source job"
AUTH_LOG = "/var/log/auth.log"
UIDS = {"alice": 5001, "bob": 5002, "carol": 5003}


class Happened(NamedTuple):
    """A login, as its user saw it."""

    user: str
    outcome: str
    situation: str
    job: int | None = None
    option: str | None = None
    ref: str | None = None  # if it was shown
    phases: tuple[str, ...] = ("account",)

    def is_said_by(self, login: dict[str, Any]) -> bool:
        """Say whether this is what the command has of it."""
        return (
            (login["user"], login["uid"]) == (self.user, UIDS[self.user])
            and (login["outcome"], login["situation"]) == (self.outcome, self.situation)
            and login["job"] == self.job
            and login["option"] == self.option
            and login["ref"] == (self.ref or login["ref"])
            and re.fullmatch("[0-9A-Z]{4}", login["ref"]) is not None
            and login["source"] == "10.78.0.4"
            and tuple(login["phases"]) == self.phases
            and login["milliseconds"] > 0
        )


BOTH = ("account", "session")


def several_logins(cluster: Cluster) -> list[Happened]:
    """Log in in several situations; return what happened, in its order."""
    happened = [refused(cluster, "alice", NO_JOBS, "no jobs", "action_no_jobs=deny")]
    job = cluster.submit("alice")
    for method in ("publickey", "password", "keyboard-interactive"):
        result = cluster.ssh("alice", "n1", "cat /proc/self/cgroup", method=method)
        assert (result.rc, cluster.job_of(result.out)) == (0, job)
        happened.append(Happened("alice", "adopted", "adopted", job, phases=BOTH))
    for _ in range(2):
        cluster.submit("bob")
    happened.append(refused(cluster, "bob", UNKNOWN, "unknown job", "action_unknown=deny"))
    return happened


def refused(cluster: Cluster, user: str, text: str, situation: str, option: str) -> Happened:
    """See that a user is refused, and shown a reference."""
    result = cluster.ssh(user, "n1", "true")
    assert result.rc == 255
    found = re.search(rf"^{re.escape(text)} \(ref (\w{{4}})\)$", result.err, re.MULTILINE)
    assert found, result.err
    return Happened(user, "refused", situation, None, option, found[1])


def traditional(text: str) -> str:
    """Return a line as rsyslog's traditional format has it."""
    return f"{time.strftime('%b %e %H:%M:%S')} n1 {text}"


def of_today(text: str) -> str:
    """Return a line as rsyslog has it on Debian 12 and later."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S.123456+00:00', time.gmtime())} n1 {text}"


@pytest.mark.parametrize("form", [traditional, of_today])
def test_logins_of_a_file(cluster: Cluster, form: Callable[[str], str]) -> None:
    """All that happened, and no more, from the file that a syslog daemon would have written."""
    node = cluster.n1
    cluster.pam(pam.both(*STRICT))
    mark = node.mark()
    happened = several_logins(cluster)
    lines = [form(line.split(" ", 2)[2]) for line in node.log(mark) if " authpriv." in line]
    assert lines
    node.write(AUTH_LOG, "".join(f"{line}\n" for line in lines))
    try:
        found = cli.run_json(node, "logins")
        assert found["source"] == AUTH_LOG
        assert (found["unreadable"], found["forged"], found["remarks"]) == (0, 0, [])
        compare(found, happened)
        stories(node, happened)
        assert cli.run(node, "logins", user="alice").returncode == 0  # its mode is 0644
    finally:
        node.run(["rm", "-f", AUTH_LOG])


def compare(found: dict[str, Any], happened: list[Happened]) -> None:
    said = found["logins"]
    assert [login["user"] for login in said] == [one.user for one in happened]
    assert [one for one, login in zip(happened, said) if not one.is_said_by(login)] == [], said
    assert found["total"] == len(happened)


def stories(node: Host, happened: list[Happened], *options: str) -> None:
    """See that each reference that a user was shown leads to that login."""
    for one in happened:
        if one.ref:
            done = cli.run(node, "logins", "--ref", one.ref.lower(), *options)
            assert done.returncode == 0, done
            first, second, *_ = done.stdout.splitlines()
            assert first.startswith(f"{one.user} (uid {UIDS[one.user]}) from 10.78.0.4 was refused")
            assert second.startswith(f"{one.situation}: ")
            assert f", ref {one.ref}: {one.situation}: " in done.stdout


RECORDS = "/run/records"


@contextlib.contextmanager
def standing_in(node: Host, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Have journald's sockets on a node, and /dev/log lead there."""
    argv = ["env", "PYTHONPATH=/checkout", "/usr/bin/python3", "-m",
            "tests.cluster.standins.journald", RECORDS, *options]  # fmt: skip
    process = node.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        native = node.root / "run/systemd/journal/socket"
        wait_for("journald's sockets", native.is_socket)
        node.run(["mv", "/dev/log", "/dev/log.before"])
        node.run(["ln", "-s", "/run/systemd/journal/dev-log", "/dev/log"])
        yield process
    finally:
        end(process)
        node.run(["sh", "-c", "test ! -e /dev/log.before || mv -T /dev/log.before /dev/log"])
        node.run(["rm", "-rf", "/run/systemd/journal", RECORDS])


@pytest.fixture
def journald(cluster: Cluster) -> Iterator[Host]:
    """Have a journald on n1."""
    with standing_in(cluster.n1):
        yield cluster.n1


# A user says what the module would, to journald itself
FORGED = """
import socket
journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journald.connect("/run/systemd/journal/socket")
journald.send(
    b"MESSAGE=pam_slurm_adopt(sshd:account): user root (uid 0) from 10.78.0.4, pid 1: adopted into "
    b"job 7 (the only job) -> PAM_SUCCESS in 1.0 ms\\nPRIORITY=6\\nSYSLOG_FACILITY=10\\n"
    b"SYSLOG_IDENTIFIER=sshd\\nSYSLOG_PID=1\\n_UID=0\\nSLURM_ADOPT_USER=root\\n"
)
"""


@pytest.mark.parametrize("stack", [pam.both, pam.by_pam_exec], ids=["pam_python", "pam_exec"])
def test_logins_of_journald(cluster: Cluster, journald: Host, stack: pam.Stack) -> None:
    """Each line comes once, with its fields; what a user has sent is not counted."""
    cluster.pam(stack(*STRICT))
    happened = several_logins(cluster)
    journald.run(["python3", "-c", FORGED], "alice")

    def records() -> list[dict[str, str]]:
        return [json.loads(line) for line in journald.read(RECORDS).splitlines()]

    wait_for("the forged record", lambda: any(row["_UID"] == "5001" for row in records()))
    ours = [row for row in records() if row["MESSAGE"].startswith("pam_slurm_adopt(")]
    assert {row["_TRANSPORT"] for row in ours} == {"journal"}
    texts = [row["MESSAGE"] for row in ours]
    assert len(texts) == len({*texts})
    decided = [row for row in ours if row["_UID"] == "0" and " -> PAM_" in row["MESSAGE"]]
    assert len(decided) == sum(len(one.phases) for one in happened)
    for row in decided:
        assert row["SYSLOG_FACILITY"] == "10"
        assert row["SYSLOG_PID"] == row["SLURM_ADOPT_PID"]
        # sshd's own, or of the script beside it
        assert (row["_PID"] == row["SLURM_ADOPT_PID"]) == (stack is pam.both)
        assert row["SLURM_ADOPT_SOURCE"] == "10.78.0.4"
        assert f"user {row['SLURM_ADOPT_USER']} (uid {row['SLURM_ADOPT_UID']})" in row["MESSAGE"]
        assert f"in {row['SLURM_ADOPT_MSEC']} ms" in row["MESSAGE"]
        assert f", ref {row['SLURM_ADOPT_REF']}: " in row["MESSAGE"]
    outcomes = [row["SLURM_ADOPT_OUTCOME"] for row in decided]
    assert outcomes == ["refused", *["chosen", "adopted"] * 3, "refused"]
    last = decided[-1]
    assert last["SLURM_ADOPT_OPTION"] == "action_unknown=deny"
    assert len(last["SLURM_ADOPT_JOBS"].split()) == 2
    found = cli.run_json(journald, "logins", "--file", RECORDS)
    assert (found["unreadable"], found["forged"]) == (0, 1)
    compare(found, happened)
    stories(journald, happened, "--file", RECORDS)


def test_a_journald_that_takes_nothing(cluster: Cluster) -> None:
    """Its queue is full, and then it is gone: logins go on, and lines are lost."""
    cluster.pam(pam.both(*STRICT, "log_level=debug"))
    job = cluster.submit("alice")
    with standing_in(cluster.n1, "--deaf") as process:
        for _ in range(4):
            assert cluster.ssh("alice", "n1", "echo $SLURM_JOB_ID").out.strip() == str(job)
        end(process)
        assert cluster.ssh("alice", "n1", "echo $SLURM_JOB_ID").out.strip() == str(job)
        assert "pam_slurm_adopt" not in cluster.n1.read(RECORDS)


def test_no_log(cluster: Cluster) -> None:
    """Of the node as it is here: its file is none that a syslog daemon writes."""
    node = cluster.n1
    done = cli.run(node, "logins", "--file", "/var/log/none")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "slurm-adopt: cannot read /var/log/none: No such file or directory\n"
