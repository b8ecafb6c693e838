"""auth/slurm: credentials are tokens (JWT, HS256) that the sack socket makes and verifies.

Sources: src/common/sack_api.c, src/plugins/auth/slurm. slurmd (or sackd) listens on the socket and
holds the key; it knows who asks by SO_PEERCRED. A request is u16 version, u32 length from this
field to the end, u32 type, and its body, big-endian; one request per connection. The key is never
read here: what a token says is not looked at before the sack has verified it, not even to say why
it was refused. AuthInfo=ttl= is followed by the sack; nothing of it is in a request.
"""

from __future__ import annotations

import _socket
import errno
from binascii import a2b_base64, b2a_base64
from os.path import exists

from slurm_adopt.slurm.auth.credential import ANY, Credential, CredentialError
from slurm_adopt.slurm.errors import FormatError, PeerError
from slurm_adopt.slurm.stream import BROKEN, CLOSED, SILENT, UNREACHED, ClosedError, Peer, Stream
from slurm_adopt.slurm.versions import AUTH_SLURM, RELEASES
from slurm_adopt.slurm.wire import Reader
from slurm_adopt.slurm.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from slurm_adopt.slurm.config.conf import Conf
    from slurm_adopt.slurm.waiting import Deadline

# Where a sack listens: 25.05+ with the cluster's name; then slurmd or sackd, slurmctld, slurmdbd.
OF_CLUSTER = "/run/slurm-{}/sack.socket"
SOCKETS = (
    "/run/slurm/sack.socket",
    "/run/slurmctld/sack.socket",
    "/run/slurmdbd/sack.socket",
)

# fmt: off
_CREATE, _VERIFY = 64001, 64002  # SACK_CREATE, SACK_VERIFY
_VERSION         = RELEASES[-1].protocol  # of a request; no sack looks at it
_TOKEN_LIMIT     = 1 << 14       # bytes; ours have about 330
_UID_LIMIT       = 1 << 32
_BRACKETS        = 16        # in the claims, which are one object; with `id` there is a list in one
# fmt: on
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

_HINTS = {
    errno.ENOENT: "start slurmd or sackd on this node",
    errno.ECONNREFUSED: "nobody listens on it; restart slurmd or sackd on this node",
    errno.EACCES: "this process may not use it",
    UNREACHED: "slurmd or sackd is stopped or overloaded; restart it on this node",
    SILENT: "slurmd or sackd is stopped or overloaded; restart it on this node",
    CLOSED: "see the log of slurmd or sackd on this node",
    BROKEN: "see the log of slurmd or sackd on this node",
}
_REFUSED = (
    "expired, made with another key, or made for another user: check that the clocks of both hosts "
    "agree, and that slurm.key is the same on both"
)
_DISABLED = "no sack socket: slurm.conf has AuthInfo=disable_sack; remove that, or run sackd"


class Sack:
    """auth/slurm: the plugin as messages name it, and the sack on this node."""

    __slots__ = ("_disabled", "_trusted", "sockets")

    plugin_id = 103  # AUTH_PLUGIN_SLURM, slurm/slurm.h
    plugin_name = "auth/slurm"
    key_name = "slurm.key"
    oldest = AUTH_SLURM

    def __init__(
        self,
        sockets: tuple[str, ...] = SOCKETS,
        trusted: Collection[int] = (0,),
        disabled: bool = False,
    ) -> None:
        """`trusted`: uids that a sack may run as; `disabled`: slurmd was told to make no socket."""
        self.sockets = sockets
        self._trusted = trusted
        self._disabled = disabled

    @classmethod
    def from_conf(cls, conf: Conf) -> Sack:
        """Return the sack that ClusterName, AuthInfo, SlurmUser and SlurmdUser describe."""
        words = [word.strip() for word in conf.get("AuthInfo").lower().split(",")]
        cluster = conf.get("ClusterName")
        names = dict.fromkeys((cluster.lower(), cluster))
        own = (OF_CLUSTER.format(name) for name in names if name and "/" not in name)
        trusted = conf.uids("SlurmdUser") | conf.uids("SlurmUser")
        return cls((*own, *SOCKETS), trusted, "disable_sack" in words)

    def encode(self, payload: bytes, deadline: Deadline, uid: int = ANY) -> str:
        """Return a new token of this process that only `uid` may have verified; PeerError."""
        body = Writer().u32(uid).mem(payload).data()
        with self._asked(_CREATE, body, deadline) as (name, stream):
            size = Reader(stream.receive(4, "length of token"), name).u32("length of token")
            if not 0 < size <= _TOKEN_LIMIT:
                raise FormatError(f"{name}: token is {size} bytes long, not 1 to {_TOKEN_LIMIT}")
            token = stream.receive(size, "token").rstrip(b"\0").decode("latin-1")
        if not _is_token(token):
            raise FormatError(f"{name}: malformed token")
        return token

    def decode(self, credential: str, deadline: Deadline) -> Credential:
        """Return what a token says, once the sack has verified it; CredentialError, PeerError."""
        if not _is_token(credential):
            raise _refused("malformed token")
        body = Writer().string(credential).data()
        with self._asked(_VERIFY, body, deadline) as (name, stream):
            try:
                result = Reader(stream.receive(4, "result"), name).u32("result")
            except ClosedError as error:  # 25.11+ closes where older ones send a number
                if error.received:
                    raise
                result = 1
        if result:
            raise _refused(_REFUSED)
        return _credential(_claims(credential))

    def _asked(self, kind: int, body: bytes, deadline: Deadline) -> _Asked:
        """Connect to the first sack there is and send a request."""
        request = Writer().u16(_VERSION).u32(len(body) + 8).u32(kind).raw(body).data()
        there = [path for path in self.sockets if exists(path)]
        if not there and self._disabled:
            raise PeerError(f"sack at {self.sockets[0]}: {_DISABLED}")
        failure = PeerError("no sack socket")
        try:
            for path in there or self.sockets[:1]:
                try:
                    return _Asked(path, self._trusted, request, deadline)
                except PeerError as error:
                    failure = error
            raise failure
        finally:
            del failure  # it refers to this frame


class _Asked:
    """A sack that has been sent a request; a context manager that closes the connection."""

    __slots__ = ("_name", "_stream")

    def __init__(
        self, path: str, trusted: Collection[int], request: bytes, deadline: Deadline
    ) -> None:
        """Connect and send; PeerError."""
        self._name = f"sack at {path}"
        self._stream = Stream(Peer(self._name, _HINTS), deadline)
        try:
            self._stream.connect(_socket.AF_UNIX, path)
            self._check(self._stream.peer_uid(), trusted)
            self._stream.send(request)
        except BaseException:
            self._stream.close()
            raise

    def _check(self, uid: int, trusted: Collection[int]) -> None:
        if uid not in trusted:
            raise PeerError(f"{self._name}: uid {uid} runs it, not Slurm: ignored")

    def __enter__(self) -> tuple[str, Stream]:
        """Return the sack's name in messages, and the connection."""
        return self._name, self._stream

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._stream.close()


# Tokens


def _is_token(text: str) -> bool:
    """Return whether this is three parts of base64url with dots between them, of bearable size."""
    parts = text.split(".") if len(text) < _TOKEN_LIMIT else []
    return len(parts) == 3 and all(part and _ALPHABET.issuperset(part) for part in parts)


def _claims(token: str) -> dict[str, object]:
    """Return the claims of a token that is verified; CredentialError if they are no object."""
    from json import loads  # 11 ms, in this plugin only

    text = token.split(".")[1].replace("-", "+").replace("_", "/")
    try:
        data = a2b_base64(text + "=" * (-len(text) % 4))
        shallow = data.count(b"{") + data.count(b"[") <= _BRACKETS  # the parser calls itself
        claims = loads(data) if shallow else None
    except Exception:  # noqa: BLE001 - of base64, UTF-8, JSON, a number of too many digits, memory
        claims = None
    if not isinstance(claims, dict):
        raise _refused("its claims are not a JSON object")
    return claims


def _credential(claims: dict[str, object]) -> Credential:
    """Return the credential that verified claims make; CredentialError for one that is amiss."""
    host = claims.get("host")
    if not isinstance(host, str) or not host:
        raise _refused("its claim host is not a name")
    if "gid" in claims:  # not mandatory, as uid is to us
        _number(claims, "gid")
    return Credential(_number(claims, "uid"), _payload(claims), _number(claims, "ruid"))


def _number(claims: dict[str, object], name: str) -> int:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _UID_LIMIT:
        raise _refused(f"its claim {name} is not a uid or gid")
    return value


def _payload(claims: dict[str, object]) -> bytes:
    """Return the payload, base64 in the only way there is to write it; none is b""."""
    text = claims.get("payload", "")
    try:
        if isinstance(text, str):
            payload = a2b_base64(text)
            if b2a_base64(payload, newline=False) == text.encode():
                return payload
    except ValueError:
        pass
    raise _refused("its claim payload is not base64")


def _refused(why: str) -> CredentialError:
    return CredentialError(f"credential refused: {why}", "REFUSED")
