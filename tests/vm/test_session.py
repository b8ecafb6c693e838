"""pam_systemd beside the session line, with systemd as PID 1 and cgroup v2.

Each login ends in two facts: the cgroup that its shell is in, and whether the shell is gone once
the job is cancelled. docs/how-to/pam-systemd.md says in words what is seen here.
"""

from __future__ import annotations

import re
import subprocess
import textwrap
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli.logins import decisions, log_lines
from tests.cluster.harness import pam
from tests.cluster.harness.config import BOTH_PORT, Settings
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.login import METHODS
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.login import Session
    from tests.vm.machine import Machine
    from tests.vm.node import Node

UID = 5001  # alice's
COMMAND = 120  # seconds for a command in a session
BOUND = 60  # seconds for something to end
USER_STOP_DELAY = 10  # seconds that logind lets pass after a user's last session
GUIDE = CHECKOUT / "docs/how-to/pam-systemd.md"
RUNTIME = f"/run/user/{UID}"
MANAGER = f"/user.slice/user-{UID}.slice/user@{UID}.service"
SCOPE = r"/user.slice/user-{uid}.slice/session-[^/]+.scope"

# How alice logs in -> the method, and the port where sshd takes it.
WAYS = {method: (method, 22) for method in METHODS}
WAYS["publickey+keyboard-interactive"] = ("publickey,keyboard-interactive", BOTH_PORT)

# In the guide: what takes the place of the user's own systemd.
STUB_FILE = "/etc/systemd/system/user@.service.d/slurm_adopt.conf"
STUB = """\
[Service]
Type=oneshot
RemainAfterExit=yes
PAMName=
ExecStart=
ExecStart=/bin/true
"""

# Suite -> whether logind forgets a session that it is told to terminate while sshd lives on.
FORGETS = {"bookworm": True, "trixie": False}


def stack(where: str, arguments: str = "") -> list[str]:
    """Return sshd's stack with our two lines, pam_systemd before or after that of the session."""
    logind = [f"session optional pam_systemd.so {arguments}".strip()]
    ours = pam.session_lines("action_adopt_failure=deny")
    session = {"absent": ours, "before": [*logind, *ours], "after": [*ours, *logind]}[where]
    return [*pam.with_module("action_adopt_failure=deny"), *session]


def say(session: Session, command: str) -> str:
    """Run a command in a session; a slow machine has time."""
    return session.run(command, COMMAND).strip()


def variable(session: Session, name: str) -> str:
    """Return a variable of a session; empty if it is not set."""
    return say(session, f"echo ${name}")


def listed(machine: Machine) -> set[str]:
    """Return the ids of logind's sessions."""
    return set(machine.sh("loginctl --no-legend --no-pager | awk '{print $1}'").split())


def shown(machine: Machine, known: str) -> dict[str, str]:
    """Return what logind says of the session with this id."""
    said = machine.sh('loginctl show-session "$1"', known)
    return dict(line.partition("=")[::2] for line in said.splitlines())


def active(machine: Machine, unit: str) -> bool:
    """Say whether a unit is active."""
    return machine.run(["systemctl", "is-active", "-q", unit], check=False).returncode == 0


def exists(machine: Machine, path: str) -> bool:
    """Say whether there is a directory."""
    return machine.run(["test", "-d", path], check=False).returncode == 0


def wait_logged_out(node: Node, known: str) -> None:
    """Return when logind has forgotten the session, and ended what was alice's."""
    machine = node.machine
    wait_for(f"session {known} not listed", lambda: known not in listed(machine), BOUND)
    wait_for(f"{RUNTIME} gone", lambda: not exists(machine, RUNTIME), 2 * BOUND)
    assert not active(machine, f"user@{UID}.service")


# Where the shell is, and the end of the job


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", ["absent", "before"])
def test_in_the_job(node: Node, where: str, way: str) -> None:
    """The shell is in the job's extern step, and gone with the job; logind knows no more of it."""
    machine, logind = node.machine, where == "before"
    node.pam(stack(where))
    job = node.submit("alice")
    place = f"{node.step(job)}/user/task_0"
    with node.session("alice", *WAYS[way]) as session:
        assert machine.cgroup(session.pid) == place
        assert variable(session, "SLURM_JOB_ID") == str(job)
        assert variable(session, "XDG_RUNTIME_DIR") == (RUNTIME if logind else "")
        known = variable(session, "XDG_SESSION_ID")
        assert (known in listed(machine)) == logind
        orphan = int(say(session, "setsid sleep 888 >&- 2>&- <&- & echo $!"))
        assert machine.cgroup(orphan) == place
        node.cancel(job)
        session.wait_gone(BOUND)
        assert not machine.alive(orphan)
    if logind:
        wait_logged_out(node, known)


@pytest.mark.parametrize("way", WAYS)
def test_pam_systemd_after_us(node: Node, way: str) -> None:
    """It takes the shell out of the job, and the shell outlives it."""
    node.pam(stack("after"))
    job = node.submit("alice")
    with node.session("alice", *WAYS[way]) as session:
        assert re.fullmatch(SCOPE.format(uid=UID), node.machine.cgroup(session.pid))
        assert variable(session, "SLURM_JOB_ID") == str(job)
        node.cancel(job)
        assert session.alive()


def test_root(node: Node) -> None:
    """Root is in a session of logind's, and in no job."""
    node.pam(stack("before"))
    with node.session("root") as session:
        assert re.fullmatch(SCOPE.format(uid=0), node.machine.cgroup(session.pid))


def test_files_and_terminal(node: Node) -> None:
    """A file comes over whole, a terminal is in the job; an sftp that stays is gone with it."""
    machine = node.machine
    node.pam(stack("before"))
    job = node.submit("alice")
    place = f"{node.step(job)}/user/task_0"
    copy = "head -c 99999 /dev/urandom >/tmp/a; scp -q /tmp/a n1:/tmp/b; cmp /tmp/a /tmp/b"
    machine.run(["sh", "-ec", copy], "alice")
    terminal = machine.sh("ssh -tt n1 'tty; cat /proc/self/cgroup' </dev/null", user="alice")
    assert terminal.split()[0].startswith("/dev/pts/")
    assert terminal.split()[1] == f"0::{place}"
    sftp = machine.popen(["sftp", "-q", "alice@n1"], "alice", stdin=subprocess.PIPE)
    try:
        server = machine.wait_for("sftp-server", "pgrep -u alice -x sftp-server", node.tails)
        assert machine.cgroup(int(server)) == place
        node.cancel(job)
        wait_for("sftp-server gone", lambda: not machine.alive(int(server)), BOUND)
    finally:
        sftp.kill()
        sftp.communicate()


# It stays when it is done: jobacct_gather/linux forgets what processes used that are gone.
BURNED = 6  # seconds
BURN = f"""\
import time
while time.process_time() < {BURNED}: pass
print("burned", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("method", ["publickey", "keyboard-interactive"])
@pytest.mark.parametrize("where", ["absent", "before"])
@pytest.mark.parametrize("gathering", ["cgroup", "linux"])
def test_charged_once(node: Node, gathering: str, where: str, method: str) -> None:
    """The stepd is asked once, and what the session burns is what the extern step is charged."""
    node.reconfigure(Settings(jobacct=f"jobacct_gather/{gathering}"))
    node.pam(stack(where))
    job = node.submit("alice")
    with node.session("alice", method) as session:
        say(session, f"python3 -c '{BURN}' >/tmp/burned 2>&1 </dev/null &")
        node.machine.wait_for("the burning done", "cat /tmp/burned", node.tails)

        def charged() -> int:
            argv = ["sstat", "-nP", "-j", f"{job}.extern", "--format=TresUsageInTot%60,NTasks"]
            usage, tasks = node.machine.run(argv).stdout.strip().split("|")
            assert tasks == "1"
            hours, minutes, seconds = usage.partition("cpu=")[2].partition(",")[0].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + int(seconds)

        wait_for(f"{BURNED} s charged", lambda: charged() >= BURNED * 0.6, BOUND)
        node.machine.sh("sleep 12")  # twice JobAcctGatherFrequency: nothing is still to come
        print(f"charged {charged()} s for {BURNED} s")
        assert BURNED * 0.6 <= charged() <= BURNED * 1.3 + 1
        say(session, "kill $!; rm /tmp/burned")
    log = node.machine.read("var/log/slurm/slurmd.log")
    assert len(re.findall(rf"add_extern_pid_internal: for .*\b{job}\.extern, pid", log)) == 1


# The log

FORGED = "pam_slurm_adopt(sshd:account): user root (uid 0) from n1, pid 1: still in job 7"


@pytest.mark.parametrize("where", ["absent", "before"])
def test_fields_in_the_journal(node: Node, where: str) -> None:
    """Each decision is there once, with its fields; a user's line has the user's uid beside it."""
    machine = node.machine
    node.pam([line.replace("=deny", "=deny reference=1") for line in stack(where)])
    since = machine.sh("date +@%s").strip()
    refused = node.ssh("alice")
    assert refused.rc == 255
    shown_to_alice = re.search(r"no active jobs on this node \(ref (\w{4})\)", refused.err)
    assert shown_to_alice, refused.err
    job = node.submit("alice")
    assert node.ssh("alice", "echo $SLURM_JOB_ID").out.strip() == str(job)
    machine.run(["logger", "-p", "authpriv.info", "-t", "sshd[1]", FORGED], "alice")
    machine.sh("journalctl --sync")
    printed = machine.run(["journalctl", "-q", "-o", "json", f"--since={since}"]).stdout
    records = [log_lines.of_json(line) for line in printed.encode().splitlines()]
    ours = [row for row in records if row["MESSAGE"].startswith("pam_slurm_adopt(")]
    (forged,) = [row for row in ours if row["MESSAGE"] == FORGED]
    assert forged["_UID"] == str(UID)
    decided = [row for row in ours if " -> PAM_" in row["MESSAGE"]]
    assert {(row["_UID"], row["_TRANSPORT"]) for row in decided} == {("0", "journal")}
    found = [[row[f"SLURM_ADOPT_{name}"] for name in ("PHASE", "OUTCOME")] for row in decided]
    assert found == [["account", "refused"], ["account", "chosen"], ["session", "adopted"]]
    first, _, last = decided
    assert first["SLURM_ADOPT_REF"] == shown_to_alice[1]
    assert first["SLURM_ADOPT_OPTION"] == "action_no_jobs=deny"
    assert (last["SLURM_ADOPT_JOB_ID"], last["SLURM_ADOPT_HOW"]) == (str(job), "the only job")
    assert last["SLURM_ADOPT_USER"] == "alice"
    assert last["SYSLOG_PID"] == last["_PID"] == last["SLURM_ADOPT_PID"]
    read = [decisions.read(log_lines.of_journal(row)) for row in decided]
    logins = list(decisions.logins(one for one in read if one))
    assert [(login.last.outcome, login.job) for login in logins] == [
        ("refused", None),
        ("adopted", job),
    ]


# What logind has of it


def test_logind_keeps_the_session(node: Node) -> None:
    """The scope is empty and ends at once; the session and what it brings stay until logout."""
    machine = node.machine
    node.pam(stack("before"))
    node.submit("alice")
    mark = node.mark()
    with node.session("alice") as session:
        known = variable(session, "XDG_SESSION_ID")
        said = shown(machine, known)
        assert (said["State"], said["Class"]) == ("active", "user")
        assert not active(machine, said["Scope"])
        say(session, f"sleep {USER_STOP_DELAY + 5}")  # longer than logind waits
        assert shown(machine, known)["State"] == "active"
        assert say(session, "stat -c '%U %a' $XDG_RUNTIME_DIR") == "alice 700"
        assert say(session, "systemctl --user is-active dbus.socket") == "active"
    wait_logged_out(node, known)
    print("\n".join(line for line in node.log(mark) if "session" in line))


def test_logind_cannot_end_the_session(node: Node) -> None:
    """What logind would kill is the scope, which is gone: the shell goes on."""
    machine = node.machine
    node.pam(stack("before"))
    job = node.submit("alice")
    with node.session("alice") as session:
        known = variable(session, "XDG_SESSION_ID")
        assert machine.run(["loginctl", "kill-session", known], check=False).returncode == 1
        machine.run(["loginctl", "terminate-session", known])
        if FORGETS[machine.name]:
            wait_logged_out(node, known)
        else:
            assert shown(machine, known)["State"] == "closing"
            say(session, f"sleep {USER_STOP_DELAY + 5}")
            assert exists(machine, RUNTIME)
        assert session.alive()
        node.cancel(job)
        session.wait_gone(BOUND)
    wait_logged_out(node, known)


@pytest.mark.parametrize("name", ["user-light", "background", "background-light", "none"])
def test_class(node: Node, name: str) -> None:
    """Whatever class is asked for, pam_systemd makes it `user` for sshd, with all it brings."""
    machine = node.machine
    node.pam(stack("before", f"class={name}"))
    job = node.submit("alice")
    with node.session("alice") as session:
        assert machine.cgroup(session.pid) == f"{node.step(job)}/user/task_0"
        assert shown(machine, variable(session, "XDG_SESSION_ID"))["Class"] == "user"
        assert active(machine, f"user@{UID}.service")


# Ways out of the job


def escape(session: Session) -> int:
    """Have the user's own systemd start a process; return its pid."""
    say(session, "systemd-run --user --unit=escaped sleep 777")
    return int(say(session, "systemctl --user show -P MainPID escaped"))


def test_systemd_run(node: Node) -> None:
    """What the user's own systemd starts is in no job; it ends after the user's last session."""
    machine = node.machine
    node.pam(stack("before"))
    other, job = node.submit("alice"), node.submit("alice")
    with node.session("alice") as first:
        assert variable(first, "SLURM_JOB_ID") == str(job)
        escaped = escape(first)
        assert machine.cgroup(escaped) == f"{MANAGER}/app.slice/escaped.service"
        node.cancel(job)
        first.wait_gone(BOUND)
        with node.session("alice") as second:
            assert variable(second, "SLURM_JOB_ID") == str(other)
            known = variable(second, "XDG_SESSION_ID")
            say(second, f"sleep {USER_STOP_DELAY + 5}")
            assert machine.alive(escaped)
            node.cancel(other)
            second.wait_gone(BOUND)
    wait_logged_out(node, known)
    assert not machine.alive(escaped)


def test_linger(node: Node) -> None:
    """With linger, which users may switch on, it outlives all jobs and sessions."""
    machine = node.machine
    node.pam(stack("before"))
    job = node.submit("alice")
    try:
        with node.session("alice") as session:
            known = variable(session, "XDG_SESSION_ID")
            nobody = say(session, "loginctl enable-linger")  # the caller's: it is in no session
            assert "No such device or address" in nobody
            assert say(session, "loginctl enable-linger alice; echo $?") == "0"
            escaped = escape(session)
            node.cancel(job)
            session.wait_gone(BOUND)
        wait_for("not listed", lambda: known not in listed(machine), BOUND)
        machine.sh(f"sleep {USER_STOP_DELAY + 5}")
        assert machine.alive(escaped)
    finally:
        machine.sh("loginctl disable-linger alice")
    wait_logged_out(node, known)
    assert not machine.alive(escaped)


@pytest.fixture
def stub(node: Node) -> Iterator[None]:
    """Put the guide's stub in the place of the user's own systemd."""
    node.machine.write(STUB_FILE, STUB)
    node.machine.sh("systemctl daemon-reload")
    yield
    node.machine.sh('rm -r "$(dirname "$1")"; systemctl daemon-reload', STUB_FILE)


@pytest.mark.usefixtures("stub")
def test_without_the_users_own_systemd(node: Node) -> None:
    """With the guide's stub there is no such way out, and the runtime directory stays."""
    guide = GUIDE.read_text()
    assert STUB_FILE in guide
    assert textwrap.indent(STUB, "    ") in guide
    machine = node.machine
    node.pam(stack("before"))
    job = node.submit("alice")
    with node.session("alice") as session:
        assert machine.cgroup(session.pid) == f"{node.step(job)}/user/task_0"
        assert "Failed to connect" in say(session, "systemd-run --user sleep 777")
        say(session, f"sleep {USER_STOP_DELAY + 5}")
        assert say(session, "stat -c '%U %a' $XDG_RUNTIME_DIR") == "alice 700"
        known = variable(session, "XDG_SESSION_ID")
        assert known in listed(machine)
        node.cancel(job)
        session.wait_gone(BOUND)
    wait_logged_out(node, known)
