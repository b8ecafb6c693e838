"""Ways to bring about faults that several families have."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import TYPE_CHECKING

from tests.cluster.faults.fault import KINDS
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import NotInTimeError, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

CONF = "/etc/slurm/slurm.conf"
AWAY = "/etc/slurm/away"
SPOOL = "/var/spool/slurmd"
EXTERN = 4294967292  # the step number of extern steps


@contextlib.contextmanager
def program(arena: Arena, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program on n1 as root; it has printed a line, so it is ready."""
    process = arena.node.popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout
        assert process.stderr
        if not process.stdout.readline():
            raise RuntimeError(f"{argv}: {process.stderr.read()}")
        yield process
    finally:
        end(process)


def standin(
    arena: Arena, name: str, *words: str
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Run a stand-in on n1 as root."""
    module = f"tests.cluster.standins.{name}"
    return program(arena, "sh", "-c", 'cd /checkout; exec python3 -m "$@"', "sh", module, *words)


@contextlib.contextmanager
def _mounted(arena: Arena, path: str, how: str) -> Iterator[subprocess.Popen[str]]:
    arena.sh("test -e /dev/fuse || mknod /dev/fuse c 10 229")
    with standin(arena, "broken_fs", path, how) as process:
        try:
            yield process
        finally:
            end(process)
            arena.sh(f"umount -l {path}")


def cannot_be_opened(path: str, errno: int) -> Bring:
    """Have each opening of a file or directory fail: root reads what has no permissions, too."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with _mounted(arena, path, str(errno)):
            yield

    return brought


def does_not_answer(path: str) -> Bring:
    """Have a file or directory on a file system that answers nothing before root is in.

    Then it ends, and with it what waits: a login that waited for root's would never end.
    """

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with _mounted(arena, path, "silent") as process:

            def until_root_is_in() -> None:
                with contextlib.suppress(NotInTimeError):
                    wait_for("root's login", lambda: next(iter(KINDS)) in arena.over, 60)
                end(process)

            thread = threading.Thread(target=until_root_is_in)
            thread.start()
            yield
            thread.join()

    return brought


def over_conf(script: str) -> Bring:
    """Have something else in the place of slurm.conf."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        arena.sh(f"mv {CONF} {AWAY}")
        try:
            arena.sh(script)
            yield
        finally:
            arena.sh(f"rm -rf {CONF}; mv {AWAY} {CONF}")

    return brought


def conf_with(lines: str | bytes, *, first: bool = False) -> Bring:
    """Have more lines in slurm.conf, after all others or before them."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        file = arena.node.root / CONF.lstrip("/")
        usual = file.read_bytes()
        more = (lines if isinstance(lines, bytes) else lines.encode()) + b"\n"
        file.write_bytes(more + usual if first else usual + more)
        try:
            yield
        finally:
            file.write_bytes(usual)

    return brought
