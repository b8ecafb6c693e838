"""Whether a process listens: real sockets, asked themselves or looked up in tables."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from slurm_adopt.node import listening
from slurm_adopt.node import sockets as asked_sockets
from slurm_adopt.node.listening import listens
from slurm_adopt.slurm import libc
from slurm_adopt.slurm.errors import SetupError
from tests.fakes.peers import no_descriptor_left

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.slurm.waiting import Deadline

MANY = 3000  # listening sockets of others
GENEROUS = 60.0  # seconds for what a busy machine takes longer for
GONE = 1 << 22


def tcp() -> list[socket.socket]:
    return [socket.create_server(("127.0.0.1", 0))]


def tcp6() -> list[socket.socket]:
    return [socket.create_server(("::1", 0), family=socket.AF_INET6)]


def unix() -> list[socket.socket]:
    one = socket.socket(socket.AF_UNIX)
    one.bind(f"\0listening-{os.getpid()}")
    one.listen()
    return [one]


def bound() -> list[socket.socket]:
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    return [one]


def connected() -> list[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return [ours, listener.accept()[0]]


def udp() -> list[socket.socket]:
    return [socket.socket(type=socket.SOCK_DGRAM), *socket.socketpair()]


def several() -> list[socket.socket]:
    return [*udp(), *connected(), *tcp()]


# (sockets, whether one listens, whether the tables show it)
SOCKETS: list[tuple[Callable[[], list[socket.socket]], bool, bool]] = [
    (tcp, True, True),
    (tcp6, True, True),
    (unix, True, False),
    (several, True, True),
    (bound, False, False),
    (connected, False, False),
    (udp, False, False),
    (list, False, False),
]


@contextlib.contextmanager
def holding(sockets: list[socket.socket]) -> Iterator[int]:
    """Have them held by another process alone; return its pid."""
    kept = [one.fileno() for one in sockets]
    argv = [sys.executable, "-c", "input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=kept) as process:
        for one in sockets:
            one.close()
        with no_descriptor_left():
            yield process.pid
        process.communicate(b"\n")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no table be read."""
    monkeypatch.delattr(listening, "_looked_up")


def need_pidfd_getfd() -> None:
    try:
        with holding([]) as pid, pytest.raises(OSError, match="non-socket"):
            asked_sockets.copied(0, pid)
    except SetupError:
        pytest.fail("neither this kernel nor this Python lends descriptors")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(("sockets", "there", "_"), SOCKETS)
def test_asked(sockets: Callable[[], list[socket.socket]], there: bool, _: bool) -> None:
    need_pidfd_getfd()
    with holding(sockets()) as pid:
        assert listens(pid) == there


def no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)


def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked_sockets, "PIDFD_GETFD", 100_000)  # ENOSYS


def no_ctypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "slurm_adopt.slurm.libc", raising=False)
    monkeypatch.delattr("slurm_adopt.slurm.libc", raising=False)
    monkeypatch.setitem(sys.modules, "_ctypes", None)


def no_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)


LACKS = [no_python, no_kernel, no_ctypes, no_right]


@pytest.mark.parametrize("lack", LACKS)
@pytest.mark.parametrize(("sockets", "_", "there"), SOCKETS)
def test_looked_up(
    monkeypatch: pytest.MonkeyPatch,
    lack: Callable[[pytest.MonkeyPatch], None],
    sockets: Callable[[], list[socket.socket]],
    _: bool,
    there: bool,
) -> None:
    lack(monkeypatch)
    with holding(sockets()) as pid:
        assert listens(pid) == there


def test_one_that_may_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses to lend (Yama, SELinux), not to open: EPERM, and the tables tell."""

    def refused(*_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(libc, "function", lambda _: refused)
    with holding(tcp()) as pid:
        assert listens(pid)
    with holding(connected()) as pid:
        assert not listens(pid)


@pytest.mark.usefixtures("asked")
def test_one_that_is_closed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed over, and the others are asked."""
    need_pidfd_getfd()
    found = listening._sockets
    monkeypatch.setattr(listening, "_sockets", lambda path: ["9999", *found(path)])
    with holding(tcp()) as pid:
        assert listens(pid)
    with holding(connected()) as pid:
        assert not listens(pid)


def test_no_process() -> None:
    assert not listens(GONE)


# Many sockets of others


@pytest.fixture
def others() -> Iterator[None]:
    """Listen on many ports."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * MANY), hard))
    sockets = [one for _ in range(MANY) for one in tcp()]
    yield
    for one in sockets:
        one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("others")
def test_others_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    need_pidfd_getfd()
    rows: list[list[bytes]] = []
    lookup = listening.rows

    def counted(path: str, deadline: Deadline) -> Iterator[list[bytes]]:
        for row in lookup(path, deadline):
            rows.append(row)
            yield row

    monkeypatch.setattr(listening, "rows", counted)
    with holding(connected()) as pid:
        assert not listens(pid)
        assert not rows
        no_kernel(monkeypatch)
        monkeypatch.setattr(listening, "READING", GENEROUS)
        assert not listens(pid)
        assert len(rows) >= MANY
        monkeypatch.setattr(listening, "READING", 0)
        with pytest.raises(SetupError, match=rf"cannot tell whether process {pid} listens: /proc/"):
            listens(pid)


ROW = (
    "   0: 0100007F:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 0 0 0 {inode} 1 0\n"
)
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def row(inode: object, state: str = "0A", port: str = "0016") -> str:
    return ROW.format(inode=inode, state=state, port=port)


# (tcp, tcp6, whether a process with the sockets 7 and 8 listens)
TABLES: list[tuple[str | None, str | None, bool]] = [
    (HEAD + row(7), HEAD, True),
    (HEAD, HEAD + row(8), True),
    (HEAD + row(1) * MANY + row(7), HEAD, True),
    (HEAD + row(77), HEAD + row(88), False),
    (HEAD + row(7, "01"), HEAD + row(8, "01"), False),
    (HEAD + row(1) + row(2, "01") + row(7), HEAD, False),  # none listens after one that does not
    (HEAD + row("x") + row(7), HEAD, False),
    (HEAD + "short\n" + row(7), HEAD + row(8), True),
    (HEAD, HEAD, False),
    ("", "", False),
    (None, None, False),
    (None, HEAD + row(8), True),
]


@pytest.mark.parametrize(("tcp4", "tcp6_", "there"), TABLES)
def test_tables(tmp_path: Path, tcp4: str | None, tcp6_: str | None, there: bool) -> None:
    process = tmp_path / str(GONE)
    (process / "fd").mkdir(parents=True)
    (process / "net").mkdir()
    for fd, inode in ((3, 7), (4, 8)):
        (process / f"fd/{fd}").symlink_to(f"socket:[{inode}]")
    for name, text in (("tcp", tcp4), ("tcp6", tcp6_)):
        if text is not None:
            (process / "net" / name).write_text(text)
    assert listens(GONE, str(tmp_path)) == there
