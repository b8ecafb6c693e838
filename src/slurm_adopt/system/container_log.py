"""The log of a container: the standard error of PID 1, where no syslog daemon listens.

What PID 1 writes there is what `docker logs` and `kubectl logs` show. Not our own standard error:
that is sshd's, which leads nowhere without `sshd -e`, and may be a client's connection.
Nobody is waited for: what would have to wait is an OSError.
"""

from __future__ import annotations

import os
import stat

from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import PROC, is_root

from .sigint import Spared

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    with Spared():
        import _signal as signal

FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def opened(proc: str = PROC) -> int:
    """Open the standard error of PID 1; OSError if that cannot or shall not be.

    PID 1 has to be root's, by a /proc that shows this process: that of a job's own does not. It has
    to have a pipe or a terminal there. A file may be anywhere, and a write to it may wait. A socket
    cannot be opened.
    """
    try:
        if os.readlink(f"{proc}/self") != str(os.getpid()) or not is_root(f"{proc}/1"):
            raise _nothing("PID 1 is not root's here")
    except SetupError as error:
        raise _nothing(str(error)) from None
    path = f"{proc}/1/fd/2"
    mode = os.stat(path).st_mode
    if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
        raise _nothing("neither a pipe nor a terminal")
    found = os.open(path, FLAGS)
    if stat.S_ISCHR(mode) and not os.isatty(found):
        os.close(found)
        raise _nothing("no terminal")
    return found


def _nothing(why: str) -> FileNotFoundError:
    return FileNotFoundError(why)


def write(descriptor: int, data: bytes) -> None:
    """Write a line; where nobody reads a pipe any more that is an OSError, and no SIGPIPE."""
    pipe = {signal.SIGPIPE}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, pipe)
    pending = signal.SIGPIPE in signal.sigpending()
    try:
        os.write(descriptor, data)
    except BrokenPipeError:
        if not pending:
            signal.sigtimedwait(pipe, 0)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
