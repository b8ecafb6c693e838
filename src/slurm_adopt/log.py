"""Lines for the administrator: syslog's authpriv facility, SlurmdDebug's levels.

Datagrams go to /dev/log directly rather than through syslog(3): the ident, facility and options of
sshd's own logging stay as they are, and a syslog daemon that hangs cannot hold up a login.
A line reads as Linux-PAM modules write theirs: `sshd[PID]: pam_slurm_adopt(sshd:account): text`.
"""

from __future__ import annotations

import _socket
import os
import select
import time

from .options import LOG_LEVELS

LOG_AUTHPRIV = 10 << 3  # syslog(3)
# fmt: off
SEVERITY = {  # SlurmdDebug level -> syslog severity
    "fatal": 2, "error": 3, "info": 6, "verbose": 6,
    "debug": 7, "debug2": 7, "debug3": 7, "debug4": 7, "debug5": 7,
}
# fmt: on
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LINE_LIMIT = 1000  # characters of a line; rsyslog and journald take more, old ones cut at 1024
SOCKET = "/dev/log"
PATIENCE_MS = 200  # a full socket buffer is waited for this long, then lines are lost


class Log:
    """Writes lines up to one level; `prefix` stands in front of each."""

    __slots__ = ("_ident", "_lost", "_path", "_prefix", "_socket", "level")

    def __init__(self, prefix: str, level: int, path: str = SOCKET) -> None:
        """Nothing is opened before the first line, but by open()."""
        self._prefix = prefix
        self.level = level
        self._path = path
        self._ident = ""
        self._socket: _socket.socket | None = None
        self._lost = False

    def open(self) -> None:
        """Do now what needs this host's files: lines go where they do now, whatever is entered."""
        self._ident = self._ident or _ident()
        time.localtime()  # which time zone
        if not self._lost:
            try:
                self._connected()
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

    def write(self, level: str, text: str) -> None:
        """Send one line; after the first that cannot be sent, all are lost: one wait at most."""
        self._ident = self._ident or _ident()
        if LOG_LEVELS.index(level) > self.level or self._lost:
            return
        priority = LOG_AUTHPRIV | SEVERITY[level]
        now = time.localtime()
        stamp = f"{MONTHS[now.tm_mon - 1]} {now.tm_mday:2} " + time.strftime("%H:%M:%S", now)
        text = f"{self._ident}: {self._prefix}: {text}"
        try:
            self._send(f"<{priority}>{stamp} {printable(text)}".encode("utf-8", "replace"))
        except OSError:
            self._lose()

    def _send(self, line: bytes) -> None:
        sock = self._connected()
        try:
            sock.send(line)
        except BlockingIOError:
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLOUT)
            poll.poll(PATIENCE_MS)
            sock.send(line)

    def _connected(self) -> _socket.socket:
        if self._socket is None:
            self._socket = _socket.socket(
                _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
            )
            self._socket.connect(self._path)
        return self._socket

    def _lose(self) -> None:
        self._lost = True
        self.close()

    def close(self) -> None:
        """Close the socket; a later line opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def printable(text: str) -> str:
    """Escape what could forge another line, and cut what is too long.

    By ascii(): a codec would be imported, in the end from the /usr of a job that was entered.
    """
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= LINE_LIMIT else text[:LINE_LIMIT] + "..."


def _ident() -> str:
    """Return program and pid, as syslog(3) would by default, while /proc is of our namespace."""
    try:
        with open("/proc/self/comm", "rb") as file:
            program = file.read().decode("ascii", "replace").rstrip("\n")
    except OSError:
        program = "pam"
    return f"{program}[{os.getpid()}]"
