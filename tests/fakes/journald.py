"""journald's own protocol, read: the fields of a datagram."""

from __future__ import annotations


def fields_of(datagram: bytes) -> dict[str, str]:
    """Return the fields by name; ValueError for what journald would not take."""
    found: dict[str, str] = {}
    while datagram:
        name, newline, rest = datagram.partition(b"\n")
        if not newline:
            raise ValueError(datagram)
        if b"=" in name:
            name, _, value = name.partition(b"=")
            datagram = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            value, end, datagram = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            if end != b"\n":
                raise ValueError(rest)
        key = name.decode("ascii")
        if not key or not set(key) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") or key in found:
            raise ValueError(name)
        found[key] = value.decode()
    return found
