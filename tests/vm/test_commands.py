"""The command `slurm-adopt` under systemd and cgroup v2: a node as installed, and real logins."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import cli, guide, pam
from tests.cluster.harness.suites import SUITES
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import sound
from tests.vm.node import LONG, PROGRAM

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.login import Session
    from tests.vm.machine import Machine
    from tests.vm.node import Node

UID = 5001  # alice's
COMMAND = 120  # seconds for a command in a session
BOUND = 60  # seconds for something to end
MANAGER = f"/user.slice/user-{UID}.slice/user@{UID}.service"
WORDS = " ".join([*(f"{n}={v}" for n, v in cli.FROM_CHECKOUT.items()), *cli.PROGRAM])
# Not the node's own: the sshd by which the tests come in, and the ssh clients that they start.
CONTROL = "/etc/ssh/control.conf"
CLIENTS = "alice 1; in /system.slice/control.service"

LOGIND = "session\toptional\tpam_systemd.so"
IN_COMMON = 'printf "%s\\n" "$1" >>/etc/pam.d/common-session'  # as libpam-systemd has it put there

# Suite -> what check warns of where only the PAM lines of the guide are there.
SHIPPED = {
    "bookworm": {"SA809", "SA902", "SA903"},
    "sid": {"SA708", "SA809", "SA902", "SA903"},
}
# What is looked at on v2 where a job is.
LOOKED_AT = (
    *("SA411", "SA412", "SA413", "SA416"),
    *("SA501", "SA502", "SA503", "SA504", "SA505"),
    *("SA611", "SA911", "SA913"),
)


def say(session: Session, command: str) -> str:
    """Run a command in a session; a slow machine has time."""
    return session.run(command, COMMAND).strip()


def run(
    machine: Machine, *arguments: str, user: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command, with time."""
    given = [f"{name}={value}" for name, value in cli.FROM_CHECKOUT.items()]
    argv = ["env", *given, "/usr/bin/python3", "-c", PROGRAM, *arguments]
    done = machine.run(argv, user, check=False, timeout=LONG)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def ask(node: Node, *arguments: str, user: str | None = None) -> Any:
    """Return the JSON that it prints."""
    done = run(node.machine, *arguments, "--json", user=user)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(f"no JSON: {done}") from None


def with_pam_systemd(where: str) -> list[str]:
    """Return sshd's stack with both of our lines, pam_systemd before or after that of the session.

    Refused users are shown a reference.
    """
    lines = pam.both(*pam.PRODUCTION, "reference=1")
    at = {"before": lines.index(pam.SESSION_GUARD), "after": len(lines)}[where]
    return [*lines[:at], LOGIND, *lines[at:]]


# check


@pytest.fixture
def debian(node: Node) -> Iterator[Machine]:
    """Return the node as Debian ships it, with the PAM lines of the guide."""
    machine = node.machine
    with sound.with_pam_lines(machine, SUITES[machine.name]):
        machine.sh(IN_COMMON, LOGIND)
        machine.sh("systemctl restart ssh")
        yield machine
    machine.sh("systemctl restart ssh")


def bad(findings: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return what is wrong, but for what is said of how the tests come in."""
    wrong = [one for one in findings if one["result"] in ("warning", "error")]
    return {
        one["code"]: f"{one['result']}: {one['title']}: {one['found']}"
        for one in wrong
        if one["where"]["file"] != CONTROL and one["code"] != "SA710" and one["found"] != CLIENTS
    }


def test_a_node_as_installed(node: Node, debian: Machine) -> None:
    """What Debian ships is named; with the guide's steps nothing is, with a job and without."""
    shipped = bad(ask(node, "check")["findings"])
    assert set(shipped) == SHIPPED[debian.name], shipped
    sound.take_the_other_steps(debian)
    assert bad(ask(node, "check")["findings"]) == {}
    job = node.submit("alice")
    with node.session("alice") as session:
        assert debian.cgroup(session.pid).startswith(f"{node.step(job)}/user/")
        said = ask(node, "check", "--user", "alice", "--user", "bob")
        assert bad(said["findings"]) == {}
        found = {one["code"]: one["result"] for one in said["findings"]}
        assert {code: found[code] for code in LOOKED_AT} == dict.fromkeys(LOOKED_AT, "ok")
        decided = [(one["user"], one["decision"], one["job"]) for one in said["would_decide"]]
        assert decided == [("alice", "job", job), ("bob", "refused", None)]
    assert node.ssh("root").rc == 0


# sessions, explain --pid


def test_sessions(node: Node) -> None:
    """Each is there with its job; that which pam_systemd has moved is outside, and root's."""
    machine = node.machine
    node.pam(with_pam_systemd("before"))
    jobs = {name: node.submit(name) for name in ("alice", "bob")}
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(node.session("alice"))
        asked = stack.enter_context(node.session("alice", "keyboard-interactive"))
        roots = stack.enter_context(node.session("root"))
        node.pam(with_pam_systemd("after"))
        moved = stack.enter_context(node.session("bob"))
        said = ask(node, "sessions", "--log")["sessions"]
        found = [one for one in said if one["from"]["address"] == "127.0.0.1"]
        print(json.dumps(found, indent=1))
        told = {pid: one for one in found for pid in one["pids"]}
        for session in (inside, asked):
            one = told[session.pid]
            assert (one["user"], one["job"], one["in_job"]) == ("alice", jobs["alice"], True)
            assert (one["outside"], one["from"]["address"]) == (None, "127.0.0.1")
            assert one["how"]
        assert told[roots.pid]["outside"] == "root"
        one = told[moved.pid]
        assert (one["user"], one["job"], one["outside"]) == ("bob", None, "no job")
        assert re.fullmatch(r"/user\.slice/user-5002\.slice/session-\w+\.scope", one["cgroup"])
        assert f"job {jobs['bob']}" in one["why"]
        assert len(found) == 4
        outside = run(machine, "sessions", "--outside")
        assert outside.returncode == 1
        assert [line.split()[0] for line in outside.stdout.splitlines()] == ["USER", "bob"]

        said = ask(node, "explain", "--pid", str(inside.pid))
        assert (said["where"], said["job"]) == ("in its job", jobs["alice"])
        assert said["as_it_should"]
        (row,) = said["hierarchies"]
        assert (row["controller"], row["path"]) == ("", machine.cgroup(inside.pid))
        assert (row["job"], row["step"], row["of_uid"]) == (jobs["alice"], "extern", UID)
        said = ask(node, "explain", "--pid", str(moved.pid))
        assert (said["where"], said["job"], said["as_it_should"]) == ("outside", None, False)
        assert "pam_systemd moved it" in said["words"]

        node.cancel(jobs["bob"])
        assert moved.alive()
        (one,) = ask(node, "sessions", "bob")["sessions"]
        assert one["outside"] == "no job"


def test_what_the_users_own_systemd_starts(node: Node) -> None:
    """It is outside of the job, for each command that is asked."""
    machine = node.machine
    node.pam(with_pam_systemd("before"))
    job = node.submit("alice")
    with node.session("alice") as session:
        say(session, "systemd-run --user --unit=escaped sleep 777")
        escaped = say(session, "systemctl --user show -P MainPID escaped")
        assert machine.cgroup(int(escaped)) == f"{MANAGER}/app.slice/escaped.service"
        said = ask(node, "explain", "--pid", escaped)
        assert (said["where"], said["job"], said["sshd"]) == ("outside", None, None)
        assert "the user's systemd manager's" in said["words"]
        findings = {one["code"]: one for one in ask(node, "check", "--quick")["findings"]}
        assert findings["SA902"]["result"] == "warning"
        assert findings["SA912"]["result"] == "warning"
        assert f"{MANAGER}/app.slice/escaped.service" in findings["SA912"]["found"]
        (one,) = ask(node, "sessions", "alice")["sessions"]
        assert (one["job"], one["in_job"]) == (job, True)
        assert int(escaped) not in one["pids"]
        run = "systemd-run --user --pipe --quiet --wait"
        who = say(session, f"{run} env {WORDS} whoami --json 2>&1; echo $?")
        told = json.loads(who.rpartition("\n")[0])
        assert who.endswith("\n1")
        assert (told["in_job"], told["job"]) == (False, None)
        print(told)


# whoami, explain USER


def test_whoami(node: Node) -> None:
    """The job of two that holds the shell, with its CPUs, memory and GPUs as v2 has them."""
    machine = node.machine
    node.pam(pam.both(*pam.PRODUCTION, "job_env=all"))
    script = "exec sleep 900"
    job = node.submit("alice", script=script, mem="123M", gres="gpu:1", options=["-t", "90"])
    with node.session("alice") as session:
        node.submit("alice")
        found = json.loads(say(session, f"{WORDS} whoami --json"))
        print(found)
        assert (found["schema"], found["in_job"], found["job"]) == (1, True, job)
        assert found["memory_bytes"] == 123 << 20
        assert ",".join(map(str, found["cpus"])) == machine.read(node.cpuset(job)).strip()
        assert found["name"] == "job"
        assert found["steps"] == {"": "step_extern"}
        assert (found["missing"], found["remarks"]) == ([], [])
        assert say(session, f"{WORDS} whoami --prompt") == f"job {job}"
    with node.session("root") as session:
        assert say(session, f"{WORDS} whoami >/dev/null; echo $?") == "1"


def test_explain(node: Node) -> None:
    """What it says is what then comes, and where the login then is."""
    node.pam(pam.both(*pam.PRODUCTION))
    refused = ask(node, "explain", "alice")
    assert refused["verdict"]["outcome"] == "refused"
    assert refused["verdict"]["shown"] in node.ssh("alice").err
    job = node.submit("alice")
    node.submit("bob")
    with node.session("alice") as session:
        said = ask(node, "explain", "alice")
        print(said["cgroups"], said["not_seen"])
        assert (said["verdict"]["outcome"], said["verdict"]["job"]) == ("adopted", job)
        (path,) = said["cgroups"].values()
        assert node.machine.cgroup(session.pid).startswith(path)
        assert path.startswith(node.step(job))
        of_user = ask(node, "explain", "alice", user="alice")
        assert of_user["verdict"]["job"] == job


# logins


def test_logins(node: Node) -> None:
    """The journal has each, and a refused one by its reference; alice's forgery is none."""
    machine = node.machine
    node.pam(with_pam_systemd("before"))
    since = machine.sh("date +@%s").strip()
    refused = node.ssh("alice")
    reference = re.search(r"no active jobs on this node \(ref (\w{4})\)", refused.err)
    assert reference, refused.err
    job = node.submit("alice")
    for method in ("publickey", "keyboard-interactive"):
        assert node.ssh("alice", "echo $SLURM_JOB_ID", method=method).out.strip() == str(job)
    forged = "pam_slurm_adopt(sshd:account): user root (uid 0) from n1, pid 1: still in job 7"
    machine.run(["logger", "-p", "authpriv.info", "-t", "sshd[1]", forged], "alice")
    machine.sh("journalctl --sync")
    said = ask(node, "logins", f"--since={since}")
    print(json.dumps(said, indent=1))
    assert said["source"] == "the journal"
    assert [(one["user"], one["outcome"], one["job"]) for one in said["logins"]] == [
        ("alice", "refused", None),
        ("alice", "adopted", job),
        ("alice", "adopted", job),
    ]
    assert [one["phases"] for one in said["logins"][1:]] == [["account", "session"]] * 2
    assert said["logins"][0]["ref"] == reference[1]
    assert said["unreadable"] == 0
    story = run(machine, "explain", "--ref", reference[1])
    assert story.returncode == 0
    assert "action_no_jobs=deny" in story.stdout
    assert ask(node, "logins", f"--job={job}", f"--since={since}")["total"] == 2


def test_logins_as_a_user(node: Node) -> None:
    """Who may not read the journal hears so, in one line."""
    done = run(node.machine, "logins", user="alice")
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("slurm-adopt: cannot read the system's journal (root and members of")


# What is shared in memory


@pytest.mark.parametrize("kept", [False, True], ids=["removed", "kept"])
def test_shared_memory_of_a_job_at_logout(node: Node, kept: bool) -> None:
    """With pam_systemd logind removes it when the user logs out, unless RemoveIPC=no."""
    machine = node.machine
    drop_in, said = "/etc/systemd/logind.conf.d/slurm_adopt.conf", "[Login]\nRemoveIPC=no\n"
    section = guide.page("pam-systemd").partition("## Shared memory at logout\n")[2]
    assert f"`{drop_in}`" in section
    assert guide.commands("pam-systemd", "Shared memory at logout")[:2] == said.splitlines()
    node.pam(with_pam_systemd("before"))
    if kept:
        machine.write(drop_in, said)
        machine.sh("systemctl restart systemd-logind")
    try:
        node.submit("alice", script="echo data >/dev/shm/of_the_job; exec sleep 900")
        machine.wait_for("the file", "cat /dev/shm/of_the_job", node.tails)
        with node.session("alice"):
            pass
        gone = lambda: f"user-{UID}.slice" not in machine.sh("systemctl list-units *.slice")  # noqa: E731
        wait_for("alice logged out", gone, 2 * BOUND)
        there = machine.run(["test", "-e", "/dev/shm/of_the_job"], check=False).returncode == 0
        assert there == kept
    finally:
        machine.sh(f"rm -f /dev/shm/of_the_job {drop_in}; systemctl restart systemd-logind")
