"""A login's slot: real processes that have the ends of real pipes and pairs of sockets."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_adopt.node import login_slot
from slurm_adopt.node.login_slot import Slot, slot_of
from slurm_adopt.node.session_process import is_child, session_process
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import status
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.system import child as forked
from tests.fakes.peers import no_descriptor_left

SOURCE = str(Path(__file__).parents[2] / "src")
PROGRAM = os.path.realpath(sys.executable)

# The process that listens forks the one that is the login; the case says what each has open.
LISTENER = """
import os, socket, sys
case, program, login = sys.argv[1:]

def pair():
    return [one.detach() for one in socket.socketpair()]

def named():
    listener, ours = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    listener.bind("\\0slot-" + str(os.getpid()))
    listener.listen()
    ours.connect(listener.getsockname())
    return listener.accept()[0].detach(), ours.detach()

def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return listener.accept()[0].detach(), ours.detach()

theirs, ours = {"pair": pair, "named": named, "TCP": tcp}.get(case.split(",")[0], os.pipe)()
if "the login reads" in case:
    theirs, ours = ours, theirs
others = [os.pipe()[::-1], tcp(), named()] if "others" in case else []
ready, told = os.pipe()
if not os.fork():
    os.close(told)
    os.read(ready, 1)
    for one, other in others:
        os.close(one)
    for descriptor in (ours, theirs, *(other for _, other in others)):
        if descriptor != theirs or "both have both" in case or "the login has both" in case:
            os.set_inheritable(descriptor, True)
    os.execv(program, [program, "-c", login, case, str(ours)])
if "both have both" not in case and "the listener has both" not in case:
    os.close(ours)
if "the listener has none" in case:
    os.close(theirs)
for one, other in others:
    os.close(other)
os.write(told, b"x")
os.wait()
"""

LOGIN = f"""
import os, socket, sys
sys.path.insert(0, {SOURCE!r})
from slurm_adopt.node import session_process as process
from slurm_adopt.node.login_slot import slot_of
case, ours = sys.argv[1], int(sys.argv[2])

def ask(pid):
    found = slot_of(pid)
    print(found and found.pid == pid and found.link, process.is_child(os.getpid()), flush=True)

if "made by the login" in case:
    os.close(ours)
    end, other = os.pipe() if "pipe" in case else socket.socketpair()
    ours = other if "pipe" in case else other.fileno()
if "standard error" in case:
    os.dup2(ours, 2)
    os.close(ours)
    ours = 2
print(os.readlink(f"/proc/self/fd/{{ours}}"), flush=True)
if "parent gone" in case:
    parent = os.getppid()
    os.kill(parent, 9)
    while os.getppid() == parent:
        pass
if "child" in case:
    end, other = socket.socketpair()  # by which they talk
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection, far = socket.create_connection(server.getsockname()), server.accept()
    if not os.fork():
        end.close()
        ask(os.getppid() if "in a child" in case else os.getpid())
        from slurm_adopt.node import listening
        listening.listens = None  # nobody is asked
        print(process.session_process(os.getpid()) == os.getppid(), flush=True)
        os._exit(0)
    other.close()
    os.wait()
else:
    ask(os.getpid())
"""

# (case, whether the login has a slot)
CASES = [
    ("pipe", True),
    ("pipe, the login reads", False),
    ("pipe, both have both ends", False),
    ("pipe, the listener has both ends", False),
    ("pipe, the login has both ends", False),
    ("pipe, the listener has none", False),
    ("pipe, made by the login", False),
    ("pipe, parent gone", False),
    ("pipe, others", True),
    ("pipe, in a child", True),
    ("pipe, a child itself", False),
    ("pair", True),
    ("pair, others", True),
    ("pair, made by the login", False),
    ("pair, both have both ends", False),
    ("pair, the listener has both ends", False),
    ("pipe, standard error", False),
    ("pair, standard error", False),
    ("pair, parent gone", False),
    ("pair, in a child", True),
    ("pair, a child itself", False),
    ("named", False),
    ("TCP", False),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of programs as OpenSSH has them since 9.8."""
    directory = tmp_path_factory.mktemp("programs")
    for name in ("sshd", "sshd-session", "inetd"):
        shutil.copy(PROGRAM, directory / name)
    return directory


def asked(case: str, listener: Path, login: Path) -> list[str]:
    """Return the link of the descriptor in question; what is found; whether it is a child.

    Of a child also whether its parent is taken for the process that becomes the session.
    """
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [str(listener), "-c", LISTENER, case, str(login), LOGIN]
    done = subprocess.run(
        argv, check=False, stdout=subprocess.PIPE, text=True, timeout=120, env=environment
    )
    return done.stdout.split()


@pytest.mark.parametrize(("case", "there"), CASES, ids=[case for case, _ in CASES])
def test_the_slot(programs: Path, case: str, there: bool) -> None:
    link, found, *_ = asked(case, programs / "sshd", programs / "sshd-session")
    assert found == (link if there else "None")


@pytest.mark.parametrize("case", [case for case, _ in CASES if "pipe" in case])
def test_the_slot_before_9_8(programs: Path, case: str) -> None:
    """The login is the same program as the one that listens."""
    link, found, *_ = asked(case, programs / "sshd", programs / "sshd")
    assert found == (link if dict(CASES)[case] else "None")


# (the program that listens, the login's, kind, whether there is a slot)
PROGRAMS = [
    ("sshd", "sshd", "pair", False),  # none has had them
    ("sshd-session", "sshd-session", "pair", False),
    ("inetd", "sshd", "pipe", False),  # `sshd -i` with the pipes of another program
    ("inetd", "sshd", "pair", False),
]


@pytest.mark.parametrize(("listener", "login", "kind", "there"), PROGRAMS)
def test_programs(programs: Path, listener: str, login: str, kind: str, there: bool) -> None:
    link, found, *_ = asked(kind, programs / listener, programs / login)
    assert found == (link if there else "None")


@pytest.mark.parametrize(("what", "child"), [("", False), (", a child itself", True)])
def test_whether_it_is_a_child(programs: Path, what: str, child: bool) -> None:
    """Of the process that opens the session; its parent has the slot, or it has that itself."""
    for kind, login in (("pipe", "sshd"), ("pipe", "sshd-session"), ("pair", "sshd-session")):
        said = asked(kind + what, programs / "sshd", programs / login)[2:]
        assert said == [str(child)] + ["True"] * child


def test_a_process_that_is_not_there(tmp_path: Path) -> None:
    assert slot_of(1 << 22) is None
    assert slot_of(os.getpid(), str(tmp_path)) is None


def test_one_that_has_ended() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert slot_of(process.pid) is None


def test_modes_of_what_both_have_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hundred logins the one that listens has a hundred pipes."""
    read: list[str] = []

    def note(path: str) -> dict[str, str]:
        read.append(path)
        return status(path)

    monkeypatch.setattr(login_slot, "status", note)
    pipes = [os.pipe() for _ in range(100)]
    ours, theirs = pipes[50][1], pipes[50][0]
    argv = [PROGRAM, "-c", "input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[ours]) as login:
        os.close(ours)
        found = slot_of(login.pid)
        for descriptor in {end for pipe in pipes for end in pipe} - {ours}:
            os.close(descriptor)
        login.communicate(b"\n")
    assert found
    assert found.descriptor == ours
    assert len(read) <= 6  # PPid; both ends of this pipe, and of that for the input
    assert f"/proc/{os.getpid()}/fdinfo/{theirs}" in read


def test_the_session_is_who_has_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is looked at then."""
    monkeypatch.setattr(login_slot, "slot_of", lambda *_: Slot(os.getpid(), 3, "pipe:[1]"))
    monkeypatch.setattr("slurm_adopt.node.session_process.same_program", lambda *_: True)
    monkeypatch.setattr("slurm_adopt.node.ssh_connection.connected_sockets", None)
    assert session_process(os.getpid()) == os.getpid()
    assert not is_child(os.getpid())


# (when the parent listens: looks, None: it cannot be told; whether the two share a connection;
# whether this is a child of the process that opens the session)
AFTER_SIGHUP: list[tuple[int | None, bool, bool]] = [
    (0, False, False),
    (3, False, False),  # it starts again
    (3, True, True),
    (99999, False, True),
    (None, False, True),
]


@pytest.mark.parametrize(("looks", "shared", "child"), AFTER_SIGHUP)
def test_where_no_slot_is_found(
    monkeypatch: pytest.MonkeyPatch, looks: int | None, shared: bool, child: bool
) -> None:
    """An sshd that reads its configuration again has closed its ends of all pipes."""
    seen = itertools.count()

    def listens(*_: object) -> bool:
        if looks is None:
            raise SetupError("too many sockets")
        return next(seen) >= looks

    monkeypatch.setattr("slurm_adopt.node.session_process.same_program", lambda *_: True)
    monkeypatch.setattr(login_slot, "slot_of", lambda *_: None)
    monkeypatch.setattr("slurm_adopt.node.listening.listens", listens)
    monkeypatch.setattr("slurm_adopt.node.ssh_connection.shares", lambda *_: shared)
    monkeypatch.setattr("slurm_adopt.node.listening.RESTART", 0.5)
    assert is_child(os.getpid()) == child


def test_what_may_not_be_seen_makes_it_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the login's start is taken for an earlier one, and word is left that nobody reads."""

    def denied(*_: object) -> None:
        raise SetupError("Permission denied")

    monkeypatch.setattr("slurm_adopt.node.session_process.same_program", lambda *_: True)
    monkeypatch.setattr(login_slot, "slot_of", denied)
    assert is_child(os.getpid())


def test_what_the_listener_has_open_may_not_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slot is found then; that is no reason to go on unwatched."""
    listdir = os.listdir

    def deny(path: str) -> list[str]:
        if path == f"/proc/{os.getppid()}/fd":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(login_slot, "may_listen_for", lambda *_: True)
    monkeypatch.setattr(os, "listdir", deny)
    with pytest.raises(SetupError, match=rf"cannot list what /proc/{os.getppid()} has open"):
        login_slot.slot_of(os.getpid())


# Whether it is held


def test_held_until_it_is_closed() -> None:
    """Another pipe may get the number of its descriptor."""
    reading, writing = os.pipe()
    other = os.pipe()
    process = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    found = Slot(os.getpid(), writing, os.readlink(f"/proc/self/fd/{writing}"))
    assert found.seen(process)
    assert found.held(process)
    os.dup2(other[1], writing)
    assert not found.held(process)
    os.close(writing)
    assert not found.held(process)
    with pytest.raises(FileNotFoundError):
        found.seen(process)
    for descriptor in (reading, *other, process):
        os.close(descriptor)


def test_not_held_by_who_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        directory = os.open(f"/proc/{process.pid}", os.O_RDONLY | os.O_DIRECTORY)
        found = Slot(process.pid, 0, os.readlink(f"/proc/{process.pid}/fd/0"))
        assert found.held(directory)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not found.held(directory)
    assert not found.held(directory)
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        found.seen(directory)
    os.close(directory)


def test_what_may_not_be_seen() -> None:
    """As for root under SELinux; here for a process of another user."""

    def as_nobody() -> bytes:
        process = os.open("/proc/1", os.O_RDONLY | os.O_DIRECTORY)
        os.setresuid(65534, 65534, 65534)
        found = Slot(1, 0, "pipe:[1]")
        assert not found.held(process)
        try:
            found.seen(process)
        except PermissionError:
            return b"refused"
        return b""

    assert forked.run(as_nobody, Deadline(30), 100) == b"refused"


# Sockets


def test_who_has_made_a_pair() -> None:
    pair = socket.socketpair()
    with no_descriptor_left():
        assert login_slot._maker(pair[0].fileno()) == os.getpid()
        assert login_slot._maker(0) == 0
        assert login_slot._maker(9999) == 0
    for end in pair:
        end.close()


# /proc's files


def test_status(tmp_path: Path) -> None:
    assert status("/proc/self/status")["Pid"] == str(os.getpid())
    assert status(str(tmp_path / "none")) == {}
    assert status(str(tmp_path)) == {}
    directory = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    assert status("status", directory)["PPid"] == str(os.getppid())
    os.close(directory)
