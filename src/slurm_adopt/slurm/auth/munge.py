"""munged's unix socket: make and check MUNGE credentials, without libmunge.

Written after the message format of munge's src/libcommon/m_msg.c: version 4, unchanged from munge
0.5 to 0.5.18. A message is a header of 11 bytes (u32 magic, u8 version, u8 type, u8 retry, u32
length of the rest) and its body, all big-endian; one request and one reply per connection. munged
knows who asks from the socket (SO_PEERCRED). libmunge itself is of no use here: it would wait up to
5 times 2 s for a munged that is stopped.
"""

from __future__ import annotations

import _socket
import errno
import os

from slurm_adopt.slurm.auth.credential import ANY, Credential, CredentialError
from slurm_adopt.slurm.errors import FormatError
from slurm_adopt.slurm.stream import BROKEN, CLOSED, SILENT, UNREACHED, Peer, Stream
from slurm_adopt.slurm.wire import Reader
from slurm_adopt.slurm.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.waiting import Deadline

SOCKETS = ("/run/munge/munge.socket.2", "/var/run/munge/munge.socket.2")  # the usual places

# fmt: off
_MAGIC, _VERSION = 0x00606D4B, 4
_ENCODE, _ENCODED, _DECODE, _DECODED = 2, 3, 4, 5  # message types
_HEADER = 11             # bytes
_DEFAULT = 1             # cipher, MAC and compression as munged is set up
_REPLY_LIMIT = 1 << 17   # bytes; ours hold less than 1 KiB, a foreign credential at most 64 KiB

# munge_err_t: name without EMUNGE_, and what it means for the administrator.
_STATUS = {
    1:  ("SNAFU",             "internal error of munged"),
    2:  ("BAD_ARG",           "invalid argument"),
    3:  ("BAD_LENGTH",        "too long"),
    4:  ("OVERFLOW",          "too long"),
    5:  ("NO_MEMORY",         "munged is out of memory"),
    6:  ("SOCKET",            "munged had a socket error"),
    7:  ("TIMEOUT",           "munged timed out"),
    8:  ("BAD_CRED",          "not a munge credential"),
    9:  ("BAD_VERSION",       "made by a munge of another version"),
    10: ("BAD_CIPHER",        "made with a cipher this munged does not have"),
    11: ("BAD_MAC",           "made with a MAC this munged does not have"),
    12: ("BAD_ZIP",           "made with a compression this munged does not have"),
    13: ("BAD_REALM",         "made for another realm"),
    14: ("CRED_INVALID",      "made with another key: munge.key differs between the hosts"),
    15: ("CRED_EXPIRED",      "expired: the clocks of the hosts differ"),
    16: ("CRED_REWOUND",      "made in the future: the clocks of the hosts differ"),
    17: ("CRED_REPLAYED",     "used before"),
    18: ("CRED_UNAUTHORIZED", "made for another user"),
}
# fmt: on

_HINTS = {
    errno.ENOENT: "start munge on this node, or set AuthInfo=socket= in slurm.conf",
    errno.ECONNREFUSED: "nobody listens on it; restart munge on this node",
    errno.EACCES: "this process may not use it",
    errno.ENOTSOCK: "AuthInfo=socket= in slurm.conf names no socket",
    UNREACHED: "munged is stopped or overloaded; restart munge on this node",
    SILENT: "munged is stopped or overloaded; restart munge on this node",
    CLOSED: "see munged's log on this node",
    BROKEN: "see munged's log on this node",
}


class Munge:
    """auth/munge: the plugin as messages name it, and munged on this node."""

    __slots__ = ("_peer", "socket", "ttl")

    plugin_id = 101  # AUTH_PLUGIN_MUNGE, slurm/slurm.h
    plugin_name = "auth/munge"
    key_name = "munge key"
    oldest = 0

    def __init__(self, socket: str = "", ttl: int = 0) -> None:
        """`socket`: "" for the usual place; `ttl`: seconds a credential is good for, 0 as usual."""
        self.socket = socket or _usual_socket()
        self.ttl = ttl
        self._peer = Peer(f"munged at {self.socket}", _HINTS)

    @classmethod
    def from_auth_info(cls, auth_info: str) -> Munge:
        """Return the munge that AuthInfo of slurm.conf describes.

        `socket=PATH` and `ttl=SECONDS` separated by commas; a value without any `=` is a path
        (src/common/slurm_protocol_api.c: slurm_auth_opts_to_socket, slurm_get_auth_ttl).
        """
        if "=" not in auth_info:
            return cls(auth_info.strip())
        words = dict(word.strip().partition("=")[::2] for word in auth_info.split(","))
        ttl = words.get("ttl", "")
        seconds = int(ttl[:9]) if ttl.isascii() and ttl.isdecimal() else 0
        return cls(words.get("socket", ""), seconds)

    def encode(self, payload: bytes, deadline: Deadline, uid: int = ANY) -> str:
        """Return a new credential of this process that only `uid` may decode; PeerError."""
        request = Writer().raw(bytes((_DEFAULT, _DEFAULT, _DEFAULT, 0)))  # no realm
        request.u32(self.ttl).u32(uid).u32(ANY).mem(payload)
        reply = self._ask(_ENCODE, request.data(), _ENCODED, deadline)
        _check_status(reply, f"{self._peer.name} cannot make a credential")
        text = reply.mem("credential", _REPLY_LIMIT)
        reply.check_end()
        return self._credential(text)

    def decode(self, credential: str, deadline: Deadline) -> Credential:
        """Return what a credential says; CredentialError if it is not good, PeerError."""
        request = Writer().mem(credential.encode("ascii", "replace") + b"\0")
        reply = self._ask(_DECODE, request.data(), _DECODED, deadline)
        try:
            _check_status(reply, "credential refused")
        except CredentialError as error:
            raise _with_times(error, reply) from None
        return _decoded(reply)[0]

    def _ask(self, kind: int, body: bytes, wanted: int, deadline: Deadline) -> Reader:
        """Send one request; return the body of the reply."""
        head = Writer().u32(_MAGIC).raw(bytes((_VERSION, kind, 0))).u32(len(body))
        with Stream(self._peer, deadline) as stream:
            stream.connect(_socket.AF_UNIX, self.socket)
            stream.send(head.raw(body).data())
            size = self._size(stream.receive(_HEADER, "reply header"), wanted)
            return Reader(stream.receive(size, "reply"), self._peer.name)

    def _size(self, header: bytes, wanted: int) -> int:
        """Return the length of a reply's body; FormatError if this is not the wanted reply."""
        reader = Reader(header, self._peer.name)
        for field, size, value in (
            ("magic", 4, _MAGIC),
            ("version", 1, _VERSION),
            ("type", 1, wanted),
        ):
            if (found := reader.uint(size, field)) != value:
                raise self._wrong(f"{field} is {found}, not {value}: is this munged?")
        reader.uint(1, "retry")
        length = reader.u32("length")
        if length > _REPLY_LIMIT:
            raise self._wrong(f"length is {length} bytes, the limit is {_REPLY_LIMIT}")
        return length

    def _credential(self, data: bytes) -> str:
        """Return a credential as text without its NUL; FormatError if it cannot be one."""
        text = data.rstrip(b"\0\n").decode("latin-1")
        if not (text.startswith("MUNGE:") and text.isascii() and text.isprintable()) or " " in text:
            raise self._wrong("malformed credential")
        return text

    def _wrong(self, what: str) -> FormatError:
        return FormatError(f"{self._peer.name}: {what}")


def _usual_socket() -> str:
    """Return the first usual place where there is a socket, or just the first."""
    return next((path for path in SOCKETS if os.path.exists(path)), SOCKETS[0])


def _check_status(reply: Reader, what: str) -> None:
    """Take status and its text off the front; CredentialError if it is not 0."""
    status = reply.uint(1, "error number")
    text = reply.take(reply.uint(1, "length of error text"), "error text")
    if not status:
        return
    name, meaning = _STATUS.get(status, (f"error {status}", _printable(text)))
    raise CredentialError(f"{what}: {meaning} (munge: {_printable(text) or name})", name)


def _printable(text: bytes) -> str:
    """Return munged's words for the log: one line of ASCII."""
    return "".join(letter for letter in text.decode("ascii", "ignore") if letter.isprintable())


def _decoded(reply: Reader) -> tuple[Credential, int]:
    """Read the rest of a decode reply: the credential, and how many seconds ago it was made."""
    for field in ("cipher", "MAC", "compression"):
        reply.uint(1, field)
    reply.take(reply.uint(1, "length of realm"), "realm")
    reply.u32("ttl")
    reply.take(reply.uint(1, "length of address"), "address")
    made, now = reply.u32("encode time"), reply.u32("decode time")
    uid = reply.u32("uid")
    reply.u32("gid")
    uid_restriction = reply.u32("uid restriction")
    reply.u32("gid restriction")
    payload = reply.mem("payload", _REPLY_LIMIT)
    reply.check_end()
    return Credential(uid, payload, uid_restriction), now - made


def _with_times(error: CredentialError, reply: Reader) -> CredentialError:
    """Add how far the clocks are apart, where munged says it."""
    if error.name not in ("CRED_EXPIRED", "CRED_REWOUND"):
        return error
    age = _decoded(reply)[1]
    made = f"{age} s ago" if age >= 0 else f"{-age} s in the future"
    return CredentialError(f"{error}; made {made} by this node's clock", error.name)
