"""A function in a child: whatever it does, the parent goes on in time and is as it was before."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NoReturn

import pytest

from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.waiting import Deadline, Patience
from slurm_adopt.system import child
from tests.fakes.peers import no_descriptor_left
from tests.fakes.process import handling, signals

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = str(Path(__file__).parents[2] / "src")
LIMIT = 1 << 20


def run(function: Callable[[], bytes], seconds: float = 10) -> bytes:
    return child.run(function, Deadline(seconds), LIMIT)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """No child, no descriptor, no signal that is pending, and the same ones blocked and caught."""
    before = signals()
    with no_descriptor_left():
        yield
    assert signals() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("answer", [b"", b"x", b"a\0b\n" * (LIMIT // 4)], ids=len)
def test_an_answer(answer: bytes) -> None:
    assert run(lambda: answer) == answer


def test_it_is_a_child() -> None:
    assert run(lambda: b"%d" % os.getppid()) == b"%d" % os.getpid()


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_it_has_no_pipe_of_its_parent_s(descriptor: int) -> None:
    """Whoever waits for the pipe's end does not wait for a child that is held up."""
    usual, ends = os.dup(descriptor), os.pipe()
    pipe = os.readlink(f"/proc/self/fd/{ends[0]}")
    os.dup2(ends[1], descriptor)
    try:
        listed = run(lambda: os.fsencode(subprocess.getoutput("exec ls -l /proc/$PPID/fd 2>&1")))
    finally:
        os.dup2(usual, descriptor)
        for one in (usual, *ends):
            os.close(one)
    assert os.fsencode(pipe) not in listed
    assert b"pipe:" in listed  # the answer's


def sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(600)


def be_deaf() -> NoReturn:
    """Let nothing but SIGKILL be heard."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    sleep_for_ever()


@pytest.mark.parametrize("seconds", [0.2, child.ENDING + 0.2])
@pytest.mark.parametrize("function", [sleep_for_ever, be_deaf])
def test_never_done(function: Callable[[], bytes], seconds: float) -> None:
    """It is killed, however long it was waited for."""
    with pytest.raises(PeerError, match=r"^timed out after \d+\.\d s$"):
        run(function, seconds)


def test_never_done_though_it_had_signs_of_life() -> None:
    with pytest.raises(PeerError, match=r"^timed out after \d+\.\d s$"):
        child.run(sleep_for_ever, Patience(child.ENDING, 9.0), LIMIT)


def fail() -> NoReturn:
    raise RuntimeError("x\ny")


def leave() -> NoReturn:
    raise SystemExit(3)


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


# (function, error)
FAILING = [
    (fail, r"^unexpected RuntimeError\('x\\ny'\) \(please report this\)$"),
    (leave, "^the child ended without an answer$"),
    (die, "^the child ended without an answer$"),
    (lambda: b"x" * (LIMIT + 1), f"^the answer is longer than {LIMIT} bytes$"),
    (lambda: b"x" * (LIMIT * 50), f"^the answer is longer than {LIMIT} bytes$"),
]


@pytest.mark.parametrize(("function", "error"), FAILING)
def test_failing(function: Callable[[], bytes], error: str) -> None:
    with pytest.raises(PeerError, match=error):
        run(function)


@pytest.mark.parametrize("size", [1, 8, 9, 12, 13])
def test_half_an_answer(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """As of a child that ends, killed for its memory, while it writes."""
    with monkeypatch.context() as patch:
        patch.setattr(child, "_close_inherited", lambda _: None)  # here it would close pytest's
        whole = child._answer(lambda: b"whole", 0)
    monkeypatch.setattr(child, "_answer", lambda *_: whole[:size])
    with pytest.raises(PeerError, match=r"^the child ended without an answer$"):
        run(bytes)


def test_no_descriptor_but_those_of_the_pipe() -> None:
    """What closes others has the descriptor that the parent reads from."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest, next_one = os.pipe()
    os.close(lowest)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + 1, limits[1]))
    try:
        assert run(lambda: b"done") == b"done"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_it_has_open_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> list[str]:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(PeerError, match=r"^the child cannot list what it has open: FileNotFound"):
        run(lambda: b"done")


def test_no_descriptor_for_the_pipe() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(PeerError, match=r"^cannot fork: this process is out of descriptors"):
            run(bytes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_no_child_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "no more")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(PeerError, match=r"^cannot fork: no more$"):
        run(bytes)


def test_one_that_cannot_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for its end is bounded, too."""
    children = []
    monkeypatch.setattr(os, "kill", lambda pid, _: children.append(pid))
    with pytest.raises(PeerError, match=r"^process \d+ was killed and does not end"):
        run(sleep_for_ever, 0.1)
    monkeypatch.undo()
    with handling():  # its end comes later, as that of a child of sshd's own does
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_its_end_if_the_parent_ends_first(tmp_path: Path) -> None:
    """It does not wait for ever, whatever it reads: an alarm ends it, no handler of ours."""
    script = (
        "import os, signal, sys\n"
        "from slurm_adopt.system import child as forked\n"
        "from slurm_adopt.slurm.waiting import Deadline\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "forked.ENDING_LONGEST = 0.5\n"
        "def wait():\n"
        "    said = open(sys.argv[1], 'w')\n"
        "    print(os.getpid(), file=said, flush=True)\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    while True: signal.pause()\n"
        "forked.run(wait, Deadline(0.3), 100)\n"
    )
    said = tmp_path / "said"
    os.mkfifo(said)
    argv = [sys.executable, "-c", script, str(said)]
    with subprocess.Popen(argv, env={"PYTHONPATH": SOURCE}) as parent, said.open() as reading:
        assert int(reading.readline())
        assert reading.read() == ""  # the child has ended, too: nobody else could write
    assert parent.returncode == -signal.SIGKILL


def test_its_import_catches_no_signal() -> None:
    """The first import of Python's signals installs a handler for SIGINT."""
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "del sys.modules['_signal']\n"
        "import slurm_adopt.system.child\n"
        "print(open('/proc/self/status').read().partition('SigCgt:')[2].split()[0])\n"
    )
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, check=True, capture_output=True, env={"PYTHONPATH": SOURCE})
    assert int(done.stdout, 16) & 1 << signal.SIGINT - 1 == 0


# SIGCHLD


def test_no_handler_sees_its_end() -> None:
    with handling() as seen:
        assert run(lambda: b"x") == b"x"
        with pytest.raises(PeerError):
            run(sleep_for_ever, 0.1)
        assert not seen


def test_ignored() -> None:
    """The kernel then waits for the child in our place."""
    with handling(signal.SIG_IGN):
        assert run(lambda: b"x") == b"x"
        with pytest.raises(PeerError):
            run(sleep_for_ever, 0.1)


def test_blocked_before() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        assert run(lambda: b"x") == b"x"
        assert signal.SIGCHLD in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert not signal.sigpending()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def test_the_end_of_another_child() -> None:
    """What ends meanwhile is seen as ever, and is not waited for in place of sshd."""
    with handling() as seen, subprocess.Popen(["sleep", "60"]) as other:

        def end_it() -> bytes:
            os.kill(other.pid, signal.SIGKILL)
            while Path(f"/proc/{other.pid}/stat").read_text().split()[2] != "Z":
                time.sleep(0.001)
            return b"x"

        assert run(end_it) == b"x"
        assert seen == [signal.SIGCHLD]
        assert other.wait() == -signal.SIGKILL
