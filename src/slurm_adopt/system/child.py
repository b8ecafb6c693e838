"""A function run in a child: for reads that another process can hold up for as long as it likes.

While a process is in execve(2), who reads its stat, environ, exe, cwd or ns in /proc waits for a
lock that it holds (fs/exec.c, exec_update_lock); and it stays in there while a file that is to be
closed is on a file system that does not answer (FUSE, NFS). Only its end by a signal takes a reader
out of that, so the reader is a child that can be killed.

sshd shall not know that it had one. SIGCHLD is blocked while there is a child, and taken away after
it, so that no handler of sshd's sees it; no handler of this process is touched.
"""

from __future__ import annotations

import gc
import os
import select
from time import monotonic, sleep

from slurm_adopt import time_limits
from slurm_adopt.slurm.errors import PeerError, shortage
from slurm_adopt.slurm.proc import PROC, stat
from slurm_adopt.slurm.waiting import Patience

from .sigint import Spared

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Callable, NoReturn

    from slurm_adopt.slurm.waiting import Deadline
else:
    with Spared():
        import _signal as signal  # all that is wanted of `signal`, which takes 3 ms to import

ENDING = time_limits.ENDED.silence
ENDING_LONGEST = time_limits.ENDED.last  # for one that has done all, too: exit(2) may queue
POLLED = 0.0005  # seconds between two looks whether it is
PART = 1 << 16  # bytes
ANSWER, ERROR, UNREADY = b"=", b"!", b"?"  # the first byte that a child writes
HEAD = 9  # bytes: one of these, and the length of what follows

# What the child takes back from sshd's handlers: it ends by these, also out of such a wait.
ENDS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGALRM,
    signal.SIGTERM,
)


def run(function: Callable[[], bytes], deadline: Deadline, limit: int) -> bytes:
    """Return what a function returns in a child, at most `limit` bytes.

    PeerError if it raises an exception, ends, returns more, or is not done in time; the child is
    killed then. A child that does not get the CPU that it wants renews the deadline (waiting.py).
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        return _checked(_run(function, deadline, limit))
    except OSError as error:
        raise PeerError(f"cannot fork: {shortage(error)}") from None
    finally:
        _take_signal()
        if signal.SIGCHLD not in blocked:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _run(function: Callable[[], bytes], deadline: Deadline, limit: int) -> bytes:
    longest = deadline.last() + 2 * ENDING_LONGEST
    reading, writing = os.pipe()
    try:
        try:
            child = os.fork()
            if not child:
                # And nothing else: an exception would escape.
                _be_child(function, (reading, writing), longest)
        finally:
            os.close(writing)
        silence = ENDING
        try:
            data = _read(reading, child, deadline, limit + HEAD)
            silence = ENDING_LONGEST
        finally:
            _end(child, Patience(silence, ENDING_LONGEST))  # that begins now
        return data
    finally:
        os.close(reading)


# In the child


def _be_child(function: Callable[[], bytes], pipe: tuple[int, int], seconds: float) -> NoReturn:
    """Write what a function returns, and end; within `seconds`, even if the parent ends first.

    Nothing of sshd's or of another module's runs here: no handler, no finalizer, nothing at exit.
    """
    try:
        gc.disable()
        for number in ENDS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        reading, writing = pipe
        os.close(reading)  # first: what follows needs a descriptor
        data = _answer(function, writing)
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def _close_inherited(kept: int) -> None:
    """Close the pipes and sockets of sshd's: a child that is held up shall hold none of them.

    Nor the standard output that pam_exec has given: it waits for the end of all that is written.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
            if link.startswith(("pipe:", "socket:")) and int(name) != kept:
                os.close(int(name))
        except OSError:  # that of the listing itself is closed by now
            pass


def _answer(function: Callable[[], bytes], writing: int) -> bytes:
    ready = False
    try:
        _close_inherited(writing)
        ready = True
        kind, data = ANSWER, function()
    except Exception as error:  # noqa: BLE001 - the parent raises it
        kind = ERROR if ready else UNREADY
        data = repr(error)[:200].encode("ascii", "backslashreplace")
    return kind + len(data).to_bytes(HEAD - 1, "big") + data


# In the parent


def _read(reading: int, child: int, deadline: Deadline, limit: int) -> bytes:
    """Return all that the child writes."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    data, begun = b"", monotonic()
    while len(data) <= limit:
        if not poll.poll(deadline.left() * 1000):
            if not (deadline.renews and _runs(child)):
                raise PeerError(f"timed out after {monotonic() - begun:.1f} s")
            deadline.renew()
            continue
        part = os.read(reading, PART)
        if not part:
            return data
        data += part
    raise PeerError(f"the answer is longer than {limit - HEAD} bytes")


def _runs(child: int) -> bool:
    """Say whether a child runs, or would if it got a CPU; one that is held up does not."""
    return stat(f"{PROC}/{child}")[:1] == [b"R"]


def _checked(data: bytes) -> bytes:
    kind, length, answer = data[:1], data[1:HEAD], data[HEAD:]
    if len(data) < HEAD or int.from_bytes(length, "big") != len(answer):
        raise PeerError("the child ended without an answer")
    if kind == UNREADY:
        raise PeerError(f"the child cannot list what it has open: {answer.decode('ascii')}")
    if kind != ANSWER:
        raise PeerError(f"unexpected {answer.decode('ascii')} (please report this)")
    return answer


def _end(child: int, ending: Patience) -> None:
    """See that the child has ended; PeerError if it does not, for it is not ours to wait longer."""
    while not _gone(child):
        if not ending.left() and ending.renews and _runs(child):
            ending.renew()
        if not ending.left():
            raise PeerError(f"process {child} was killed and does not end; it is left to init")
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
        sleep(POLLED)


def _gone(child: int) -> bool:
    """Say whether the child has ended, and has been waited for."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:  # where SIGCHLD is ignored, the kernel does that
        return True


def _take_signal() -> None:
    """Take away the SIGCHLD of our child; that of another one, which it may stand for, stays."""
    if signal.sigtimedwait({signal.SIGCHLD}, 0) and _another_ended():
        os.kill(os.getpid(), signal.SIGCHLD)


def _another_ended() -> bool:
    """Say whether a child of sshd's waits to be waited for; it goes on waiting."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return found is not None
