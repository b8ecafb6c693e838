"""What the kernel says of processes: in /proc/PID (proc(5)), and of who has a unix socket.

While a process is in execve(2), whoever reads its `stat`, `environ`, `exe`, `cwd` or `ns` waits for
a lock that it holds (fs/exec.c, exec_update_lock), for as long as the process likes. `status`,
`cgroup` and `limits` have no such wait. So of a process that may be a user's only these are read;
the others are read after is_root(), or in a child that can be ended (system/child.py).

A process is named by its directory, `/proc/PID`. One that has ended says nothing: that is no error.
"""

from __future__ import annotations

import _socket
import os
from sys import byteorder
from time import CLOCK_BOOTTIME, clock_gettime

from .digits import number
from .files import beginning

PROC = "/proc"
_LARGEST = 1 << 17  # bytes that are read of a file
_STATUS = 1 << 14
_START = 19  # of the fields that stat() returns
_UCRED = 12  # bytes of struct ucred: pid, uid, gid, C ints of this machine


def pids(proc: str = PROC) -> list[int]:
    """Return the processes that there are, in order."""
    return sorted(int(name) for name in listing(proc) if name.isdecimal())


# What keeps nobody waiting


def status(path: str, directory: int | None = None) -> dict[str, str]:
    """Read `name: value` lines, such as those of `status` and `fdinfo`; none if it has ended.

    `directory`: a descriptor that `path` begins at.
    """
    lines = _read_once(path, directory).decode("ascii", "replace").split("\n")
    parts = (line.partition(":") for line in lines)
    return {name: value.strip() for name, colon, value in parts if colon}


def field(path: str, name: bytes) -> bytes:
    """Return one value of such a file; nothing where it has none, or the process has ended."""
    return _read_once(path).partition(b"\n%s:" % name)[2].partition(b"\n")[0].strip()


def uids(process: str) -> list[bytes]:
    """Return the real, effective, saved and file system uid of a process."""
    return field(f"{process}/status", b"Uid").split()


def is_of(process: str, uid: int) -> bool:
    """Say whether all four uids of a process are this one."""
    return uids(process) == [b"%d" % uid] * 4


def is_root(process: str) -> bool:
    """Say whether all four uids of a process are 0.

    Who owns its directory says less: root owns that of each process that may not be dumped.
    """
    return is_of(process, 0)


def is_root_still(process: str) -> bool:
    """Say whether one of the uids is 0: sshd and PAM modules take a user's for a moment.

    So do pam_keyinit (setreuid(2)) and sshd with GSSAPI (seteuid(2)).
    """
    return b"0" in uids(process)[:3]


# Of root's processes only, or in a child


def stat(process: str) -> list[bytes]:
    """Return the fields of a process or thread from the third on, its state."""
    return read(f"{process}/stat").rpartition(b")")[2].split()


def start_time(pid: int, proc: str = PROC) -> int:
    """Return when a process was started: clock ticks since boot; 0 if it is not there.

    Pid and start time together name a process for good.
    """
    found = stat(f"{proc}/{pid}")[_START : _START + 1]
    return (number(found[0]) or 0) if found else 0


def parent_of(pid: int, proc: str = PROC) -> int:
    """Return the pid of a process's parent; 0 where it has none here, or is not there."""
    if pid == os.getpid():
        return os.getppid()
    return number(field(f"{proc}/{pid}/status", b"PPid")) or 0


def age(started: int) -> float:
    """Return how many seconds ago a process was started, by what start_time() says."""
    return clock_gettime(CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def exe(process: str) -> str:
    """Return the path of a process's program, as it was if it has been replaced since."""
    return link(f"{process}/exe").removesuffix(" (deleted)")


def program_of(pid: int | str, proc: str = PROC) -> str:
    """Return the name of the program that a process runs; "" where that does not show."""
    return os.path.basename(exe(f"{proc}/{pid}"))


def same_program(one: int, other: int, proc: str = PROC) -> bool:
    """Compare the files two processes run, which may have been replaced or removed since."""
    try:
        return os.path.samestat(os.stat(f"{proc}/{one}/exe"), os.stat(f"{proc}/{other}/exe"))
    except OSError:  # it has ended, or is a kernel thread
        return False


def comm(process: str) -> str:
    """Return the name that a process goes by."""
    return read(f"{process}/comm").decode("utf-8", "surrogateescape").strip()


def strings(path: str) -> list[str]:
    """Return the strings of `cmdline` or `environ`."""
    return read(path).decode("utf-8", "surrogateescape").split("\0")


# Sockets


def peer(socket: _socket.socket) -> tuple[int, int]:
    """Return pid and uid of who listens on what a unix socket is connected to (unix(7)).

    Of a pair they are those of who has made it. The pid is 0 where it has none here. OSError if
    the socket is not connected.
    """
    data = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED)
    return int.from_bytes(data[:4], byteorder), int.from_bytes(data[4:8], byteorder)


# Files


def listing(directory: str) -> list[str]:
    """Return the names in a directory; none where it cannot be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def link(path: str) -> str:
    """Return where a link leads; "" where there is none, or it may not be seen."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def is_there(path: str) -> bool:
    """Say whether a file or directory is there; access(2) has no exception made where it is not.

    access(2) goes by the real uid: where that is not root's (su's caller), stat(2) is asked.
    """
    return os.path.exists(path) if os.getuid() else os.access(path, os.F_OK)


def contents(path: str, limit: int) -> bytes:
    """Return the beginning of a file; OSError. open() would cost three times as much."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return beginning(file, limit)
    finally:
        os.close(file)


def read(path: str) -> bytes:
    """Return the beginning of a file; nothing where it cannot be read."""
    try:
        return contents(path, _LARGEST)
    except OSError:
        return b""


def _read_once(path: str, directory: int | None = None) -> bytes:
    """Read a file that the kernel gives in one piece; nothing where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return os.read(file, _STATUS)
        finally:
            os.close(file)
    except OSError:
        return b""
