"""Where nothing took a connection to slurmd: the note of it, and who goes by it."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from slurm_adopt.node import own_address, source_job, unreached
from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm import stream
from slurm_adopt.slurm.config import slurmd_ports
from slurm_adopt.slurm.errors import PeerError
from slurm_adopt.slurm.slurmd import rpc
from slurm_adopt.slurm.stream import Peer, Stream, UnreachedError
from slurm_adopt.slurm.waiting import Deadline
from tests.fakes.peers import filled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurm_adopt.node.phase import Phase

PLACE = ("10.0.0.9", 6818)
NAME = "10.0.0.9-6818"
LONG = Deadline(600)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Return a directory of notes as a login makes it, with one that was just left."""
    directory = tmp_path / "top" / "unreached"
    unreached.leave(PLACE, str(directory))
    return directory


def ago(seconds: float) -> bytes:
    return b"%d\n" % ((time.clock_gettime(time.CLOCK_BOOTTIME) - seconds) * 1000)


def test_a_note(notes: Path) -> None:
    assert [path.name for path in notes.iterdir()] == [NAME]
    assert notes.stat().st_mode & 0o7777 == 0o700
    assert (notes / NAME).stat().st_mode & 0o7777 == 0o600
    other, ipv6 = ("10.0.0.9", 6819), ("fd00::9", 6818)
    unreached.leave(ipv6, str(notes))
    found = unreached.noted([PLACE, other, ipv6], str(notes))
    assert list(found) == [PLACE, ipv6]
    assert all(0 <= age < unreached.KEPT for age in found.values())
    with pytest.raises(PeerError, match=r"slurmd at \[fd00::9\]:6818: not asked: nothing took"):
        raise unreached.not_asked({ipv6: found[ipv6]})


def _linked(path: Path) -> None:
    path.rename(path.with_name("x"))
    path.symlink_to("x")


def _fifo(note: Path) -> None:
    note.unlink()
    os.mkfifo(note, 0o600)


def _folder(note: Path) -> None:
    note.unlink()
    note.mkdir(0o700)


def _removed(note: Path) -> None:
    note.unlink()
    note.parent.rmdir()


# (what has become of the note, how)
NO_NOTE: dict[str, Callable[[Path], object]] = {
    "gone": lambda note: note.unlink(),
    "a minute old": lambda note: note.write_bytes(ago(unreached.KEPT)),
    "from the future": lambda note: note.write_bytes(ago(-3600)),
    "empty": lambda note: note.write_bytes(b""),
    "cut off": lambda note: note.write_bytes(ago(1)[:-1]),
    "text": lambda note: note.write_bytes(b"now\n"),
    "below zero": lambda note: note.write_bytes(b"-1\n"),
    "long": lambda note: note.write_bytes(b"1" * 10000 + b"\n"),
    "another user's": lambda note: os.chown(note, 1, 1),
    "writable for others": lambda note: note.chmod(0o666),
    "a link": _linked,
    "a fifo": _fifo,
    "a directory": _folder,
    "in another user's directory": lambda note: os.chown(note.parent, 1, 1),
    "in a directory that others read": lambda note: note.parent.chmod(0o755),
    "in a directory that is a link": lambda note: _linked(note.parent),
    "without a directory": _removed,
}


@pytest.mark.parametrize("case", NO_NOTE)
def test_what_is_no_note(notes: Path, case: str) -> None:
    NO_NOTE[case](notes / NAME)
    assert unreached.noted([PLACE], str(notes)) == {}


def test_notes_that_count_no_more_are_taken_away(notes: Path) -> None:
    for name in ("old", "another"):
        (notes / name).write_bytes(ago(100))
    (notes / "directory").mkdir()
    unreached.leave(("10.0.0.1", 1), str(notes))
    assert {path.name for path in notes.iterdir()} == {NAME, "10.0.0.1-1", "directory"}


def test_no_more_than_that_many(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreached, "MOST", 1)
    unreached.leave(("10.0.0.1", 1), str(notes))
    assert [path.name for path in notes.iterdir()] == [NAME]


@pytest.mark.parametrize("case", ["mode", "owner"])
def test_a_directory_that_is_not_used(notes: Path, case: str) -> None:
    if case == "mode":
        notes.chmod(0o777)
    else:
        os.chown(notes, 1, 1)
    with pytest.raises(PermissionError):
        unreached.leave(("10.0.0.1", 1), str(notes))
    assert [path.name for path in notes.iterdir()] == [NAME]


class Site:
    """A node whose slurm.conf says nothing."""

    trusted = frozenset({0})

    def __init__(self, conf: object) -> None:
        self.conf = conf


class Here:
    """What source_job asks of a phase."""

    class Options:
        """A bound that is longer than connecting may take."""

        def seconds(self, _: str) -> float:
            return 60

    class Log:
        """Keeps what is said."""

        def __init__(self) -> None:
            self.said: list[str] = []

        def debug(self, text: str) -> None:
            self.said.append(text)

    def __init__(self, conf: object) -> None:
        self.options, self.log, self.site = self.Options(), self.Log(), Site(conf)


def test_the_next_login_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command asks all the same, and leaves no note."""
    from slurm_adopt.slurm.config import conf

    notes = tmp_path / "unreached"
    tried: list[object] = []
    connect = Stream.connect

    def counted(stream: Any, *args: Any) -> None:
        tried.append(args)
        connect(stream, *args)

    monkeypatch.setattr(Stream, "connect", counted)
    monkeypatch.setattr(rpc, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(own_address, "is_own", lambda _: False)
    connection = Connection("127.0.0.1", 50000, "127.0.0.1", 22)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        monkeypatch.setattr(slurmd_ports, "ports_at", lambda *_: [address[1]])
        phase = Here(conf.Conf(""))

        def ask(noted: str = "", within: float = 60) -> str:
            with pytest.raises(PeerError) as caught:
                source_job._ask(connection, 10496, cast("Phase", phase), Deadline(within), noted)
            return str(caught.value)

        with filled(address):
            assert "no connection within the time limit" in ask()
            assert "no connection within the time limit" in ask(str(notes), within=0.1)
            assert not notes.exists()  # that was not the whole time
            assert "no connection within the time limit" in ask(str(notes))
            assert len(tried) == 3
            (note,) = notes.iterdir()
            left = note.read_bytes()
            assert "not asked: nothing took a connection there 0 s ago" in ask(str(notes))
            assert len(tried) == 3
            assert note.read_bytes() == left  # who has not asked does not make it last longer
            note.write_bytes(ago(unreached.KEPT))
            assert "no connection within the time limit" in ask(str(notes))
            assert len(tried) == 4
            assert "no connection within the time limit" in ask()
            os.chown(notes, 1, 1)
            assert "no connection within the time limit" in ask(str(notes))
            assert any(f"cannot write {notes}" in line for line in phase.log.said)


@pytest.mark.parametrize(("limit", "unreached"), [(0.0, False), (0.05, True)])
def test_what_was_not_tried_is_not_unreached(limit: float, unreached: bool) -> None:
    """A login that was stopped until its time was over has not asked the kernel for anything."""
    with socket.socket() as full, Stream(Peer("it", {}), Deadline(10)) as stream:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):  # its queue has one place more than it is told
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            with pytest.raises(PeerError) as caught:
                stream.connect(socket.AF_INET, full.getsockname(), limit)
    assert isinstance(caught.value, UnreachedError) is unreached


def test_a_connection_that_a_lost_packet_keeps_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the connections that are begun the first that comes is taken; the others are closed."""
    monkeypatch.setattr(stream, "_AGAIN", 0.1)
    with socket.socket() as full, socket.socket() as first, Stream(Peer("it", {}), LONG) as one:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())  # takes the only place
        free = threading.Timer(0.15, full.accept)
        free.start()
        before = len(os.listdir("/proc/self/fd"))
        one.connect(socket.AF_INET, full.getsockname(), 5)
        free.join()
        with full.accept()[0] as taken:
            assert one._socket
            assert one._socket.getsockname() == taken.getpeername()
        assert len(os.listdir("/proc/self/fd")) == before + 1
