"""The client of munged: against a scripted munged that misbehaves, and against a real one."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.slurm.auth.credential import ANY, CredentialError
from slurm_adopt.slurm.auth.munge import SOCKETS, Munge
from slurm_adopt.slurm.errors import FormatError, PeerError
from slurm_adopt.slurm.waiting import Deadline
from tests.cluster.harness import munged
from tests.fakes.munged import (
    CREDENTIAL,
    DECODE_REPLY,
    DECODED,
    ENCODE_REPLY,
    ENCODED,
    HEADER,
    decoded,
    encoded,
    reply,
    u32,
)
from tests.fakes.peers import Peer, Script, after, never, no_descriptor_left, slowly, takes_at_most

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 0.15  # seconds: a deadline for what will not come
LONG = 30.0  # seconds: a deadline for what comes at once
SLACK = 10.0  # seconds that a machine may be slow


@pytest.fixture
def path() -> Iterator[str]:
    """Return a path for a socket, short enough for one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield f"{folder}/munge.socket.2"


def encode(path: str, script: Script, seconds: float = LONG) -> str:
    """Ask a scripted munged for a credential."""
    with no_descriptor_left(), Peer(script, path=path, prefix=HEADER):
        return Munge(path).encode(b"payload", Deadline(seconds))


def decode(path: str, script: Script) -> object:
    """Let a scripted munged decode a credential."""
    with no_descriptor_left(), Peer(script, path=path, prefix=HEADER):
        return Munge(path).decode("MUNGE:x:", Deadline(LONG))


# What goes over the socket


def test_encode_request(path: str) -> None:
    """The bytes of an encode request, and the credential without its NUL."""
    with Peer(reply(ENCODED, encoded(CREDENTIAL + b"\0")), path=path, prefix=HEADER) as peer:
        assert Munge(path, ttl=7).encode(b"ab", Deadline(LONG), uid=5001) == CREDENTIAL.decode()
    body = b"\1\1\1\0" + u32(7, 5001, ANY, 2) + b"ab"
    assert peer.received == [reply(2, body)]


def test_decode_request(path: str) -> None:
    """The bytes of a decode request, and all that a reply says."""
    with Peer(DECODE_REPLY, path=path, prefix=HEADER) as peer:
        found = Munge(path).decode("MUNGE:x:", Deadline(LONG))
    assert peer.received == [reply(4, u32(9) + b"MUNGE:x:\0")]
    assert (found.uid, found.payload, found.uid_restriction) == (5001, b"\2abc", 0)


def test_reply_in_pieces(path: str) -> None:
    """A reply may come byte by byte, as long as it comes in time."""
    assert encode(path, slowly(ENCODE_REPLY, 0.001)) == CREDENTIAL.decode()


@pytest.mark.parametrize(
    ("auth_info", "socket_path", "ttl"),
    [
        ("", SOCKETS[0], 0),
        ("/run/other", "/run/other", 0),
        ("socket=/run/other", "/run/other", 0),
        ("socket=/run/other,ttl=60", "/run/other", 60),
        ("ttl=60", SOCKETS[0], 60),
        ("ttl=soon", SOCKETS[0], 0),
        ("cred_expire=30,ttl=5,socket=/x", "/x", 5),
        ("ttl=" + "9" * 5000, SOCKETS[0], 999_999_999),
        ("socket=,ttl=²", SOCKETS[0], 0),
    ],
)
def test_auth_info(auth_info: str, socket_path: str, ttl: int) -> None:
    """AuthInfo of slurm.conf, old style and new."""
    munge = Munge.from_auth_info(auth_info)
    assert (munge.socket, munge.ttl) == (socket_path, ttl)


# What munged refuses


@pytest.mark.parametrize(
    ("status", "age", "name", "words"),
    [
        (8, 0, "BAD_CRED", "not a munge credential"),
        (14, 0, "CRED_INVALID", "another key"),
        (15, 600, "CRED_EXPIRED", "clocks of the hosts differ .* 600 s ago"),
        (16, -600, "CRED_REWOUND", "clocks of the hosts differ .* 600 s in the future"),
        (17, 0, "CRED_REPLAYED", "used before"),
        (18, 0, "CRED_UNAUTHORIZED", "another user"),
        (99, 0, "error 99", "some text"),
    ],
)
def test_refused(path: str, status: int, age: int, name: str, words: str) -> None:
    """Each status of munged is an error that carries its name."""
    body = decoded(status=status, text=b"some text\0", age=age)
    with pytest.raises(CredentialError, match=words) as caught:
        decode(path, reply(DECODED, body))
    assert caught.value.name == name
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


def test_no_credential_made(path: str) -> None:
    """An error in an encode reply."""
    with pytest.raises(CredentialError, match="cannot make a credential: internal error") as caught:
        encode(path, reply(ENCODED, encoded(b"", 1, b"Oh\n\x1b[1mno\0")))
    assert "(munge: Oh[1mno)" in str(caught.value)


# A munged that misbehaves


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(ENCODED, encoded(), magic=1), "magic is 1"),
        (reply(ENCODED, encoded(), version=5), "version is 5"),
        (reply(DECODED, encoded()), "type is 5"),
        (reply(ENCODED, encoded(), length=0), "error number needs 1 bytes"),
        (reply(ENCODED, encoded(), length=1), "length of error text needs 1 bytes"),
        (reply(ENCODED, encoded(), length=1 << 30), "length is 1073741824 bytes"),
        (reply(ENCODED, encoded(), length=1 << 31), "length is 2147483648 bytes"),
        (reply(ENCODED, encoded(), length=(1 << 32) - 1), "length is 4294967295 bytes"),
        (reply(ENCODED, encoded(), length=len(encoded()) - 1), "credential needs 15 bytes"),
        (reply(ENCODED, encoded() + b"!"), "1 bytes too many"),
        (reply(ENCODED, encoded(b"")), "malformed credential"),
        (reply(ENCODED, encoded(b"MUNGE:\xff:")), "malformed credential"),
        (reply(ENCODED, encoded(b"MUNGE:a b:")), "malformed credential"),
        (reply(ENCODED, b"\0\0" + u32((1 << 32) - 1)), "credential is 4294967295 bytes long"),
        (reply(ENCODED, b"\0\0" + u32(1)), "credential needs 1 bytes"),
        (reply(ENCODED, b"\0\xff" + CREDENTIAL), "error text needs 255 bytes"),
        (b"HTTP/1.1 405 NOT ALLOWED\r\n\r\n", "is this munged"),
    ],
)
def test_wrong_bytes(path: str, answer: bytes, words: str) -> None:
    """Bytes that are no reply: the message names the field."""
    with pytest.raises(FormatError, match=words):
        encode(path, answer)


@pytest.mark.parametrize("size", [0, 1, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize(("offset", "width"), [(1, 1), (5, 1), (10, 1), (39, 4)])
def test_length_fields_of_a_decode_reply(path: str, size: int, offset: int, width: int) -> None:
    """Each length in a decode reply with each bad value: error text, realm, address, payload."""
    body = bytearray(decoded())
    body[offset : offset + width] = (size & (1 << 8 * width) - 1).to_bytes(width, "big")
    if bytes(body) != decoded():
        with pytest.raises(FormatError, match=r"^munged at "):
            decode(path, reply(DECODED, bytes(body)))


def test_cut_at_every_byte(path: str) -> None:
    """A munged that closes in the middle, wherever that is."""
    for cut in range(len(DECODE_REPLY)):
        with pytest.raises(PeerError, match=r"closed .* see munged's log"):
            decode(path, DECODE_REPLY[:cut])
        Path(path).unlink()


def test_announced_longer_at_every_byte(path: str) -> None:
    """A reply of consistent length that ends in the middle of any field."""
    for cut in range(len(decoded())):
        with pytest.raises(FormatError, match=r"^munged at "):
            decode(path, reply(DECODED, decoded()[:cut]))
        Path(path).unlink()


@pytest.mark.parametrize(
    "script",
    [never, after(ENCODE_REPLY[:20]), slowly(ENCODE_REPLY, 0.05)],
    ids=["never", "half", "one byte at a time"],
)
def test_too_slow(path: str, script: Script) -> None:
    """The deadline holds, however the time goes by."""
    with pytest.raises(PeerError, match="within the time limit: munged is stopped"):  # noqa: SIM117
        with takes_at_most(SOON + SLACK):
            encode(path, script, SOON)


# No munged at all


def refused(munge: Munge, words: str, seconds: float = LONG) -> None:
    """Expect a PeerError that names the socket: at once, or when the time is over."""
    with no_descriptor_left(), pytest.raises(PeerError, match=words) as caught:  # noqa: SIM117
        with takes_at_most(min(seconds, SOON) + SLACK):
            munge.encode(b"", Deadline(seconds))
    assert munge.socket in str(caught.value)


def test_missing_socket(path: str) -> None:
    """No socket file."""
    refused(Munge(path), "no such file or directory: start munge")


def test_stale_socket(path: str) -> None:
    """A socket file of a munged that is dead."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    refused(Munge(path), "connection refused: nobody listens on it; restart munge")


def test_no_socket_but_a_file() -> None:
    """A regular file where the socket should be."""
    refused(Munge(__file__), "connection refused: nobody listens")


def test_path_too_long() -> None:
    """A path that no socket can have."""
    refused(Munge("/tmp/" + "x" * 120), "too long")


def test_full_backlog(path: str) -> None:
    """A munged that accepts no more: connect waits, and gives up at the deadline."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            refused(Munge(path), "no connection within the time limit: munged is stopped", SOON)


def test_stopped(path: str) -> None:
    """A munged under SIGSTOP: the kernel connects, nobody answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        refused(Munge(path), "no reply header within the time limit: munged is stopped", SOON)


def test_deadline_over(path: str) -> None:
    """No time left: an error at once, also where munged would answer."""
    with Peer(ENCODE_REPLY, path=path, prefix=HEADER), pytest.raises(PeerError, match="time limit"):
        Munge(path).encode(b"", Deadline(0))


# A real munged


@pytest.fixture(scope="module")
def real() -> Iterator[Munge]:
    """Start a real munged."""
    with munged.running() as client:
        yield client


def test_real_munged(real: Munge) -> None:
    """What we make, munged decodes, once; what it says is true."""
    credential = real.encode(b"\2abc", Deadline(LONG))
    found = real.decode(credential, Deadline(LONG))
    assert (found.uid, found.payload, found.uid_restriction) == (os.geteuid(), b"\2abc", ANY)
    with pytest.raises(CredentialError, match="used before") as caught:
        real.decode(credential, Deadline(LONG))
    assert caught.value.name == "CRED_REPLAYED"


@pytest.mark.parametrize(
    ("credential", "name"),
    [("MUNGE:AAAA:", "BAD_VERSION"), ("MUNGE:$:", "BAD_CRED"), ("x", "BAD_CRED"), ("", "BAD_ARG")],
)
def test_real_munged_refuses(real: Munge, credential: str, name: str) -> None:
    """What is no credential."""
    with pytest.raises(CredentialError) as caught:
        real.decode(credential, Deadline(LONG))
    assert caught.value.name == name


def test_real_munged_restricts(real: Munge) -> None:
    """A credential for another user cannot be decoded; one for us can."""
    with pytest.raises(CredentialError) as caught:
        real.decode(real.encode(b"", Deadline(LONG), uid=os.geteuid() + 1), Deadline(LONG))
    assert caught.value.name == "CRED_UNAUTHORIZED"
    mine = real.decode(real.encode(b"", Deadline(LONG), uid=os.geteuid()), Deadline(LONG))
    assert (mine.uid_restriction, mine.payload) == (os.geteuid(), b"")


def test_real_munged_key_differs(real: Munge) -> None:
    """One flipped bit: munged says so."""
    credential = real.encode(b"", Deadline(LONG))
    other = "B" if credential[60] == "A" else "A"
    with pytest.raises(CredentialError, match="another key"):
        real.decode(credential[:60] + other + credential[61:], Deadline(LONG))


def test_real_munged_expires(real: Munge) -> None:
    """A credential with a time to live, read too late."""
    credential = Munge(real.socket, ttl=1).encode(b"", Deadline(LONG))
    time.sleep(2.1)
    with pytest.raises(CredentialError, match=r"expired.* made \d+ s ago"):
        real.decode(credential, Deadline(LONG))
