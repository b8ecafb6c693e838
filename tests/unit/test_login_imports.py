"""What a login imports: written lists, so that nothing heavy slips in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from slurm_adopt.slurm.slurmd.message import payload
from tests.fakes.munged import CREDENTIAL, DECODED, ENCODE_REPLY, HEADER, u32
from tests.fakes.munged import reply as munge_reply
from tests.fakes.peers import Peer
from tests.fakes.requests import REQUEST_STEP_LIST_PIDS, RESPONSE_NETWORK_CALLERID
from tests.fakes.slurmd import BY_NAME, answer, reply
from tests.fakes.stepd import Stepd, int32
from tests.fakes.tree import Tree

SOURCE = Path(__file__).parents[2] / "src"

# pam_python itself imports traceback, and with it these; the rest is builtin or cheap.
SCRIPT = """
import sys, traceback
before = set(sys.modules)
sys.path.insert(0, {source!r})
import slurm_adopt.front.pam_python
print(*sorted(set(sys.modules) - before))
"""

OURS = {
    "slurm_adopt.decision",
    "slurm_adopt.decision.login",
    "slurm_adopt.front",
    "slurm_adopt.node",
    "slurm_adopt.session",
    "slurm_adopt.system",
    "slurm_adopt.slurm.cgroup",
    "slurm_adopt.slurm.config",
    "slurm_adopt.slurm.stepd",
    "slurm_adopt",
    "slurm_adopt.decision.adoption",
    "slurm_adopt.front.answer",
    "slurm_adopt.front.pam_python",
    "slurm_adopt.decision.engine",
    "slurm_adopt.session.handover",
    "slurm_adopt.system.log",
    "slurm_adopt.node.adopting",
    "slurm_adopt.node.deferral",
    "slurm_adopt.node.moving",
    "slurm_adopt.node.jobs",
    "slurm_adopt.node.node",
    "slurm_adopt.node.pam_files",
    "slurm_adopt.node.pam_stack",
    "slurm_adopt.node.phase",
    "slurm_adopt.node.stepds",
    "slurm_adopt.decision.options",
    "slurm_adopt.decision.outcome",
    "slurm_adopt.decision.session_phase",
    "slurm_adopt.node.session_process",
    "slurm_adopt.node.slurm_site",
    "slurm_adopt.slurm",
    "slurm_adopt.slurm.cgroup.hierarchy",
    "slurm_adopt.slurm.cgroup.paths",
    "slurm_adopt.slurm.cgroup.step_cgroup",
    "slurm_adopt.slurm.config.conf",
    "slurm_adopt.slurm.waiting",
    "slurm_adopt.slurm.digits",
    "slurm_adopt.slurm.errors",
    "slurm_adopt.slurm.files",
    "slurm_adopt.slurm.config.hostlist",
    "slurm_adopt.slurm.proc",
    "slurm_adopt.slurm.stepd.ask_all",
    "slurm_adopt.slurm.stepd.step_sockets",
    "slurm_adopt.slurm.stepd.stepd",
    "slurm_adopt.slurm.time_limits",
    "slurm_adopt.slurm.versions",
    "slurm_adopt.slurm.wire",
    "slurm_adopt.time_limits",
}
STANDARD = {"_socket", "__future__", "pwd", "select"}


def test_imports_of_a_login() -> None:
    script = SCRIPT.format(source=str(SOURCE))
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", script], check=True, capture_output=True, text=True
    )
    assert set(done.stdout.split()) <= OURS | STANDARD
    assert set(done.stdout.split()) >= OURS


# The ordinary login: one job, which is confined by cgroups; the account phase, then the session

LOGIN = """
import os, sys, traceback
sys.path.insert(0, {source!r})
import slurm_adopt.front.pam_python
import _socket
from slurm_adopt.system import log
syslog = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
syslog.bind("")
log.SOCKETS = (syslog.getsockname(),)
from slurm_adopt.slurm.cgroup import step_cgroup as cgroup
cgroup.layout.__defaults__ = ({proc!r},)
os.makedirs({proc!r} + f"/{{os.getpid()}}")
with open({proc!r} + f"/{{os.getpid()}}/cgroup", "w") as file:
    file.write("6:freezer:/slurm_n1/uid_1/job_7/step_extern")
from slurm_adopt.node import pam_stack as stack
for function in (stack.session_line, stack.joins):
    function.__defaults__ = (({places!r},),)
stack.expected.__defaults__ = (({places!r},), float("inf"))
before = set(sys.modules)

class Handle:
    PAM_SUCCESS, PAM_SILENT, user, service = 0, 1, "daemon", "sshd"
    rhost, env = "127.0.0.1", dict()

memory = dict()
for phase in {phases!r}:
    if phase == "session":  # the user has authenticated
        os.close(int(sys.argv[1]))
    code = getattr(slurm_adopt.front.pam_python, phase)(Handle(), 0, {options!r}, memory)
    print(code, Handle.env.get("SLURM_JOB_ID"), *sorted(set(sys.modules) - before))
    before = set(sys.modules)
"""

# What starts it holds the other end of its slot, if it gets one.
LISTENER = """
import os, socket, sys
make, *argv = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", 0))
if make == "pipe":
    theirs, ours = os.pipe()
else:
    theirs, ours = [end.detach() for end in socket.socketpair()]
if not os.fork():
    os.set_inheritable(ours, make != "none")
    os.execv(argv[0], [*argv, str(ours)])
os.close(ours)
os.wait()
"""

STACK = "account required pam_python.so pam_slurm_adopt.py\n"
BOTH = STACK + "session required pam_python.so pam_slurm_adopt.py OPTIONS\n"

SLOT = {"slurm_adopt.node.login_slot", "slurm_adopt.node.sockets"}
WATCHED = {
    *SLOT,
    "gc",
    "slurm_adopt.system.child",
    "slurm_adopt.system.sigint",
    "slurm_adopt.node.unfinished_login",
}
# Which process becomes the session, where the parent is the same program and no slot is held.
ASKED = {"slurm_adopt.node.listening", "slurm_adopt.node.ssh_connection"}
LENT = {"_ctypes", "slurm_adopt.slurm.libc", "errno"}  # a socket of the listener is asked

# (what is imported in each phase that is run; program that listens, program of the login, slot,
# lines)
ORDINARY = [
    ("account line, sshd -i", [SLOT], "inetd", "sshd", "none", STACK),
    ("account line, before 9.8", [WATCHED], "sshd", "sshd", "pipe", STACK),
    ("account line, 9.8", [WATCHED], "sshd", "sshd-session", "pipe", STACK),
    ("account line, 10.0", [WATCHED], "sshd", "sshd-session", "pair", STACK),
    ("both lines, before 9.8", [SLOT, set()], "sshd", "sshd", "pipe", BOTH),
    (
        "both lines, 10.0",
        [set(), set()],
        "sshd",
        "sshd-session",
        "pair",
        BOTH,
    ),
]


@pytest.mark.parametrize(
    ("case", "phases", "listener", "login", "slot", "lines"), ORDINARY, ids=[c[0] for c in ORDINARY]
)
def test_imports_of_the_ordinary_login(
    tmp_path: Path,
    case: str,
    phases: list[set[str]],
    listener: str,
    login: str,
    slot: str,
    lines: str,
) -> None:
    """Next to nothing: nearly all that it wants has come with the package."""
    del case
    tree = Tree(tmp_path)
    tree.mount("freezer")
    tree.make("freezer/slurm_n1/uid_1/job_7/step_extern")
    conf = CONF.format(munge="", port=0, spool=tmp_path, user=os.geteuid())
    (tmp_path / "slurm.conf").write_text(conf.replace("linuxproc", "cgroup"))
    (tmp_path / "cgroup.conf").write_text(f"CgroupMountpoint={tree.mnt}\n")
    (tmp_path / "pam.d").mkdir()
    options = [f"slurm_conf={tmp_path}/slurm.conf", "nodename=n1"]
    (tmp_path / "pam.d/sshd").write_text(lines.replace("OPTIONS", " ".join(options)))
    time.sleep(0.2)  # the files are older than the login
    for name in {listener, login}:
        shutil.copy("/usr/bin/python3", tmp_path / name)
    script = LOGIN.format(
        source=str(SOURCE),
        proc=str(tree.proc),
        places=str(tmp_path / "pam.d"),
        phases=["account", "session"][: len(phases)],
        options=options,
    )
    argv = [str(tmp_path / listener), "-I", "-c", LISTENER, slot]
    argv += [str(tmp_path / login), "-I", "-c", script]
    with Stepd(tmp_path / "n1_7.4294967292", uid=1) as stepd:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert not done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    assert [set(imported) for _, _, *imported in said] == phases
    assert [code for code, *_ in said] == ["0"] * len(phases)
    assert said[-1][1] == "7"
    assert [number for number, _ in stepd.received].count(22) == 1


# Where journald listens

JOURNALD = """
import sys, traceback
sys.path.insert(0, {source!r})
import slurm_adopt.front.pam_python
from slurm_adopt.system import log
log.JOURNALD, log.SOCKETS = {journald!r}, ({dev_log!r},)
before = set(sys.modules)

class Handle:
    PAM_USER_UNKNOWN, PAM_SILENT, user, service, rhost, env = 10, 1, "nobody-has", "sshd", "", {{}}

print(slurm_adopt.front.pam_python.account(Handle(), 1, [], {{}}), end=" ")
print(*sorted(set(sys.modules) - before))
"""
OF_JOURNALD = {"slurm_adopt.decision.record", "slurm_adopt.system.journal"}


@pytest.mark.parametrize(("journald", "imported"), [("log", OF_JOURNALD), ("none", set())])
def test_imports_where_journald_listens(tmp_path: Path, journald: str, imported: set[str]) -> None:
    """Its protocol, and the fields of a decision; nothing of both elsewhere."""
    dev_log = str(tmp_path / "log")
    script = JOURNALD.format(source=str(SOURCE), journald=str(tmp_path / journald), dev_log=dev_log)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(dev_log)
        argv = ["/usr/bin/python3", "-I", "-c", script]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert not done.stderr
        assert b"user nobody-has is not known on this host" in syslog.recv(1 << 16)
    code, *found = done.stdout.split()
    assert code == "10"
    assert set(found) == imported


# Other logins: the parent is another program, as since OpenSSH 9.8

SHELL = ("sh", "-c", '"$@"; exit', "sh")

# What the two that follow begin with: a log, and what is imported until then

START = """
import sys, traceback
sys.path.insert(0, {source!r})
import slurm_adopt.front.pam_python
import _socket
from slurm_adopt.system import log
syslog = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
syslog.bind("")
log.SOCKETS = (syslog.getsockname(),)
before = set(sys.modules)

class Handle:
    PAM_SUCCESS, PAM_SILENT, user, service = 0, 1, "daemon", "sshd"
    rhost, env = "127.0.0.1", dict()
    PAM_TEXT_INFO, tty = 4, "ssh"
    conversation, Message = lambda *_: None, tuple
"""

# A login whose session gets what the job has

JOB = (
    START
    + """
code = slurm_adopt.front.pam_python.session(Handle(), 0, {options!r}, {{}})
print(code, Handle.env["SLURMD_NODENAME"], *sorted(set(sys.modules) - before))
"""
)

# A note of the account phase is looked for.
OF_SESSION = {
    "slurm_adopt.node.adoption_note",
    "slurm_adopt.system.root_dirs",
}
OF_JOB = {
    "slurm_adopt.decision.variables",
    "slurm_adopt.system.child",
    "slurm_adopt.session.environment",
    "slurm_adopt.session.limits",
    "slurm_adopt.session.job_process",
    "slurm_adopt.system.sigint",
    "slurm_adopt.slurm.cgroup.cpuset",
    "slurm_adopt.slurm.cgroup.job_cgroup",
}
OF_JOB_STANDARD = {"gc", "resource"}
OF_WELCOME = {"slurm_adopt.front.welcome"}


def test_imports_of_a_session_that_gets_what_the_job_has(tmp_path: Path) -> None:
    """The whole session phase, with a process of the user's in another step of the job."""
    with (
        subprocess.Popen(["sleep", "60"], user=1) as process,
        Stepd(tmp_path / "n1_7.4294967292", uid=1),
        Stepd(
            tmp_path / "n1_7.0",
            uid=1,
            replies={REQUEST_STEP_LIST_PIDS: int32(1) + int32(process.pid)},
        ),
    ):
        conf = CONF.format(munge="", port=0, spool=tmp_path, user=os.geteuid())
        (tmp_path / "slurm.conf").write_text(conf)
        options = [f"slurm_conf={tmp_path}/slurm.conf", "nodename=n1", "job_env=all"]
        script = JOB.format(source=str(SOURCE), options=[*options, "job_limits=1", "welcome=1"])
        argv = [*SHELL, "/usr/bin/python3", "-I", "-c", script]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        process.kill()
    assert not done.stderr
    code, node, *imported = done.stdout.split()
    assert (code, node) == ("0", "n1")
    assert set(imported) == OF_SESSION | OF_JOB | OF_JOB_STANDARD | OF_WELCOME


# A login with several jobs: which connection it is, what the slurmd there says, and the adoption

SEVERAL = (
    START
    + """
import _socket
ssh = _socket.socket()
ssh.connect({sshd!r})
code = slurm_adopt.front.pam_python.account(Handle(), 0, {options!r}, {{}})
print(code, Handle.env["SLURM_JOB_ID"], *sorted(set(sys.modules) - before))
"""
)

CONF = """\
AuthType=auth/munge
AuthInfo=socket={munge}
NodeName=n1
ProctrackType=proctrack/linuxproc
SlurmdPort={port}
SlurmdSpoolDir={spool}
SlurmdUser={user}
"""

SEVERAL_JOBS = {
    "slurm_adopt.slurm.slurmd",
    *SLOT,
    "slurm_adopt.node.listening",  # for a login from this host only
    "slurm_adopt.node.ssh_connection",
    "slurm_adopt.node.own_address",
    "slurm_adopt.node.source_job",
    "slurm_adopt.slurm.auth",
    "slurm_adopt.slurm.auth.credential",
    "slurm_adopt.slurm.auth.munge",
    "slurm_adopt.slurm.slurmd.callerid",
    "slurm_adopt.slurm.slurmd.body_hash",
    "slurm_adopt.slurm.slurmd.message",
    "slurm_adopt.slurm.slurmd.rpc",
    "slurm_adopt.slurm.stream",
    "slurm_adopt.slurm.writer",
    "slurm_adopt.slurm.config.slurmd_ports",
}
SEVERAL_JOBS_STANDARD = {"errno"}  # builtin


def test_imports_of_a_login_with_several_jobs(tmp_path: Path) -> None:
    """The whole account phase, with a stand-in for each daemon that it talks to."""
    release, uid, munge = BY_NAME["22.05"], os.geteuid(), str(tmp_path / "munge")
    body = answer(release, 7)
    kind = RESPONSE_NETWORK_CALLERID
    bound = payload(2, kind, body)
    who = u32(1, 1, uid, uid, uid, 0xFFFFFFFF, len(bound)) + bound
    decoded = munge_reply(DECODED, b"\0\0\4\5\0\0" + u32(300) + b"\4\x7f\0\0\1" + who)
    sockets = [tmp_path / f"n1_{job}.4294967292" for job in (7, 8)]
    with (
        socket.create_server(("127.0.0.1", 0)) as sshd,
        Peer(reply(release, body, text=CREDENTIAL.decode())) as slurmd,
        Peer(ENCODE_REPLY, decoded, path=munge, prefix=HEADER),
        Stepd(sockets[0], uid=1),
        Stepd(sockets[1], uid=1),
    ):
        conf = CONF.format(munge=munge, port=slurmd.port, spool=tmp_path, user=uid)
        (tmp_path / "slurm.conf").write_text(conf)
        options = [f"slurm_conf={tmp_path}/slurm.conf", "nodename=n1"]
        script = SEVERAL.format(source=str(SOURCE), sshd=sshd.getsockname(), options=options)
        argv = [*SHELL, "/usr/bin/python3", "-I", "-c", script]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert not done.stderr
    code, job, *imported = done.stdout.split()
    assert (code, job) == ("0", "7")
    assert set(imported) == SEVERAL_JOBS | SEVERAL_JOBS_STANDARD


# By pam_exec: a process of its own, so that all counts; one job, in either phase

EXEC = """
import sys
sys.argv[0] = {script!r}
with open({script!r}) as file:
    code = compile(file.read(), {script!r}, "exec")
before = set(sys.modules)
names = dict(__name__="script")
exec(code, names)
print(names["main"](), *sorted(set(sys.modules) - before))
"""
OF_EXEC = {"slurm_adopt.front.pam_exec", "slurm_adopt.system.importing", *OURS} - {
    "slurm_adopt.front.pam_python"
}
OF_EXEC_STANDARD = {*STANDARD, "atexit", "gc", "os"}


@pytest.mark.parametrize(
    ("kind", "imported"),
    [("account", SLOT), ("open_session", OF_SESSION)],
    ids=["account", "session"],
)
def test_imports_by_pam_exec(tmp_path: Path, kind: str, imported: set[str]) -> None:
    script = str(SOURCE.parent / "pam/pam_slurm_adopt_exec")
    conf = CONF.format(munge="", port=0, spool=tmp_path, user=os.geteuid())
    (tmp_path / "slurm.conf").write_text(conf)
    options = [f"slurm_conf={tmp_path}/slurm.conf", "nodename=n1", "log_level=quiet"]
    options += ["action_adopt_failure=deny"]
    items = {"PAM_TYPE": kind, "PAM_USER": "daemon", "PAM_SERVICE": "sshd", "PAM_TTY": "ssh"}
    caller = tmp_path / "pam_exec.so"  # what called PAM has it mapped
    shutil.copy("/bin/sh", caller)
    argv = [str(caller), *SHELL[1:], "/usr/bin/python3", "-IS", "-c", EXEC.format(script=script)]
    argv += options
    with Stepd(tmp_path / "n1_7.4294967292", uid=1) as stepd:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=items)
    assert not done.stderr
    status, *found = done.stdout.split()
    assert status == "0"
    assert [number for number, _ in stepd.received].count(22) == 1
    assert set(found) == OF_EXEC | imported | with_theirs(OF_EXEC_STANDARD)


def with_theirs(names: set[str]) -> set[str]:
    """Return modules of Python's own, with those that they import in turn."""
    script = f"import sys; before = set(sys.modules); import {', '.join(sorted(names))}; "
    argv = ["/usr/bin/python3", "-IS", "-c", script + "print(*set(sys.modules) - before)"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return set(done.stdout.split())
