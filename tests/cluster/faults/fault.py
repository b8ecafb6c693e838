"""A fault: how it is brought about and healed, and what the module has to make of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena

# Who logs in: kind -> user. `one` has one job, `two` has two and comes from inside the older one.
KINDS = {"root": "root", "one": "alice", "two": "bob", "none": "carol"}

FRONTS = ("pam_python", "pam_exec")

# When a fault comes, and by which lines the module runs.
PHASES = {
    "account": "before a login that the account line alone adopts",
    "both": "before a login that both lines share",
    "session": "between the account line and the session line",
}

# What comes of a login. In its place:
OUTSIDE = "let in, in no job"
OWN = "in the only job"
SOURCE = "in the job that it comes from"
NEWEST = "in the newest job"
# By an option:
NO_JOBS = "no jobs"
UNKNOWN = "unknown job"
ADOPT = "adopt failure"
GENERIC = "generic failure"
SUSPENDED = "job suspended"
# Before the module has a say, or after it:
REFUSED = "refused"  # not by the module
GONE = "gone"  # sshd or the client has ended the login

UNDISTURBED = {"root": OUTSIDE, "one": OWN, "two": SOURCE, "none": NO_JOBS}

# Options of the PAM lines -> the situations whose users they let in.
OPTIONS: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "deny": (
        (
            "action_generic_failure=deny",
            "action_adopt_failure=deny",
            "action_unknown=deny",
            "action_suspended=deny",
        ),
        frozenset(),
    ),
    "allow": (
        (
            "action_generic_failure=allow",
            "action_adopt_failure=allow",
            "action_unknown=allow",
            "action_suspended=allow",
        ),
        frozenset({GENERIC, ADOPT, UNKNOWN, SUSPENDED}),
    ),
}

PATIENT = ("callerid_timeout=20",)  # the test machine is slow: where an answer is expected
HASTY = ("callerid_timeout=1",)  # where none is

Outcomes = Mapping[str, str]  # of each kind
Bring = Callable[["Arena"], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault and what comes of it; `expected` has the kinds that it touches.

    Where it touches none, the log says what it says for all that.
    """

    name: str
    bring: Bring
    expected: Outcomes = field(default_factory=dict)
    says: str = ""  # in a line of the log, for each kind that it touches
    # Where it comes between the phases: what is otherwise then. None: as in the other phases.
    in_session: Outcomes | None = None
    says_in_session: str | None = None
    phases: tuple[str, ...] = tuple(PHASES)
    fronts: tuple[str, ...] = FRONTS
    seconds: float = 20  # that the module may take
    logged: bool = True  # whether the syslog has the module's lines meanwhile
    exceptions: Mapping[tuple[str, str], Outcomes] = field(default_factory=dict)
    # ^ (front, phase) -> what is otherwise there
    more: tuple[str, ...] = PATIENT  # options of the PAM lines beside those of OPTIONS
    jobs_end: bool = False  # jobs of the arena's end with it: what they leave is not looked at
    may_end: frozenset[str] = frozenset()  # kinds whose login the kernel may end once it is in
    settled: bool = False  # whether a login that could not be adopted is in its job for all that
    setting: Bring | None = None  # what is there from before the logins to after them
    hooked: str = ""  # `before` our lines, or `around` them, sshd runs a script: see Arena.hook
    method: str = "publickey"  # of the login
    often: bool = True  # whether `./dev test` plays it; `./dev faults` plays all
    module: str = ""  # of pam_python's, which sshd runs in front of our lines
    undecided: bool = False  # whether the entry script answers: no line has a decision then
    traced: bool = True  # whether sshd itself has the same open as without the fault
    remarks: Mapping[tuple[str, str], str] = field(default_factory=dict)
    # ^ (front, phase) -> what a line of the log has there, though nobody's outcome changes

    def outcomes(self, front: str, phase: str) -> dict[str, str]:
        """Return what comes of a login of each kind."""
        touched = self.expected
        if phase == "session" and self.in_session is not None:
            touched = self.in_session
        return {**UNDISTURBED, **touched, **self.exceptions.get((front, phase), {})}

    def touches(self, front: str, phase: str) -> frozenset[str]:
        """Return the kinds that it touches."""
        outcomes = self.outcomes(front, phase)
        return frozenset(kind for kind in KINDS if outcomes[kind] != UNDISTURBED[kind])

    def said(self, phase: str) -> str:
        """Return what a line of the log has."""
        apart = phase == "session" and self.says_in_session is not None
        return (self.says_in_session or "") if apart else self.says


def shell(bring: str, heal: str) -> Bring:
    """Bring a fault about on n1 by a script, and heal it by another."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        try:
            arena.sh(bring)
            yield
        finally:
            arena.sh(heal)

    return brought
