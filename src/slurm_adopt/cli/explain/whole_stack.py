"""What sshd, and the other lines of the service's PAM stack, make of this module's answer.

They may let a user in without asking this module, or refuse whom it lets in. What is known of them
is what shows without asking them: pam_users.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.checks.pam.pam_modules import is_missing
from slurm_adopt.cli.checks.pam.pam_runs import action_of, name_of, runs
from slurm_adopt.cli.checks.pam.pam_start import is_refused
from slurm_adopt.cli.checks.pam.pam_users import of_user
from slurm_adopt.cli.verdict.fronts import exec_words, is_exec, is_kept_out, passes, returns
from slurm_adopt.cli.verdict.pam_line import script_of
from slurm_adopt.decision.options import parse
from slurm_adopt.node import pam_files

from . import sshd_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from slurm_adopt.cli.checks.pam.pam_runs import Run
    from slurm_adopt.cli.verdict.verdict import Verdict
    from slurm_adopt.node.pam_files import Line, Stack

    # In: let in without a job; perhaps: some ways lead there; refused: by another line.
    Change = Literal["let in", "perhaps let in", "refused"]

PHASES = ("account", "session")
NO_SCRIPT = "this module's script is not there"


class Other(NamedTuple):
    """What becomes of the user, other than this module says, and the line that does it."""

    outcome: Change
    why: str
    file: str
    line: int

    def as_dict(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        where = {"file": self.file, "line": self.line}
        return {"outcome": self.outcome, "why": self.why, "where": where}


class _Phase(NamedTuple):
    name: str
    stack: Stack
    runs: set[Run]

    @property
    def opened(self) -> list[Run]:
        return [run for run in self.runs if run.opened]


def other_end(found: Verdict) -> Other | None:
    """Return what becomes of the user instead; None where it is left at the answer."""
    login = found.login
    if login.user is None or login.uid is None:
        return None
    refusing, without_pam = sshd_rules.of(login.user, login.service)
    if refusing:
        why, (file, line) = refusing
        return None if found.end == "refused" else Other("refused", why, file, line)
    if without_pam:
        why, (file, line) = without_pam
        return Other("let in", why, file, line) if found.end in ("adopted", "refused") else None
    return _of_stack(found, login.user, login.uid)


def _of_stack(found: Verdict, user: str, uid: int) -> Other | None:
    login = found.login
    stacks = {phase: pam_files.read(phase, login.service, pam_files.PLACES) for phase in PHASES}
    if not any(stack.ours for stack in stacks.values()) or not all(
        stack.lines for stack in stacks.values()
    ):
        return None  # it is said that there is no line; libpam takes the lines of `other`
    if found.end != "refused" and (refused := _as_a_whole(login.service)):
        return refused
    others = of_user(user, uid, login.service)
    code = found.outcome.code
    account = stacks["account"]
    # Each account line decides for itself; the session phase keeps what came of it.
    more = [account.lines[index] for index in account.ours[1:]]
    of_line = {id(line): found.but(parse(line.ours or [])[0]).outcome.code for line in more}

    def walk(phase: str) -> _Phase:
        def of_ours(line: Line) -> str:
            return _broken(line, phase) or returns(line, of_line.get(id(line), code), uid)

        stack = stacks[phase]
        values = lambda line: others(line) if line.ours is None else (of_ours(line),)  # noqa: E731
        return _Phase(
            phase, stack, runs(stack.lines, values, stack.ours[0] if stack.ours else None)
        )

    return _end(found, [walk(phase) for phase in PHASES], uid)


def _end(found: Verdict, walked: list[_Phase], uid: int) -> Other | None:
    """Return what becomes of the user by the ways through both phases."""
    closed = next((phase for phase in walked if not phase.opened), None)
    if closed is not None:
        return None if found.end == "refused" else _refused(closed, found)
    if found.end == "ignored" and (line := _ends_the_stack(walked[0], uid)):
        why = "ignore_passes=1, and a success ends the stack: no other line decides"
        return Other("let in", why, line.path, line.number)
    asked = any(run.met for phase in walked for run in phase.opened)
    goes_by = found.end == "refused" or (found.end == "adopted" and not asked)
    return _let_in(walked) if goes_by else None


def _as_a_whole(service: str) -> Other | None:
    """Say whether libpam refuses the service as a whole, and where it is wrong."""
    for phase in pam_files.TYPES:
        stack = pam_files.read(phase, service, pam_files.PLACES)
        if stack.flaw:
            if not is_refused(service):
                break
            return Other("refused", f"libpam refuses {service}: {stack.flaw}", *stack.flaw_at)
    return None


def _broken(line: Line, phase: str) -> str:
    """Return what a line of ours returns where it cannot be run; "" where it can."""
    if is_missing(line):
        return "module_unknown"
    path = script_of(line)
    if not is_exec(line):
        return "" if os.path.isfile(path) else "open_err"
    if is_kept_out(line, phase):
        return "ignore"
    runs = exec_words(line)[1] == path and os.path.isfile(path) and os.access(path, os.X_OK)
    return "" if runs else "system_err"


def _ends_the_stack(account: _Phase, uid: int) -> Line | None:
    """Return our account line if what stands for its PAM_IGNORE ends the stack; root goes by."""
    line = account.stack.lines[account.stack.ours[0]] if account.stack.ours else None
    if line is None or not uid or not is_exec(line) or _broken(line, account.name):
        return None
    return line if passes(line) and action_of(line, "success") == "done" else None


def _refused(phase: _Phase, found: Verdict) -> Other:
    """Say which line refuses."""
    steps = sorted(run.refused for run in phase.runs if run.refused)
    if not steps:
        return Other("refused", "no line of the stack says yes", "", 0)
    line = phase.stack.lines[steps[0].at]
    why = f"{name_of(line)} refuses"
    if is_missing(line):
        why = f"there is no {line.module}"
    elif line.ours is not None:
        why = "this module's second line refuses"
        if _broken(line, phase.name):
            why = "this module's script cannot be run" if is_exec(line) else NO_SCRIPT
        elif found.end == "ignored" and not passes(line):
            why = "ignore_passes=0, and a failure refuses"
    return Other("refused", why, line.path, line.number)


def _let_in(walked: list[_Phase]) -> Other:
    """Say which line lets the user in without this module's consent."""
    sure = all(run.opened for phase in walked for run in phase.runs)
    outcome: Change = "let in" if sure else "perhaps let in"
    line = next(_culprits(walked), None)
    if line is None:
        return Other(outcome, "this module is not asked", "", 0)
    if line.ours is not None:
        return Other(outcome, "the refusal does not count", line.path, line.number)
    return Other(outcome, f"{name_of(line)} leads past this module", line.path, line.number)


def _culprits(walked: list[_Phase]) -> Iterator[Line]:
    for phase in walked:
        for past in sorted({run.past for run in phase.opened if run.past}):
            yield phase.stack.lines[past.at]
    for phase in walked:
        if any(run.met for run in phase.opened):
            yield phase.stack.lines[phase.stack.ours[0]]
