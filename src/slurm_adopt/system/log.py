"""Lines for the administrator: syslog's authpriv facility, SlurmdDebug's levels.

Datagrams go to /dev/log directly rather than through syslog(3): the ident, facility and options of
sshd's own logging stay as they are, and a syslog daemon that hangs cannot hold up a login.
A line reads as Linux-PAM modules write theirs: `sshd[PID]: pam_slurm_adopt(sshd:account): text`.

Where /dev/log is journald's, lines go to its own socket, and that of a decision with fields
(journal.py). They do not go to /dev/log then: none is there twice.

Where no syslog daemon listens, as in most containers, lines go to the container's log
(container_log.py).
"""

from __future__ import annotations

import _socket
import os
import select
import time

from slurm_adopt.time_limits import LOGGED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOG_AUTHPRIV = 10 << 3  # syslog(3)
# fmt: off
LEVELS = {  # SlurmdDebug's levels: rank (slurm.conf(5)), syslog severity
    "fatal":  (1, 2), "error":  (2, 3), "info":   (3, 6), "verbose": (4, 6), "debug":  (5, 7),
    "debug2": (6, 7), "debug3": (7, 7), "debug4": (8, 7), "debug5":  (9, 7),
}
# fmt: on
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LINE_LIMIT = 1000  # characters of a line; rsyslog and journald take more, old ones cut at 1024
JOURNALD = "/run/systemd/journal/dev-log"  # /dev/log is a link to it, where journald has it
SOCKETS = ("/dev/log", JOURNALD)
SOCK_FLAGS = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
PROC = "/proc"


class Log:
    """Writes lines up to one level; `prefix` stands in front of each."""

    __slots__ = (
        "_ident", "_journal", "_lost", "_paths", "_pid", "_prefix", "_proc", "_socket", "_stderr",
        "level",
    )  # fmt: skip

    def __init__(
        self, prefix: str, level: int, path: str = "", proc: str = PROC, pid: int = 0
    ) -> None:
        """Nothing is opened before the first line, but by open().

        `path`: the only socket to write to; without it the usual ones, then PID 1's standard error.
        `pid`: the process in whose name lines are written, if it is not this one.
        """
        self._pid = pid
        self._prefix = prefix
        self.level = level
        self._paths = (path,) if path else SOCKETS
        self._proc = "" if path else proc
        self._ident = ""
        self._socket: _socket.socket | None = None
        self._journal: Callable[[int, int, str, dict[str, str]], bytes] | None = None
        self._stderr: int | None = None  # of PID 1
        self._lost = False

    def open(self) -> None:
        """Do now what needs this host's files: lines go where they do now, whatever is entered."""
        self._ident = self._ident or _ident(self._pid)
        time.localtime()  # which time zone
        if not self._lost:
            try:
                self._connect()
            except OSError:
                self._lose()

    def error(self, text: str) -> None:
        """Tell of something that an administrator must act on."""
        self.write("error", text)

    def info(self, text: str) -> None:
        """Tell of a decision: one line per login."""
        self.write("info", text)

    def debug(self, text: str) -> None:
        """Tell of a step taken and what was seen."""
        self.write("debug", text)

    @property
    def takes_fields(self) -> bool:
        """Whether lines go to journald, which keeps what write() is given as fields."""
        there = next(filter(os.path.exists, self._paths), "")
        return _is_of_journald(there)

    def write(self, level: str, text: str, fields: dict[str, str] | None = None) -> None:
        """Send one line; after the first that cannot be sent, all are lost: one wait at most.

        `fields`: for journald alone, which keeps them beside the line.
        """
        self._ident = self._ident or _ident(self._pid)
        rank, severity = LEVELS[level]
        if rank > self.level or self._lost:
            return
        try:
            self._connect()
            self._send(self._record(severity, f"{self._prefix}: {text}", fields or {}))
        except OSError:
            self._lose()

    def _record(self, severity: int, text: str, fields: dict[str, str]) -> bytes:
        """Return the datagram of one line: journald's, or syslog's."""
        if self._journal:
            whole = {"MESSAGE": printable(text), **fields}
            return self._journal(severity, LOG_AUTHPRIV >> 3, self._ident, whole)
        now = time.localtime()
        stamp = f"{MONTHS[now.tm_mon - 1]} {now.tm_mday:2} " + time.strftime("%H:%M:%S", now)
        line = f"<{LOG_AUTHPRIV | severity}>{stamp} {printable(f'{self._ident}: {text}')}"
        return line.encode("utf-8", "replace")

    def _send(self, line: bytes) -> None:
        try:
            self._put(line)
        except BlockingIOError:
            poll = select.poll()
            poll.register(self._socket or self._stderr or 0, select.POLLOUT)
            poll.poll(LOGGED.last * 1000)  # the socket is full; then lines are lost
            self._put(line)

    def _put(self, line: bytes) -> None:
        if self._socket is not None:
            self._socket.send(line)
        elif self._stderr is not None:
            from .container_log import write

            write(self._stderr, line[line.index(b">") + 1 :] + b"\n")

    def _connect(self) -> None:
        """Have a socket, or PID 1's standard error; OSError where there is neither."""
        if self._socket is not None or self._stderr is not None:
            return
        for path in self._paths:
            if _is_of_journald(path):
                from . import journal  # now: later it would be looked for in the job's namespaces

                if self._connected(journal.SOCKET):
                    self._journal = journal.record
                    return
            if self._connected(path):
                return
        if not self._proc:
            raise FileNotFoundError("nobody listens")
        from . import container_log

        self._stderr = container_log.opened(self._proc)

    def _connected(self, path: str) -> bool:
        sock = _socket.socket(_socket.AF_UNIX, SOCK_FLAGS)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            return False
        self._socket, self._journal = sock, None
        return True

    def _lose(self) -> None:
        self._lost = True
        self.close()

    def close(self) -> None:
        """Close what is open; a later line opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._stderr is not None:
            os.close(self._stderr)
            self._stderr = None


def _is_of_journald(path: str) -> bool:
    """Say whether this is the socket on which journald listens for syslog's lines."""
    try:
        of_journald = os.stat(JOURNALD)
        return os.path.samestat(of_journald, os.stat(path))
    except OSError:
        return False


def printable(text: str) -> str:
    """Escape what could forge another line, and cut what is too long.

    By ascii(): a codec would be imported, in the end from the /usr of a job that was entered.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= LINE_LIMIT else text[:LINE_LIMIT] + "..."


def _ident(pid: int = 0) -> str:
    """Return program and pid, as syslog(3) would by default, while /proc is of our namespace."""
    try:
        file = os.open(f"/proc/{pid or 'self'}/comm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            program = os.read(file, 64).decode("ascii", "replace").rstrip("\n")
        finally:
            os.close(file)
    except OSError:
        program = "pam"
    return f"{program}[{pid or os.getpid()}]"
