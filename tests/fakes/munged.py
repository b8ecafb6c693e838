"""What a munged answers, as bytes, for a scripted peer."""

from __future__ import annotations

from slurm_adopt.slurm.auth.credential import ANY

HEADER = 11

MAGIC = 0x00606D4B

ENCODED, DECODED = 3, 5

CREDENTIAL = b"MUNGE:AwQFAAA=:"


def reply(
    kind: int, body: bytes, length: int | None = None, magic: int = MAGIC, version: int = 4
) -> bytes:
    """Return a message of munged."""
    size = len(body) if length is None else length
    return b"%b%c%c\0%b" % (magic.to_bytes(4, "big"), version, kind, size.to_bytes(4, "big")) + body


def u32(*values: int) -> bytes:
    """Pack big-endian integers."""
    return b"".join(value.to_bytes(4, "big") for value in values)


def encoded(credential: bytes = CREDENTIAL, status: int = 0, text: bytes = b"") -> bytes:
    """Return the body of an encode reply."""
    return bytes((status, len(text))) + text + u32(len(credential)) + credential


def decoded(
    payload: bytes = b"\2abc", status: int = 0, text: bytes = b"", age: int = 0, tail: bytes = b""
) -> bytes:
    """Return the body of a decode reply: uid 5001, gid 5002, for uid 0."""
    now = 1_700_000_000
    head = bytes((status, len(text))) + text + b"\4\5\0\0" + u32(300) + b"\4\x7f\0\0\1"
    who = u32(now - age, now, 5001, 5002, 0, ANY)
    return head + who + u32(len(payload)) + payload + tail


ENCODE_REPLY = reply(ENCODED, encoded())

DECODE_REPLY = reply(DECODED, decoded())
