"""A login's slot: its place among those of a listening sshd that have not authenticated.

The listening sshd has made a pipe for it, since OpenSSH 10.0 a pair of sockets. MaxStartups counts
those of which it has an end; the login closes the other end once the user has authenticated
(sshd.c, server_accept_loop; sshd-session.c, main).
"""

from __future__ import annotations

import _socket
import os

from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import PROC, field, peer, pids, program_of, same_program, status

from .sockets import copied

_STANDARD = 2  # the last descriptor of input, output and error


class Slot:
    """A login's place among those that have not authenticated: one end of a pipe, or of a pair."""

    __slots__ = ("descriptor", "link", "pid")

    def __init__(self, pid: int, descriptor: int, link: str) -> None:
        """`pid` has the descriptor; `link` is what /proc/PID/fd says of it."""
        self.pid = pid
        self.descriptor = descriptor
        self.link = link

    def seen(self, process: int) -> bool:
        """Say whether it is held; `process`: a descriptor of /proc/PID. OSError if it has ended.

        OSError also where that may not be seen: SELinux can forbid it to root.
        """
        return os.readlink(f"fd/{self.descriptor}", dir_fd=process) == self.link

    def held(self, process: int) -> bool:
        """Say whether it is held, where that can be seen; `process`: a descriptor of /proc/PID."""
        try:
            return self.seen(process)
        except OSError:
            return False


def slot_of(pid: int, proc: str = PROC) -> Slot | None:
    """Return the slot that a process of sshd's holds, this one or one that it is a child of.

    SetupError where what it or its parent has open may not be seen.
    """
    ours = _links(f"{proc}/{pid}")
    if not ours:
        return None
    parent = field(f"{proc}/{pid}/status", b"PPid").decode()
    if not parent or not may_listen_for(pid, int(parent), proc):
        return None
    theirs = _links(f"{proc}/{parent}")
    slot = _pipe(pid, ours, parent, theirs, proc)
    if slot or same_program(pid, int(parent), proc):
        return slot
    return _socket_of_pair(pid, ours, parent, theirs)


def may_listen_for(pid: int, parent: int, proc: str = PROC) -> bool:
    """Say whether a parent may be the sshd that listens: one of OpenSSH's, or the same program.

    What else starts `sshd -i` may give it pipes and sockets of its own making as the connection.
    """
    return program_of(parent, proc).startswith("sshd") or same_program(pid, parent, proc)


def holds(pid: int, link: str, proc: str = PROC) -> bool:
    """Say whether a process has a pipe or socket open, where that can be seen.

    `link`: as /proc/PID/fd has it.
    """
    try:
        return link in _links(f"{proc}/{pid}").values()
    except SetupError:
        return False


def children(pid: int, proc: str = PROC) -> list[int]:
    """Return the children of a process: by `children` (proc(5)), or else by their PPid."""
    try:
        with open(f"{proc}/{pid}/task/{pid}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        every = pids(proc)
    return [one for one in every if status(f"{proc}/{one}/status").get("PPid") == str(pid)]


def _links(process: str) -> dict[int, str]:
    """Return the pipes and sockets that a process has open, by descriptor.

    Those of its standard input, output and error are never a slot's: they may lead to an sshd
    that has started it.
    """
    found = {}
    try:
        names = os.listdir(f"{process}/fd")
    except PermissionError as error:
        raise SetupError(
            f"cannot list what {process} has open: {error.strerror}; does SELinux forbid it "
            "(sshd_t needs the capability sys_ptrace)?"
        ) from None
    except OSError:
        return {}
    for name in names:
        try:
            link = os.readlink(f"{process}/fd/{name}")
        except OSError:  # closed since
            continue
        if link.startswith(("pipe:", "socket:")) and int(name) > _STANDARD:
            found[int(name)] = link
    return found


def _pipe(
    pid: int, ours: dict[int, str], parent: str, theirs: dict[int, str], proc: str
) -> Slot | None:
    """Return the end of a pipe that this process only writes to, and its parent only reads."""
    for descriptor, link in ours.items():
        if not link.startswith("pipe:") or link not in theirs.values():
            continue
        if _modes(proc, pid, ours, link) == {os.O_WRONLY} and (
            _modes(proc, parent, theirs, link) == {os.O_RDONLY}
        ):
            return Slot(pid, descriptor, link)
    return None


def _modes(proc: str, pid: int | str, links: dict[int, str], link: str) -> set[int]:
    """Return in which ways a process has a pipe open."""
    return {_mode(proc, pid, descriptor) for descriptor, one in links.items() if one == link}


def _mode(proc: str, pid: int | str, descriptor: int) -> int:
    """Return the access mode of a descriptor: fdinfo's flags are octal (proc(5))."""
    flags = status(f"{proc}/{pid}/fdinfo/{descriptor}").get("flags", "")
    return int(flags, 8) & os.O_ACCMODE if flags and not flags.strip("01234567") else -1


def _socket_of_pair(
    pid: int, ours: dict[int, str], parent: str, theirs: dict[int, str]
) -> Slot | None:
    """Return the socket that the parent has made with another, and has closed.

    For a parent that is the same program this means nothing: sshd and its child in
    keyboard-interactive talk by a pair, and where the slot is one, the program that listens is
    another.
    """
    here = {link: descriptor for descriptor, link in _links("/proc/self").items()}
    inherited = not here.keys().isdisjoint(ours.values())  # a child has those that its parent had
    for descriptor, link in ours.items():
        if not link.startswith("socket:") or link in theirs.values():
            continue
        if inherited:
            maker = _maker(here[link]) if link in here else 0
        else:
            maker = _maker(descriptor, pid)
        if maker == int(parent):
            return Slot(pid, descriptor, link)
    return None


def _maker(descriptor: int, pid: int = 0) -> int:
    """Return who has made the pair that a socket is of; 0 if it is of none. SetupError."""
    try:
        sock = copied(descriptor, pid)
    except OSError:
        return 0
    try:
        if sock.family != _socket.AF_UNIX or sock.getsockname() or sock.getpeername():
            return 0
        return peer(sock)[0]
    except OSError:  # it is not connected
        return 0
    finally:
        sock.close()
