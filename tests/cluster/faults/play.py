"""Playing a fault: each kind of user, by a front, in a phase, with options; and judging it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cluster.faults.arena import DECIDED, OF_JOBS, OURS
from tests.cluster.faults.fault import (
    GONE,
    KINDS,
    NEWEST,
    OPTIONS,
    OUTSIDE,
    OWN,
    REFUSED,
    SOURCE,
    UNDISTURBED,
)

if TYPE_CHECKING:
    from tests.cluster.faults.arena import Arena, Came
    from tests.cluster.faults.fault import Fault

AS_BEFORE = "as in the account phase: "
BY_US = "Access denied by pam_slurm_adopt"  # what the user of a login that we refuse is told


@dataclass
class Played:
    """One login with a fault, and what is wrong with it."""

    fault: str
    front: str
    phase: str
    options: str
    kind: str
    expected: str
    outcome: str
    admitted: bool
    ms: float  # of the module, by its own lines; 0 where it has none
    wrong: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return asdict(self)


def play(arena: Arena, fault: Fault, front: str, phase: str, options: str) -> list[Played]:
    """Log in as each kind of user; compare what came of it with what has to."""
    arena.ready()
    words, _ = OPTIONS[options]
    arena.module = fault.module
    with arena.passwords(fault.method):
        arena.learn(front, phase, fault.method)
        arena.write_stack(front, phase, [*words, *fault.more], fault.hooked)
        before = arena.at_rest()
        mark = arena.node.mark()
        came = arena.log_in(fault, front, phase)
    log = [line for line in arena.node.log(mark) if OURS in line]
    left = arena.left(before, OF_JOBS if fault.jobs_end else ())
    rows = [_judged(fault, front, phase, options, one, log) for one in came]
    remark = fault.remarks.get((front, phase), "")
    if fault.logged and not any(remark in line for line in ["", *log]):
        rows[-1].wrong.append(f"nothing says {remark!r}")
    if left:
        rows[-1].wrong.append(f"left: {left}")
    if wrong := [row for row in rows if row.wrong]:
        wrong[-1].wrong += [f"log: {line}" for line in log]
    return rows


def _judged(
    fault: Fault, front: str, phase: str, options: str, came: Came, log: list[str]
) -> Played:
    expected = fault.outcomes(front, phase)[came.kind]
    decided = [found for line in log if (found := DECIDED.search(line))]
    own = [found for found in decided if found["user"] == KINDS[came.kind]]
    situation = own[-1]["text"].removeprefix(AS_BEFORE).partition(":")[0] if own else ""
    row = Played(
        fault.name,
        front,
        phase,
        options,
        came.kind,
        expected,
        came.outcome,
        came.admitted,
        max((float(found["ms"]) for found in own), default=0),
    )
    lets_in = OPTIONS[options][1]
    if expected not in _PLACES:  # an option decides, or something beside the module
        admitted = expected in lets_in
        outside = UNDISTURBED[came.kind] if fault.settled else OUTSIDE
        wanted = outside if admitted else REFUSED
        if came.outcome not in ((wanted, GONE) if expected == GONE else (wanted,)):
            row.wrong.append(f"{came.outcome} where it has to be {wanted} ({came.shown.strip()})")
        if expected == GONE and BY_US in came.shown:
            row.wrong.append(f"the module has refused it ({came.shown.strip()})")
        as_said = situation == expected or fault.undecided
        if fault.logged and expected not in (REFUSED, GONE) and not as_said:
            row.wrong.append(f"logged as {situation!r}")
    elif came.outcome != expected and not (came.kind in fault.may_end and not came.admitted):
        row.wrong.append(f"{came.outcome} where it has to be {expected} ({came.shown.strip()})")
    if row.ms > fault.seconds * 1000:
        row.wrong.append(f"it took {row.ms / 1000:.1f} s")
    if came.left:
        row.wrong.append(f"left in sshd: {came.left}")
    touched = fault.touches(front, phase)
    said = fault.said(phase)
    if (
        fault.logged
        and (came.kind in touched or not touched)
        and said
        and not any(said in line for line in log)
    ):
        row.wrong.append(f"nothing says {said!r}")
    return row


_PLACES = {OUTSIDE, OWN, SOURCE, NEWEST}
