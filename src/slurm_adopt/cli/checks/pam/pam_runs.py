"""Which ways lead through a PAM stack, and to what end: all of them are walked.

Source: pam_dispatch.c of Linux-PAM 1.1.8 to 1.7.2, as for node/pam_stack.py. That module answers
one question at a login and errs on the safe side; this one follows what each line may return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple

from slurm_adopt.node.pam_stack import end_of, jump

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from slurm_adopt.node.pam_files import Action, Line

    Returns = Callable[[Line], Iterable[str]]

# What a stack has come to by now. PAM opens nothing without a success. A refusal outweighs all
# else; with `ok` a line may also make a value the answer that is no success (ODD).
NOTHING, GOOD, ODD, BAD = "nothing", "good", "odd", "bad"
LETS_IN = ("success", "new_authtok_reqd")  # sshd has an expired password changed, and lets in
UNNAMED = ("perm_denied", "auth_err", "user_unknown", "cred_err", "bad_item")

# What some modules return, where it is not just anything.
RETURNS = {
    "pam_permit.so": ("success",),
    "pam_deny.so": ("auth_err",),
    "pam_warn.so": ("ignore",),
    "pam_succeed_if.so": ("success", "auth_err"),
    "pam_localuser.so": ("success", "perm_denied"),
    "pam_usertype.so": ("success", "auth_err"),
}


class Step(NamedTuple):
    """A line of a stack, by its index, and what it has returned."""

    at: int
    value: str


class Run(NamedTuple):
    """How a run through a stack ends.

    `met`: the target was asked; `past`: what led past it; `refused`: what was the first to refuse,
    None also where nobody has said yes.
    """

    opened: bool
    met: bool
    past: Step | None
    refused: Step | None


class _State(NamedTuple):
    verdict: str
    saved: tuple[str, ...]  # the verdict in front of each substack that we are in
    met: bool
    past: Step | None


def runs(lines: Sequence[Line], returns: Returns, target: int | None = None) -> set[Run]:
    """Return how runs through a stack may end; `returns` tells what a line may return.

    Of runs that end alike, but for what has refused, there is one.
    """
    states: list[dict[_State, Step | None]] = [{} for _ in range(len(lines) + 1)]
    states[0][_State(NOTHING, (), False, None)] = None
    for index, line in enumerate(lines):
        for state, refused in states[index].items():
            here = state._replace(saved=state.saved[: line.level])
            if not line.actions:  # the mark in front of a substack's lines
                inside = here._replace(saved=(*here.saved, here.verdict))
                states[index + 1].setdefault(inside, refused)
                continue
            for value in returns(line):
                step = Step(index, value)
                after, then = _step(lines, step, here)
                if target is not None and not then.met and then.past is None:
                    past = step if index < target < after else None
                    then = then._replace(met=index == target, past=past)
                why = (refused or step) if then.verdict in (BAD, ODD) else None
                states[after].setdefault(then, why)
    return {Run(s.verdict == GOOD, s.met, s.past, why) for s, why in states[-1].items()}


def name_of(line: Line) -> str:
    """Return the name of a line's module, without a path."""
    return line.module.rpartition("/")[2]


def action_of(line: Line, value: str) -> Action:
    """Return what follows when a line returns a value."""
    return line.actions.get(value, line.actions["default"])


def anything(line: Line) -> Iterator[str]:
    """Yield values enough that everything follows that may follow this line."""
    if name_of(line) in RETURNS:
        yield from RETURNS[name_of(line)]
        return
    yield "success"
    yield from (value for value in line.actions if value not in ("success", "default"))
    yield next(value for value in UNNAMED if value not in line.actions)


def _step(lines: Sequence[Line], step: Step, state: _State) -> tuple[int, _State]:
    """Return the line that follows, and what the stack has come to by then."""
    line = lines[step.at]
    action = action_of(line, step.value)
    verdict = state.verdict
    after = step.at + 1
    if isinstance(action, int):
        after, complete = jump(lines, step.at, action)
        verdict = verdict if complete else BAD
    elif action in ("ok", "done"):
        if step.value != "ignore" and verdict in (NOTHING, GOOD):
            verdict = GOOD if step.value in LETS_IN else ODD
        if action == "done" and verdict in (GOOD, ODD):
            after = end_of(lines, step.at)
    elif action in ("bad", "die"):
        verdict = BAD
        after = end_of(lines, step.at) if action == "die" else after
    elif action == "reset":
        verdict = state.saved[-1] if state.saved else NOTHING
    return after, state._replace(verdict=verdict)
