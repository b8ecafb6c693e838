"""A socket of a process to be asked: a copy of our own, or of one that another process lends.

pidfd_getfd(2) lends it (Linux 5.6); the process notices nothing. Who takes it has to be allowed to
trace the process, as root is.
"""

from __future__ import annotations

import _socket
import os

from slurm_adopt.slurm.errors import SetupError

PIDFD_GETFD = 438  # asm-generic/unistd.h


def copied(descriptor: int, pid: int = 0) -> _socket.socket:
    """Return a socket to be asked, by a descriptor of its own; OSError where there is none.

    `pid`: whose it is, ours by default. SetupError where another process's cannot be had. Python
    asks for its address first, which some families do not have.
    """
    copy = os.dup(descriptor) if pid in (0, os.getpid()) else _lent(pid, descriptor)
    try:
        return _socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _lent(pid: int, descriptor: int) -> int:
    try:
        process = os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        raise SetupError(_cannot(pid, error)) from None
    try:
        from slurm_adopt.slurm import libc

        return libc.function("syscall")(PIDFD_GETFD, process, descriptor, 0)
    except (AttributeError, ImportError, MemoryError) as error:  # MemoryError: by SELinux
        raise SetupError(_cannot(pid, error)) from None
    except OSError as error:
        from errno import EBADF

        if error.errno == EBADF:  # closed since
            raise
        raise SetupError(_cannot(pid, error)) from None
    finally:
        os.close(process)


def _cannot(pid: int, error: BaseException) -> str:
    return (
        f"cannot ask the sockets of process {pid}: {error!r}; that needs Linux 5.6, and where "
        "SELinux confines sshd the capability sys_ptrace"
    )
