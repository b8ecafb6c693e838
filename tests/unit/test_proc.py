"""The reader of /proc: whose a process is, since when, and what it runs."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.slurm import proc

if TYPE_CHECKING:
    from pathlib import Path

# (what `status` says, the uids in it, whether it is root's)
STATUS = [
    ("Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t1\t1\t1\t1\n", 4, True),
    ("Name:\tx\nUid:\t0\t0\t0\t1\n", 4, False),
    ("Name:\tx\nUid:\t1\t0\t0\t0\n", 4, False),
    ("Name:\tUid:\t0\t0\t0\t0\nUid:\t1\t1\t1\t1\n", 4, False),  # by its own name
    ("Name:\tx\nUid:\t0\t0\t0\n", 3, False),
    ("Name:\tx\n", 0, False),
    ("", 0, False),
]


@pytest.mark.parametrize(("text", "count", "root"), STATUS)
def test_uids(tmp_path: Path, text: str, count: int, root: bool) -> None:
    (tmp_path / "status").write_text(text)
    assert len(proc.uids(str(tmp_path))) == count
    assert proc.is_root(str(tmp_path)) is root


def test_of_real_processes() -> None:
    with subprocess.Popen(["sleep", "60"], user=1) as process:
        directory = f"/proc/{process.pid}"
        try:
            assert proc.is_of(directory, 1)
            assert not proc.is_root(directory)
            assert process.pid in proc.pids()
            assert proc.start_time(process.pid) >= proc.start_time(os.getpid()) > 0
            assert proc.status(f"{directory}/status")["PPid"] == str(os.getpid())
        finally:
            process.kill()
    assert proc.is_root("/proc/self") == (os.getuid() == 0)
    assert os.path.samefile(proc.exe("/proc/self"), "/proc/self/exe")


# What says nothing of one that has ended
GONE = [
    (proc.uids, []),
    (proc.is_root, False),
    (proc.stat, []),
    (proc.exe, ""),
    (proc.comm, ""),
    (proc.listing, []),
    (proc.link, ""),
    (proc.read, b""),
    (proc.status, {}),
    (proc.pids, []),
]


@pytest.mark.parametrize(("reading", "says"), GONE, ids=[one.__name__ for one, _ in GONE])
def test_a_process_that_has_ended(tmp_path: Path, reading: object, says: object) -> None:
    assert callable(reading)
    assert reading(str(tmp_path / "none")) == says


# (what `stat` says; name and state may be anything; when the process was started)
STATS = [
    (f"7 (x) S{' 0' * 18} 99 0", 99),
    (f"7 (a b) c) R{' 0' * 18} 98 0", 98),
    ("7 (x) S 0 0", 0),
    (f"7 (x) S{' 0' * 18} x 0", 0),
    ("", 0),
]


@pytest.mark.parametrize(("text", "started"), STATS)
def test_start_time(tmp_path: Path, text: str, started: int) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text(text)
    assert proc.start_time(7, str(tmp_path)) == started


def test_a_program_that_has_been_replaced(tmp_path: Path) -> None:
    (tmp_path / "exe").symlink_to("/usr/sbin/sshd (deleted)")
    assert proc.exe(str(tmp_path)) == "/usr/sbin/sshd"


def test_pids(tmp_path: Path) -> None:
    for name in ("31", "4", "self", "net", "5x"):
        (tmp_path / name).mkdir()
    assert proc.pids(str(tmp_path)) == [4, 31]


def test_peer(tmp_path: Path) -> None:
    """Who listens; of a pair who has made it; nobody where nothing is connected."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as ours:
        with pytest.raises(OSError, match="not connected"):
            ours.getpeername()
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        ours.connect(str(tmp_path / "s"))
        assert proc.peer(ours) == (os.getpid(), os.geteuid())
    one, other = socket.socketpair()
    with one, other:
        assert proc.peer(one) == (os.getpid(), os.geteuid())
