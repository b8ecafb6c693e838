"""journald's sockets for one test: what comes is written as `journalctl -o json` prints it.

Started as `python3 -m tests.cluster.standins.journald FILE`. It takes records in journald's own
protocol, and syslog's lines. Of each it says who has sent it, as the kernel tells it. With `--deaf`
nobody reads what comes in the first.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import sys
import time

from tests.fakes.journald import fields_of

PLACE = "/run/systemd/journal"
SYSLOG = re.compile(r"<(\d+)>\w{3} [ \d]\d [\d:]{8} ([^\[]+)\[(\d+)\]: (.*)", re.DOTALL)


def of_syslog(text: str) -> dict[str, str]:
    """Return the fields that journald makes of a line."""
    found = SYSLOG.fullmatch(text)
    if not found:
        return {"MESSAGE": text}
    facility, severity = divmod(int(found[1]), 8)
    return {
        "PRIORITY": str(severity), "SYSLOG_FACILITY": str(facility), "SYSLOG_IDENTIFIER": found[2],
        "SYSLOG_PID": found[3], "MESSAGE": found[4],
    }  # fmt: skip


def record(data: bytes, native: bool, sender: tuple[int, int, int]) -> dict[str, str]:
    """Return one record; fields with _ in front are the kernel's alone."""
    sent = fields_of(data) if native else of_syslog(data.decode(errors="replace"))
    pid, uid, _ = sender
    return {
        **{name: value for name, value in sent.items() if name[0] != "_"},
        "_PID": str(pid),
        "_UID": str(uid),
        "_TRANSPORT": "journal" if native else "syslog",
        "__REALTIME_TIMESTAMP": str(int(time.time() * 1e6)),
    }


def listen(path: str) -> socket.socket:
    """Return a socket that tells who sends."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    listener.bind(path)
    os.chmod(path, 0o666)
    return listener


def main() -> None:
    """Write records until it is ended."""
    os.makedirs(PLACE, exist_ok=True)
    syslog, native = (listen(f"{PLACE}/{name}") for name in ("dev-log", "socket"))
    read = [syslog] if "--deaf" in sys.argv else [syslog, native]
    with open(sys.argv[1], "a", buffering=1, encoding="ascii") as file:
        while True:
            for ready in select.select(read, [], [])[0]:
                data, control, _, _ = ready.recvmsg(1 << 16, socket.CMSG_SPACE(12))
                sender = struct.unpack("3i", control[0][2])
                file.write(json.dumps(record(data, ready is native, sender)) + "\n")


if __name__ == "__main__":
    main()
