"""The RPC to slurmd: captured messages, versions, and slurmds that misbehave by script."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Union

import pytest

from slurm_adopt.slurm.errors import FormatError, PeerError
from slurm_adopt.slurm.slurmd import message as codec
from slurm_adopt.slurm.slurmd import rpc
from slurm_adopt.slurm.versions import RELEASES, Release, layout_of, release_of, to_try
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes import slurmd
from tests.fakes.clock import NEVER, Clock
from tests.fakes.peers import (
    Peer,
    Script,
    after,
    filled,
    never,
    no_descriptor_left,
    reset,
    slowly,
    takes_at_most,
)
from tests.fakes.requests import RESPONSE_NETWORK_CALLERID
from tests.fakes.slurmd import BY_NAME, Auth, answer, error, reply

if TYPE_CHECKING:
    from collections.abc import Collection

CALLERID = 5035
BODY = bytes(52)
R2205 = BY_NAME["22.05"]
JOB = 4711
GOOD = reply(R2205, answer(R2205, JOB))
SOON = 0.2  # seconds: a deadline for what will not come
LONG = 30.0  # seconds: a deadline for what comes at once
SLACK = 10.0  # seconds that a machine may be slow


def call(
    *scripts: Script,
    protocol: int = R2205.protocol,
    seconds: float = LONG,
    auth: Auth | None = None,
    trusted: Collection[int] = (0,),
) -> tuple[codec.Message, Peer]:
    """Send a request to a scripted slurmd."""
    with no_descriptor_left(), Peer(*scripts) as peer:
        client = rpc.Slurmd(socket.AF_INET, "127.0.0.1", peer.port, auth or Auth(), trusted)
        return client.call(CALLERID, BODY, protocol, Deadline(seconds)), peer


def asked_as(peer: Peer) -> list[str]:
    """Return the releases of the requests that a slurmd got."""
    rows = [release_of(int.from_bytes(request[4:6], "big")) for request in peer.received]
    return [row.name if row else "?" for row in rows]


# Which version


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (38 << 8, "22.05 21.08 20.11 20.02 23.02 23.11 24.05"),
        (45 << 8, "26.05 25.11 25.05 24.11 26.11"),
        (46 << 8, "26.11 26.05 25.11 25.05"),
        (47 << 8, "26.11 26.05 25.11 25.05"),  # newer than the table: its last row, and back
        (32 << 8, "17.11 18.08 19.05 20.02"),
        (33 << 8, "18.08 17.11 19.05 20.02 20.11"),
        (31 << 8, "17.11 18.08 19.05"),
        (0, "17.11 18.08 19.05"),
    ],
)
def test_to_try(protocol: int, expected: str) -> None:
    """Own release first, then older, then newer."""
    assert " ".join(release.name for release in to_try(protocol)) == expected


def test_layout_of_unknown() -> None:
    """What is newer than the table is read by its last row, nonsense not at all."""
    assert layout_of(47 << 8) is RELEASES[-1]
    assert layout_of((38 << 8) + 1) is None
    assert layout_of((47 << 8) + 1) is None
    assert layout_of(31 << 8) is None


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_first_try(release: Release) -> None:
    """A slurmd of each release, asked in its own version: one connection."""
    message, peer = call(reply(release, answer(release, JOB)), protocol=release.protocol)
    assert (message.type, message.release.name) == (RESPONSE_NETWORK_CALLERID, release.name)
    assert asked_as(peer) == [release.name]


@pytest.mark.parametrize(
    ("refusal", "served"),
    [
        (None, "20.11"),
        (b"", "21.08"),
        (reset, "21.08"),
        (b"HTTP/1.1 405 NOT ALLOWED\r\nContent-Length: 19\r\n\r\nInvalid HTTP method", "20.11"),
        (None, "24.05"),
    ],
    ids=["closed at once", "closed", "reset", "HTTP", "newer"],
)
def test_step_down(refusal: Script, served: str) -> None:
    """Each way to say no without a number: the next release, with a new credential."""
    order = [release.name for release in to_try(R2205.protocol)]
    steps = order.index(served)
    auth = Auth()
    row = BY_NAME[served]
    message, peer = call(*[refusal] * steps, reply(row, answer(row, JOB)), auth=auth)
    assert message.release.name == served
    assert len(auth.made) == steps + 1
    if refusal is not None:
        assert asked_as(peer) == order[: steps + 1]


# What becomes of each attempt: what is sent at once, or the seconds until GOOD comes; one that is
# not answered within a quarter of the time has another beside it.
Fate = Union[bytes, float]
SECONDS = 2.4
R2108, R2011 = BY_NAME["21.08"], BY_NAME["20.11"]
IN_2108 = reply(R2108, answer(R2108, JOB))
IN_2011 = reply(R2011, answer(R2011, JOB))
# (fates, releases asked as, release of the answer)
SILENCES: list[tuple[list[Fate], list[str], str]] = [
    ([NEVER, IN_2108], ["22.05", "21.08"], "21.08"),
    ([NEVER, NEVER, IN_2011], ["22.05", "21.08", "20.11"], "20.11"),
    ([NEVER, b"", IN_2011], ["22.05", "21.08", "20.11"], "20.11"),
    ([NEVER, error(BY_NAME["24.05"], 1005), NEVER], ["22.05", "21.08", "24.05"], ""),
    ([0.5, NEVER], ["22.05"], "22.05"),
    ([0.9, NEVER], ["22.05", "21.08"], "22.05"),  # slow, not silent: it counts
    ([2.1, NEVER], ["22.05", "21.08", "20.11", "20.02"], "22.05"),
    ([NEVER], ["22.05", "21.08", "20.11", "20.02"], ""),
]


def fated(clock: Clock, fates: list[Fate]) -> list[Script]:
    return [fate if isinstance(fate, bytes) else clock.after(fate, GOOD) for fate in fates]


@pytest.mark.parametrize(("fates", "asked", "served"), SILENCES)
def test_silence(
    monkeypatch: pytest.MonkeyPatch, fates: list[Fate], asked: list[str], served: str
) -> None:
    """Another version is asked beside a silent one; the first answer on any of them counts."""
    auth = Auth()
    with no_descriptor_left(), Clock(monkeypatch) as clock, Peer(*fated(clock, fates)) as peer:
        client = rpc.Slurmd(socket.AF_INET, "127.0.0.1", peer.port, auth)
        try:
            message = client.call(CALLERID, BODY, R2205.protocol, Deadline(SECONDS))
            assert message.release.name == served
        except PeerError as error:
            assert not served, error  # noqa: PT017
            assert clock.now == pytest.approx(SECONDS)
    assert asked_as(peer) == asked
    assert len(auth.made) == len(asked)


def test_stop_in_the_middle_beside_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was begun is waited for, and no other version is asked."""
    with Clock(monkeypatch) as clock, Peer(clock.after(NEVER), after(b"\0\0")) as peer:
        client = rpc.Slurmd(socket.AF_INET, "127.0.0.1", peer.port, Auth())
        with pytest.raises(PeerError, match="no reply within the time limit"):
            client.call(CALLERID, BODY, R2205.protocol, Deadline(SECONDS))
    assert asked_as(peer) == ["22.05", "21.08"]


@pytest.mark.parametrize(
    ("fates", "said"),
    [
        # as a slurmd whose munged is stopped: it refuses what is too old before it checks more
        ([NEVER, NEVER, NEVER, b""], "no reply within the time limit: slurmd there, or the daemon"),
        ([b"", NEVER], "closed without an answer: its munge key or clock differs"),
    ],
)
def test_what_is_said_of_silence(
    monkeypatch: pytest.MonkeyPatch, fates: list[Fate], said: str
) -> None:
    """How the first attempt went, whatever became of those in other versions."""
    with Clock(monkeypatch) as clock, Peer(*fated(clock, fates)) as peer:
        client = rpc.Slurmd(socket.AF_INET, "127.0.0.1", peer.port, Auth())
        with pytest.raises(PeerError, match=said):
            client.call(CALLERID, BODY, R2205.protocol, Deadline(SECONDS))


@pytest.mark.parametrize("code", [1003, 1005, 1007])
@pytest.mark.parametrize("named", ["20.11", "23.02", "25.05"])
def test_version_named(code: int, named: str) -> None:
    """A slurmd that names its version in an error is asked in that one next."""
    row = BY_NAME[named]
    message, peer = call(error(row, code), reply(row, answer(row, JOB)))
    assert asked_as(peer) == ["22.05", named]
    assert message.release is row


@pytest.mark.parametrize("named", ["17.11", "19.05"])
def test_version_named_is_out_of_reach(named: str) -> None:
    """An error is not authenticated: it does not lead to formats that were not meant."""
    _, peer = call(
        error(BY_NAME[named], 1005), reply(BY_NAME["21.08"], answer(BY_NAME["21.08"], JOB))
    )
    assert asked_as(peer) == ["22.05", "21.08"]


def test_version_named_is_unknown() -> None:
    """A slurmd newer than the table: our own order."""
    newer = bytearray(error(R2205, 1005))
    newer[4:6] = (50 << 8).to_bytes(2, "big")
    _, peer = call(bytes(newer), reply(BY_NAME["21.08"], answer(BY_NAME["21.08"], JOB)))
    assert asked_as(peer) == ["22.05", "21.08"]


def test_versions_named_in_a_circle() -> None:
    """Two errors that name each other's version: every version is tried once at most."""
    first, second = error(BY_NAME["23.02"], 1005), error(BY_NAME["22.05"], 1005)
    with no_descriptor_left(), Peer(first, *[second, first] * 10) as peer:
        client = rpc.Slurmd(socket.AF_INET, "127.0.0.1", peer.port, Auth())
        with pytest.raises(PeerError, match="1005: protocol version error"):
            client.call(CALLERID, BODY, R2205.protocol, Deadline(LONG))
    asked = asked_as(peer)
    assert len(asked) == len(set(asked)) <= 8


@pytest.mark.parametrize("name", ["20.11", "21.08"])
def test_other_payload(name: str) -> None:
    """block_zero_hash on a 22.05: asked again with K12 in the same version."""
    row = BY_NAME[name]
    auth = Auth()
    message, peer = call(
        error(row, 5003), reply(row, answer(row, JOB)), protocol=row.protocol, auth=auth
    )
    assert asked_as(peer) == [name, name]
    assert [made.split("/")[2][:2] for made in auth.made] == ["01", "02"]
    assert message.type == RESPONSE_NETWORK_CALLERID


# What ends the asking


@pytest.mark.parametrize(
    ("script", "words", "asked"),
    [
        (error(R2205, 1007), "1007: authentication error; do munge key and clock agree", 1),
        (error(R2205, 5003), "5003: incomplete packet", 1),
        (error(R2205, 2017), "2017: invalid job id", 1),
        (error(R2205, 13000), "13000: TLS required", 1),
        (error(R2205, -1), "error -1", 1),
        (error(R2205, 4321), "4321: unknown", 1),
        (b"\x15\x03\x01\x00\x02\x02\x28", "answered in TLS", 1),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "answered in SSH; is SlurmdPort right", 1),
        (
            None,
            "closed without an answer: its munge key or clock differs, .*; asked as Slurm 22.05",
            7,
        ),
        (b"HTTP/1.1 405 NOT ALLOWED\r\n\r\n", "answered in HTTP; asked as Slurm 22.05, 21.08", 7),
    ],
)
def test_given_up(script: Script, words: str, asked: int) -> None:
    """One line that says which slurmd, what happened and what to do."""
    auth = Auth()
    with pytest.raises(PeerError, match=rf"^slurmd at 127\.0\.0\.1:[0-9]+: .*{words}") as caught:
        call(script, auth=auth)
    assert "\n" not in str(caught.value)
    assert len(auth.made) == asked


def closes_late(connection: socket.socket) -> None:
    """Close without an answer, after a while."""
    time.sleep(SOON / 2)
    connection.shutdown(socket.SHUT_RDWR)


def test_refusals_take_all_the_time() -> None:
    """What slurmd did is said, not that time ran out for the next attempt."""
    words = r"without an answer|no reply within the time limit"
    with takes_at_most(SOON + SLACK), pytest.raises(PeerError, match=words):
        call(closes_late, seconds=SOON)


def test_protocol_zero() -> None:
    """A protocol number below the table still gives an attempt."""
    with pytest.raises(PeerError, match=r"asked as Slurm 17\.11"):
        call(None, protocol=0)


# Whom to believe


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (reply(R2205, answer(R2205, 1), text="replayed"), "used before"),
        (
            reply(R2205, answer(R2205, 1), text=slurmd.credential(b"")),
            "the reply's credential is for another message",
        ),
        (
            reply(
                R2205,
                answer(R2205, 1),
                text=slurmd.credential(
                    codec.payload(2, RESPONSE_NETWORK_CALLERID, answer(R2205, 2))
                ),
            ),
            "the reply's credential is for another message",
        ),
        (
            reply(
                R2205,
                answer(R2205, 1),
                text=slurmd.credential(
                    codec.payload(2, RESPONSE_NETWORK_CALLERID, answer(R2205, 1)), uid=5001
                ),
            ),
            "from uid 5001, not from root or SlurmdUser",
        ),
        (
            reply(
                R2205,
                answer(R2205, 1),
                text=slurmd.credential(
                    codec.payload(2, RESPONSE_NETWORK_CALLERID, answer(R2205, 1)),
                    restriction=slurmd.ASKER + 1,
                ),
            ),
            "the reply's credential is for uid ",
        ),
        (reply(BY_NAME["21.08"], answer(R2205, 1)), "version of reply is 9472, not 9728"),
        (reply(R2205, answer(R2205, 1), plugin=102), "reply has no credential of auth/munge"),
    ],
    ids=["replay", "unbound", "other body", "other uid", "for another", "older format", "plugin"],
)
def test_not_believed(bad: bytes, words: str) -> None:
    """A responder that speaks the protocol but is no slurmd of this cluster."""
    with pytest.raises(PeerError, match=words):
        call(bad)


def test_reply_without_auth() -> None:
    """A reply that is no error must carry a credential."""
    bare = error(R2205, 0).replace(b"\x1f\x41", b"\x13\xac", 1)  # 8001, 5036
    with pytest.raises(PeerError, match="reply has no credential of auth/munge"):
        call(bare)


def test_slurmd_user() -> None:
    """A reply of SlurmdUser is believed where that is another user than root."""
    body = answer(R2205, JOB)
    text = slurmd.credential(codec.payload(2, RESPONSE_NETWORK_CALLERID, body), uid=64030)
    message, _ = call(reply(R2205, body, text=text), trusted={0, 64030})
    assert message.body == body


# A slurmd that misbehaves


def altered(offset: int, value: int, width: int = 4, whole: bytes = GOOD) -> bytes:
    """Return a reply with one field changed."""
    return whole[:offset] + value.to_bytes(width, "big") + whole[offset + width :]


LENGTHS = [0, 1, 1 << 30, 1 << 31, (1 << 32) - 1]
PLUGIN, TEXT = 20, 24  # offsets behind length (4) and header (16)


@pytest.mark.parametrize("value", LENGTHS)
@pytest.mark.parametrize(
    ("offset", "field"),
    [(0, "length of reply"), (10, "body_length"), (TEXT, "credential|body_length")],
)
def test_length_fields(value: int, offset: int, field: str) -> None:
    """Each length with each bad value: the message names the field."""
    with pytest.raises(FormatError, match=field), takes_at_most(SLACK):
        call(altered(offset, value))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (altered(4, 0, 2), "version 0 belongs to no known release"),
        (altered(4, 0x2601, 2), "version 9729 belongs to no known release"),
        (altered(4, 0xFFFF, 2), "version 65535 belongs to no known release"),
        (altered(14, 1, 2), "forwards is 1"),
        (altered(16, 1, 2), "returns is 1"),
        (altered(18, 2, 2), "reply: "),
        (altered(18, 10, 2), "reply: origin address"),
        (altered(0, len(GOOD) - 4 + 3) + b"abc", "body_length is 15, not 18"),
        (altered(0, len(GOOD) - 5), "body_length is 15, not 14"),
        (altered(0, 16), "auth plugin id needs 4 bytes"),
        (GOOD[:24] + b"\0\0\0\3ab\0" + answer(R2205, 1), "closed after"),
    ],
)
def test_wrong_fields(data: bytes, words: str) -> None:
    """Other fields of the header."""
    with pytest.raises(PeerError, match=words):
        call(data)


def test_cut_at_every_byte() -> None:
    """A slurmd that closes in the middle, wherever that is: no second attempt, one error."""
    for cut in range(1, len(GOOD)):
        with pytest.raises(PeerError, match=r"closed after .* bytes of reply$"):
            call(GOOD[:cut])


def test_shorter_at_every_byte() -> None:
    """A message of consistent length that ends in the middle of any field."""
    for cut in range(4, len(GOOD)):
        with pytest.raises(FormatError, match="reply"):
            call(altered(0, cut - 4)[:cut])


@pytest.mark.parametrize(
    "script",
    [never, after(GOOD[:3]), after(GOOD[:30]), slowly(GOOD, 0.05), after(altered(0, 60000))],
    ids=["never", "length cut", "half", "one byte at a time", "more announced than sent"],
)
def test_too_slow(script: Script) -> None:
    """The deadline holds, however the time goes by."""
    with pytest.raises(PeerError, match="within the time limit"), takes_at_most(SOON + SLACK):
        call(script, seconds=SOON)


def test_flood() -> None:
    """A slurmd that sends without end: only the announced length is read."""

    def flood(connection: socket.socket) -> None:
        connection.sendall(GOOD)
        for _ in range(1000):
            connection.sendall(b"x" * 65536)

    with takes_at_most(SLACK):
        assert call(flood)[0].type == RESPONSE_NETWORK_CALLERID


def test_refused() -> None:
    """Nobody listens: an error at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        client = rpc.Slurmd(socket.AF_INET, "127.0.0.1", port, Auth())
        with no_descriptor_left(), takes_at_most(SLACK):  # noqa: SIM117
            with pytest.raises(PeerError, match="connection refused: slurmd does not run there"):
                client.call(CALLERID, BODY, R2205.protocol, Deadline(LONG))


def test_full_backlog() -> None:
    """SYNs that are dropped, as by a firewall: the limit for connecting."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with filled(address), takes_at_most(SLACK):
            client = rpc.Slurmd(socket.AF_INET, "127.0.0.1", address[1], Auth())
            with pytest.raises(
                PeerError, match="no connection within the time limit: the host is down"
            ):
                client.call(CALLERID, BODY, R2205.protocol, Deadline(LONG))


def test_ipv6() -> None:
    """A slurmd with EnableIPv6, and its name in messages."""
    with no_descriptor_left(), Peer(GOOD, family=socket.AF_INET6) as peer:
        client = rpc.Slurmd(socket.AF_INET6, "::1", peer.port, Auth())
        assert (
            client.call(CALLERID, BODY, R2205.protocol, Deadline(LONG)).type
            == RESPONSE_NETWORK_CALLERID
        )
        assert str(client.error("x")) == f"slurmd at [::1]:{peer.port}: x"
