"""The callerid question: captured dialogues of ten releases, answers that lie, a real munged."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.auth.credential import ANY
from slurm_adopt.slurm.config import conf
from slurm_adopt.slurm.errors import FormatError, PeerError
from slurm_adopt.slurm.slurmd import callerid, rpc
from slurm_adopt.slurm.slurmd import message as codec
from slurm_adopt.slurm.slurmd.callerid import Cluster
from slurm_adopt.slurm.versions import REACH, RELEASES, Release, release_of, to_try
from slurm_adopt.slurm.waiting import Deadline
from tests.cluster.harness import munged
from tests.fakes import slurmd
from tests.fakes.clock import NEVER, Clock
from tests.fakes.peers import Peer, Script, never, no_descriptor_left, takes_at_most
from tests.fakes.requests import RESPONSE_JOB_ID, RESPONSE_NETWORK_CALLERID
from tests.fakes.slurmd import BY_NAME, Auth, Dialogue, answer, error, reply, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.slurm.auth.munge import Munge

R2108, R2205 = BY_NAME["21.08"], BY_NAME["22.05"]
HERE = Connection("127.0.0.1", 50000, "127.0.0.2", 22)
JOB = 4711
LONG = 30.0  # seconds: a deadline for what comes at once
SLACK = 10.0  # seconds that a machine may be slow


def ask(
    *scripts: Script, release: Release = R2205, auth: Auth | None = None, seconds: float = LONG
) -> int | None:
    """Ask a scripted slurmd about a connection."""
    with no_descriptor_left(), Peer(*scripts) as peer:
        return callerid.ask(
            HERE, peer.place, Cluster(release.protocol, auth or Auth()), Deadline(seconds)
        )


# The codec


@pytest.mark.parametrize(("release", "dialogue"), slurmd.dialogues("request"))
def test_captured_request(release: str, dialogue: Dialogue) -> None:
    """The body that slurmds of ten releases understood, IPv4 and IPv6."""
    source, destination = (
        dialogue["connection"]["src"].split(),
        dialogue["connection"]["dst"].split(),
    )
    connection = Connection(source[0], int(source[1]), destination[0], int(destination[1]))
    assert callerid.request_body(connection).hex() == dialogue["request"]["body"], release


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (
            Connection("::ffff:10.0.0.1", 50000, "::ffff:10.0.0.2", 22),
            "000000100a000001" + "00" * 12 + "000000100a000002" + "00" * 12 + "0000c350"
            "00000016"
            "00000002",
        ),
        (
            Connection("fe80::1%eth0", 65535, "fd00::2", 22),
            "00000010fe80" + "00" * 13 + "01"
            "00000010fd00" + "00" * 13 + "02"
            "0000ffff"
            "00000016"
            "0000000a",
        ),
    ],
)
def test_request_body(connection: Connection, expected: str) -> None:
    """52 bytes; what is IPv4 in truth is asked about as IPv4."""
    assert callerid.request_body(connection).hex() == expected


def test_mapped_request_body() -> None:
    """IPv4 addresses as the tables of IPv6 sockets have them."""
    assert callerid.request_body(HERE, mapped=True).hex() == (
        "00000010" + "00" * 10 + "ffff7f000001"
        "00000010" + "00" * 10 + "ffff7f000002"
        "0000c350"
        "00000016"
        "0000000a"
    )


def message(release: Release, body: bytes, kind: int = RESPONSE_NETWORK_CALLERID) -> codec.Message:
    """Return a reply as received."""
    return codec.unpack(reply(release, body, kind)[4:])


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
@pytest.mark.parametrize(
    ("job_id", "expected"), [(1, 1), (JOB, JOB), (0xFFFFFFFD, 0xFFFFFFFD), (0xFFFFFFFE, None)]
)
def test_answer(release: Release, job_id: int, expected: int | None) -> None:
    """The job id by each release's layout; NO_VAL is not found."""
    assert callerid.read_answer(message(release, answer(release, job_id))) == expected


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (answer(R2205, 0), RESPONSE_NETWORK_CALLERID, "job id is 0"),
        (answer(R2205, 0xFFFFFFFF), RESPONSE_NETWORK_CALLERID, "job id is 4294967295"),
        (answer(R2205, JOB), RESPONSE_JOB_ID, "type is 2014, not 5036"),
        (answer(R2205, JOB, tail=b"x"), RESPONSE_NETWORK_CALLERID, "1 bytes too many"),
        (
            answer(R2205, JOB, node=b"n2"),
            RESPONSE_NETWORK_CALLERID,
            "node name is not one NUL-terminated string",
        ),
        (answer(R2205, JOB, node=b"n\xff\0"), RESPONSE_NETWORK_CALLERID, "node name is not text"),
        (
            answer(R2205, JOB)[:8] + b"\0\0\0\1",
            RESPONSE_NETWORK_CALLERID,
            "node name needs 1 bytes",
        ),
        (
            answer(R2205, JOB)[:8] + b"\x80\0\0\0",
            RESPONSE_NETWORK_CALLERID,
            "node name is 2147483648 bytes long",
        ),
        (
            answer(R2205, JOB)[:8] + b"\xff\xff\xff\xff",
            RESPONSE_NETWORK_CALLERID,
            "node name is 4294967295 bytes long",
        ),
        (b"", RESPONSE_NETWORK_CALLERID, "job_id needs 4 bytes"),
        (answer(BY_NAME["26.05"], JOB), RESPONSE_NETWORK_CALLERID, "callerid reply|job id"),
    ],
)
def test_wrong_answer(body: bytes, kind: int, words: str) -> None:
    """An answer that is none: the message names the field, and the slurmd."""
    with pytest.raises(FormatError, match=words):
        callerid.read_answer(message(R2205, body, kind))


def test_wrong_answer_names_the_slurmd() -> None:
    """What ask() raises."""
    with pytest.raises(
        PeerError, match=r"^slurmd at 127\.0\.0\.1:[0-9]+: callerid reply: job id is 0"
    ):
        ask(reply(R2205, answer(R2205, 0)))


def test_answer_cut_at_every_byte() -> None:
    """An answer of either layout that ends too early, in a message that is right."""
    for name in ("22.05", "26.05"):
        whole = answer(BY_NAME[name], JOB)
        for cut in range(len(whole)):
            with pytest.raises(FormatError, match="callerid reply: "):
                callerid.read_answer(message(BY_NAME[name], whole[:cut]))


@given(st.sampled_from(RELEASES), st.binary(max_size=80))
def test_any_answer(release: Release, body: bytes) -> None:
    """Whatever the body is: a job id, None or a FormatError."""
    try:
        found = callerid.read_answer(message(release, body))
    except FormatError:
        return
    assert found is None or 0 < found < 0xFFFFFFFE


# Asking


@pytest.mark.parametrize(("release", "dialogue"), slurmd.dialogues("reply"))
def test_captured_dialogue(release: str, dialogue: Dialogue) -> None:
    """Every captured reply, played back to us in the version it was asked in."""
    decoded = dialogue["decoded"]
    row = release_of(decoded["version"])
    assert row is not None, release
    job_id = decoded["body"].get("job_id")
    assert outcome(wire(dialogue["reply"]), row, dialogue.get("credential")) == (
        f"answered error {decoded['body']['return_code']}"
        if decoded["msg_type"] == rpc.RESPONSE_SLURM_RC
        else f"the reply's credential is for uid {dialogue['credential']['uid_restriction']}"
        if dialogue["credential"]["uid_restriction"]  # alice or bob had asked, not root
        else None
        if job_id == callerid.NO_VAL
        else job_id
    )


def outcome(captured: bytes, release: Release, saved: Dialogue | None) -> int | str | None:
    """Return the answer to a captured reply, or the middle of the error."""
    try:
        return ask(captured, release=release, auth=Auth(saved))
    except PeerError as caught:
        return str(caught).split(": ")[1]


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_ask(release: Release) -> None:
    """A job id from a slurmd of each release."""
    assert ask(reply(release, answer(release, JOB)), release=release) == JOB


def test_ask_when_slurmd_is_older() -> None:
    """A 22.05 node asks a slurmd that was not upgraded yet: it closes, then answers 21.08."""
    row = BY_NAME["21.08"]
    assert ask(None, reply(row, answer(row, JOB))) == JOB


def test_rc_is_no_answer() -> None:
    """An error number, also 0, is not a job."""
    with pytest.raises(PeerError, match="answered error 0"):
        ask(error(R2205, 0))


def test_link_local_is_not_asked() -> None:
    """A link-local source cannot be asked about: no connection is made."""
    connection = Connection("fe80::1%eth0", 50000, "fe80::2%eth0", 22)
    with takes_at_most(SLACK), pytest.raises(PeerError, match=r"fe80::1\]:6818: .* link-local"):
        callerid.ask(
            connection,
            (connection.source, 6818),
            Cluster(R2205.protocol, Auth()),
            Deadline(LONG),
        )


def test_silent() -> None:
    """A stopped slurmd."""
    with takes_at_most(SLACK), pytest.raises(PeerError, match="no reply within the time limit"):
        ask(never, seconds=0.2)


# Several slurmds at a source, each with the jobs of its own node

KNOWN, UNKNOWN = reply(R2205, answer(R2205, JOB)), reply(R2205, answer(R2205, 0xFFFFFFFE))
SILENT = b"nothing is ever sent"
ALL = 8.0  # seconds, of the test's own clock

# (what the slurmds say, job or part of the error, seconds that are waited)
ANSWERS: list[tuple[list[bytes], object, float]] = [
    ([KNOWN, SILENT], JOB, 0),
    ([UNKNOWN, KNOWN], JOB, 0),
    ([UNKNOWN, UNKNOWN], None, 0),
    ([error(R2205, 2017), KNOWN], JOB, 0),
    ([error(R2205, 2017), UNKNOWN], "invalid job id", 0),
    ([SILENT, KNOWN], JOB, ALL / 2),
    ([SILENT, UNKNOWN, KNOWN], JOB, ALL / 3),
    ([SILENT, SILENT], "within the time limit", ALL),
]


@pytest.mark.parametrize(("said", "expected", "waited"), ANSWERS)
def test_ask_each(
    monkeypatch: pytest.MonkeyPatch, said: list[bytes], expected: object, waited: float
) -> None:
    """Each in turn, with a fair share of the time that is left."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_descriptor_left())
        clock = stack.enter_context(Clock(monkeypatch))
        scripts = [clock.after(NEVER) if data is SILENT else data for data in said]
        places = [stack.enter_context(Peer(script)).place for script in scripts]
        if isinstance(expected, str):
            with pytest.raises(PeerError, match=expected):
                callerid.ask_each(HERE, places, Cluster(R2205.protocol, Auth()), Deadline(ALL))
        else:
            found = callerid.ask_each(HERE, places, Cluster(R2205.protocol, Auth()), Deadline(ALL))
            assert found == expected
        assert clock.now == pytest.approx(waited)


HERE6 = Connection("::1", 50000, "::1", 22)
FAILS = error(R2205, 2017)

# (connection, what is said of it, what of its mapped addresses, job)
FORMS: list[tuple[Connection, list[bytes], int | None]] = [
    (HERE, [KNOWN], JOB),
    (HERE, [UNKNOWN, KNOWN], JOB),
    (HERE, [UNKNOWN, UNKNOWN], None),
    (HERE, [UNKNOWN, FAILS], None),
    (HERE, [UNKNOWN, b""], None),
    (HERE6, [UNKNOWN], None),
]


@pytest.mark.parametrize(("connection", "said", "job"), FORMS)
def test_ipv4_of_an_ipv6_socket(connection: Connection, said: list[bytes], job: int | None) -> None:
    """What is not known as IPv4 is asked about as the source's own IPv6 socket would have it."""
    with no_descriptor_left(), Peer(*said) as slurmd:
        place, deadline = [slurmd.place], Deadline(LONG)
        found = callerid.ask_each(connection, place, Cluster(R2205.protocol, Auth()), deadline)
    assert found == job
    bodies = [callerid.request_body(connection), callerid.request_body(HERE, mapped=True)]
    assert len(slurmd.received) >= len(said)
    for request, body in zip(slurmd.received, bodies):
        assert request.endswith(body)


# (TLSType, release, whether slurmds are asked in clear)
ENCRYPTED = [
    ("", "26.05", True),
    ("none", "26.05", True),
    ("tls/none", "26.05", True),
    ("tls/s2n", "24.11", True),
    ("tls/s2n", "25.05", False),
    ("TLS/S2N", "26.05", False),
]


@pytest.mark.parametrize(("kind", "release", "clear"), ENCRYPTED)
def test_encrypted(kind: str, release: str, clear: bool) -> None:
    """A cluster that encrypts its RPCs is named in the log, and no time is lost on it."""
    found = conf.Conf("/c/slurm.conf")
    found.values["tlstype"] = kind
    why = callerid.encrypted(found, BY_NAME[release].protocol)
    assert bool(why) is not clear
    if why:
        assert why == (
            f"not asked: TLSType={kind} in /c/slurm.conf makes Slurm {release} encrypt its RPCs, "
            "which is not supported"
        )


# A slurmd of another release than the stepds here


class Source(Peer):
    """A slurmd of a release: in each version it does what was captured of it."""

    def __init__(self, name: str, prefix: str = "") -> None:
        """`prefix`: that of the dialogues in which it refuses versions."""
        self.release = BY_NAME[name]
        self.auth = Auth()
        found = [one for release, one in slurmd.dialogues() if release == name]
        self.served = {
            one["decoded"]["version"]: one
            for one in found
            if one["name"].startswith("known connection")
        }
        refusals = [
            one for one in found if one["name"].startswith((f"{prefix}one v", f"{prefix}version +"))
        ]
        newer = [one for one in refusals if one["request_version"] > self.release.protocol]
        older = [one for one in refusals if one["request_version"] < min(self.served)]
        self._newer, self._older = (newer or older)[0], (older or newer)[0]
        super().__init__()

    def says(self, protocol: int) -> bytes:
        """Return what it answers in a version; nothing where it closes."""
        refusal = self._newer if protocol > self.release.protocol else self._older
        one = self.served.get(protocol, refusal)
        self.auth.captured = one.get("credential")
        return wire(one["reply"]) if "reply" in one else one.get("reply_text", "").encode()

    def _play(self, connection: socket.socket) -> None:
        self.received.append(self._request(connection))
        connection.sendall(self.says(int.from_bytes(self.received[-1][4:6], "big")))

    def asked_as(self) -> list[str]:
        """Return the releases in whose versions it was asked."""
        numbers = [int.from_bytes(request[4:6], "big") for request in self.received]
        return [release.name for number in numbers if (release := release_of(number))]


def order(source: Source, local: Release) -> list[str]:
    """Return the releases to ask as: by the table, or as an error of the slurmd's names it."""
    names = []
    for release in to_try(local.protocol):
        names.append(release.name)
        if release.protocol in source.served:
            break
        if source.says(release.protocol)[:2] == bytes(2):  # the length of a message of Slurm's
            return [*names, source.release.name]
    return names


CAPTURED = {release: "" for release, _ in slurmd.dialogues()}
WAYS = [*CAPTURED.items(), ("25.11", "with disable http: "), ("26.05", "with disable http: ")]
MIXED = [
    (name, way, local)
    for name, way in WAYS
    for local in RELEASES
    if abs(local.protocol - BY_NAME[name].protocol) <= REACH << 8
]


@pytest.mark.parametrize(
    ("name", "way", "local"),
    MIXED,
    ids=[f"{local.name} asks {name} {way}".strip(" :") for name, way, local in MIXED],
)
def test_another_release(name: str, way: str, local: Release) -> None:
    """A slurmd up to three releases older or newer, refusing as captured: the job is found."""
    source = Source(name, way)
    expected = order(source, local)
    with no_descriptor_left(), source:
        place, deadline = source.place, Deadline(LONG)
        found = callerid.ask(HERE, place, Cluster(local.protocol, source.auth), deadline)
    assert source.asked_as() == expected
    assert found == source.served[source.release.protocol]["decoded"]["body"]["job_id"]


def way_to_refuse(source: Source) -> str:
    """Say how a slurmd refuses a version that is newer than its own."""
    said = source.says(50 << 8)
    if said[:2] == bytes(2) and codec.unpack(said[4:]).protocol == source.release.protocol:
        return "names its own"
    return "HTTP" if said.startswith(b"HTTP/1.1 405 ") else "" if said else "closes"


def test_ways_to_refuse() -> None:
    """All that compatibility.md lists since 20.11.9 are played above, and no others."""
    ways = {name: way_to_refuse(Source(name)) for name in CAPTURED}
    assert set(ways.values()) == {"closes", "names its own", "HTTP"}
    assert (ways["24.11"], ways["25.05"], ways["25.11"]) == ("closes", "names its own", "HTTP")
    without_http = [way_to_refuse(Source(name, way)) for name, way in WAYS if way]
    assert without_http == ["names its own", "closes"]


@pytest.mark.parametrize("name", ["22.05", "23.02"])
def test_blocked_hash(name: str) -> None:
    """A slurmd with block_zero_hash refuses what 21.08 sends, and takes K12 in its version."""
    found = {one["name"]: one for release, one in slurmd.dialogues() if release == name}
    taken = found["protocol 37, K12 payload"]
    refused = found["with communication parameters: protocol 37, payload 01 + little-endian"]
    auth = Auth(taken["credential"])
    job_id = ask(*[wire(one["reply"]) for one in (refused, taken)], release=R2108, auth=auth)
    assert job_id == taken["decoded"]["body"]["job_id"]
    assert [made.split("/")[2][:2] for made in auth.made] == ["01", "02"]


# With a real munged


@pytest.fixture(scope="module")
def real() -> Iterator[Munge]:
    """Start a real munged."""
    with munged.running() as client:
        yield client


def responder(
    munge: Munge, release: Release, job_id: int, uid: int | None = None, text: str | None = None
) -> Script:
    """Answer as a slurmd that checks and makes real credentials; `text`: a credential to replay."""
    body = answer(release, job_id)
    uid = slurmd.ASKER if uid is None else uid

    def play(connection: socket.socket) -> None:
        form = codec.payload(
            2 if 2 in release.reply_payloads else 1, RESPONSE_NETWORK_CALLERID, body
        )
        made = munge.encode(form, Deadline(LONG), uid=uid) if text is None else text
        connection.sendall(reply(release, body, text=made))

    return play


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_real_credentials(real: Munge, release: Release) -> None:
    """The whole way with a real munged, in each release's format."""
    trusted = {slurmd.ASKER}
    with no_descriptor_left(), Peer(responder(real, release, JOB)) as peer:
        found = callerid.ask(
            HERE, peer.place, Cluster(release.protocol, real, trusted), Deadline(LONG)
        )
    assert found == JOB
    request = codec.unpack(peer.received[0][4:])
    assert request.credential is not None
    made = real.decode(request.credential, Deadline(LONG))
    assert (made.uid, made.uid_restriction) == (slurmd.ASKER, ANY)
    assert request.body == callerid.request_body(HERE)
    assert made.payload == codec.payload(release.request_payloads[0], 5035, request.body)


def test_real_replay(real: Munge) -> None:
    """A credential that was decoded here before."""
    body = answer(R2205, JOB)
    text = real.encode(
        codec.payload(2, RESPONSE_NETWORK_CALLERID, body), Deadline(LONG), uid=slurmd.ASKER
    )
    trusted = {slurmd.ASKER}
    with Peer(responder(real, R2205, JOB, text=text)) as peer:
        assert (
            callerid.ask(HERE, peer.place, Cluster(R2205.protocol, real, trusted), Deadline(LONG))
            == JOB
        )
        with pytest.raises(
            PeerError, match=r"slurmd at .*: reply: credential refused: used before"
        ):
            callerid.ask(HERE, peer.place, Cluster(R2205.protocol, real, trusted), Deadline(LONG))


def test_real_ordinary_user(real: Munge) -> None:
    """A responder that speaks the protocol correctly, but as a user who is not trusted."""
    with Peer(responder(real, R2205, JOB)) as peer:  # noqa: SIM117
        with pytest.raises(PeerError, match="not from root or SlurmdUser"):
            callerid.ask(HERE, peer.place, Cluster(R2205.protocol, real, {ANY - 1}), Deadline(LONG))


def test_real_unrestricted(real: Munge) -> None:
    """A reply that anyone may decode was not made for us."""
    with Peer(responder(real, R2205, JOB, uid=ANY)) as peer:  # noqa: SIM117
        with pytest.raises(PeerError, match="the reply's credential is for uid 4294967295"):
            callerid.ask(
                HERE,
                peer.place,
                Cluster(R2205.protocol, real, {slurmd.ASKER}),
                Deadline(LONG),
            )


def test_munged_gone(real: Munge) -> None:
    """Munged is missing where the question is asked: said once, no other version is tried."""
    gone = type(real)(real.socket + ".gone")
    with Peer(never) as peer:
        with pytest.raises(PeerError, match=r"^munged at .*no such file or directory: start munge"):
            callerid.ask(HERE, peer.place, Cluster(R2205.protocol, gone), Deadline(LONG))
        assert peer.received == []
