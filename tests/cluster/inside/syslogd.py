"""The hosts' syslog daemon: every message of /dev/log, whole, as `facility.level tag: text`.

Runs inside a host with nothing but the standard library. Others shorten long lines or drop
repeated ones; tests want to see all.
"""

from __future__ import annotations

import os
import socket
import time

# fmt: off
FACILITIES = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]
# fmt: on
KEPT = "/run/auth.log-is-kept"
LEVELS = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]


def line(message: bytes) -> str:
    """Return the log line of one datagram: `<86>Nov 21 07:27:01 sshd[12]: text`."""
    text = message.decode(errors="backslashreplace").rstrip("\0\n").replace("\n", "\\n")
    number, _, rest = text.removeprefix("<").partition(">")
    facility, level = divmod(int(number), 8)
    clock = time.time()
    stamp = time.strftime("%H:%M:%S", time.localtime(clock)) + f".{int(clock % 1 * 1000):03d}"
    return f"{stamp} {FACILITIES[facility]}.{LEVELS[level]} {rest[16:]}"


def like_rsyslog(said: str) -> str:
    """Return a line as Debian's rsyslog writes it."""
    stamp = time.strftime("%b %e %H:%M:%S")
    return f"{stamp} {os.uname().nodename} {said.split(' ', 2)[2]}"


def main() -> None:
    """Write what comes to /var/log/syslog until the host ends.

    A host with the file KEPT has what authentication says in /var/log/auth.log, too.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    with open("/var/log/syslog", "a", buffering=1, encoding="utf-8") as log:
        while True:
            message = sock.recv(1 << 16)
            try:
                said = line(message)
                log.write(said + "\n")
                if " auth" in said[:18] and os.path.exists(KEPT):
                    with open("/var/log/auth.log", "a", encoding="utf-8") as auth_log:
                        auth_log.write(like_rsyslog(said) + "\n")
            except (ValueError, IndexError):
                log.write(f"?.? {message!r}\n")


if __name__ == "__main__":
    main()
