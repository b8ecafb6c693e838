"""What goes wrong with a daemon of a host; each leaves things as they were."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.harness.host import DAEMONS
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.host import Host

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@contextlib.contextmanager
def stopped(host: Host, daemon: str) -> Iterator[None]:
    """Stop a daemon by SIGSTOP."""
    host.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        host.kill(daemon, signal.SIGCONT)


@contextlib.contextmanager
def ended(host: Host, daemon: str, how: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """End a daemon by a signal."""
    host.kill(daemon, how)
    wait_for(f"{daemon} ended", lambda: not host.pid(daemon), 20)
    try:
        yield
    finally:
        start(host, daemon)


@contextlib.contextmanager
def socket_stale(host: Host) -> Iterator[None]:
    """Kill munged: its socket stays, and nobody listens on it."""
    with ended(host, "munged", signal.SIGKILL):
        assert (host.root / str(DAEMONS["munged"].path)).is_socket()
        yield


@contextlib.contextmanager
def another_munged(host: Host, *options: str, under: tuple[str, ...] = ()) -> Iterator[None]:
    """Run munged otherwise than it should be."""
    with ended(host, "munged"):
        host.start("munged", under=under, options=options)
        try:
            yield
        finally:
            host.stop("munged")


@contextlib.contextmanager
def clock_wrong(host: Host, seconds: int) -> Iterator[None]:
    """Run munged with a clock of its own."""
    under = ("env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME={seconds:+}s")
    with another_munged(host, under=under):
        said = host.run(["sh", "-c", "date +%s; munge -n | unmunge -k ENCODE_TIME"]).stdout
        clock, _, encoded = said.partition("\n")
        assert abs(int(encoded.rpartition("(")[2].rstrip(")\n")) - int(clock) - seconds) < 60
        yield


@contextlib.contextmanager
def other_key(host: Host) -> Iterator[None]:
    """Run munged with another key than the other hosts."""
    path = "/run/munge/other.key"
    host.run(["sh", "-c", f"umask 077; head -c 128 /dev/urandom >{path}"], "munge")
    with another_munged(host, f"--key-file={path}"):
        yield


def start(host: Host, daemon: str) -> None:
    """Start a daemon whose socket may have been left behind."""
    if path := DAEMONS[daemon].path:
        (host.root / path).unlink(missing_ok=True)
    host.start(daemon)


def asked_by(host: Host, address: str) -> bool:
    """Return whether somebody at an address is connected to a host's slurmd."""
    packed = bytes(map(int, address.split(".")))[::-1].hex().upper()
    rows = Path(f"/proc/{host.init.pid}/net/tcp").read_text().splitlines()[1:]
    ends = [row.split()[1:4] for row in rows]
    return any(
        local.endswith(":1AA2") and remote.startswith(packed) and state == "01"
        for local, remote, state in ends
    )
