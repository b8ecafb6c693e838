"""A login that is watched: real processes with a slot, stopped, frozen, waiting, or done."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest

from slurm_adopt.node import adopting
from slurm_adopt.node import unfinished_login as watch
from slurm_adopt.node.login_slot import Slot, children, slot_of
from slurm_adopt.slurm.cgroup import hierarchy, step_cgroup
from slurm_adopt.slurm.cgroup.hierarchy import UNIFIED
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.proc import status
from slurm_adopt.system import child as forked
from slurm_adopt.system.log import Log
from tests.fakes.node import UID, made
from tests.fakes.peers import no_descriptor_left
from tests.fakes.process import handling, signals
from tests.fakes.stepd import Stepd
from tests.fakes.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.slurm.cgroup.step_cgroup import Layout

SIGNAL = importlib.import_module("_signal")
BOUND = 60  # seconds: a machine may be slow
MOUNTS = hierarchy.mounted("/sys/fs/cgroup")
JOB = "job 7 of uid 5001"
KILLED = -signal.SIGKILL

LOGIN = """
import os, sys
slot = int(sys.argv[1])
for line in sys.stdin:
    exec(line)
"""


def until(fact: Callable[[], object]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + BOUND
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.005)


class Login:
    """A process that holds a slot of this process, and does what it is told."""

    def __init__(self) -> None:
        self.listener, writing = os.pipe()
        argv = [sys.executable, "-c", LOGIN, str(writing)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[writing])
        os.close(writing)
        self.pid = self.process.pid
        found = slot_of(self.pid)
        assert found
        self.slot = found
        assert found.descriptor == writing

    def does(self, what: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n".encode())
        self.process.stdin.flush()

    def given_back(self) -> bool:
        """Say whether the slot is, as the sshd that listens sees it."""
        return bool(select.select([self.listener], [], [], 0)[0])

    def watchers(self) -> list[int]:
        """Return the processes that watch it: those that have its directory of /proc open."""
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                links = [
                    os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")
                ]
                if f"/proc/{self.pid}" in links:
                    found.append(int(name))
        return found

    def end(self) -> None:
        os.close(self.listener)
        with self.process:
            self.process.kill()


@pytest.fixture
def login() -> Iterator[Login]:
    """Return a login; no watcher is left when it is done."""
    one = Login()
    yield one
    one.end()
    until(lambda: not one.watchers())


class Journal:
    """What syslog is sent."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.log = Log("pam_slurm_adopt(sshd:account)", 0, str(path))
        self.log.level = 3

    def lines(self) -> list[str]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(4096).decode())
        return found

    def line(self) -> str:
        """Wait for the one line that there is."""
        assert select.select([self.socket], [], [], BOUND)[0]
        (line,) = self.lines()
        return line


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    one = Journal(tmp_path / "log")
    yield one
    one.socket.close()


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """No child, no descriptor, no signal that is pending, and the same ones blocked and caught."""
    before = known_signals()
    with no_descriptor_left():
        yield
    assert known_signals() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def known_signals() -> dict[str, int]:
    """Return what is pending, blocked, ignored, caught: but for libc's own, which threads want."""
    return {name: int(bits, 16) & (1 << 31) - 1 for name, bits in signals().items()}


def start(
    login: Login,
    journal: Journal,
    layout: Layout | None = None,
    before: dict[str, str] | None = None,
) -> int:
    """Have it watched; return by whom."""
    watch.start(login.slot, before or {}, layout, journal.log, JOB)
    end = time.monotonic() + BOUND
    while not (found := login.watchers()):  # it may just have opened or closed a file
        assert time.monotonic() < end
    return found[0]


def gone(pid: int) -> bool:
    return not status(f"/proc/{pid}/status") or status(f"/proc/{pid}/status")["State"][0] == "Z"


def ended(login: Login, journal: Journal, why: str) -> None:
    """See that it has been ended, and that one line says so and why."""
    assert login.process.wait(BOUND) == KILLED
    line = journal.line()
    assert re.fullmatch(
        rf"<83>\w+ +\d+ [\d:]+ .+\[\d+\]: pam_slurm_adopt\(sshd:account\): the login of process "
        rf"{login.pid} into {JOB} was ended: it had not finished authenticating, and {why}; it "
        "would have kept a slot of sshd's MaxStartups",
        line,
    ), line
    assert login.given_back()


# Nothing is done to a login that goes on


def test_a_slot_given_back(login: Login, journal: Journal) -> None:
    """Whatever becomes of the session then, it is watched no more."""
    watcher = start(login, journal)
    login.does("os.close(slot)")
    until(lambda: gone(watcher))
    login.process.send_signal(signal.SIGSTOP)
    assert login.given_back()
    assert login.process.poll() is None
    assert not journal.lines()


def test_a_descriptor_with_another_pipe(login: Login, journal: Journal) -> None:
    """The number is used again at once, by a pipe of the session's."""
    watcher = start(login, journal)
    login.does("pipe = os.pipe(); os.dup2(pipe[1], slot)")
    until(lambda: gone(watcher))
    assert login.process.poll() is None
    assert not journal.lines()


def test_a_login_that_ends(login: Login, journal: Journal) -> None:
    watcher = start(login, journal)
    login.process.kill()
    until(lambda: gone(watcher))
    assert not journal.lines()


def test_a_debugger(login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root can trace it."""
    monkeypatch.setattr(watch, "status", lambda *_: {"State": "t (tracing stop)"})
    watcher = start(login, journal)
    time.sleep(0.3)
    assert not gone(watcher)
    assert login.process.poll() is None


def test_the_slot_is_given_back_before_it_is_looked_at(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watching process has no end of it, and is told by nobody."""
    monkeypatch.setattr(watch, "POLL", 600)
    watcher = start(login, journal)
    assert not login.given_back()
    login.process.kill()
    login.process.wait()
    assert login.given_back()
    assert os.read(login.listener, 1) == b""
    assert not gone(watcher)
    os.kill(watcher, signal.SIGTERM)
    until(lambda: gone(watcher))


# A login that cannot go on is ended


def test_stopped(login: Login, journal: Journal) -> None:
    watcher = start(login, journal)
    login.process.send_signal(signal.SIGSTOP)
    ended(login, journal, "it was stopped")
    until(lambda: gone(watcher))


def test_stopped_before(login: Login, journal: Journal) -> None:
    login.process.send_signal(signal.SIGSTOP)
    until(lambda: status(f"/proc/{login.pid}/status")["State"][0] == "T")
    watch.start(login.slot, {}, None, journal.log, JOB)
    ended(login, journal, "it was stopped")


def test_stopped_while_it_takes_long(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SHARE", 1000)
    monkeypatch.setattr(watch, "SLOWEST", 0.5)
    start(login, journal)
    time.sleep(1)
    login.process.send_signal(signal.SIGSTOP)
    ended(login, journal, "it was stopped")


def test_too_long(login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LONGEST", 0.2)
    watch.start(login.slot, {}, None, journal.log, JOB)  # gone before it could be found
    ended(login, journal, r"it had not finished after 0\.2 s")


# Frozen, in a tree of files: (kind of mount, cgroups, file, what it says, what the line says)
FROZEN = [
    ("freezer", "freezer/job", "freezer/job/freezer.state", "FREEZING\n", "/job is freezing"),
    ("freezer", "freezer/job", "freezer/job/freezer.state", "FROZEN\n", "/job is frozen"),
    ("", "job/step", "job/step/cgroup.freeze", "1\n", "/job/step is frozen"),
    ("", "job/step", "job/cgroup.freeze", "1\n", "/job/step is frozen"),
]


@pytest.mark.parametrize(("kind", "path", "file", "text", "said"), FROZEN)
def test_frozen_as_files_say(
    tmp_path: Path,
    login: Login,
    journal: Journal,
    kind: str,
    path: str,
    file: str,
    text: str,
    said: str,
) -> None:
    tree = Tree(tmp_path)
    tree.mount(kind, "cgroup" if kind else "cgroup2")
    tree.make(path)
    tree.process(login.pid, f"6:{kind}:/{path.replace('freezer/', '')}")
    start(login, journal, tree.layout("", "" if kind else "CgroupPlugin=cgroup/v2"))
    (tree.mnt / file).write_text(text)
    ended(login, journal, f"{tree.mnt}.*{said}: the job is suspended")


class Real:
    """A job's cgroup, and one above, of this machine's."""

    def __init__(self, controller: str) -> None:
        mount = MOUNTS[controller]
        self.before = hierarchy.of_process(os.getpid())
        here = self.before[controller].rstrip("/")
        self.top = Path(mount.directory(f"{here}/slurm_adopt-watch-{os.getpid()}"))
        self.job = self.top / "job"
        self.job.mkdir(parents=True)
        mounts = {controller: mount}
        kind = step_cgroup.V1 if controller else None
        names = frozenset({controller} & {"freezer"})
        self.layout: Layout = (
            kind(names, mounts, "n1", "/proc") if kind else step_cgroup.V2(names, mounts, "/proc")
        )
        self.controller = controller

    def take(self, pid: int) -> None:
        (self.job / "cgroup.procs").write_text(str(pid))

    def freeze(self, *, above: bool, frozen: bool) -> None:
        directory = self.top if above else self.job
        if self.controller:
            (directory / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        else:
            (directory / "cgroup.freeze").write_text("1" if frozen else "0")

    def remove(self) -> None:
        for above in (False, True):
            self.freeze(above=above, frozen=False)
        until(lambda: not (self.job / "cgroup.procs").read_text())
        self.job.rmdir()
        self.top.rmdir()


@contextlib.contextmanager
def real(controller: str) -> Iterator[Real]:
    if controller not in MOUNTS:
        pytest.fail("this machine has no such hierarchy")
    place = Real(controller)
    try:
        yield place
    finally:
        place.remove()


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("controller", ["freezer", UNIFIED])
def test_really_frozen(login: Login, journal: Journal, controller: str, above: bool) -> None:
    """It is ended, which by v1 it could not be inside; nobody thaws the job."""
    with real(controller) as place:
        watcher = start(login, journal, place.layout, place.before)
        place.take(login.pid)
        place.freeze(above=above, frozen=True)
        ended(login, journal, f"{place.job} is (frozen|freezing): the job is suspended")
        assert not (place.job / "cgroup.procs").read_text()
        until(lambda: gone(watcher))


# The child that talks to the client holds the slot as well, and is outside of the job.
FORKED = "import subprocess; child = subprocess.Popen(['sleep', '600'], pass_fds=[slot])"


@pytest.mark.parametrize("dies", [True, False])
def test_a_child_of_before_the_adoption(login: Login, journal: Journal, dies: bool) -> None:
    """It goes with a login that dies in the job; of one that goes on nothing is touched."""
    login.does(FORKED)
    until(lambda: children(login.pid))
    (child,) = children(login.pid)
    with real("freezer") as place:
        watcher = start(login, journal, place.layout, place.before)
        place.take(login.pid)
        login.does("os.kill(os.getpid(), 9)" if dies else "os.close(slot)")
        until(lambda: gone(watcher))
        assert login.given_back() == dies
        assert gone(child) == dies
        login.process.kill()
    if not dies:
        os.kill(child, signal.SIGKILL)


FORKS = "import subprocess; subprocess.Popen(['sleep', '600'], pass_fds=[slot])"


@pytest.mark.parametrize("controller", ["freezer", UNIFIED])
def test_what_it_has_forked_in_the_job(login: Login, journal: Journal, controller: str) -> None:
    """A child that holds the slot, too, and is frozen, ends as well: else the slot was held."""
    with real(controller) as place:
        start(login, journal, place.layout, place.before)
        place.take(login.pid)
        login.does(FORKS)
        procs = place.job / "cgroup.procs"
        until(lambda: len(procs.read_text().split()) == 2)
        place.freeze(above=False, frozen=True)
        assert login.process.wait(BOUND) == KILLED
        until(login.given_back)
        until(lambda: not procs.read_text())
        assert journal.line()


@pytest.mark.parametrize("controller", ["freezer", UNIFIED])
def test_a_child_that_holds_a_slot_given_back(
    login: Login, journal: Journal, controller: str
) -> None:
    with real(controller) as place:
        start(login, journal, place.layout, place.before)
        place.take(login.pid)
        login.does(FORKS)
        procs = place.job / "cgroup.procs"
        until(lambda: len(procs.read_text().split()) == 2)
        login.does("os.close(slot)")
        until(login.given_back)
        until(lambda: procs.read_text().split() == [str(login.pid)])
        assert login.process.poll() is None
        assert journal.lines() == []
        login.process.kill()


def test_one_that_was_put_back_is_left_to_sshd(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in no job: nobody but sshd's own may end it."""
    monkeypatch.setattr(watch, "LONGEST", 3.0)
    with real("freezer") as place:
        watcher = start(login, journal, place.layout, place.before)
        login.process.send_signal(signal.SIGSTOP)
        until(lambda: gone(watcher))
        assert login.process.poll() is None
        assert journal.lines() == []


def test_the_watching_process_is_outside(login: Login, journal: Journal) -> None:
    with real("freezer") as place:
        watcher = start(login, journal, place.layout, place.before)
        place.take(login.pid)
        assert hierarchy.of_process(watcher) == place.before
        assert (place.job / "cgroup.procs").read_text().split() == [str(login.pid)]
        login.process.kill()


# Waiting in the kernel


@contextlib.contextmanager
def little_memory() -> Iterator[Path]:
    """Have a cgroup in which who wants more memory than there is waits, and is not killed."""
    if "memory" not in MOUNTS:
        pytest.fail("this machine has no such hierarchy")
    here = hierarchy.of_process(os.getpid())["memory"].rstrip("/")
    place = Path(MOUNTS["memory"].directory(f"{here}/slurm_adopt-watch-{os.getpid()}"))
    place.mkdir()
    try:
        try:
            (place / "memory.limit_in_bytes").write_text(str(16 << 20))
            (place / "memory.oom_control").write_text("1")
        except OSError:
            pytest.fail("this kernel's memory controller has no oom_control")
        yield place
    finally:
        until(lambda: not (place / "cgroup.procs").read_text())
        place.rmdir()


def test_really_waiting(login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "WAITING", 0.3)
    with little_memory() as place:
        watcher = start(login, journal)
        (place / "cgroup.procs").write_text(str(login.pid))
        login.does("more = bytearray(1 << 28)")
        try:
            ended(login, journal, r"it waited in the kernel for 0\.3 s")
        finally:
            login.process.kill()
        until(lambda: gone(watcher))


class States:
    """What /proc says, one state after the other, each for some time."""

    def __init__(self, *states: tuple[str, float]) -> None:
        self.states = list(states)
        self.since = time.monotonic()

    def __call__(self, *_: object) -> dict[str, str]:
        state, seconds = self.states[0]
        if time.monotonic() - self.since > seconds and len(self.states) > 1:
            self.states.append(self.states.pop(0))
            self.since = time.monotonic()
        return {"State": state}


def test_waiting_now_and_then(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a slow disk: it goes on in between."""
    monkeypatch.setattr(watch, "WAITING", 1.0)
    monkeypatch.setattr(watch, "status", States(("D (disk sleep)", 0.05), ("S (sleeping)", 0.05)))
    watcher = start(login, journal)
    time.sleep(2)
    assert not gone(watcher)
    assert login.process.poll() is None


# One that has ended meanwhile, and whose pid another process has


@pytest.fixture
def other(login: Login) -> Iterator[tuple[watch._Watch, int, subprocess.Popen[bytes]]]:
    """Return who watches a login that has ended, its directory, and who has its pid now."""
    journal = Log("x", 0, "/nonexistent")
    process = os.open(f"/proc/{login.pid}", os.O_RDONLY | os.O_DIRECTORY)
    login.process.kill()
    login.process.wait()
    with subprocess.Popen(["sleep", "60"]) as another:
        one = Slot(another.pid, login.slot.descriptor, login.slot.link)
        yield (
            watch._Watch(one, {"": "/"}, None, journal, JOB),
            process,
            another,
        )
        assert another.poll() is None
        another.kill()
    os.close(process)


def refuse(*_: object) -> None:
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("kernel", ["new", "old", "no Python"])
def test_another_process_is_not_killed(
    monkeypatch: pytest.MonkeyPatch,
    other: tuple[watch._Watch, int, subprocess.Popen[bytes]],
    kernel: str,
) -> None:
    watching, process, another = other
    if kernel == "old":
        monkeypatch.setattr(SIGNAL, "pidfd_send_signal", refuse, raising=False)
    elif kernel == "no Python":
        monkeypatch.delattr(SIGNAL, "pidfd_send_signal", raising=False)
    another.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(watch._Watch, "_stuck", lambda *_: "it was stopped")
    assert watching._kill(process) == ""
    watching._watch(process)  # nor does it say anything, or wait


@pytest.mark.parametrize("kernel", ["old", "no Python"])
def test_ended_by_pid_on_old_kernels(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    if kernel == "old":
        monkeypatch.setattr(SIGNAL, "pidfd_send_signal", refuse, raising=False)
    else:
        monkeypatch.delattr(SIGNAL, "pidfd_send_signal", raising=False)
    start(login, journal)
    login.process.send_signal(signal.SIGSTOP)
    ended(login, journal, "it was stopped")


def test_one_that_may_not_be_killed(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by SELinux: it is said, once, and the watch is over."""
    kill = os.kill

    def deny(pid: int, number: int) -> None:
        if pid == login.pid:
            raise PermissionError(13, "Permission denied")
        kill(pid, number)

    monkeypatch.setattr(watch, "ENDING", 0.2)
    monkeypatch.setattr(SIGNAL, "pidfd_send_signal", refuse, raising=False)
    monkeypatch.setattr(os, "kill", deny)
    watcher = start(login, journal)
    login.does("os.kill(os.getpid(), 19)")
    assert "; cannot be ended: Permission denied" in journal.line()
    monkeypatch.undo()
    until(lambda: gone(watcher))


# The process that watches


def test_what_it_is(login: Login, journal: Journal) -> None:
    kept = os.pipe()
    journal.log.open()  # a socket that is there when the child closes all it has inherited
    with handling() as seen:
        watcher = start(login, journal)
        assert not seen
    assert [
        os.readlink(f"/proc/{watcher}/fd/{fd}") for fd in os.listdir(f"/proc/{watcher}/fd")
    ] == [f"/proc/{login.pid}"]
    facts = status(f"/proc/{watcher}/status")
    assert facts["PPid"] != str(os.getpid())
    assert facts["NSsid"].split()[0] == str(watcher)
    assert os.readlink(f"/proc/{watcher}/cwd") == "/"
    assert hierarchy.of_process(watcher) == hierarchy.of_process(os.getpid())
    for number in forked.ENDS:
        for what in ("SigIgn", "SigBlk", "SigCgt", "SigPnd"):
            assert not int(facts[what], 16) & 1 << number - 1, (number, what)
    for end in kept:
        os.close(end)
    os.kill(watcher, signal.SIGTERM)
    until(lambda: gone(watcher))
    assert login.process.poll() is None
    assert not journal.lines()


def test_it_ends_by_an_alarm(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever holds it up."""
    monkeypatch.setattr(watch, "LONGEST", 2)  # seconds: it is found before
    monkeypatch.setattr(watch, "ENDING", 0.1)
    monkeypatch.setattr(watch, "POLL", 600)
    monkeypatch.setattr(watch, "SLOWEST", 600)
    watcher = start(login, journal)
    until(lambda: gone(watcher))
    assert login.process.poll() is None


def test_children_of_sshd_are_left_alone(login: Login, journal: Journal) -> None:
    """One that ends meanwhile is waited for by who started it, and no handler sees more."""
    with handling() as seen, subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        until(lambda: seen)
        start(login, journal)
        assert set(seen) == {signal.SIGCHLD}
        assert child.wait() == 0


def test_many(login: Login, journal: Journal) -> None:
    for _ in range(20):
        watch.start(login.slot, {}, None, journal.log, JOB)
    watchers = login.watchers()
    assert len(watchers) == 20
    login.does("os.close(slot)")
    until(lambda: all(map(gone, watchers)))
    assert login.process.poll() is None


def test_looks_become_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second factor is awaited for two minutes: frequent at first, when most are done."""
    now, looks = [1000.0], [0.0]

    class Held(Slot):
        __slots__ = ()

        def held(self, process: int) -> bool:
            looks.append(now[0] - 1000)
            return process < 0 and now[0] < 1120

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(watch, "monotonic", lambda: now[0])
    monkeypatch.setattr(watch, "sleep", sleep)
    monkeypatch.setattr(watch, "status", lambda *_: {"State": "S (sleeping)"})
    log = Log("x", 0, "/nonexistent")
    watch._Watch(Held(os.getpid(), 0, ""), {}, None, log, JOB)._watch(-1)
    assert 30 < sum(look < 1 for look in looks) < 100
    assert len(looks) < 300
    assert max(after - before for before, after in zip(looks, looks[1:])) <= watch.SLOWEST + 0.001


# No watching process to be had


def refusal(login: Login, journal: Journal) -> str:
    """Return why it cannot be watched; nothing is left of the try."""
    with pytest.raises(PeerError) as caught:
        watch.start(login.slot, {}, None, journal.log, JOB)
    until(lambda: not login.watchers())
    return str(caught.value)


@pytest.mark.parametrize("which", [1, 2])
def test_no_process(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """Neither of the two that it takes: RLIMIT_NPROC, pids.max."""
    forks: list[int] = []
    fork = os.fork

    def full() -> int:
        forks.append(1)
        if len(forks) == which:
            raise BlockingIOError(11, "no more processes")
        return fork()

    monkeypatch.setattr(os, "fork", full)
    assert refusal(login, journal).endswith(": no more processes")


# (what fails in the watching process, the error)
FAILING = [
    ("os.setsid", BlockingIOError(11, "try again"), "try again"),
    ("os.chdir", OSError(5, "input/output error"), "input/output error"),
    (
        "slurm_adopt.node.unfinished_login._close_all_but",
        RuntimeError("x"),
        "the watching process has ended",
    ),
]


@pytest.mark.parametrize(("name", "error", "said"), FAILING)
def test_it_cannot_settle(
    login: Login,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    said: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(name, fail)
    with pytest.raises(PeerError, match=f"^cannot watch process {login.pid}: {said}$"):
        watch.start(login.slot, {}, None, journal.log, JOB)
    monkeypatch.undo()


def test_one_that_may_not_be_seen(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then its slot would look as if it had been given back."""

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "readlink", deny)
    with pytest.raises(PeerError) as caught:
        watch.start(login.slot, {}, None, journal.log, JOB)
    monkeypatch.undo()
    said = f"cannot watch process {login.pid}: Permission denied ({watch.HINT})"
    assert str(caught.value) == said


def test_one_that_has_given_it_back(login: Login, journal: Journal) -> None:
    login.does("pipe = os.pipe(); os.dup2(pipe[1], slot)")
    until(lambda: os.readlink(f"/proc/{login.pid}/fd/{login.slot.descriptor}") != login.slot.link)
    said = refusal(login, journal)
    assert said == f"cannot watch process {login.pid}: it holds no slot any more"


def test_one_that_has_ended(login: Login, journal: Journal) -> None:
    login.process.kill()
    login.process.wait()
    assert refusal(login, journal).startswith(f"cannot watch process {login.pid}: No such ")


def test_an_unexpected_error(
    login: Login, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("x")

    monkeypatch.setattr(watch._Watch, "_stuck", fail)
    watch.start(login.slot, {}, None, journal.log, JOB)
    assert f"process {login.pid} is not watched: unexpected RuntimeError('x')" in journal.line()


def test_no_stepd_is_asked_then(
    tmp_path: Path, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node adopts nothing that it cannot have watched."""
    tree = Tree(tmp_path)
    tree.mount("freezer")
    tree.process(login.pid, "6:freezer:/")
    tree.make("freezer/slurm/uid_5001/job_7/step_extern")
    here = made(tmp_path, tree, monkeypatch)
    here.phase.account_of = "sshd"
    monkeypatch.setattr(adopting, "session_process", lambda _: login.pid)

    def refuse_fork() -> Any:
        raise BlockingIOError(11, "no more processes")

    with Stepd(tmp_path / "n1_7.4294967292", uid=UID) as stepd:
        (job,) = here.jobs(UID)
        monkeypatch.setattr(os, "fork", refuse_fork)
        with pytest.raises(PeerError, match="no more processes"):
            here.adopt(login.pid, job)
    assert 22 not in [number for number, _ in stepd.received]
