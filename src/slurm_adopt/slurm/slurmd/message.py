"""Messages between Slurm's daemons as bytes: header, auth section, body, payload of the credential.

A message is a u32 length, a header, an auth section and a body, all big-endian
(src/common/slurm_protocol_pack.c). What differs between releases is in versions.py. No I/O here.
"""

from __future__ import annotations

import _socket

from slurm_adopt.slurm.errors import FormatError
from slurm_adopt.slurm.versions import BY_ID, EMPTY, SHA3, TYPE, layout_of
from slurm_adopt.slurm.wire import Reader
from slurm_adopt.slurm.writer import Writer

from . import body_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.versions import Layout, Release

NO_AUTH = 0x0040  # header flag: there is no auth section (23.02+)
LIMIT = 64 << 10  # bytes in a reply


class Message:
    """One message as received."""

    __slots__ = ("body", "credential", "flags", "plugin", "protocol", "release", "type")

    def __init__(self, protocol: int, release: Release, flags: int, kind: int) -> None:
        """`protocol`: number in the header; `release`: the row its formats are read by."""
        self.protocol = protocol
        self.release = release
        self.flags = flags
        self.type = kind
        self.plugin: int | str | None = None
        self.credential: str | None = None
        self.body = b""


def pack(release: Release, kind: int, body: bytes, plugin: int | str, credential: str) -> bytes:
    """Return a simple request as on the wire, with its length in front."""
    values = {"version": release.protocol, "type": kind, "body_length": len(body)}
    message = Writer()
    for field, size in release.header:
        message.uint(size, values.get(field, 0))
    if isinstance(plugin, int):
        message.u32(plugin)
    else:
        message.string(plugin).u32(0)  # version of the plugin, ignored
    message.string(credential).raw(body)
    return Writer().mem(message.data()).data()


def unpack(data: bytes) -> Message:
    """Read a message without its length, by the layout of its own version; FormatError."""
    protocol = Reader(data, "reply").u16("version")
    release = layout_of(protocol)
    if release is None:
        raise FormatError(f"reply: version {protocol} belongs to no known release")
    reader = Reader(data, "reply")
    header = read_layout(reader, release.header)
    for field in ("forwards", "returns"):
        if header[field]:
            raise FormatError(f"reply: {field} is {header[field]}, not 0")
    _skip_origin(reader, header.get("origin_family", 0))
    message = Message(protocol, release, header["flags"], header["type"])
    if not message.flags & NO_AUTH:
        _read_auth(reader, message)
    if header["body_length"] != reader.left():
        raise FormatError(f"reply: body_length is {header['body_length']}, not {reader.left()}")
    message.body = reader.take(reader.left(), "body")
    return message


def read_layout(reader: Reader, layout: Layout) -> dict[str, int]:
    """Take the fields of a layout off the front."""
    return {field: reader.uint(size, field) for field, size in layout}


def _skip_origin(reader: Reader, family: int) -> None:
    """Take the rest of orig_addr (slurm_pack_addr): IPv4 and port, IPv6 and port, or nothing."""
    if family == _socket.AF_INET:
        reader.take(6, "origin address")
    elif family == _socket.AF_INET6:
        reader.mem("origin address", 16)
        reader.u16("origin port")


def _read_auth(reader: Reader, message: Message) -> None:
    if message.release.plugin == BY_ID:
        message.plugin = reader.u32("auth plugin id")
    else:
        message.plugin = reader.string("auth plugin type", 64)
        reader.u32("auth plugin version")
    message.credential = reader.string("credential", LIMIT)


def payload(form: int, kind: int, body: bytes) -> bytes:
    """Return a credential's payload: EMPTY, TYPE (byte order of ≤ 21.08 on x86 and arm) or K12."""
    if form == EMPTY:
        return b""
    if form == TYPE:
        return bytes((TYPE,)) + kind.to_bytes(2, "little")
    return bytes((form,)) + _hash(form, kind, body)


def _hash(form: int, kind: int, body: bytes) -> bytes:
    """Return the digest over a body and its message type; FormatError for one too long."""
    suffix = kind.to_bytes(2, "big")
    if form == SHA3:
        from hashlib import sha3_256  # only where HashPlugin=hash/sha3 is set

        return sha3_256(body + suffix).digest()
    if len(body) > body_hash.CHUNK - 4:
        raise FormatError(f"reply: body of {len(body)} bytes is too long to be checked")
    return body_hash.digest(body, suffix)


def is_bound(found: bytes, message: Message) -> bool:
    """Return whether a credential's payload belongs to this message, as its release has it."""
    form = found[0] if found else EMPTY
    if form not in message.release.reply_payloads:
        return False
    if form == TYPE:
        return found[1:] in (message.type.to_bytes(2, "little"), message.type.to_bytes(2, "big"))
    return found == payload(form, message.type, message.body)
