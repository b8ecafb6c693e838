"""What stepds, slurmds, munged and the sack answer."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from sys import byteorder
from typing import Any

from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.auth import sack
from slurm_adopt.slurm.auth.credential import ANY, Credential, CredentialError
from slurm_adopt.slurm.auth.munge import Munge
from slurm_adopt.slurm.auth.sack import Sack
from slurm_adopt.slurm.errors import FormatError, PeerError
from slurm_adopt.slurm.slurmd import body_hash, callerid, message
from slurm_adopt.slurm.slurmd.callerid import Cluster
from slurm_adopt.slurm.stepd import ask_all, stepd
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from slurm_adopt.slurm.stream import Stream
from slurm_adopt.slurm.versions import BY_ID, RELEASES, Release
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.slurm.wire import Reader
from slurm_adopt.slurm.writer import Writer
from tests.fakes import munged, slurmd
from tests.fuzz.given import Given, check_said, folder, instead, nothing_left_open, numbers, put
from tests.fuzz.target import target

LONG = 60.0  # seconds; what comes has come
ME = os.geteuid()
TRUSTED = frozenset({0, ME})
HERE = Connection("127.0.0.1", 50000, "127.0.0.2", 22)
VERSIONS = tuple(release.protocol.to_bytes(4, byteorder) for release in RELEASES)
PROTOCOLS = tuple(release.protocol.to_bytes(2, "big") for release in RELEASES)


@target(
    *VERSIONS, b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xe8\x03\0\0", b"\2\0\0\0", b"\1\0\0\0",
    b"\0\0\2\0", b"/tmp/.Xauthority-h13SXP\0", b"\x18\0\0\0", longest=1024,
)  # fmt: skip
def stepd_conversation(data: bytes) -> None:
    """Whatever a stepd says, in whatever pieces, is taken in its range, and nothing stays open.

    Only a 0 is an adoption. The first two bytes say how large the pieces are, and with how many
    of the last bytes a descriptor comes.
    """
    (piece, descriptors), said = numbers(data, 1, 1)
    given: list[Given] = []

    def new_socket(_: int = 0) -> Given:
        given.append(Given(said, piece % 16, descriptors % 4))
        return given[-1]

    with nothing_left_open(), instead(stepd, "new_socket", new_socket):
        try:
            step = stepd.Stepd(StepSocket("/spool/n1_7.4294967292", 7), TRUSTED, Deadline(LONG))
            with step as one:
                _talk(one, said)
        except PeerError as error:
            check_said(error)
        finally:
            for socket in given:
                socket.close()


def _talk(one: stepd.Stepd, said: bytes) -> None:
    assert one.protocol == int.from_bytes(said[:4], byteorder, signed=True) >= 0
    assert one.uid() == int.from_bytes(said[4:8], byteorder)
    one.add_extern_pid(42)
    assert said[8:12] == bytes(4)
    assert one.state() == int.from_bytes(said[12:16], byteorder, signed=True)
    for kind, _ in one.namespaces():
        assert 0 <= kind < 1 << 32
    for pid in one.pids():
        assert 0 <= pid < 1 << 32
    display = one.x11()
    if display is not None:
        number, path = display
        assert 0 < number <= 65535 - 6000
        assert path.isprintable()
        assert path.isascii()
        assert len(path) < 4096
        assert path.encode() in said


@target(*VERSIONS, b"\xff\xff\xff\xff", b"\xe8\x03\0\0", b"\2\0\0\0", b"\1\0\0\0", longest=64)
def stepds_at_once(data: bytes) -> None:
    """A stepd's answer is what it has itself sent, whole; another's is never taken for it.

    The first two bytes say where the bytes of the second begin, and how large the pieces are.
    """
    (cut, piece), said = numbers(data, 1, 1)
    parts = [said[:cut], said[cut:]]
    steps = [StepSocket(f"/spool/n1_{job}.4294967292", job) for job in (7, 8)]
    waiting = list(parts)
    given: list[Given] = []

    def new_socket(_: int = 0) -> Given:
        given.append(Given(waiting.pop(0), piece % 16))
        return given[-1]

    with nothing_left_open(), instead(ask_all, "new_socket", new_socket):
        try:
            answers, silent = ask_all.ask_all(steps, TRUSTED, Deadline(LONG))
        finally:
            for socket in given:
                socket.close()
    for step, part in zip(steps, parts):
        protocol = int.from_bytes(part[:4], byteorder, signed=True)
        whole = len(part) >= 12 and protocol >= 0
        assert (step in answers) == whole, part
        assert not (step in answers and step in silent)
        if whole:
            one = answers[step]
            assert one.protocol == protocol
            assert one.uid == int.from_bytes(part[4:8], byteorder)
            assert one.state == int.from_bytes(part[8:12], byteorder, signed=True)


# slurmd


class Auth(slurmd.Auth):
    """The readable credentials of the tests; what is none is refused."""

    def decode(self, text: str, deadline: Deadline) -> Credential:
        try:
            found = super().decode(text, deadline)
        except (ValueError, OverflowError):
            raise CredentialError("credential refused: malformed", "BAD_CRED") from None
        return found


@contextmanager
def answering(said: bytes, piece: int = 0) -> Iterator[list[Given]]:
    """Have each connection of a stream lead to a peer that says this."""
    given: list[Given] = []

    def connect(stream: Stream, *_: Any) -> None:
        given.append(Given(said, piece))
        stream._socket = given[-1]

    with instead(Stream, "connect", connect):
        try:
            yield given
        finally:
            for socket in given:
                socket.close()


def asked(said: bytes, release: Release, piece: int) -> int | None:
    """Ask a slurmd that says this which job a connection has; PeerError."""
    place = "127.0.0.1", 6818
    with nothing_left_open(), answering(said, piece):
        return callerid.ask(HERE, place, Cluster(release.protocol, Auth()), Deadline(LONG))


@target(
    *PROTOCOLS, b"\0\0\0\x65", b"\x13\xac", b"\x1f\x41", b"\0\x40", b"HTTP/1.1", b"\x15\x03\x03",
    b"SSH-", b"0/0/02", b"auth/munge\0", b"\0\0\3\xed", b"\0\0\x13\x8b", b"n2\0", longest=512,
)  # fmt: skip
def slurmd_reply(data: bytes) -> None:
    """A job comes only out of a whole reply with root's credential that is bound to its bytes.

    The first byte is the release that is asked, the second how large the pieces are.
    """
    (which, piece), said = numbers(data, 1, 1)
    release = RELEASES[which % len(RELEASES)]
    try:
        job = asked(said, release, piece % 64)
    except PeerError as error:
        check_said(error)
        return
    length = int.from_bytes(said[:4], "big")
    assert length <= len(said) - 4
    reply = _message(said[4 : 4 + length], release)
    assert reply is not None
    credential, body = reply
    uid, restriction, payload = credential.split("/")
    assert int(uid) == 0
    bound = bytes.fromhex(payload)
    assert not bound or int(restriction) == ME
    if len(bound) == 33 and bound[0] == 2:
        assert bound[1:] == body_hash.digest(
            body, callerid.RESPONSE_NETWORK_CALLERID.to_bytes(2, "big")
        )
    assert job is None or job.to_bytes(4, "big") in body


def _message(data: bytes, release: Release) -> tuple[str, bytes] | None:
    """Return credential and body of a reply, read from its end and by fixed places."""
    size = sum(size for _, size in release.header)
    rest = data[size:]
    family = int.from_bytes(data[size - 2 : size], "big")
    if dict(release.header).get("origin_family") and family == 2:
        rest = rest[6:]
    elif dict(release.header).get("origin_family") and family == 10:
        rest = rest[4 + int.from_bytes(rest[:4], "big") + 2 :]
    name = 0 if release.plugin == BY_ID else 4 + int.from_bytes(rest[:4], "big")
    rest = rest[name + 4 :]
    length = int.from_bytes(rest[:4], "big")
    return rest[4 : 3 + length].decode(), rest[4 + length :]


@target(
    b"\0\0\0\1", b"\0\0\0\3n2\0", b"\xff\xff\xff\xfe", b"\xff\xff\xff\xff", b"\0\0\0\0", longest=128
)
def callerid_answer(data: bytes) -> None:
    """Of a reply that is vouched for, the job is the one in it, never 0 or one that is none.

    The first byte is the release; the rest is the body, to which a credential is made.
    """
    (which,), body = numbers(data, 1)
    release = RELEASES[which % len(RELEASES)]
    try:
        job = asked(slurmd.reply(release, body), release, 0)
    except PeerError as error:
        check_said(error)
        return
    at = 8 if len(release.answer) > 2 else 0  # behind sluid, since 25.11
    said = int.from_bytes(body[at : at + 4], "big")
    assert job == (None if said == callerid.NO_VAL else said)
    assert job is None or 0 < job < callerid.NO_VAL
    fixed = sum(size for _, size in release.answer)
    length = int.from_bytes(body[fixed : fixed + 4], "big")
    assert len(body) == fixed + 4 + length


@target(*PROTOCOLS, b"\0\0\0\x65", b"\0\x02", b"\0\x0a", b"\0\x40", b"auth/munge\0", longest=512)
def slurm_message(data: bytes) -> None:
    """A message that can be read gives back the same bytes when its parts are put together."""
    try:
        found = message.unpack(data)
    except FormatError as error:
        check_said(error)
        return
    release = found.release
    size = sum(size for _, size in release.header)
    assert data.endswith(found.body)
    assert found.protocol == int.from_bytes(data[:2], "big")
    assert found.type.to_bytes(2, "big") in data[:size]
    if found.flags & message.NO_AUTH:
        assert found.plugin is None
        assert found.credential is None
        return
    auth = Writer()
    if isinstance(found.plugin, int):
        auth.u32(found.plugin)
        whole = auth.string(found.credential).raw(found.body).data()
        assert data.endswith(whole)
    again = Reader(Writer().string(found.credential).data(), "again")
    assert again.string("credential", message.LIMIT) == found.credential
    again.check_end()
    for form in (*release.request_payloads, *release.reply_payloads):
        assert message.is_bound(message.payload(form, found.type, found.body), found) == (
            form in release.reply_payloads
        )
    assert not message.is_bound(b"\2" + bytes(32), found)


@target(b"\0\0\0\1", b"\0\0\0\0", b"\xff\xff\xff\xff", b"n2\0", b"\1\0\0\0", longest=128)
def packed_fields(data: bytes) -> None:
    """A string that can be read is packed to the same bytes, in either order of bytes."""
    for order in ("big", "little"):
        reader = Reader(data, "fields", order)
        try:
            text = reader.string("text", 64)
            number = reader.int32("number")
            rest = reader.mem("rest", 64)
            reader.check_end()
        except FormatError as error:
            check_said(error)
            continue
        again = Writer(order).string(text).int32(number).mem(rest).data()
        empty = text == ""  # a lone NUL, as Slurm packs an empty string
        assert again == data or empty, again
        assert text is None or "\0" not in text


# munged


@target(
    munged.MAGIC.to_bytes(4, "big"), b"\4\3\0", b"\4\5\0", munged.CREDENTIAL, b"\xff\xff\xff\xff",
    b"\0\0\x13\x89", b"\x0fexpired", b"\0\0\1\x2c", munged.ENCODE_REPLY, munged.DECODE_REPLY,
    longest=512,
)  # fmt: skip
def munge_reply(data: bytes) -> None:
    """A credential is taken only from a whole reply without an error, and what it says is there.

    The first byte says how large the pieces are.
    """
    (piece,), said = numbers(data, 1)
    munge = Munge("/run/munge.socket")
    with nothing_left_open():
        try:
            with answering(said, piece % 32) as given:
                text = munge.encode(b"payload", Deadline(LONG))
            assert given[0].asked.endswith(b"\0\0\0\7payload")
            assert text.startswith("MUNGE:")
            assert text.isascii()
            assert text.isprintable()
            assert " " not in text
            assert text.encode() in said
            assert said[11] == 0
        except PeerError as error:
            check_said(error)
        try:
            with answering(said, piece % 32):
                credential = munge.decode("MUNGE:x:", Deadline(LONG))
        except PeerError as error:
            check_said(error)
            return
    assert said[11] == 0
    assert credential.uid.to_bytes(4, "big") in said
    assert 0 <= credential.uid <= ANY
    assert said[: 11 + int.from_bytes(said[7:11], "big")].endswith(credential.payload)


# sack


@target(
    b"\0\0\0\0", b"\0\0\0\1", "eyJhbGciOiJIUzI1NiJ9.", '"uid":0', '"ruid":4294967295',
    '"host":"n1"', '"payload":"', '"gid":1.5', "{", "}", "[", ".", "=", "true", "null", "1e999",
    "\\ud800",
)  # fmt: skip
def sack_token(data: bytes) -> None:
    """Only a token that the sack has verified says anything, and then what its claims say.

    The first four bytes are the sack's answer, the rest the claims; once more the whole is its
    answer to who asks for a token.
    """
    top = folder("sack_token")
    path = put(f"{top}/sack.socket", b"")
    one = Sack((path,), TRUSTED)
    verdict, claims = data[:4], data[4:]
    token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"
    with nothing_left_open():
        try:
            with answering(data):
                made = one.encode(b"payload", Deadline(LONG))
            assert made.encode() in data
            assert made.count(".") == 2
        except PeerError as error:
            check_said(error)
        try:
            with answering(verdict):
                found = one.decode(token, Deadline(LONG))
        except PeerError as error:
            check_said(error)
            return
    assert verdict == bytes(4)
    said = json.loads(claims)
    assert type(said["uid"]) is int
    assert found.uid == said["uid"]
    assert 0 <= found.uid < 1 << 32
    assert found.uid_restriction == said["ruid"]
    assert 0 <= found.uid_restriction < 1 << 32
    assert base64.b64encode(found.payload).decode() == said.get("payload", "")
    assert said["host"]
    assert sack._is_token(token)
