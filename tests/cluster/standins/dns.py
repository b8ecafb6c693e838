"""A DNS server for one test: each name it knows is an alias of another, which has an address.

Started as `python3 -m tests.cluster.standins.dns NAME=CANONICAL:ADDRESS...`; everything else does
not exist. It listens on 127.0.0.1, port 53. With `--silent` it answers nothing.
"""

from __future__ import annotations

import socket
import struct
import sys

A, CNAME = 1, 5
NO_SUCH_NAME = 3


def encoded(name: str) -> bytes:
    """Return a name as the DNS writes it."""
    parts = [part.encode() for part in name.split(".") if part]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def reply(question: bytes, known: dict[str, tuple[str, str]]) -> bytes:
    """Answer a query of one question."""
    at, parts = 12, []
    while length := question[at]:
        parts.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    kind = struct.unpack(">H", question[at + 1 : at + 3])[0]
    asked = question[12 : at + 5]
    found = known.get(".".join(parts).lower())
    answers = []
    if found:
        canonical, address = found
        alias = encoded(canonical)
        answers.append(_record(encoded(".".join(parts)), CNAME, alias))
        if kind == A:
            answers.append(_record(alias, A, socket.inet_aton(address)))
    code = 0 if found else NO_SUCH_NAME
    head = struct.pack(">HHHHH", 0x8180 | code, 1, len(answers), 0, 0)
    return question[:2] + head + asked + b"".join(answers)


def _record(name: bytes, kind: int, data: bytes) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 0, len(data)) + data


def main() -> None:
    """Answer until it is ended."""
    rows = (word.partition("=") for word in sys.argv[1:])
    known = {name: (to.partition(":")[0], to.partition(":")[2]) for name, _, to in rows}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        while True:
            question, client = server.recvfrom(512)
            if "--silent" not in known:
                server.sendto(reply(question, known), client)


if __name__ == "__main__":
    main()
