"""Faults of limits: those of the sshd that calls PAM, while our lines run and no longer.

Else sshd itself would fail, and not the module. A hook in front of our lines sets them, and one
behind takes them back.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.cluster.faults.arena import MEETING
from tests.cluster.faults.fault import ADOPT, REFUSED, UNKNOWN, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring, Outcomes

# The soft limits alone, so that they can be taken back.
HOOK = """
saved={meeting}/limit.$sshd
if test "$2" = after; then
    prlimit --pid $sshd --{name}=$(cat $saved):
    rm $saved
else
    prlimit --raw --noheadings --output=SOFT --pid $sshd --{name} >$saved
    used=$(awk '/^VmSize/ {{print $2 * 1024}}' /proc/$sshd/status)
    left={left} end=0
    while test -e /proc/$sshd/fd/$end || test $((left -= 1)) -ge 0; do end=$((end + 1)); done
    prlimit --pid $sshd --{name}=$(({value})):
fi
"""


def limited(name: str, value: str, left: int = 0) -> Bring:
    """Give an sshd a soft limit; `value`: an expression.

    In it `used` are the bytes of its memory, and `end` is the end of its descriptors if so many
    are `left`.
    """

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with arena.hook(HOOK.format(meeting=MEETING, name=name, value=value, left=left)):
            yield

    return brought


def limit(
    name: str, limit: str, value: str, expected: Outcomes | None = None, **more: Any
) -> Fault:
    """Return a fault of a limit."""
    return Fault(name, limited(limit, value), expected or {}, hooked="around", **more)


def descriptors(left: int, expected: Outcomes | None = None, **more: Any) -> Fault:
    """Return a fault of a process that has few descriptors left."""
    name = f"RLIMIT_NOFILE: {left} left"
    return Fault(name, limited("nofile", "end", left), expected or {}, **more)


NOT_ADOPTED = {"one": ADOPT, "two": UNKNOWN}  # by the account phase
NOBODY = {"root": REFUSED, "one": REFUSED, "two": REFUSED, "none": REFUSED}
NOT_LOADED = {"one": REFUSED, "two": REFUSED}  # by the session phase
USERS = {"one": REFUSED, "two": REFUSED, "none": REFUSED}
# What takes the limit back needs descriptors, too: so sshd fails later, where it opens a session.
SCARCE: dict[str, Any] = {"fronts": ("pam_python",), "phases": ("account",), "hooked": "before"}
# In the session phase pam_python's Python has been started already.
NOT_BEGUN: dict[str, Any] = {"phases": ("account", "both"), "logged": False}

FAULTS = (
    # PAM's own guard for root finds nobody without a descriptor, nor does pam_unix.
    descriptors(0, NOBODY, logged=False, **SCARCE),
    descriptors(1, NOT_ADOPTED, says="out of descriptors", **SCARCE),
    descriptors(2, NOT_ADOPTED, says="out of descriptors", **SCARCE),
    descriptors(3, **SCARCE),
    descriptors(8, hooked="around"),
    limit("RLIMIT_NOFILE 10", "nofile", "10"),
    limit("RLIMIT_FSIZE 0", "fsize", "0"),
    limit("RLIMIT_NPROC 0", "nproc", "0"),
    limit("RLIMIT_CORE 0", "core", "0"),
    limit("RLIMIT_CPU 1 s", "cpu", "1"),
    limit("RLIMIT_MEMLOCK 0", "memlock", "0"),
    limit("RLIMIT_STACK 64 kB", "stack", "1 << 16"),
    limit("RLIMIT_DATA: Python does not start", "data", "2 << 20", USERS, **NOT_BEGUN),
    limit("RLIMIT_DATA 32 MB", "data", "32 << 20"),
    limit(
        "RLIMIT_AS: Python does not start in sshd",
        "as",
        "used",
        USERS,
        fronts=("pam_python",),
        **NOT_BEGUN,
    ),
    limit(
        "RLIMIT_AS 8 MB: Python does not start",
        "as",
        "8 << 20",
        USERS,
        fronts=("pam_exec",),
        phases=("account", "both", "session"),
        in_session=NOT_LOADED,
        logged=False,
    ),
    limit("RLIMIT_AS: 8 MB left", "as", "used + (8 << 20)"),
    limit("RLIMIT_AS: 64 MB left", "as", "used + (64 << 20)"),
)
