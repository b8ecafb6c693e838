"""One request to a slurmd over TCP: which version to speak, the deadline, whom to believe.

One request and one reply per connection (src/common/slurm_protocol_api.c). The auth plugin is
passed in: it makes and checks credentials.
"""

from __future__ import annotations

import _socket
import errno
import select
from os import geteuid

from slurm_adopt.slurm import time_limits
from slurm_adopt.slurm.auth.credential import CredentialError
from slurm_adopt.slurm.errors import FormatError, PeerError
from slurm_adopt.slurm.stream import CLOSED, SILENT, UNREACHED, ClosedError, Peer, Stream
from slurm_adopt.slurm.versions import BY_ID, REACH, release_of, to_try

from .message import LIMIT, is_bound, pack, payload, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from slurm_adopt.slurm.auth.credential import Auth
    from slurm_adopt.slurm.versions import Release
    from slurm_adopt.slurm.waiting import Deadline

    from .message import Message

    Request = tuple[int, bytes]  # message type and body

# fmt: off
RESPONSE_SLURM_RC = 8001     # message type; body: int32 error number

CONNECT_SECONDS = time_limits.CONNECTED.last
PATIENCE        = 4          # part of the time after which another version is asked as well
_SHORTEST       = 16         # bytes: the smallest header
_CODE           = 4          # bytes in the body of RESPONSE_SLURM_RC

# slurm/slurm_errno.h: what a slurmd answers instead of serving a request
_ERRORS = {
    1000:  "unexpected message",
    1003:  "communications receive error",
    1005:  "protocol version error",
    1007:  "authentication error; do {key} and clock agree on both nodes?",
    1008:  "insane message length",
    2017:  "invalid job id",
    5003:  "incomplete packet, or its hash is not accepted",
    6000:  "auth credential invalid; do {key} and clock agree on both nodes?",
    13000: "TLS required; this cluster encrypts its RPCs, which is not supported",
}
# fmt: on
_WRONG_HASH = 5003
_OTHER_FORM = (1003, 1005, 1007, _WRONG_HASH)  # errors that another version or payload may cure

# The first bytes of an answer that is no Slurm message
_FOREIGN = (
    (b"HTTP", "answered in HTTP"),  # 25.11+: a version it does not serve is taken for HTTP
    (b"\x15\x03", "answered in TLS; this cluster encrypts its RPCs, which is not supported"),
    (b"\x16\x03", "answered in TLS; this cluster encrypts its RPCs, which is not supported"),
    (b"SSH-", "answered in SSH; is SlurmdPort right?"),
)

_HINTS = {
    errno.ECONNREFUSED: "slurmd does not run there, or on another port",
    errno.EHOSTUNREACH: "there is no route to it, or a firewall rejects it",
    errno.ENETUNREACH: "there is no route to it",
    errno.EADDRNOTAVAIL: "there is no route to it",
    UNREACHED: "the host is down, or a firewall drops it",
    SILENT: "slurmd there, or the daemon that makes its credentials, is stopped or overloaded",
    CLOSED: "its {key} or clock differs, or it runs another release of Slurm",
}
_HINTS_IPV6 = {
    **_HINTS,
    errno.ECONNREFUSED: "slurmd does not run there, or without EnableIPv6, or on another port",
}


class RefusedError(PeerError):
    """A slurmd does not serve a request in this form; another form may do.

    `code` is its error number, 0 if it closed the connection or answered in HTTP; `protocol` the
    version in the header of its answer.
    """

    def __init__(self, message: str, code: int = 0, protocol: int = 0) -> None:
        """`message`: one line for the log."""
        super().__init__(message)
        self.code = code
        self.protocol = protocol


# Attempts that have no answer yet


class _Asked:
    """An attempt that was sent; `refusal`: that the peer closed while it was being sent."""

    __slots__ = ("attempt", "refusal", "stream")

    def __init__(self, stream: Stream, attempt: tuple[Release, int]) -> None:
        self.stream = stream
        self.attempt = attempt
        self.refusal: RefusedError | None = None


class _Waiting:
    """The open attempts; a context manager that closes them all."""

    __slots__ = ("_patience", "asked", "deadline")

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self._patience = deadline.left() / PATIENCE
        self.asked: list[_Asked] = []

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        for asked in self.asked:
            asked.stream.close()

    def add(self, asked: _Asked) -> None:
        self.asked.append(asked)

    def first(self, last: bool) -> _Asked | None:
        """Return, and forget, the first that is answered; None if time runs out before.

        That is all the time if this is the `last` that can be done, else a part of it.
        """
        left = self.deadline.left() if last else self.deadline.within(self._patience).left()
        poll = select.poll()
        by_fd = {asked.stream.fileno(): asked for asked in self.asked}
        for fd, asked in by_fd.items():
            poll.register(fd, select.POLLIN)
            if asked.refusal is not None:
                left = 0
        ready = [by_fd[fd] for fd, _ in poll.poll(left * 1000)]
        ready += [asked for asked in self.asked if asked.refusal is not None]
        if not ready:
            return None
        self.asked.remove(ready[0])
        return ready[0]


# Which version to speak


class Plan:
    """What to try next with a slurmd of unknown release: a release and a payload form."""

    __slots__ = ("_left", "tried")

    def __init__(self, protocol: int, oldest: int = 0) -> None:
        """Start with the release of `protocol`, then those that may serve it, from `oldest` on."""
        self._left = [
            (release, release.request_payloads[0])
            for release in to_try(protocol)
            if release.protocol >= oldest
        ]
        self.tried: list[tuple[Release, int]] = []

    def take(self) -> tuple[Release, int] | None:
        """Return the next attempt, None if there is none left."""
        if not self._left:
            return None
        self.tried.append(self._left.pop(0))
        return self.tried[-1]

    def learn(self, attempt: tuple[Release, int], refusal: RefusedError) -> None:
        """Change the plan after the refusal of an attempt."""
        release, form = attempt
        if refusal.code == _WRONG_HASH:
            forms = release.request_payloads
            self._left = [(release, other) for other in forms[forms.index(form) + 1 :]][:1]
        elif refusal.code and refusal.protocol == release.protocol:
            self._left = []  # it does serve this version: the credential is what it refuses
        elif refusal.code:
            self._left = self._named(refusal.protocol) or self._left

    def stop(self) -> None:
        """Plan nothing more."""
        self._left = []

    def _named(self, protocol: int) -> list[tuple[Release, int]]:
        """Return the attempt with the version a slurmd named, unless it has been made.

        The name is not authenticated: an older one counts only if it is in the plan, lest anybody
        lead us to formats that are weaker than were meant.
        """
        release = release_of(protocol)
        if release is None or release in [tried for tried, _ in self.tried]:
            return []
        planned = release in [left for left, _ in self._left]
        newer = protocol > self.tried[0][0].protocol
        return [(release, release.request_payloads[0])] if planned or newer else []

    def __str__(self) -> str:
        """List what was tried, for the log."""
        return ", ".join(release.name for release, _ in self.tried)


# One request


class Slurmd:
    """A slurmd at an address; its answers are trusted when root or SlurmdUser vouches for them."""

    __slots__ = ("_address", "_auth", "_family", "_peer", "_trusted")

    def __init__(
        self, family: int, host: str, port: int, auth: Auth, trusted: Collection[int] = (0,)
    ) -> None:
        """`host`: numeric address; `trusted`: uids that a reply's credential may be from."""
        self._family = family
        self._address = (host, port)
        self._auth = auth
        self._trusted = trusted
        ipv6 = family == _socket.AF_INET6
        hints = _HINTS_IPV6 if ipv6 else _HINTS
        named = {key: hint.format(key=auth.key_name) for key, hint in hints.items()}
        self._peer = Peer(f"slurmd at {f'[{host}]' if ipv6 else host}:{port}", named)

    def call(self, kind: int, body: bytes, protocol: int, deadline: Deadline) -> Message:
        """Send a request and return the checked reply; PeerError with one line on what is wrong.

        `protocol` is the number to start with. Another is tried when slurmd names it, or refuses in
        a way that may be about the version: it closes (20.11.9 to 24.11, 26.05), answers in HTTP
        (25.11+) or with error 1003, 1005 or 1007. Silence was never about the version on any of the
        ten releases looked at, where an answer took at most 11 ms; so after a part of the time
        another version is asked as well, and the silent connections stay open: the first answer on
        any of them counts. Every attempt is a new connection with a new credential; the deadline
        covers all of them.
        """
        plan = Plan(protocol, self._auth.oldest)
        with _Waiting(deadline) as waiting:
            try:
                return self._call(plan, waiting, (kind, body))
            except RefusedError as error:
                raise PeerError(f"{error}; asked as Slurm {plan}") from None

    def _call(self, plan: Plan, waiting: _Waiting, request: Request) -> Message:
        refusal = self._unanswered()
        try:
            while (attempt := plan.take()) is not None or waiting.asked:
                if attempt is not None:
                    self._try(attempt, plan, waiting, request)
                if (answered := waiting.first(attempt is None)) is None:
                    if attempt is None:
                        break
                    continue
                try:
                    return self._reply(answered, waiting.deadline)
                except RefusedError as error:
                    refusal = error
                    plan.learn(answered.attempt, error)
                    if not waiting.deadline.left():
                        break
            # What is said is how the first attempt went, in the version that this cluster most
            # likely runs.
            silent = plan.tried[0] in [asked.attempt for asked in waiting.asked]
            raise self._unanswered() if silent else refusal
        finally:
            del refusal  # it refers to this frame

    def _try(
        self, attempt: tuple[Release, int], plan: Plan, waiting: _Waiting, request: Request
    ) -> None:
        """Make an attempt; one that fails beside others that wait is the last."""
        if len(waiting.asked) >= REACH:
            plan.stop()
        try:
            waiting.add(self._ask(attempt, request, waiting.deadline))
        except PeerError:
            if not waiting.asked:
                raise
            plan.stop()

    def error(self, what: str) -> PeerError:
        """Return an error that names this slurmd."""
        return PeerError(f"{self._peer.name}: {what}")

    def _unanswered(self) -> RefusedError:
        return RefusedError(self._peer.sentence("no reply within the time limit", SILENT))

    def _ask(self, attempt: tuple[Release, int], request: Request, deadline: Deadline) -> _Asked:
        """Send a request on a new connection; PeerError if that fails."""
        (release, form), (kind, body) = attempt, request
        asked = _Asked(Stream(self._peer, deadline), attempt)
        try:
            asked.stream.connect(self._family, self._address, CONNECT_SECONDS)
            credential = self._auth.encode(payload(form, kind, body), deadline)
            try:
                asked.stream.send(pack(release, kind, body, self._plugin(release), credential))
            except ClosedError as error:
                asked.refusal = RefusedError(str(error))
        except BaseException:
            asked.stream.close()
            raise
        return asked

    def _reply(self, asked: _Asked, deadline: Deadline) -> Message:
        """Return the reply to an attempt; RefusedError if asking otherwise may help."""
        with asked.stream as stream:
            if asked.refusal is not None:
                raise asked.refusal
            try:
                start = stream.receive(4, "reply")
            except ClosedError as error:
                raise (PeerError if error.received else RefusedError)(str(error)) from None
            reply = self._unpack(stream.receive(self._length(start), "reply"))
        if reply.type == RESPONSE_SLURM_RC:
            raise self._refused(reply)
        self._check(reply, asked.attempt[0], deadline)
        return reply

    def _plugin(self, release: Release) -> int | str:
        return self._auth.plugin_id if release.plugin == BY_ID else self._auth.plugin_name

    def _length(self, start: bytes) -> int:
        """Return the length of the message that begins with these 4 bytes."""
        for prefix, what in _FOREIGN:
            if start.startswith(prefix):
                raise (RefusedError if prefix == b"HTTP" else PeerError)(
                    f"{self._peer.name}: {what}"
                )
        length = int.from_bytes(start, "big")
        if not _SHORTEST <= length <= LIMIT:
            raise FormatError(
                f"{self._peer.name}: length of reply is {length}, not {_SHORTEST} to {LIMIT}"
            )
        return length

    def _unpack(self, data: bytes) -> Message:
        try:
            return unpack(data)
        except FormatError as error:
            raise FormatError(f"{self._peer.name}: {error}") from None

    def _refused(self, reply: Message) -> PeerError:
        """Return what a RESPONSE_SLURM_RC means; its credential, if any, is of no interest."""
        if len(reply.body) != _CODE:
            return self.error(f"return code of reply has {len(reply.body)} bytes, not {_CODE}")
        code = int.from_bytes(reply.body, "big", signed=True)
        meaning = _ERRORS.get(code, "unknown").format(key=self._auth.key_name)
        message = f"{self._peer.name}: answered error {code}: {meaning}"
        if code in _OTHER_FORM:
            return RefusedError(message, code, reply.protocol)
        return PeerError(message)

    def _check(self, reply: Message, release: Release, deadline: Deadline) -> None:
        """Believe a reply only with a trusted uid's credential that is bound to it; PeerError."""
        if reply.protocol != release.protocol:
            raise self.error(f"version of reply is {reply.protocol}, not {release.protocol}")
        if reply.plugin != self._plugin(release) or reply.credential is None:
            raise self.error(f"reply has no credential of {self._auth.plugin_name}")
        try:
            credential = self._auth.decode(reply.credential, deadline)
        except CredentialError as error:
            raise self.error(f"reply: {error}") from None
        if credential.uid not in self._trusted:
            raise self.error(f"reply is from uid {credential.uid}, not from root or SlurmdUser")
        if not is_bound(credential.payload, reply):
            raise self.error("the reply's credential is for another message")
        if credential.payload and credential.uid_restriction != geteuid():
            raise self.error(f"the reply's credential is for uid {credential.uid_restriction}")
