"""Faults of file systems as sshd sees them, which has a mount namespace of its own for that.

So Slurm's daemons go on undisturbed, and nothing has to be healed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.cluster.faults.fault import ADOPT, UNKNOWN, Fault, shell
from tests.cluster.harness import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring, Outcomes

KEYBOARD = "keyboard-interactive"  # by which the account phase leaves a note in /run
WRITES = (("pam_python", "both"), ("pam_exec", "both"))


@contextlib.contextmanager
def apart(arena: Arena) -> Iterator[None]:
    """Have an sshd with mounts of its own."""
    with arena.with_sshd("unshare", "--mount", "--propagation", "slave"):
        yield


def mounts(script: str) -> Bring:
    """Bring a fault about by a script that runs where sshd has its mounts."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        arena.in_sshd(script)
        yield

    return brought


def seen(name: str, script: str, expected: Outcomes | None = None, **more: Any) -> Fault:
    """Return a fault of what sshd sees."""
    return Fault(name, mounts(script), expected or {}, setting=apart, **more)


def full(*directories: str) -> str:
    """Return a script that puts a full file system over each directory, with what is in it."""
    return f"""
for directory in {" ".join(directories)}; do
    mkdir -p $directory /mnt/of
    mount -t tmpfs -o size=64k,mode=$(stat -c %a $directory) full /mnt/of
    cp -a $directory/. /mnt/of 2>/dev/null || true
    find /mnt/of -path '*/adoptions/*' -delete # a login would, and so make room
    cat /dev/zero >/mnt/of/filler 2>/dev/null || true
    mount --move /mnt/of $directory
done
"""


# In each of v1's hierarchies, or in the one of v2.
EACH = "awk '$3 ~ /^cgroup2?$/ {print $2}' /proc/mounts"
DECIDED_ALREADY = {"one": ADOPT, "two": ADOPT}
NOT_SEEN = {"one": ADOPT, "two": UNKNOWN}  # where the account phase adopts
LATE = dict.fromkeys(WRITES, DECIDED_ALREADY)  # it has chosen before anything is missed

CGROUPS: tuple[Fault, ...] = (
    seen(
        "cgroup file systems not mounted",
        f"{EACH} | xargs umount",
        NOT_SEEN,
        says="not mounted",
        in_session=DECIDED_ALREADY,
        exceptions=LATE,
    ),
    seen(
        "cgroup file systems read-only",
        f"for mount in $({EACH}); do mount -o remount,bind,ro $mount; done",
        # The stepd writes, which has its own view of them.
    ),
    seen(
        "/sys not mounted",
        "umount -R /sys",
        NOT_SEEN,
        says="not mounted",
        in_session=DECIDED_ALREADY,
        exceptions=LATE,
    ),
)
if not cgroups.unified():
    CGROUPS += (
        seen(
            "memory's hierarchy not mounted",
            "umount /sys/fs/cgroup/memory",
            NOT_SEEN,
            says="is that hierarchy not mounted here",
            in_session=DECIDED_ALREADY,
            exceptions=LATE,
        ),
        seen(
            "freezer's hierarchy not mounted",
            "umount /sys/fs/cgroup/freezer",
            NOT_SEEN,
            says="is that hierarchy not mounted here",
            in_session=DECIDED_ALREADY,
            exceptions=LATE,
        ),
        seen("pids' hierarchy not mounted", "umount /sys/fs/cgroup/pids"),
    )

PROC = (
    seen("/proc with hidepid=2", "mount -o remount,hidepid=2 /proc"),
    seen(
        "/proc not mounted",
        "umount -l /proc",
        NOT_SEEN,
        says="is /proc mounted?",
        in_session=DECIDED_ALREADY,
        exceptions={("pam_exec", "session"): NOT_SEEN},  # the note is not found by the process
    ),
    # Before a login it would keep out everybody, by pam_loginuid.
    seen("/proc read-only", "mount -o remount,bind,ro /proc", phases=("session",)),
)

NULL = "touch /mnt/null; chmod 666 /mnt/null; mount --bind /mnt/null /dev"
DEVICES = (
    seen("/dev/null a file", f"{NULL}/null"),
    seen("/dev/urandom a file", f"{NULL}/urandom"),
    seen(
        "/dev empty",
        "mount -t tmpfs none /dev",
        phases=("session",),  # no sshd serves a login without /dev/null
        logged=False,
    ),
)


def note(why: str, *fronts_and_phases: tuple[str, str]) -> dict[tuple[str, str], str]:
    """Return what is said where the account phase cannot leave its note."""
    return dict.fromkeys(fronts_and_phases or WRITES, why)


OURS = "/run/slurm_adopt"
NOT_OURS = "does not belong to root, or others may write to it"
PLACES = (  # name, what makes it in an empty directory, what the log says
    ("a file", ": >slurm_adopt", "Not a directory"),
    ("a dangling link", "ln -s /nowhere slurm_adopt", "cannot write"),
    ("a link to a user's directory", "ln -s /home/alice slurm_adopt", "cannot write"),
    ("somebody else's", "install -d -o alice slurm_adopt", NOT_OURS),
    ("writable for all", "install -d -m 777 slurm_adopt", NOT_OURS),
    (
        "with somebody else's adoptions",
        "install -d slurm_adopt; install -d -o alice slurm_adopt/adoptions",
        NOT_OURS,
    ),
)


def placed(script: str) -> Bring:
    """Have something else in the place of /run/slurm_adopt."""
    away = f"cd /run; rm -rf fault-away; test ! -e {OURS} || mv slurm_adopt fault-away"
    back = f"rm -rf {OURS}; test ! -e /run/fault-away || mv /run/fault-away {OURS}"
    return shell(f"{away}; {script}", back)


DISKS = (
    seen(
        "/tmp, /var and /root full",
        full("/tmp", "/var/tmp", "/var/lib", "/root"),
        method=KEYBOARD,
    ),
    seen("/run full", full(OURS), remarks=note("No space left on device"), method=KEYBOARD),
    seen(
        "/run read-only",
        "mount --bind /run /run; mount -o remount,bind,ro /run",
        remarks=note("Read-only file system"),
        method=KEYBOARD,
    ),
    Fault("/run/slurm_adopt missing", placed("true"), method=KEYBOARD),
    *(
        Fault(f"/run/slurm_adopt {what}", placed(script), remarks=note(why), method=KEYBOARD)
        for what, script, why in PLACES
    ),
)

FAULTS = (*CGROUPS, *PROC, *DEVICES, *DISKS)
