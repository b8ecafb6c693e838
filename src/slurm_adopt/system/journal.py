"""One record in journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram of fields.

It is imported where /dev/log is journald's socket, see log.py. Facility, severity and identifier
are those of the line that would go to /dev/log, so that what journald forwards to a syslog daemon
is that line.
"""

from __future__ import annotations

SOCKET = "/run/systemd/journal/socket"
LIMIT = 1024  # characters of a value: a line is not cut a second time


def record(severity: int, facility: int, ident: str, fields: dict[str, str]) -> bytes:
    """Return the datagram. `ident`: program and pid, as in `sshd[42]`."""
    program, _, pid = ident.rstrip("]").rpartition("[")
    whole = {
        "PRIORITY": str(severity),
        "SYSLOG_FACILITY": str(facility),
        "SYSLOG_IDENTIFIER": program,
        "SYSLOG_PID": pid,
        **fields,
    }
    return b"".join(_field(name, value[:LIMIT]) for name, value in whole.items())


def _field(name: str, value: str) -> bytes:
    """Return one field: NAME=value, or with a newline in it the name, the length and the value."""
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode("ascii"), data)
    return b"%s\n%s%s\n" % (name.encode("ascii"), len(data).to_bytes(8, "little"), data)
