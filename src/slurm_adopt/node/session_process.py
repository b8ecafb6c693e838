"""Which process becomes the session, where the service calls the account phase in another one.

For keyboard-interactive sshd runs PAM's authentication and account phase in a child of its own
(auth-pam.c, sshpam_thread) that ends before the session starts; what becomes the session is its
parent. It is told by what it is, not by its title: the same program, root's, with the same
connection. The sshd that listens is the same program and root's, too: it is never the one.
"""

from __future__ import annotations

from time import time

from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import (
    PROC,
    age,
    is_root,
    parent_of,
    program_of,
    same_program,
    start_time,
    uids,
)

COARSE = 0.02  # seconds: a clock tick, and as much again for file systems' times
INIT = 1  # 0: a process of another PID namespace
GENERATIONS = 4  # ancestors looked at


def session_process(own: int, proc: str = PROC) -> int:
    """Return the pid of the process that becomes the session: `own` or an ancestor.

    `own` is the process that called PAM. SetupError where that may be another one, and cannot be
    told for certain.
    """
    parent = parent_of(own, proc)
    if not same_program(own, parent, proc):  # nearly all logins end here, or at the listening sshd
        return own
    from .login_slot import slot_of

    if slot_of(own, proc):  # its parent is the sshd that listens
        return own
    from .listening import listens_soon
    from .ssh_connection import connected_sockets, shares

    sockets = connected_sockets(own, proc)
    if shares(parent, sockets, proc):
        return _highest(own, sockets, proc)
    if not is_sshd(own, proc) or not is_root(f"{proc}/{parent}") or listens_soon(parent, proc):
        return own
    raise SetupError(
        f"process {parent} may become the session instead of this one: it is root's "
        f"{program_of(own, proc)}, does not listen, and shares no connection with this one; "
        "only TCP, vsock and named unix sockets show that"
    )


def is_child(own: int, proc: str = PROC) -> bool:
    """Say whether this may be a child of the process of sshd's that opens the session.

    Where it is not, its parent is another program, or the sshd that listens. That one has given
    back all slots if it has been told to read its configuration again (SIGHUP).
    """
    parent = parent_of(own, proc)
    if not same_program(own, parent, proc):
        return False
    from .login_slot import slot_of

    try:
        if slot_of(own, proc):
            return False
        return slot_of(parent, proc) is not None or not _listens(own, parent, proc)
    except SetupError:  # what the parent has open may not be seen
        return True


def _listens(own: int, parent: int, proc: str) -> bool:
    from .listening import listens, listens_soon  # with `login`: nearly all logins do without
    from .ssh_connection import connected_sockets, shares

    if listens(parent, proc):
        return True
    return not shares(parent, connected_sockets(own, proc), proc) and listens_soon(parent, proc)


def opens_session(own: int, proc: str = PROC) -> int:
    """Return the pid of the process that opens the session, by what is_child() says."""
    return parent_of(own, proc) if is_child(own, proc) else own


def known_by(own: int, proc: str = PROC) -> tuple[int, int]:
    """Return pid and start time of the process that opens the session: they name a login."""
    pid = opens_session(own, proc)
    return pid, start_time(pid, proc)


def login_began(own: int, proc: str = PROC) -> float:
    """Return when the login began, or a bit before: seconds since the epoch.

    Nothing of it, its PAM files included, has been looked at before. It is the start of the process
    that opens the session.
    """
    return time() - age(known_by(own, proc)[1]) - COARSE


def _highest(own: int, sockets: set[int], proc: str) -> int:
    """Go up as long as the ancestor is the same program of root's with the same connection."""
    from .listening import listens
    from .login_slot import slot_of
    from .ssh_connection import shares

    found = own
    for _ in range(GENERATIONS):
        parent = parent_of(found, proc)
        if not same_program(own, parent, proc) or not is_root(f"{proc}/{parent}"):
            break
        if start_time(parent, proc) > start_time(found, proc):  # its pid was given to another
            break
        if not shares(parent, sockets, proc):
            break
        slot = slot_of(parent, proc)  # whose parent is the sshd that listens
        if slot is None and listens(parent, proc):
            break
        found = parent
        if slot:
            break
    return found


def check_called(pid: int, module: bytes, proc: str = PROC) -> None:
    """Raise SetupError if a process is not what called a PAM module, but what has inherited us.

    That is where what called it has ended since. Besides init it may be any process that asks for
    it (prctl(2), PR_SET_CHILD_SUBREAPER), of users as well. It has not loaded the module.
    """
    if pid <= INIT or not _has_loaded(pid, module, proc):
        raise SetupError(f"process {pid} has not called PAM by pam_exec: what did has ended")


def _has_loaded(pid: int, module: bytes, proc: str) -> bool:
    """Say whether a process may have loaded a module; no where it is not root's."""
    if uids(f"{proc}/{pid}")[1:2] not in ([], [b"0"]):  # a user's may keep us waiting
        return False
    try:
        with open(f"{proc}/{pid}/maps", "rb") as file:
            return any(module in line for line in file)
    except OSError:  # not to be seen: SELinux can forbid it
        return True


def is_sshd(pid: int, proc: str = PROC) -> bool:
    """Say whether a process runs a program of OpenSSH's: sshd, sshd-session."""
    return program_of(pid, proc).startswith("sshd")
