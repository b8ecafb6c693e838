"""Which process becomes the session, where the service calls the account phase in another one.

For keyboard-interactive sshd runs PAM's authentication and account phase in a child of its own
(auth-pam.c, sshpam_thread) that ends before the session starts; what becomes the session is its
parent. It is told by what it is, not by its title: the same program, root's, with the same
connection. The sshd that listens is the same program and root's, too: it is never the one.
"""

from __future__ import annotations

import os
from time import time

from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import PROC, age, is_root, program_of, same_program, start_time

COARSE = 0.02  # seconds: a clock tick, and as much again for file systems' times
GENERATIONS = 4  # ancestors looked at


def session_process(proc: str = PROC) -> int:
    """Return the pid of the process that becomes the session: this one or an ancestor.

    SetupError where that may be another one, and cannot be told for certain.
    """
    own, parent = os.getpid(), os.getppid()
    if not same_program(own, parent, proc):  # nearly all logins end here, or at the listening sshd
        return own
    from .login_slot import slot_of

    if slot_of(own, proc):  # its parent is the sshd that listens
        return own
    from .listening import listens
    from .ssh_connection import own_sockets, shares

    sockets = own_sockets(proc)
    if shares(parent, sockets, proc):
        return _highest(own, sockets, proc)
    if listens(parent, proc):
        return own
    if is_sshd(proc) and is_root(f"{proc}/{parent}"):
        raise SetupError(
            f"process {parent} may become the session instead of this one: it is root's "
            f"{program_of('self', proc)}, does not listen, and shares no connection with this one; "
            "only TCP, vsock and named unix sockets show that"
        )
    return own


def is_child(proc: str = PROC) -> bool:
    """Say whether this may be a child of the process of sshd's that opens the session.

    Where it is not, its parent is another program, or the sshd that listens. That one has given
    back all slots if it has been told to read its configuration again (SIGHUP).
    """
    own, parent = os.getpid(), os.getppid()
    if not same_program(own, parent, proc):
        return False
    from .login_slot import slot_of

    try:
        if slot_of(own, proc):
            return False
        return slot_of(parent, proc) is not None or not _listens(parent, proc)
    except SetupError:  # what the parent has open may not be seen
        return True


def _listens(pid: int, proc: str) -> bool:
    from .listening import listens  # with `login`, which nearly all logins do without

    return listens(pid, proc)


def login_began(proc: str = PROC) -> float:
    """Return when the login began, or a bit before: seconds since the epoch.

    Nothing of it, its PAM files included, has been looked at before. It is the start of the process
    that opens the session.
    """
    pid = os.getppid() if is_child(proc) else os.getpid()
    return time() - age(start_time(pid, proc)) - COARSE


def _highest(own: int, sockets: set[int], proc: str) -> int:
    """Go up as long as the ancestor is the same program of root's with the same connection."""
    from slurm_adopt.system.sigint import Spared

    from .listening import listens
    from .login_slot import slot_of
    from .ssh_connection import shares

    try:
        with Spared():
            import psutil
    except ImportError as error:
        from slurm_adopt.system.missing import why

        raise SetupError(
            "psutil is needed to tell which other process becomes the session: "
            f"{why('psutil', error)}; install python3-psutil"
        ) from None
    try:
        found = psutil.Process(own)
        for _ in range(GENERATIONS):
            parent = found.parent()  # checked against reuse of its pid
            if parent is None or not same_program(own, parent.pid, proc):
                break
            if set(parent.uids()) != {0} or not shares(parent.pid, sockets, proc):
                break
            slot = slot_of(parent.pid, proc)  # whose parent is the sshd that listens
            if slot is None and listens(parent.pid, proc):
                break
            found = parent
            if slot:
                break
    except psutil.Error as error:
        raise SetupError(f"cannot tell which process becomes the session: {error}") from None
    return int(found.pid)


def is_sshd(proc: str = PROC) -> bool:
    """Say whether this program is one of OpenSSH's: sshd, sshd-session."""
    return program_of("self", proc).startswith("sshd")
