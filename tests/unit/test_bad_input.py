"""Captured dialogues of every release, cut at every byte and with every length field broken.

Whatever a stepd, a slurmd or a sack sends: the client's own kind of error within its deadline, and
no descriptor left behind.
"""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from sys import byteorder
from typing import TYPE_CHECKING, Any

import pytest

from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.auth import sack
from slurm_adopt.slurm.auth.sack import Sack
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.slurmd.callerid import Cluster
from slurm_adopt.slurm.slurmd.rpc import RESPONSE_SLURM_RC
from slurm_adopt.slurm.stepd import ask_all, step_sockets, stepd
from slurm_adopt.slurm.versions import release_of
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes import slurmd
from tests.fakes.peers import Peer, after, no_descriptor_left, takes_at_most
from tests.fakes.requests import RESPONSE_NETWORK_CALLERID
from tests.fakes.sack import SackPeer
from tests.fakes.slurmd import VECTORS, Auth, Dialogue, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.slurm.auth.credential import Credential

ROOT = frozenset({0})
HERE = Connection("127.0.0.1", 50000, "127.0.0.2", 22)
SOON = 0.05  # seconds: a deadline for what will not come
LONG = 30.0  # seconds: a deadline for what comes at once
SLACK = 10.0  # seconds that a machine may be slow
LENGTHS = [0, 1, 0xFFFF, 1 << 30, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


def broken(whole: bytes, offset: int, value: int, order: Any = "big") -> bytes:
    """Return a message with the length at an offset changed; unchanged ones are left out."""
    return whole[:offset] + value.to_bytes(4, order) + whole[offset + 4 :]


# stepd

STEPDS = json.loads((VECTORS / "stepd.json").read_text())
assert byteorder == "little", "stepds speak in the machine's byte order: captured on x86_64"


FIRST = 8  # bytes: protocol number, uid
ASKED = 12  # bytes at least: greeting, the request for the uid, another one


class Replay(Peer):
    """A stepd that says its first two replies at once, the others once more is asked; it closes."""

    def _play(self, connection: socket.socket) -> None:
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        assert not callable(script)
        self._say(connection, script or b"")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass

    def _say(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data[:FIRST])
        received = 0 if data[FIRST:] else ASKED
        while received < ASKED and (more := len(connection.recv(4096))):
            received += more
        connection.sendall(data[FIRST:])


@contextlib.contextmanager
def replayed(path: Path, *streams: bytes) -> Iterator[step_sockets.StepSocket]:
    with no_descriptor_left(), Replay(*streams, path=str(path)):
        yield step_sockets.StepSocket(str(path), 7)


def talk(step: step_sockets.StepSocket, seconds: float = LONG) -> tuple[int, str] | None:
    """Have the whole conversation of an adoption."""
    with stepd.Stepd(step, ROOT, Deadline(seconds)) as one:
        one.uid()
        one.add_extern_pid(42)
        one.state()
        one.pids()
        return one.x11()


def stream(release: str, replies: dict[str, str] | None = None) -> tuple[bytes, dict[str, int]]:
    """Return what a stepd of a release says in talk(), and where the replies begin."""
    captured = STEPDS[release]
    said = {send[:8]: recv for send, recv, _ in captured["dialogue"]}
    said["0"] = captured["dialogue"][0][1]
    said["17000000"] = captured["x11"][0][1][1]
    said.update(replies or {})
    whole, starts = b"", {}
    for code in ("0", "14000000", "16000000", "05000000", "0f000000", "17000000"):
        starts[code] = len(whole)
        whole += bytes.fromhex(said[code])
    return whole, starts


@pytest.mark.parametrize("release", STEPDS)
def test_stepd_whole(tmp_path: Path, release: str) -> None:
    with replayed(tmp_path / "s", stream(release)[0]) as step:
        assert (talk(step) or (0, ""))[1].startswith("/tmp/.Xauthority-")


@pytest.mark.parametrize("release", STEPDS)
def test_stepd_cut_at_every_byte(tmp_path: Path, release: str) -> None:
    whole, _ = stream(release)
    with replayed(tmp_path / "s", *[whole[:cut] for cut in range(len(whole))]) as step:
        for cut in range(len(whole)):
            with takes_at_most(SLACK), pytest.raises(PeerError, match=r"^stepd of job 7 "):
                assert talk(step) is None, cut


@pytest.mark.parametrize("release", STEPDS)
def test_all_stepds_cut_at_every_byte(tmp_path: Path, release: str) -> None:
    """In the count: an answer only from a whole one, and nothing of another's is taken for it."""
    captured = STEPDS[release]["dialogue"]
    whole = b"".join(bytes.fromhex(recv) for _, recv, _ in captured[:3])
    with replayed(tmp_path / "s", *[whole[:cut] for cut in range(len(whole))], whole) as step:
        for _ in whole:
            answers, _ = ask_all.ask_all([step], ROOT, Deadline(LONG))
            assert answers == {}
        answers, silent = ask_all.ask_all([step], ROOT, Deadline(LONG))
        assert (answers[step].uid, silent) == (5001, {})


@pytest.mark.parametrize("release", STEPDS)
def test_stepd_lengths(tmp_path: Path, release: str) -> None:
    """The number of pids and the length of XAUTHORITY."""
    whole, starts = stream(release)
    offsets = [starts["0f000000"], starts["17000000"] + 4]
    streams = [broken(whole, at, value, "little") for at in offsets for value in LENGTHS]
    with replayed(tmp_path / "s", *streams) as step:
        for data in streams:
            with takes_at_most(SLACK), contextlib.suppress(PeerError):
                found = talk(step)
                assert found is None or found[1] == "", data


# slurmd


class Tokens(Auth):
    """The plugin of clusters with auth/slurm, for which every token is good."""

    plugin_id, plugin_name = Sack.plugin_id, Sack.plugin_name

    def decode(self, text: str, deadline: Deadline) -> Credential:  # noqa: ARG002
        return sack._credential(sack._claims(text))


Captured = tuple[str, Dialogue, Auth]
SACKS = {path.stem[5:]: json.loads(path.read_text()) for path in VECTORS.glob("sack-*.json")}


def captured_replies() -> list[Captured]:
    """Return of each release, and of each with auth/slurm, one reply of each type and version."""
    found = [(release, one, Auth(one.get("credential"))) for release, one in slurmd.dialogues()]
    for release, capture in SACKS.items():
        found += [(f"{release}-slurm", one, Tokens()) for one in capture["dialogues"]]
    first: dict[tuple[str, int, int], Captured] = {}
    for release, one, auth in found:
        if "reply" in one:
            kind = release, one["decoded"]["msg_type"], one["decoded"]["version"]
            first.setdefault(kind, (release, one, auth))
    return list(first.values())


def ask(peer: Peer, captured: Captured, seconds: float = LONG) -> int | None:
    _, dialogue, auth = captured
    row = release_of(dialogue["decoded"]["version"])
    assert row
    return callerid.ask(HERE, peer.place, Cluster(row.protocol, auth), Deadline(seconds))


def named(captured: Captured) -> str:
    decoded = captured[1]["decoded"]
    return f"{captured[0]}-{decoded['msg_type']}-{decoded['version']}"


@pytest.mark.parametrize("captured", captured_replies(), ids=named)
def test_slurmd_whole(captured: Captured) -> None:
    """What is cut below is taken where it is whole."""
    decoded = captured[1]["decoded"]
    with no_descriptor_left(), Peer(wire(captured[1]["reply"])) as peer:
        try:
            assert ask(peer, captured) == decoded["body"]["job_id"]
        except PeerError as error:
            assert decoded["msg_type"] == RESPONSE_SLURM_RC, error  # noqa: PT017


@pytest.mark.parametrize("captured", captured_replies(), ids=named)
def test_slurmd_cut_at_every_byte(captured: Captured) -> None:
    whole = wire(captured[1]["reply"])
    cuts = [whole[:cut] for cut in range(1, len(whole))]
    with no_descriptor_left(), Peer(*cuts) as peer:
        for _ in cuts:
            with takes_at_most(SLACK), pytest.raises(PeerError, match=r"^slurmd at "):
                ask(peer, captured)


@pytest.mark.parametrize("captured", captured_replies(), ids=named)
def test_slurmd_shorter_at_every_byte(captured: Captured) -> None:
    """The length in front says what there is, so each field inside can be the one that ends."""
    rest = wire(captured[1]["reply"])[4:]
    cuts = [cut.to_bytes(4, "big") + rest[:cut] for cut in range(len(rest))]
    with no_descriptor_left(), Peer(*cuts) as peer:
        for _ in cuts:
            with takes_at_most(SLACK), pytest.raises(PeerError, match=r"^slurmd at "):
                ask(peer, captured)


@pytest.mark.parametrize("captured", captured_replies(), ids=named)
def test_slurmd_lengths(captured: Captured) -> None:
    """Length of the message, of the body, of the credential, of the node name."""
    parts = captured[1]["reply"]
    whole = wire(parts)
    header, auth = len(parts["header"]) // 2, len(parts["auth"]) // 2
    row = release_of(captured[1]["decoded"]["version"])
    assert row
    fixed = sum(size for _, size in row.answer)
    sizes = dict(row.header)
    at_body = 4 + sum(size for name, size in row.header[: list(sizes).index("body_length")])
    offsets = [0, at_body]
    offsets += [4 + header + 4] if auth else []
    offsets += (
        [4 + header + auth + fixed]
        if captured[1]["decoded"]["msg_type"] == RESPONSE_NETWORK_CALLERID
        else []
    )
    bad = [broken(whole, at, value) for at in offsets for value in LENGTHS]
    with no_descriptor_left(), Peer(*bad) as peer:
        for data in bad:
            with takes_at_most(SLACK), pytest.raises(PeerError, match=r"^slurmd at "):
                assert ask(peer, captured) is None, data


# sack


@pytest.mark.parametrize("release", SACKS)
def test_sack_cut_at_every_byte_and_lengths(tmp_path: Path, release: str) -> None:
    """Of a token that was made; the verification is four bytes, see test_sack.py."""
    whole = bytes.fromhex(SACKS[release]["sack"][0]["recv"])
    bad = [whole[:cut] for cut in range(len(whole))] + [broken(whole, 0, v) for v in LENGTHS]
    path = str(tmp_path / "s")
    with no_descriptor_left(), SackPeer(*bad, path=path) as peer:
        for data in bad:
            with takes_at_most(SLACK), pytest.raises(PeerError, match=r"^sack at "):
                assert Sack((path,)).encode(b"", Deadline(LONG)) == "", data
        assert len(peer.received) == len(bad)


# Cut, but not closed: only the deadline ends it


def cuts(whole: bytes, number: int = 8) -> list[bytes]:
    return [whole[: len(whole) * part // number] for part in range(number)]


@pytest.mark.parametrize("release", STEPDS)
def test_stepd_stops_in_the_middle(tmp_path: Path, release: str) -> None:
    class Stopping(Replay):
        def _play(self, connection: socket.socket) -> None:
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            assert not callable(script)
            self._say(connection, script or b"")
            while connection.recv(4096):
                pass

    parts = cuts(stream(release)[0])
    path = tmp_path / "s"
    with no_descriptor_left(), Stopping(*parts, path=str(path)):
        for _ in parts:
            with takes_at_most(SOON + SLACK), pytest.raises(PeerError, match="does not answer"):
                talk(step_sockets.StepSocket(str(path), 7), SOON)


@pytest.mark.parametrize("captured", captured_replies(), ids=named)
def test_slurmd_stops_in_the_middle(captured: Captured) -> None:
    parts = cuts(wire(captured[1]["reply"]))[1:]
    with no_descriptor_left(), Peer(*map(after, parts)) as peer:
        for _ in parts:
            with takes_at_most(SOON + SLACK), pytest.raises(PeerError, match="time limit"):
                ask(peer, captured, SOON)


@pytest.mark.parametrize("release", SACKS)
def test_sack_stops_in_the_middle(tmp_path: Path, release: str) -> None:
    parts = cuts(bytes.fromhex(SACKS[release]["sack"][0]["recv"]))
    path = str(tmp_path / "s")
    with no_descriptor_left(), SackPeer(*map(after, parts), path=path):
        for _ in parts:
            with takes_at_most(SOON + SLACK), pytest.raises(PeerError, match="time limit"):
                Sack((path,)).encode(b"", Deadline(SOON))
