"""A login's slot: real processes that have the ends of real pipes and pairs of sockets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_adopt import forked, slot
from slurm_adopt.process import is_child, session_process
from slurm_adopt.slot import Slot, slot_of, status
from slurm_adopt.slurm.deadline import Deadline
from slurm_adopt.slurm.errors import SetupError
from tests.peers import no_descriptor_left

SOURCE = str(Path(__file__).parents[1] / "src")
PROGRAM = os.path.realpath(sys.executable)

# The process that listens forks the one that is the login; the case says what each has open.
SCRIPT = """
import os, socket, sys
sys.path.insert(0, {source!r})
case, program = sys.argv[1:]

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

make = {{"pair": pair, "named": named, "TCP": tcp}}.get(case.split(",")[0], os.pipe)
theirs, ours = make()
if "the login reads" in case:
    theirs, ours = ours, theirs
others = []
if "others" in case:
    others = [os.pipe(), os.pipe(), tcp(), named()]  # the login keeps the first of each
    both = [os.pipe(), os.pipe()]
ready, told = os.pipe()

ASK = '''
import os, sys
sys.path.insert(0, {source!r})
from slurm_adopt.slot import slot_of
from slurm_adopt import process
pid, here = int(sys.argv[1]) or os.getpid(), os.getpid()
found = slot_of(pid)
print(found and found.pid == pid and found.link, process.is_child(), flush=True)
'''

def ask(pid):
    argv = [program, "-c", ASK, str(pid)]
    if program == {own!r}:
        sys.argv = argv[2:]
        sys.argv[0] = "-c"
        exec(ASK)
    else:
        os.execv(program, argv)

login = os.fork()
if not login:
    os.close(told)
    os.read(ready, 1)
    if "both have both" not in case and "the login has both" not in case:
        os.close(theirs)
    if "made by the login" in case:
        os.close(ours)
        theirs, ours = make()
    for one, other in others:
        os.close(other)
    if "standard error" in case:
        os.dup2(ours, 2)
        os.close(ours)
        ours = 2
    print(os.readlink(f"/proc/self/fd/{{ours}}"), flush=True)
    for descriptor in (ours, theirs):
        try:
            os.set_inheritable(descriptor, True)
        except OSError:
            pass
    if "parent gone" in case:
        parent = os.getppid()
        os.kill(parent, 9)
        while os.getppid() == parent:
            pass
    if "in a child" in case and not os.fork():
        ask(os.getppid())
        os._exit(0)
    if "a child itself" in case and not os.fork():
        ask(0)
        os._exit(0)
    if "child" in case:
        os.wait()
    else:
        ask(0)
    os._exit(0)
if "both have both" not in case and "the listener has both" not in case:
    os.close(ours)
if "the listener has none" in case:
    os.close(theirs)
for one, other in others:
    os.close(one)
os.write(told, b"x")
os.wait()
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


def asked(case: str, listener: str = PROGRAM, login: str = "") -> list[str]:
    """Return the link of the descriptor in question; what is found; whether it is a child."""
    script = SCRIPT.format(source=SOURCE, own=listener)
    argv = [listener, "-c", script, case, login or listener]
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, text=True, timeout=120)
    return done.stdout.split()


@pytest.mark.parametrize(("case", "there"), CASES, ids=[case for case, _ in CASES])
def test_the_slot(case: str, there: bool) -> None:
    link, found, _ = asked(case)
    assert found == (link if there else "None")


@pytest.mark.parametrize("kind", ["pipe", "pair"])
@pytest.mark.parametrize(("what", "child"), [("", False), (", a child itself", True)])
def test_whether_it_is_a_child(kind: str, what: str, child: bool) -> None:
    """Of the process that opens the session; its parent has the slot, or it has that itself."""
    assert asked(kind + what)[2] == str(child)


# (name of the program that has made the connection, name of the login's, whether there is a slot)
PROGRAMS = [
    ("sshd", "sshd-session", True),
    ("sshd", "sshd", True),
    ("inetd", "sshd", False),  # `sshd -i` with a pipe or a socket of another one's as connection
]


@pytest.mark.parametrize("kind", ["pipe", "pair"])
@pytest.mark.parametrize(("listener", "login", "there"), PROGRAMS)
def test_programs(tmp_path: Path, kind: str, listener: str, login: str, there: bool) -> None:
    for name in {listener, login}:
        shutil.copy(PROGRAM, tmp_path / name)
    link, found, _ = asked(kind, str(tmp_path / listener), str(tmp_path / login))
    assert found == (link if there else "None")


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

    monkeypatch.setattr(slot, "status", note)
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
    monkeypatch.setattr(slot, "slot_of", lambda *_: Slot(os.getpid(), 3, "pipe:[1]"))
    monkeypatch.setattr("slurm_adopt.process._same_program", lambda *_: True)
    monkeypatch.setattr("slurm_adopt.login.own_sockets", None)
    assert session_process() == os.getpid()
    assert not is_child()


# (whether the parent listens, whether this is a child of the process that opens the session)
AFTER_SIGHUP: list[tuple[bool | None, bool]] = [(True, False), (False, True), (None, True)]


@pytest.mark.parametrize(("listening", "child"), AFTER_SIGHUP)
def test_where_no_slot_is_found(
    monkeypatch: pytest.MonkeyPatch, listening: bool | None, child: bool
) -> None:
    """An sshd that reads its configuration again has closed its ends of all pipes."""

    def listens(*_: object) -> bool:
        if listening is None:
            raise SetupError("too many sockets")
        return listening

    monkeypatch.setattr("slurm_adopt.process._same_program", lambda *_: True)
    monkeypatch.setattr(slot, "slot_of", lambda *_: None)
    monkeypatch.setattr("slurm_adopt.listening.listens", listens)
    assert is_child() == child


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
        assert slot._maker(pair[0].fileno()) == os.getpid()
        assert slot._maker(0) == 0
        assert slot._maker(9999) == 0
    for end in pair:
        end.close()


@pytest.mark.skipif(not hasattr(socket, "AF_ALG"), reason="Python knows no AF_ALG")
def test_a_socket_without_an_address() -> None:
    """One of the kernel's cryptography, which OpenSSL may use, has none: no copy stays open."""
    try:
        odd = socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
    except OSError:
        pytest.skip("this kernel has no AF_ALG")
    with odd, no_descriptor_left():
        assert slot._maker(odd.fileno()) == 0


# /proc's files


def test_status(tmp_path: Path) -> None:
    assert status("/proc/self/status")["Pid"] == str(os.getpid())
    assert status(str(tmp_path / "none")) == {}
    assert status(str(tmp_path)) == {}
    directory = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    assert status("status", directory)["PPid"] == str(os.getppid())
    os.close(directory)
