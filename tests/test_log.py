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

from slurm_adopt.log import LINE_LIMIT, Log
from slurm_adopt.options import LOG_LEVELS

SOURCE = str(Path(__file__).parents[1] / "src")


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
        "import sys; from slurm_adopt.log import printable; before = set(sys.modules); "
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
from slurm_adopt.log import Log
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
    for _ in range(40):  # more than its queue holds (net.unix.max_dgram_qlen)
        log.error("x")
    log.close()
    assert time.monotonic() - started < 4  # one wait of 0.2 s, not one for each line
    assert lines(syslog)
