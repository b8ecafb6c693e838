"""auth/slurm: captured dialogues with sack sockets, tokens that lie, sacks that misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm import auth
from slurm_adopt.slurm.auth import sack as slurm
from slurm_adopt.slurm.auth.credential import ANY, CredentialError
from slurm_adopt.slurm.auth.munge import Munge
from slurm_adopt.slurm.auth.sack import Sack
from slurm_adopt.slurm.config import conf
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.slurmd import message as codec
from slurm_adopt.slurm.slurmd.callerid import Cluster
from slurm_adopt.slurm.versions import Release, release_of
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.peers import Peer, Script, after, never, no_descriptor_left, reset, takes_at_most
from tests.fakes.requests import RESPONSE_NETWORK_CALLERID, RESPONSE_SLURM_RC
from tests.fakes.sack import SackPeer
from tests.fakes.slurmd import BY_NAME, VECTORS, answer, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

Dialogue = dict[str, Any]
ME = os.geteuid()
SOON = 0.2  # seconds: a deadline for what will not come
LONG = 30.0  # seconds: a deadline for what comes at once
SLACK = 10.0  # seconds that a machine may be slow
CAPTURES = {path.stem[5:]: json.loads(path.read_text()) for path in VECTORS.glob("sack-*.json")}
SACK = [(name, one) for name, capture in CAPTURES.items() for one in capture["sack"]]
CREATES = [row for row in SACK if "claims" in row[1] and row[1]["name"] != "two requests"]
VERIFIES = [row for row in SACK if row[1]["name"].startswith("VERIFY")]
CALLERIDS = [(name, one) for name, capture in CAPTURES.items() for one in capture["dialogues"]]


def ids(row: object) -> str:
    return row if isinstance(row, str) else row["name"] if isinstance(row, dict) else ""


@contextlib.contextmanager
def asked(*scripts: Script, path: Path) -> Iterator[tuple[Peer, Sack]]:
    """Run a scripted sack and return a client of it; no descriptor is left afterwards."""
    with no_descriptor_left(), SackPeer(*scripts, path=str(path)) as peer:
        yield peer, Sack((str(path),), trusted=(ME,))


# Captured dialogues


@pytest.mark.parametrize(("release", "dialogue"), CREATES, ids=ids)
def test_captured_create(tmp_path: Path, release: str, dialogue: Dialogue) -> None:
    """We send what sacks of three releases understood, and take their tokens."""
    claims, sent = dialogue["claims"], bytes.fromhex(dialogue["send"])
    payload = (
        bytes.fromhex(sent[18:].hex()) if dialogue["name"] != "two requests in one write" else b""
    )
    with asked(bytes.fromhex(dialogue["recv"]), path=tmp_path / "s") as (peer, sack):
        token = sack.encode(payload, Deadline(LONG), uid=claims["ruid"])
    assert peer.received[0][2:] == sent[2 : len(peer.received[0])], release
    found = slurm._credential(slurm._claims(token))
    assert (found.uid, found.uid_restriction) == (
        claims["uid"],
        claims["ruid"],
    )
    assert found.payload == payload


@pytest.mark.parametrize(("release", "dialogue"), VERIFIES, ids=ids)
def test_captured_verify(tmp_path: Path, release: str, dialogue: Dialogue) -> None:
    """What sacks say of tokens: 0, another number (24.11), or nothing at all (25.11 and later)."""
    sent = bytes.fromhex(dialogue["send"])
    token = sent[14:-1].decode()
    with asked(bytes.fromhex(dialogue["recv"]), path=tmp_path / "s") as (peer, sack):
        if dialogue["recv"] == "00000000":
            assert sack.decode(token, Deadline(LONG)).uid in (0, 5001)
        else:
            with pytest.raises(CredentialError, match="credential refused: "):
                sack.decode(token, Deadline(LONG))
    if peer.received:  # what is no token by its looks is not shown to a sack
        assert peer.received[0][2:] == sent[2:], release


@pytest.mark.parametrize(("release", "dialogue"), CALLERIDS, ids=ids)
def test_captured_callerid(tmp_path: Path, release: str, dialogue: Dialogue) -> None:
    """Captured slurmds answer to tokens; the sack here says that their tokens are good."""
    if "reply" not in dialogue:
        return
    decoded, row = dialogue["decoded"], release_of(dialogue["decoded"]["version"])
    assert row, release
    captured = bytes.fromhex(dialogue["request"]["auth"])[8:]
    token = len(captured).to_bytes(4, "big") + captured
    if row.protocol < Sack.oldest or row.protocol != int(dialogue["request"]["header"][:4], 16):
        return  # we do not ask in a version older than auth/slurm
    with (
        asked(token, bytes(4), path=tmp_path / "s") as (_, sack),
        Peer(wire(dialogue["reply"])) as slurmd,
    ):
        found = outcome(slurmd, sack, row)
    if decoded["msg_type"] == RESPONSE_SLURM_RC:
        assert found == f"answered error {decoded['body']['return_code']}"
    elif dialogue["claims"]["ruid"] != ME:
        assert found == f"the reply's credential is for uid {dialogue['claims']['ruid']}"
    else:
        job_id = decoded["body"]["job_id"]
        assert found == (None if job_id == callerid.NO_VAL else job_id)
    request = codec.unpack(slurmd.received[0][4:])
    assert (request.plugin, request.credential) == (103, captured[:-1].decode())


def outcome(slurmd: Peer, sack: Sack, row: Release) -> int | str | None:
    connection = Connection("127.0.0.1", 50000, "127.0.0.2", 22)
    try:
        return callerid.ask(connection, slurmd.place, Cluster(row.protocol, sack), Deadline(LONG))
    except PeerError as caught:
        return str(caught).split(": ")[1]


# Tokens that lie

CLAIMS: dict[str, object] = {
    "iat": 1,
    "exp": 1 << 33,
    "ver": 11520,
    "ruid": 0,
    "context": "auth",
    "uid": 0,
    "gid": 0,
    "host": "n2",
    "payload": "AQI=",
}


def jwt(claims: object, key: bytes = b"k") -> str:
    """Return a token."""
    text = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    head = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    signed = head + b"." + urlsafe_b64encode(text).rstrip(b"=")
    signature = hmac.new(key, signed, hashlib.sha256).digest()
    return (signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in CLAIMS.items() if key != name}


# int() takes at most 4300 digits; since 3.11, and since updates of earlier ones.
FEW_DIGITS = not hasattr(sys, "get_int_max_str_digits")
HUGE_EXP = json.dumps({**CLAIMS, "exp": 7}).replace(": 7,", ": -" + "9" * 4301 + ",").encode()

# (claims that the sack says are good, part of the error or None)
GOOD_OR_NOT: list[tuple[object, str | None]] = [
    (CLAIMS, None),
    (without("gid"), None),
    (without("payload"), None),
    (without("iat"), None),
    ({**CLAIMS, "id": {"name": "root"}}, None),
    (without("uid"), "claim uid is not a uid or gid"),
    (without("ruid"), "claim ruid is not a uid"),
    (without("host"), "claim host is not a name"),
    ({**CLAIMS, "uid": "0"}, "claim uid is no"),
    ({**CLAIMS, "uid": False}, "claim uid is no"),
    ({**CLAIMS, "uid": 0.0}, "claim uid is no"),
    ({**CLAIMS, "uid": None}, "claim uid is no"),
    ({**CLAIMS, "uid": [0]}, "claim uid is no"),
    ({**CLAIMS, "uid": -1}, "claim uid is no"),
    ({**CLAIMS, "uid": 1 << 32}, "claim uid is no"),
    ({**CLAIMS, "gid": "x"}, "claim gid is no"),
    ({**CLAIMS, "ruid": True}, "claim ruid is no"),
    ({**CLAIMS, "host": ""}, "claim host is no"),
    ({**CLAIMS, "host": 7}, "claim host is no"),
    ({**CLAIMS, "payload": 7}, "claim payload is not base64"),
    ({**CLAIMS, "payload": None}, "claim payload is not base64"),
    ({**CLAIMS, "payload": "AQI"}, "claim payload is not base64"),
    ({**CLAIMS, "payload": "AQJ="}, "claim payload is not base64"),
    ({**CLAIMS, "payload": "A-I="}, "claim payload is not base64"),
    ({**CLAIMS, "payload": "AQI=\n"}, "claim payload is not base64"),
    ({**CLAIMS, "payload": "\u0661"}, "claim payload is not base64"),
    ([CLAIMS], "claims are not a JSON object"),
    (7, "claims are not a JSON object"),
    (b"", "malformed token|not a JSON"),
    (b"{", "claims are not a JSON object"),
    (b"\xff", "claims are not a JSON object"),
    (b'{"uid":' + b"9" * 5000 + b"}", "not a JSON object|claim host"),
    (b"[" * 9000, "claims are not a JSON object"),
    (b'{"a":' * 12000, "malformed token|not a JSON object"),
    ({**CLAIMS, "id": {"gids": [1, 2, 3]}}, None),
    ({**CLAIMS, "exp": -int("9" * 4299)}, None),
    (HUGE_EXP, None if FEW_DIGITS else "claims are not a JSON object"),
    ({**CLAIMS, "id": [[]] * 15}, "claims are not a JSON object"),
    ({**CLAIMS, "host": "{" * 15}, None),
    ({**CLAIMS, "host": "[" * 16}, "claims are not a JSON object"),
]


@pytest.mark.parametrize(("claims", "words"), GOOD_OR_NOT)
def test_claims(tmp_path: Path, claims: object, words: str | None) -> None:
    with asked(bytes(4), path=tmp_path / "s") as (_, sack):
        if words is None:
            found = sack.decode(jwt(claims), Deadline(LONG))
            assert (found.uid, found.uid_restriction) == (0, 0)
        else:
            with pytest.raises(CredentialError, match=words) as caught:
                sack.decode(jwt(claims), Deadline(LONG))
            assert "\n" not in str(caught.value)


def test_credential(tmp_path: Path) -> None:
    with asked(bytes(4), path=tmp_path / "s") as (_, sack):
        found = sack.decode(jwt({**CLAIMS, "uid": 7, "gid": 8, "ruid": 9}), Deadline(LONG))
    assert (found.uid, found.uid_restriction, found.payload) == (7, 9, b"\1\2")


NOT_TOKENS = [
    "",
    "a.b",
    "a.b.c.d",
    "a..c",
    "a.b.",
    "a.b.c\n",
    "a.b.c\0",
    "MUNGE:x:",
    "a.b.c=",
    "a" * 20000,
]


@pytest.mark.parametrize("text", [*NOT_TOKENS, "a." + "b" * 20000 + ".c", "\u0661.b.c"])
def test_no_token(text: str) -> None:
    """What does not look like a token is not shown to the sack."""
    with pytest.raises(CredentialError, match="malformed token"):
        Sack(("/nowhere",)).decode(text, Deadline(LONG))


# Claims of a token that a sack refuses: nobody has vouched for them.
REFUSED: list[object] = [
    CLAIMS,
    {**CLAIMS, "exp": int(time.time()) - 30},
    {**CLAIMS, "exp": "x"},
    HUGE_EXP,
    {**CLAIMS, "exp": -int("9" * 4300)},
    b"{",
    b"[" * 12000,
    b"\xff",
]


@pytest.mark.parametrize("reply", [b"", b"\xff\xff\xff\xff"])
@pytest.mark.parametrize("claims", REFUSED)
def test_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: object, reply: bytes
) -> None:
    """The same is said of each: nothing that it claims is looked at."""
    monkeypatch.setattr(slurm, "a2b_base64", never_called)
    monkeypatch.setattr(json, "loads", never_called)
    words = "expired, made with another key, or made for another user: check that the clocks "
    with (
        asked(reply, path=tmp_path / "s") as (_, sack),
        pytest.raises(CredentialError, match=f"^credential refused: {words}"),
    ):
        sack.decode(jwt(claims), Deadline(LONG))


def never_called(*_: object) -> None:
    raise AssertionError("what nobody has verified is parsed")


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("x"), ValueError("x\ny"), OSError()]
)
def test_a_parser_that_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(json, "loads", fail)
    with pytest.raises(CredentialError, match=r"claims are not a JSON object$"):
        slurm._claims(jwt(CLAIMS))


@given(st.binary(max_size=200))
def test_any_claims(data: bytes) -> None:
    """Whatever the claims are: a credential or a CredentialError."""
    try:
        slurm._credential(slurm._claims(jwt(data)))
    except CredentialError as error:
        assert "\n" not in str(error)  # noqa: PT017


# Sacks that misbehave

TOKEN = jwt(CLAIMS).encode() + b"\0"
WHOLE = len(TOKEN).to_bytes(4, "big") + TOKEN

# (what the sack does, part of the message)
BAD: list[tuple[Script, str]] = [
    (None, "closed without an answer: see the log of slurmd or sackd"),
    (b"", "closed without an answer"),
    (reset, "closed without an answer"),
    (never, "within the time limit: slurmd or sackd is stopped"),
    (after(WHOLE[:3]), "within the time limit"),
    (after(WHOLE[:50]), "within the time limit"),
    (bytes(4), "token is 0 bytes long"),
    (b"\xff" * 4, "token is 4294967295 bytes long"),
    (b"\0\1\0\0" + TOKEN, "token is 65536 bytes long"),
    (b"\0\0\0\4abc\0", "malformed token"),
    (b"\0\0\0\2\xff\0", "malformed token"),
    (WHOLE[:4] + b"x" * len(TOKEN), "malformed token"),
    (WHOLE[:4] + TOKEN.replace(b".", b"\n"), "malformed token"),
]


@pytest.mark.parametrize(("script", "words"), BAD)
def test_bad_sack(tmp_path: Path, script: Script, words: str) -> None:
    with asked(script, path=tmp_path / "s") as (_, sack), takes_at_most(SOON + SLACK):
        with pytest.raises(PeerError, match=rf"^sack at {tmp_path}/s: .*{words}") as caught:
            sack.encode(b"", Deadline(SOON))
        assert "\n" not in str(caught.value)


def test_create_cut_at_every_byte(tmp_path: Path) -> None:
    cuts = [WHOLE[:cut] for cut in range(len(WHOLE))]
    with asked(*cuts, path=tmp_path / "s") as (_, sack):
        for _ in cuts:
            with pytest.raises(PeerError, match=r"closed (after|without)"):
                sack.encode(b"", Deadline(LONG))


def test_verify_cut_at_every_byte(tmp_path: Path) -> None:
    with asked(*[bytes(cut) for cut in range(4)], path=tmp_path / "s") as (_, sack):
        for _ in range(4):
            with pytest.raises(PeerError, match=r"closed after|refused"):
                sack.decode(jwt(CLAIMS), Deadline(LONG))


# Which socket


def test_the_first_that_listens(tmp_path: Path) -> None:
    """A socket file that a dead daemon left is passed over."""
    dead, alive = tmp_path / "dead", tmp_path / "alive"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    paths = tuple(map(str, (tmp_path / "none", dead, alive)))
    with no_descriptor_left(), SackPeer(WHOLE, path=str(alive)):
        assert Sack(paths, (ME,)).encode(b"", Deadline(LONG)) == TOKEN[:-1].decode()


# (sockets, disabled, message)
ABSENT = [
    (
        ("/nowhere/a", "/nowhere/b"),
        False,
        "sack at /nowhere/a: no such file.*start slurmd or sackd",
    ),
    (("/nowhere/a",), True, "no sack socket: slurm.conf has AuthInfo=disable_sack; remove that"),
    (("/etc/passwd",), False, "sack at /etc/passwd: "),
]


@pytest.mark.parametrize(("sockets", "disabled", "message"), ABSENT)
def test_no_sack(sockets: tuple[str, ...], disabled: bool, message: str) -> None:
    with no_descriptor_left(), pytest.raises(PeerError, match=message):
        Sack(sockets, disabled=disabled).encode(b"", Deadline(LONG))


def test_sack_of_another_user(tmp_path: Path) -> None:
    """A socket that somebody else listens on is given nothing, and believed nothing."""
    with SackPeer(WHOLE, path=str(tmp_path / "s")) as peer:
        with pytest.raises(PeerError, match=rf"uid {ME} runs it, not Slurm: ignored"):
            Sack((str(tmp_path / "s"),), trusted=(ME + 1,)).encode(b"", Deadline(LONG))
        assert peer.received == []


# (slurm.conf, plugin, part of what it is made of)
TYPES: list[tuple[str, type, object]] = [
    ("", Munge, None),
    ("AuthType=Auth/Munge\nAuthInfo=socket=/run/m,ttl=7", Munge, "/run/m"),
    ("AuthType=auth/slurm", Sack, slurm.SOCKETS),
    ("AuthType=auth/slurm\nClusterName=tux", Sack, ("/run/slurm-tux/sack.socket", *slurm.SOCKETS)),
    (
        "AuthType=auth/slurm\nClusterName=Tux",
        Sack,
        ("/run/slurm-tux/sack.socket", "/run/slurm-Tux/sack.socket", *slurm.SOCKETS),
    ),
    ("AuthType=auth/slurm\nClusterName=../x", Sack, slurm.SOCKETS),
    ("AuthType=auth/slurm\nAuthInfo=ttl=7,disable_sack", Sack, slurm.SOCKETS),
]


def loaded(directory: Path, text: str) -> conf.Conf:
    (directory / "slurm.conf").write_text(text)
    return conf.load(str(directory / "slurm.conf"))


@pytest.mark.parametrize(("text", "kind", "value"), TYPES)
def test_plugin(tmp_path: Path, text: str, kind: type, value: object) -> None:
    plugin: Any = auth.of(loaded(tmp_path, text))
    assert type(plugin).__name__ == kind.__name__
    if kind is Sack:
        assert plugin.sockets == value
        assert plugin._disabled == ("disable_sack" in text)
    elif value:
        assert (plugin.socket, plugin.ttl) == (value, 7)


def test_sack_of_slurm_user(tmp_path: Path) -> None:
    plugin: Any = auth.of(loaded(tmp_path, "AuthType=auth/slurm\nSlurmUser=64030\nSlurmdUser=7"))
    assert plugin._trusted == {0, 7, 64030}


def test_unknown_plugin(tmp_path: Path) -> None:
    words = (
        r"AuthType=auth/none in .*slurm\.conf is not supported; supported: auth/munge, auth/slurm"
    )
    with pytest.raises(SetupError, match=words):
        auth.of(loaded(tmp_path, "AuthType=auth/none"))


# Beside a slurmd


@pytest.fixture
def key() -> bytes:
    return b"0123456789abcdef"


@pytest.fixture
def signer(tmp_path: Path, key: bytes) -> Iterator[Sack]:
    """Return a client of a sack that really signs and verifies, for this process."""

    def serve(request: bytes) -> bytes:
        kind, body = int.from_bytes(request[6:10], "big"), request[10:]
        if kind == 64001:
            claims = {**CLAIMS, "uid": ME, "ruid": int.from_bytes(body[:4], "big")}
            token = jwt({**claims, "payload": urlsafe(body[8:])}, key).encode() + b"\0"
            return len(token).to_bytes(4, "big") + token
        token = body[4:-1]
        good = token.decode() == jwt(slurm._claims(token.decode()), key)
        return bytes(4) if good else b""

    class Signing(SackPeer):
        def _play(self, connection: socket.socket) -> None:
            connection.sendall(serve(self._request(connection)))

    with Signing(b"", path=str(tmp_path / "sack")):
        yield Sack((str(tmp_path / "sack"),), trusted=(ME,))


def urlsafe(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().replace("-", "+").replace("_", "/")


@pytest.mark.parametrize("name", ["23.11", "24.05", "24.11", "25.05", "25.11", "26.05"])
def test_callerid(signer: Sack, key: bytes, name: str) -> None:
    """The whole way, in the format of each release that has auth/slurm."""
    row = BY_NAME[name]
    body = answer(row, 4711)
    made = {
        **CLAIMS,
        "ruid": ME,
        "uid": ME,
        "payload": urlsafe(codec.payload(2, RESPONSE_NETWORK_CALLERID, body)),
    }
    reply = codec.pack(row, RESPONSE_NETWORK_CALLERID, body, 103, jwt(made, key))
    connection = Connection("127.0.0.1", 50000, "127.0.0.2", 22)
    with no_descriptor_left(), Peer(reply) as slurmd:
        found = callerid.ask(
            connection, slurmd.place, Cluster(row.protocol, signer, {ME}), Deadline(LONG)
        )
    assert found == 4711
    request = codec.unpack(slurmd.received[0][4:])
    assert request.plugin == 103
    assert request.credential
    sent = signer.decode(request.credential, Deadline(LONG))
    assert (sent.uid, sent.uid_restriction) == (ME, ANY)
    assert sent.payload == codec.payload(2, 5035, request.body)


def test_older_releases_are_not_tried(signer: Sack) -> None:
    """Auth/slurm came with 23.11: a slurmd that has it is not older."""
    connection = Connection("127.0.0.1", 50000, "127.0.0.2", 22)
    with Peer(None) as slurmd:  # noqa: SIM117
        with pytest.raises(
            PeerError,
            match=r"slurm.key or clock differs.*; asked as Slurm 24\.11, 24\.05, 23\.11, 25",
        ):
            callerid.ask(connection, slurmd.place, Cluster(42 << 8, signer, {ME}), Deadline(LONG))
