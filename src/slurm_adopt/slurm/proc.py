"""What /proc says of a process: whose it is, when it was started, which program it runs."""

from __future__ import annotations

import os


def is_root(process: str) -> bool:
    """Say whether all four uids of a process, /proc/PID, are 0."""
    try:
        fd = os.open(f"{process}/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, 1 << 12)  # they are in the first ten lines
        finally:
            os.close(fd)
    except OSError:  # ended since
        return False
    return data.partition(b"\nUid:")[2].partition(b"\n")[0].split() == [b"0"] * 4


def start_time(pid: int, proc: str = "/proc") -> int:
    """Return when a process was started: clock ticks since boot; 0 if it is not there.

    Field 22 of /proc/PID/stat (proc(5)); pid and start time together name a process for good. For
    processes of root's only: this file's reader can be kept waiting by the process.
    """
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def same_program(one: int, other: int, proc: str) -> bool:
    """Compare the files two processes run, which may have been replaced or removed since."""
    try:
        return os.path.samestat(os.stat(f"{proc}/{one}/exe"), os.stat(f"{proc}/{other}/exe"))
    except OSError:  # it has ended, or is a kernel thread
        return False


def program_of(pid: int | str, proc: str = "/proc") -> str:
    """Return the name of the program that a process runs; "" where that does not show."""
    try:
        return os.path.basename(os.readlink(f"{proc}/{pid}/exe"))
    except OSError:
        return ""
