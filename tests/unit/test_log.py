"""Log lines as datagrams: form, levels, and what cannot be sent."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm_adopt.decision.options import LOG_LEVELS
from slurm_adopt.system.log import LINE_LIMIT, Log

SOURCE = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def syslog(tmp_path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    listener.bind(str(tmp_path / "log"))
    return listener


def lines(listener: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listener.recv(65536).decode())
        except BlockingIOError:
            return found


def test_form(tmp_path: Path, syslog: socket.socket) -> None:
    log = Log("pam_slurm_adopt(sshd:account)", 3, str(tmp_path / "log"))
    log.info("hello")
    log.close()
    (line,) = lines(syslog)
    form = r"<86>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+\[\d+\]: "
    assert re.fullmatch(form + re.escape("pam_slurm_adopt(sshd:account): hello"), line)


# (level of the log, levels that are written)
LEVELS = [
    ("quiet", []),
    ("fatal", ["fatal"]),
    ("error", ["fatal", "error"]),
    ("info", ["fatal", "error", "info"]),
    ("debug", ["fatal", "error", "info", "verbose", "debug"]),
    ("debug5", list(LOG_LEVELS[1:])),
]


@pytest.mark.parametrize(("level", "written"), LEVELS)
def test_levels(tmp_path: Path, syslog: socket.socket, level: str, written: list[str]) -> None:
    log = Log("p", LOG_LEVELS.index(level), str(tmp_path / "log"))
    for each in LOG_LEVELS[1:]:
        log.write(each, each)
    log.close()
    assert [line.rpartition(" ")[2] for line in lines(syslog)] == written


# (text, text in the line)
TEXTS = [
    ("a\nb", "a\\nb"),
    ("a\x1b[31m\0", "a\\x1b[31m\\x00"),
    ("100%s", "100%s"),
    ("é", "é"),
    ("\ud800", "\\ud800"),
    ("x" * 5000, "x..."),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_nothing_forges_a_line(
    tmp_path: Path, syslog: socket.socket, text: str, shown: str
) -> None:
    log = Log("p", 3, str(tmp_path / "log"))
    log.error(text)
    log.close()
    (line,) = lines(syslog)
    assert line.endswith(shown if len(shown) < 5 else f"p: {shown}")
    assert len(line) < LINE_LIMIT + 40


def test_escaping_imports_nothing() -> None:
    """What is imported after a job's namespaces were entered is the job's."""
    script = (
        "import sys; from slurm_adopt.system.log import printable; before = set(sys.modules); "
        "print(printable('\\n\\x85\\u2028\\ud800\\U000e0001')); print(set(sys.modules) - before)"
    )
    argv = [sys.executable, "-c", script]
    done = subprocess.run(
        argv, env={"PYTHONPATH": SOURCE}, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["\\n\\x85\\u2028\\ud800\\U000e0001", "set()"]


# As in a session: opened on the host, then the process is somewhere else.
ELSEWHERE = """
import os, subprocess, sys
from slurm_adopt.system.log import Log
log = Log("p", 3, sys.argv[1] + "/log")
log.open()
subprocess.run(["mount", "-t", "tmpfs", "x", sys.argv[1]], check=True)
assert not os.listdir(sys.argv[1])
log.error("a\x85b")
log.close()
"""


def test_lines_of_a_process_that_has_left_the_host_s_files(
    tmp_path: Path, syslog: socket.socket
) -> None:
    """It has entered a mount namespace in which the socket is not there."""
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", ELSEWHERE]
    subprocess.run([*argv, str(tmp_path)], env={**os.environ, "PYTHONPATH": SOURCE}, check=True)
    (line,) = lines(syslog)
    assert line.endswith(": p: a\\x85b")


def test_opened_without_a_daemon(tmp_path: Path) -> None:
    """One that comes later, perhaps a job's own, gets no line."""
    log = Log("p", 3, str(tmp_path / "log"))
    log.open()
    late = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    late.bind(str(tmp_path / "log"))
    log.error("x")
    log.close()
    assert lines(late) == []
    late.close()


def test_no_syslog_daemon(tmp_path: Path) -> None:
    log = Log("p", 3, str(tmp_path / "none"))
    log.error("lost")
    log.close()


def test_syslog_daemon_that_hangs(tmp_path: Path, syslog: socket.socket) -> None:
    log = Log("p", 3, str(tmp_path / "log"))
    started = time.monotonic()
    for _ in range(400):  # more than its queue holds (net.unix.max_dgram_qlen)
        log.error("x")
    log.close()
    assert time.monotonic() - started < 40  # one wait of 0.2 s, not one for each line
    assert lines(syslog)


# Where no syslog daemon listens: the container's log

REFUSES = "x" * 50


def container(top: Path, stderr: Path, *, uid: int = 0, pid: int = 0) -> str:
    """Make a /proc whose PID 1 is of `uid` and has `stderr`; return its path."""
    proc = top / "proc"
    (proc / "1" / "fd").mkdir(parents=True)
    (proc / "self").symlink_to(str(pid or os.getpid()))
    (proc / "1" / "status").write_text(f"Name:\tinit\nUid:\t0\t{uid}\t0\t0\n")
    (proc / "1" / "fd" / "2").symlink_to(stderr)
    return str(proc)


@pytest.fixture
def pipe(tmp_path: Path) -> tuple[Path, int]:
    """Return a pipe that can be opened, and its reader."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe", os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)


def said_to(reader: int) -> str:
    try:
        return os.read(reader, 65536).decode()
    except BlockingIOError:
        return ""


@pytest.fixture
def no_syslog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no daemon listen."""
    monkeypatch.setattr("slurm_adopt.system.log.SOCKETS", ("/nonexistent/log",))


# (uid of PID 1, pid that /proc/self leads to, whether the line comes)
INITS = [(0, 0, True), (1000, 0, False), (0, 1, False)]


@pytest.mark.usefixtures("no_syslog")
@pytest.mark.parametrize(("uid", "pid", "comes"), INITS, ids=["root's", "a user's", "another's"])
def test_the_container_s_log(
    tmp_path: Path, pipe: tuple[Path, int], uid: int, pid: int, comes: bool
) -> None:
    """A line without what syslog alone wants; nothing stays open."""
    before = os.listdir("/proc/self/fd")
    log = Log(
        "pam_slurm_adopt(sshd:account)", 3, proc=container(tmp_path, pipe[0], uid=uid, pid=pid)
    )
    log.info("a\nb")
    log.error("c")
    log.close()
    form = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+\[\d+\]: pam_slurm_adopt\(sshd:account\): "
    said = said_to(pipe[1])
    assert bool(re.fullmatch(rf"{form}a\\nb\n{form}c\n", said)) == comes
    assert bool(said) == comes
    assert os.listdir("/proc/self/fd") == before


def test_the_second_socket_comes_before_it(
    tmp_path: Path, syslog: socket.socket, pipe: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "slurm_adopt.system.log.SOCKETS", ("/nonexistent/log", str(tmp_path / "log"))
    )
    log = Log("p", 3, proc=container(tmp_path, pipe[0]))
    log.info("hello")
    log.close()
    assert [line.rpartition(" ")[2] for line in lines(syslog)] == ["hello"]
    assert said_to(pipe[1]) == ""


@pytest.mark.usefixtures("no_syslog")
def test_what_is_no_log_is_left_alone(tmp_path: Path) -> None:
    """A file, a device, a pipe that nobody reads."""
    (tmp_path / "file").write_text("as it was")
    os.mkfifo(tmp_path / "unread")
    for number, name in enumerate(("file", "/dev/full", "unread", "nothing")):
        (tmp_path / str(number)).mkdir()
        log = Log("p", 3, proc=container(tmp_path / str(number), tmp_path / name))
        log.error("lost")
        log.open()
        log.close()
    assert (tmp_path / "file").read_text() == "as it was"


@pytest.mark.usefixtures("no_syslog")
def test_a_terminal_is_one(tmp_path: Path) -> None:
    reader, terminal = os.openpty()
    log = Log("p", 3, proc=container(tmp_path, Path(os.ttyname(terminal))))
    log.error("hello")
    log.close()
    assert os.read(reader, 1000).endswith(b": p: hello\r\n")
    for descriptor in (reader, terminal):
        os.close(descriptor)


@pytest.mark.usefixtures("no_syslog")
def test_a_container_s_log_that_is_full(tmp_path: Path, pipe: tuple[Path, int]) -> None:
    log = Log("p", 3, proc=container(tmp_path, pipe[0]))
    started = time.monotonic()
    for _ in range(2000):  # more than a pipe holds
        log.error(REFUSES)
    log.close()
    assert time.monotonic() - started < 40  # one wait of 0.2 s, not one for each line
    assert said_to(pipe[1])


# Nothing reads the pipe any more when the second line comes. SIGPIPE is as sshd may have it.
GONE = """
import os, signal, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from slurm_adopt.system import log
log.SOCKETS = ("/nonexistent/log",)
proc, pipe = sys.argv[1:]
os.unlink(proc + "/self")
os.symlink(str(os.getpid()), proc + "/self")
reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
lines = log.Log("p", 3, proc=proc)
lines.error("one")
os.close(reader)
lines.error("two")
lines.close()
assert not signal.sigpending() and not signal.pthread_sigmask(signal.SIG_BLOCK, [])
print("alive")
"""


def test_nobody_reads_the_container_s_log_any_more(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    argv = [
        sys.executable,
        "-c",
        GONE,
        container(tmp_path, tmp_path / "pipe"),
        str(tmp_path / "pipe"),
    ]
    env = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
    assert done.stdout == "alive\n"
