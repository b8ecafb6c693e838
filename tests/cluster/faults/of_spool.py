"""Faults of the spool directory, and of what lies in it."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from tests.cluster.faults.bring import (
    EXTERN,
    SPOOL,
    cannot_be_opened,
    conf_with,
    does_not_answer,
    standin,
)
from tests.cluster.faults.fault import ADOPT, GENERIC, NO_JOBS, UNKNOWN, Fault, shell
from tests.cluster.harness.config import USERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

EVERYBODY = {"one": GENERIC, "two": GENERIC, "none": GENERIC}
CHOSEN = {"one": ADOPT, "two": ADOPT}  # by the account phase; the session phase cannot adopt
CANNOT = "cannot read the spool directory "

MANY = 10_000
FIRST = 900_000  # a job id that no job here has
# Files that are not sockets, sockets that nobody listens on, and names that are hard to read.
STRAY = f"""
import os, socket, sys
os.chdir("{SPOOL}")

def bind(name):
    socket.socket(socket.AF_UNIX).bind("stray")
    os.rename("stray", name)
"""
STRAYS = {
    "sockets": f'for n in range({FIRST}, {FIRST + MANY}): bind(f"n1_{{n}}.{EXTERN}")',
    "files": f"""
for n in range({FIRST}, {FIRST + 400}, 4):
    open(f"n1_{{n}}.{EXTERN}", "w").close()
    os.mkdir(f"n1_{{n + 1}}.{EXTERN}")
    os.mkfifo(f"n1_{{n + 2}}.{EXTERN}")
    os.symlink(f"n1_{{n + 3}}.{EXTERN}", f"n1_{{n + 3}}.{EXTERN}")
""",
    "long": f"""
for n in range(100):
    bind("n1_" + "9" * 200 + f"{{n:038}}.{EXTERN}")
    bind("n" * 240 + f"_{{n}}.{EXTERN}")
""",
    "bytes": f"""
for n in range({FIRST}, {FIRST + 100}):
    bind(b"n1_%d\\xff\\xfe.{EXTERN}" % n)
    bind(b"\\xe9n1_%d.{EXTERN}" % n)
    bind(f"n1_{{n}}.\\u0664".encode())
    bind(f"n1_{{n}}.{EXTERN}\\n")
""",
}


def strays(kind: str) -> Bring:
    """Have such files in the spool directory."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        spool = arena.node.root / SPOOL.lstrip("/")
        before = {bytes(path) for path in spool.iterdir()}
        try:
            arena.node.run(["python3", "-c", STRAY + STRAYS[kind]], timeout=60)
            yield
        finally:
            for path in spool.iterdir():
                if bytes(path) not in before:
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    return brought


def elsewhere(path: str) -> Bring:
    """Have the spool directory under another path, and slurm.conf name that."""
    quoted = f"'{path}'"

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        arena.sh(f"mkdir -p {quoted}; mount --bind {SPOOL} {quoted}")
        try:
            with conf_with(f"SlurmdSpoolDir={path}".encode(errors="surrogateescape"))(arena):
                yield
        finally:
            arena.sh(f"umount {quoted}; rm -rf {quoted}")

    return brought


def planted(how: str) -> Bring:
    """Have sockets in the spool directory that a user listens on, one for each user's jobs."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        paths = [f"{SPOOL}/n1_{FIRST + uid}.{EXTERN}" for uid in USERS.values()]
        words = [f"{path}={uid}" for path, uid in zip(paths, USERS.values())]
        try:
            with standin(arena, "planted", str(USERS["alice"]), how, *words):
                yield
        finally:
            arena.sh(f"rm -f {' '.join(paths)}")

    return brought


def unusable(name: str, bring: Bring, says: str) -> Fault:
    """Return the fault of a spool directory that cannot be used."""
    return Fault(f"spool directory {name}", bring, EVERYBODY, says, CHOSEN)


LONG = "/srv/" + "/".join(["l" * 200] * 4)

FAULTS = (
    unusable("missing", conf_with("SlurmdSpoolDir=/nowhere"), CANNOT + "/nowhere: No such file"),
    unusable("a file", conf_with("SlurmdSpoolDir=/etc/passwd"), CANNOT + "/etc/passwd: Not a dir"),
    unusable("not to be opened", cannot_be_opened(SPOOL, errno.EACCES), f"{CANNOT}{SPOOL}: Permi"),
    unusable("on a broken disk", cannot_be_opened(SPOOL, errno.EIO), f"{CANNOT}{SPOOL}: Input/"),
    unusable("that does not answer", does_not_answer(SPOOL), f"{CANNOT}{SPOOL}: "),
    unusable("of 5,000 characters", conf_with("SlurmdSpoolDir=/" + "d" * 5000), "File name too lo"),
    unusable("not UTF-8, missing", conf_with(b"SlurmdSpoolDir=/srv/\xff\xe9"), CANNOT + "/srv/"),
    Fault(
        "spool directory empty",
        shell(f"mount -t tmpfs empty {SPOOL}", f"umount {SPOOL}"),
        {"one": NO_JOBS, "two": NO_JOBS},
        "no job on this node",
    ),
    # No stepd could have made its socket there: a socket's path has 107 bytes at most.
    Fault(
        "spool directory with a path too long for sockets",
        elsewhere(LONG),
        {"one": ADOPT, "two": UNKNOWN},
        "path too long",
        CHOSEN,
    ),
    Fault("spool directory not UTF-8", elsewhere("/srv/slurm-\udcff\udce9")),
    Fault("spool directory in UTF-8", elsewhere("/srv/slurm-\u00e9\u4e2d")),
    Fault("10,000 stray sockets", strays("sockets")),
    Fault("files with sockets' names", strays("files")),
    Fault("names of 255 characters", strays("long")),
    Fault("names that are not UTF-8", strays("bytes")),
    # The session line asks the stepd of the job that was chosen, and no other.
    Fault(
        "planted sockets",
        planted("answers"),
        says=f"is a socket of uid {USERS['alice']}, not",
        says_in_session="",
    ),
    Fault(
        "planted sockets with full backlogs",
        planted("full"),
        says="does not accept connect",
        says_in_session="",
    ),
)
