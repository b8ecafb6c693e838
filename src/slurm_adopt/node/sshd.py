"""Which processes are sshd's: told by the program that they run, not by their titles."""

from __future__ import annotations

import os


def may_listen_for(pid: int, parent: int, proc: str = "/proc") -> bool:
    """Say whether a parent may be the sshd that listens: one of OpenSSH's, or the same program.

    What else starts `sshd -i` may give it pipes and sockets of its own making as the connection.
    """
    return program_of(proc, parent).startswith("sshd") or same_program(pid, parent, proc)


def same_program(one: int, other: int, proc: str) -> bool:
    """Compare the files two processes run, which may have been replaced or removed since."""
    try:
        return os.path.samestat(os.stat(f"{proc}/{one}/exe"), os.stat(f"{proc}/{other}/exe"))
    except OSError:  # it has ended, or is a kernel thread
        return False


def is_sshd(proc: str = "/proc") -> bool:
    """Say whether this program is one of OpenSSH's: sshd, sshd-session."""
    return program_of(proc).startswith("sshd")


def program_of(proc: str, pid: int | str = "self") -> str:
    """Return the name of the program that a process runs; "" where that does not show."""
    try:
        return os.path.basename(os.readlink(f"{proc}/{pid}/exe"))
    except OSError:
        return ""
