"""Namespaces: what stepds send, and real ones entered by real processes, all of them or none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurm_adopt.node import adopting, pam_stack
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.stepd import namespaces, stepd
from slurm_adopt.slurm.versions import ALL_NS, NO_NS, RELEASES, Release
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.log import Lines
from tests.fakes.node import UID, made
from tests.fakes.process import open_fds
from tests.fakes.requests import REQUEST_GET_NS_FD, REQUEST_GET_NS_FDS, REQUEST_X11_DISPLAY
from tests.fakes.step_sockets import ROOT, step
from tests.fakes.stepd import Stepd, int32, send
from tests.fakes.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.stepd import Pieces, Reply

NEWNS, NEWUSER, NEWPID = 0x00020000, 0x10000000, 0x20000000
ONE, SEVERAL = 38 << 8, 45 << 8  # protocols of 22.05 and 26.05
SOURCE = Path(__file__).parents[2] / "src"


def giver(path: Path, protocol: int, reply: Reply) -> Stepd:
    """Return a stand-in that answers so where it is asked for namespaces."""
    return Stepd(
        path,
        protocol=protocol,
        replies={
            REQUEST_X11_DISPLAY: bytes(8),
            REQUEST_GET_NS_FD: reply,
            REQUEST_GET_NS_FDS: reply,
        },
    )


def received(top: Path, protocol: int, reply: Reply, sent: int) -> tuple[list[int], list[int]]:
    """Ask a stand-in; return the flags of the namespaces and the numbers of the requests.

    `sent`: the only descriptor of its file before and, whatever happens, after.
    """
    with giver(top / "s", protocol, reply) as standin:
        try:
            with stepd.Stepd(step(top / "s"), ROOT, Deadline(0.5)) as talk:
                found = talk.namespaces()
                assert copies(sent) == 1 + len(found)
                assert not any(os.get_inheritable(descriptor) for _, descriptor in found)
                assert talk.uid() == 5001  # the conversation goes on
        finally:
            assert copies(sent) == 1
    return [flag for flag, _ in found], [number for number, _ in standin.received]


def copies(descriptor: int) -> int:
    """Count this process's descriptors of a file."""
    wanted = os.fstat(descriptor)
    found = [os.path.join("/proc/self/fd", name) for name in open_fds()]
    return sum(os.path.exists(one) and os.path.samestat(os.stat(one), wanted) for one in found)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """Give a descriptor to send."""
    descriptor = os.open(tmp_path / "file", os.O_CREAT | os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


# Requests and replies


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_each_release_is_asked_its_way(tmp_path: Path, file: int, release: Release) -> None:
    several: Pieces = [int32(2), int32(NEWPID), file, int32(NEWNS), file]
    one: Pieces = [int32(9), file]
    reply = several if release.namespaces == ALL_NS else one
    flags, requests = received(tmp_path, release.protocol, reply, file)
    if release.namespaces == NO_NS:
        assert (flags, requests) == ([], [20])
    elif release.namespaces == ALL_NS:
        assert (flags, requests) == ([NEWPID, NEWNS], [28, 20])
    else:
        assert (flags, requests) == ([NEWNS], [26, 20])


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_none(tmp_path: Path, file: int, release: Release) -> None:
    assert received(tmp_path, release.protocol, [int32(0)], file)[0] == []


def test_a_stepd_that_does_not_know_the_request(tmp_path: Path, file: int) -> None:
    """20.11.0 to 20.11.4 hang up; they are connected to again."""
    assert received(tmp_path, 36 << 8, None, file) == ([], [26, 20])


N = -1  # stands for a descriptor of /dev/null

# (protocol, reply, part of the message)
BROKEN: list[tuple[int, Any, str]] = [
    (ONE, None, "closed the connection"),
    (37 << 8, None, "closed the connection"),
    (SEVERAL, None, "closed the connection"),
    (ONE, [int32(-1)], "cannot hand out the job's namespace"),
    (ONE, [int32(9)], "does not answer"),
    (ONE, [int32(9), b"\0"], "no descriptor came"),
    (ONE, [b"\x09\0"], "does not answer"),
    (SEVERAL, [int32(9)], "9 namespaces"),
    (SEVERAL, [int32(-1)], "4294967295 namespaces"),
    (SEVERAL, [int32(1)], "does not answer"),
    (SEVERAL, [int32(1), int32(NEWNS)], "does not answer"),
    (SEVERAL, [int32(1), int32(NEWNS), b"\0"], "no descriptor came"),
    (SEVERAL, [int32(2), int32(NEWPID), N], "does not answer"),
    (SEVERAL, [int32(2), int32(NEWPID), N, int32(NEWNS)], "does not answer"),
    (SEVERAL, [int32(2), int32(NEWPID), N, int32(NEWNS), b"\0"], "no descriptor came"),
    (99, [int32(0)], "belongs to no known release"),
]


@pytest.mark.parametrize(("protocol", "reply", "message"), BROKEN)
def test_broken_replies(tmp_path: Path, file: int, protocol: int, reply: Any, message: str) -> None:
    pieces = None if reply is None else [file if piece is N else piece for piece in reply]
    with pytest.raises(PeerError, match=message):
        received(tmp_path, protocol, pieces, file)


def test_descriptors_beyond_the_first(file: int) -> None:
    """The kernel keeps back what there is no room for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(theirs, file, file, file)
        before = open_fds()
        talk = stepd.Stepd(step(Path("/nowhere")), ROOT, Deadline(5))
        talk._socket.close()
        talk._socket = ours
        talk._receive_descriptor()
        assert len(open_fds()) == len(before) + 1
        talk.__exit__()
        assert len(open_fds()) == len(before) - 1


# Entering

SCRIPT = """
import json, os, sys, threading
sys.path.insert(0, {source!r})
from slurm_adopt.slurm.stepd import namespaces
case = json.loads(sys.argv[1])
if case["libc"] and hasattr(os, "setns"):
    del os.setns, os.unshare
if case["thread"]:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
os.chdir("/usr/lib")
opened = [(flag, os.open(path, os.O_RDONLY)) for flag, path in case["found"]]
own = os.open("/proc/self/ns", os.O_RDONLY)
descriptors = os.open("/proc/self/fd", os.O_RDONLY)

def state():
    links = {{name: os.readlink(name, dir_fd=own) for name in os.listdir(own)}}
    places = [(s.st_dev, s.st_ino) for s in map(os.stat, ("/", "."))]
    return links, places, sorted(os.listdir(descriptors))

said, before = [], state()
for _ in range(2):
    try:
        said.append(namespaces.enter(os.getpid(), opened))
    except namespaces.SetupError as error:
        said.append(str(error))
print(json.dumps([said, before, state(), os.getcwd()]))
"""


@contextmanager
def unshared(*options: str) -> Iterator[int]:
    """Hold namespaces; yield the pid of a process in them."""
    argv = ["unshare", "--fork", "--kill-child", *options, "sh", "-c", "echo x; exec sleep 600"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"x\n"
            yield holder.pid
        finally:
            holder.kill()


def tried(found: list[tuple[int, str]], *how: str) -> tuple[Any, Any, Any, str]:
    """Enter in a process of its own, twice; return what was said, state before, after, and cwd."""
    case = {"found": found, "libc": "libc" in how, "thread": "thread" in how}
    argv = [sys.executable, "-c", SCRIPT.format(source=str(SOURCE)), json.dumps(case)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    said, before, after, cwd = json.loads(done.stdout)
    return said, before, after, cwd


KINDS = {
    "mnt": (NEWNS, "--mount"),
    "cgroup": (0x02000000, "--cgroup"),
    "uts": (0x04000000, "--uts"),
    "ipc": (0x08000000, "--ipc"),
    "net": (0x40000000, "--net"),
    "pid_for_children": (NEWPID, "--pid"),
    "user": (NEWUSER, "--map-root-user"),
}

ENTERED = [
    ("mnt",),
    ("pid_for_children", "mnt"),
    ("pid_for_children", "user", "mnt"),  # as namespace/linux sends them
    ("user", "mnt", "cgroup", "uts", "ipc", "net", "pid_for_children"),
]


@pytest.mark.parametrize("how", ["", "libc"])
@pytest.mark.parametrize("names", ENTERED, ids="+".join)
def test_entered(names: tuple[str, ...], how: str) -> None:
    """The process is in each; the user namespace was the last; a second time changes nothing."""
    with unshared(*(KINDS[name][1] for name in names)) as pid:
        found = [(KINDS[name][0], f"/proc/{pid}/ns/{name}") for name in names]
        said, before, after, _ = tried(found, how)
        inside = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in names}
    assert said == [sorted(names, key=lambda name: name == "user"), []]
    assert after[0] == {**before[0], **inside}
    assert after[2] == before[2]
    assert before[0] != after[0]


@pytest.mark.parametrize("how", [("thread",), ("thread", "libc")])
@pytest.mark.parametrize("names", [("mnt",), ("mnt", "cgroup", "uts", "ipc", "net")], ids="+".join)
def test_entered_beside_a_thread(names: tuple[str, ...], how: tuple[str, ...]) -> None:
    """This thread is in each, and what it starts; the other stays."""
    with unshared(*(KINDS[name][1] for name in names)) as pid:
        found = [(KINDS[name][0], f"/proc/{pid}/ns/{name}") for name in names]
        said, before, after, _ = tried(found, *how)
        inside = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in names}
    assert said == [list(names), []]
    assert after[0] == {**before[0], **inside}
    assert after[2] == before[2]


# (what is sent, flag and name of a namespace or path; how; part of the message)
REFUSED: list[tuple[list[tuple[int, str]], str, str]] = [
    ([(NEWNS, "/dev/null")], "", "mnt namespace: [Errno 22]"),
    ([(NEWNS, "/dev/null")], "libc", "mnt namespace: [Errno 22]"),
    ([(NEWNS, "mnt"), (NEWPID, "/dev/null")], "", "pid_for_children namespace: [Errno 22]"),
    ([(NEWPID, "pid_for_children"), (NEWNS, "/dev/null")], "", "mnt namespace: [Errno 22]"),
    ([(NEWNS, "pid_for_children")], "", "mnt namespace: [Errno 22]"),
    ([(NEWPID, "pid_for_children"), (NEWNS, "user")], "", "mnt namespace: [Errno 22]"),
    ([(NEWUSER, "mnt"), (NEWNS, "mnt")], "", "user namespace: [Errno 22]"),
    ([(NEWNS, "mnt"), (0x80, "uts")], "", "unknown kind 0x80"),
    ([(NEWNS, "mnt"), (0, "mnt")], "", "unknown kind 0x0"),
    # a process with threads may enter no user namespace
    (
        [(NEWPID, "pid_for_children"), (NEWUSER, "user"), (NEWNS, "mnt")],
        "thread",
        "user namespace: this process has 2 threads, and only a process with one thread can",
    ),
    ([(NEWNS, "mnt"), (0x04000000, "/dev/null")], "thread", "uts namespace: [Errno 22]"),
]


@pytest.mark.parametrize(("sent", "how", "message"), REFUSED)
def test_all_or_none(sent: list[tuple[int, str]], how: str, message: str) -> None:
    """Where one cannot be entered the process is where it was, with what it had open."""
    with unshared("--map-root-user", "--mount", "--pid", "--uts") as pid:
        found = [(f, name if "/" in name else f"/proc/{pid}/ns/{name}") for f, name in sent]
        said, before, after, cwd = tried(found, how)
    assert [message in text for text in said] == [True, True], said
    assert all("cannot go back" not in text for text in said)
    assert after == before
    assert cwd == "/usr/lib"


@pytest.fixture
def other() -> Iterator[int]:
    """Give the pid of another process in this one's namespaces."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def test_for_another_process(other: int) -> None:
    with unshared("--mount") as inside:
        descriptor = os.open(f"/proc/{inside}/ns/mnt", os.O_RDONLY)
        try:
            assert namespaces.enter(inside, [(NEWNS, descriptor)]) == []  # it is there already
            before = open_fds()
            with pytest.raises(
                SetupError, match=r"only process \d+, which becomes .* add a session line"
            ):
                namespaces.enter(other, [(NEWNS, descriptor)])
            assert open_fds() == before
            with pytest.raises(SetupError, match="cannot read /proc/4194304/ns"):
                namespaces.enter(1 << 22, [(NEWNS, descriptor)])
        finally:
            os.close(descriptor)


# The node: who enters, and when


# (phase, session line, process becomes the session, namespaces) -> what becomes of it
WHO: list[tuple[str, bool, bool, bool, str]] = [
    ("account", True, True, True, "left to the session line"),
    ("account", True, False, True, "left to the session line"),
    ("account", False, True, True, "entered"),
    ("account", False, False, True, "add a session line"),
    ("account", False, False, False, "adopted"),
    ("session", True, True, True, "entered"),
    ("session", False, True, True, "entered"),
]


@pytest.mark.parametrize(("phase", "line", "own", "some", "expected"), WHO)
def test_who_enters(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: int,
    other: int,
    phase: str,
    line: bool,
    own: bool,
    some: bool,
    expected: str,
) -> None:
    pid = os.getpid() if own else other
    tree = Tree(tmp_path)
    tree.mount("freezer")
    tree.make("freezer/slurm/uid_5001/job_7/step_extern")
    tree.process(pid, "6:freezer:/slurm/uid_5001/job_7/step_extern")
    here = made(tmp_path, tree, monkeypatch)
    monkeypatch.setattr(adopting, "session_process", lambda _: pid)
    monkeypatch.setattr(here.phase, "account_of", "sshd" if phase == "account" else "")
    monkeypatch.setattr(adopting.Adopter, "_tell", lambda *_: None)
    monkeypatch.setattr(pam_stack, "joins", lambda _: line)
    entered: list[int] = []
    monkeypatch.setattr(namespaces, "_enter_all", lambda _, wanted: entered.append(len(wanted)))
    standin = giver(tmp_path / "n1_7.4294967292", ONE, [int32(9), file] if some else [int32(0)])
    with standin:
        (job,) = here.jobs(UID)
        if expected == "add a session line":
            with pytest.raises(SetupError, match=expected):
                here.adopt(os.getpid(), job)
            return
        here.adopt(os.getpid(), job)
    said = "\n".join(here.phase.log.lines if isinstance(here.phase.log, Lines) else [])
    assert entered == ([1] if expected == "entered" else [])
    assert ("left to the session line" in said) == (expected == "left to the session line")


def test_join_container_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    """The stepd is not even asked."""
    tree = Tree(tmp_path)
    tree.mount("freezer")
    tree.make("freezer/slurm/uid_5001/job_7/step_extern")
    tree.process(42, "6:freezer:/slurm/uid_5001/job_7/step_extern")
    here = made(tmp_path, tree, monkeypatch)
    monkeypatch.setitem(here.phase.options._values, "join_container", "false")
    standin = giver(tmp_path / "n1_7.4294967292", ONE, [int32(9), file])
    with standin:
        (job,) = here.jobs(UID)
        here.adopt(42, job)
    assert REQUEST_GET_NS_FD not in [number for number, _ in standin.received]
