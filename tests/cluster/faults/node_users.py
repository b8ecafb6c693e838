"""Faults of users and of what knows them, and of the syslog: as sshd has them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.cluster.faults.fault import NO_JOBS, Fault
from tests.cluster.faults.node_mounts import apart, seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

UNKNOWN_USER = "unknown user"  # a situation that no option governs
USUAL, KEPT = "/etc/passwd", "/etc/passwd.usual"


def edited(script: str) -> Bring:
    """Have sshd edit the line of each user but root in /etc/passwd, in front of our lines."""
    edit = f"flock /run/lock-of-fault sed -i {script} {USUAL}"

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        arena.sh(f"cp -p {USUAL} {KEPT}")
        try:
            with arena.hook(f"test $PAM_USER = root || {edit}"):
                yield
        finally:
            arena.sh(f"mv {KEPT} {USUAL}; rm -f /run/lock-of-fault")

    return brought


USERS = (
    Fault(
        "user removed in mid-login",
        edited('"/^$PAM_USER:/d"'),
        {"one": UNKNOWN_USER, "two": UNKNOWN_USER, "none": UNKNOWN_USER},
        "is not known on this host",
        {"one": UNKNOWN_USER, "two": UNKNOWN_USER},
        hooked="before",
    ),
    Fault(
        "uid changed in mid-login",
        edited(r'"s/^\($PAM_USER:x\):[0-9]*/\1:9999/"'),
        {"one": NO_JOBS, "two": NO_JOBS},
        "(uid 9999)",
        hooked="before",
    ),
)

# nscd's socket comes first. glibc waits 5 s for an answer (nscd_helper.c), in each process once.
SILENT = """\
import os, socket, time
listener = socket.socket(socket.AF_UNIX)
listener.bind("{path}")
os.chmod("{path}", 0o666)
listener.listen(100)
time.sleep(600)
"""


def listening(path: str, code: str) -> Bring:
    """Have a program listen on a socket where sshd has its mounts."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        arena.node.write("/mnt/listening.py", code.format(path=path))
        started = "python3 -IS /mnt/listening.py >/dev/null 2>&1 </dev/null & echo $!"
        folder = path.rpartition("/")[0]
        pid = arena.in_sshd(
            f"mkdir -p {folder}; mount -t tmpfs none {folder}; {started}; "
            f"n=0; until test -S {path} || test $((n += 1)) -gt 500; do sleep 0.02; done"
        )
        try:
            yield
        finally:
            arena.sh(f"kill -KILL {pid.strip()}; rmdir -p {folder} 2>/dev/null || true")

    return brought


NAMES = (
    Fault(
        "NSS answers after 5 s",
        listening("/run/nscd/socket", SILENT),
        setting=apart,
        seconds=30,
    ),
    seen(
        "NSS: a library that is none",
        "echo garbage >/usr/lib/x86_64-linux-gnu/libnss_bad.so.2; "
        "sed 's/^passwd:.*/passwd: bad files/' /etc/nsswitch.conf >/mnt/nsswitch; "
        "mount --bind /mnt/nsswitch /etc/nsswitch.conf",
    ),
    seen(
        "NSS knows nobody",
        "sed 's/^passwd:.*/passwd: db/' /etc/nsswitch.conf >/mnt/nsswitch; "
        "mount --bind /mnt/nsswitch /etc/nsswitch.conf",
        {"one": UNKNOWN_USER, "two": UNKNOWN_USER},
        says="is not known on this host",
        phases=("session",),  # nobody would authenticate before
    ),
    seen(
        "/etc/passwd of 100,000 users",
        "seq 100000 | sed 's,.*,u&:x:1&:1&::/:/bin/sh,' | cat - /etc/passwd >/mnt/passwd; "
        "mount --bind /mnt/passwd /etc/passwd",
    ),
)

# A socket whose queue is full, and nobody reads.
FULL = """\
import os, socket, time
folder = os.path.dirname("{path}")
of_lines = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
of_lines.bind(folder + "/dev-log")  # journald's: as good as read, since nobody fills it
os.chmod(folder + "/dev-log", 0o666)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind("{path}.new")
os.chmod("{path}.new", 0o666)
filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
filler.connect("{path}.new")
try:
    while True:
        filler.send(b"<86>Jan  1 00:00:00 filler")
except BlockingIOError:
    pass
os.rename("{path}.new", "{path}")
time.sleep(600)
"""


def full(path: str, log: str) -> Bring:
    """Have a socket whose queue is full; `log`: what is /dev/log then."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with listening(path, FULL)(arena):
            arena.in_sshd(f"mount --bind {log} /dev/log")
            yield

    return brought


@contextlib.contextmanager
def apart_with_a_file(arena: Arena) -> Iterator[None]:
    """Have an sshd that would not wait for the syslog itself."""
    under = ("unshare", "--mount", "--propagation", "slave")
    with arena.with_sshd(*under, options=["-E", "/var/log/sshd-of-fault"]):
        yield


COPY_OF_DEV = """
mkdir -p /mnt/dev
mount -t tmpfs none /mnt/dev
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/ptmx /dev/fd /mnt/dev
mkdir /mnt/dev/pts
mount --rbind /dev/pts /mnt/dev/pts
mount --move /mnt/dev /dev
"""
SOCKET = "python3 -IS -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/mnt/log\")'"

SYSLOG = (
    seen("syslog absent", COPY_OF_DEV, logged=False),
    seen(
        "/dev/log a file",
        "rm -f /mnt/log; touch /mnt/log; mount --bind /mnt/log /dev/log",
        logged=False,
    ),
    seen(
        "/dev/log: nobody listens",
        f"rm -f /mnt/log; {SOCKET}; mount --bind /mnt/log /dev/log",
        logged=False,
    ),
    Fault(
        "the syslog's socket is full",
        full("/run/full/socket", "/run/full/socket"),
        setting=apart_with_a_file,
        traced=False,
        phases=("session",),  # pam_unix would wait without end before that
        logged=False,
    ),
    Fault(
        "journald does not read",
        full("/run/systemd/journal/socket", "/run/systemd/journal/dev-log"),
        setting=apart_with_a_file,
        traced=False,
        logged=False,
    ),
)

FAULTS = (*USERS, *NAMES, *SYSLOG)
