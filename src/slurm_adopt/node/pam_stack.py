"""What a service's PAM stack may do: whether our session line is sure to come, and to count.

The account phase leaves the adoption to the session phase where `expected` has no doubt.
A login that neither phase adopts is the worst mistake, so whatever libpam's releases read in
different ways, or only with an error in its log, makes our line uncertain (pam_files.py).

Source: pam_dispatch.c of Linux-PAM 1.1.8 to 1.7.2.
"""

from __future__ import annotations

from slurm_adopt.decision.options import parse

from .pam_files import DEPTH, PLACES, SCRIPTS, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from .pam_files import Action, Actions, Line, Stack

    # Of a run through a stack: whether it is refused by now, and what became of the target.
    State = tuple[bool, str]

# pam_succeed_if(8): root's guard, and what a condition on the user alone is made of
_GUARD = ["quiet", "uid", "eq", "0"]
_GUARDS: Actions = {"success": 1, "default": "ignore"}
FLAGS = ("audit", "debug", "quiet", "quiet_fail", "quiet_success")
_SUBJECTS = ("gid", "uid", "user")
_TESTS = (
    *("=", "!=", "=~", "!~", "eq", "ne", "in", "notin"),
    *("lt", "<", "le", "<=", "gt", ">", "ge", ">="),
)
_GROUPS = ("ingroup", "notingroup")

EXEC = "pam_exec.so"
# pam_exec(8): those that change nothing but what is shown, logged, and with which uid
EXEC_OPTIONS = ("debug", "quiet", "quiet_log", "seteuid", "stdout")

# What became of the target, a line that is looked for
_AHEAD, _MET, _REFUSED, _MISSED = "ahead", "met", "refused", "missed"


def why_uncertain(
    service: str, places: tuple[str, ...] = PLACES, since: float = float("inf")
) -> str:
    """Return "" if our session line comes in each session that is opened, and its refusal counts.

    Otherwise a short reason for the log. Logins of root that the documented guard lets jump over
    our line do not count, nor do logins that jump over our account line by the same condition.
    `since`: when the login began, in seconds since the epoch. libpam has read the files once, some
    time after that; what has changed by now may have been otherwise then.
    """
    return expected(service, places, since)[0]


def expected(
    service: str, places: tuple[str, ...] = PLACES, since: float = float("inf")
) -> tuple[str, list[str] | None]:
    """Return why it is uncertain, "" if it is not, and our session line's options."""
    stack = read("session", service, places, since)
    line = _our_line(stack)
    return _doubt(stack, service, places, since), line.ours if line else None


def _doubt(stack: Stack, service: str, places: tuple[str, ...], since: float) -> str:
    if "/" in service or service.lower() == "other":  # libpam reads `other` twice
        return f"libpam reads no stack for a service named {service}"
    if stack.flaw or len(stack.ours) != 1:
        return stack.flaw or f"{service} has {len(stack.ours) or 'no'} session lines of this module"
    line = stack.lines[stack.ours[0]]
    return _unfit(line, service) or _unreached(stack, service, places, since)


def session_line(service: str, places: tuple[str, ...] = PLACES) -> list[str] | None:
    """Return the arguments that a service's session line gives this module.

    None where there is no such line, where its failure would count for nothing (`optional`), or
    where a line in front of it may end the stack with a success. A jump over our line is its
    author's will.
    """
    line = _our_line(read("session", service, places))
    return line.ours if line else None


def _our_line(stack: Stack) -> Line | None:
    """Return our session line of a stack, if it counts."""
    ended = DEPTH + 1  # the level that has ended
    for line in stack.lines:
        if line.level >= ended:
            continue
        ended = DEPTH + 1
        if line.ours is not None and line.actions["default"] in ("bad", "die"):
            return line
        if "done" in line.actions.values():
            ended = line.level
    return None


def joins(service: str, places: tuple[str, ...] = PLACES) -> bool:
    """Return whether a session line of this module will enter namespaces."""
    line = _our_line(read("session", service, places))
    if line is None or line.module.rpartition("/")[2] == EXEC:  # which cannot, for its parent
        return False
    options, _ = parse(line.ours or [])
    return options.on("join_container") and options["service"] in ("*", service)


def _unfit(line: Line, service: str) -> str:
    """Return why our line does not count even if it is reached, or ""."""
    if not runs_script(line):
        return f"{line} does not run its script by pam_python.so or pam_exec.so"
    if line.control.lower() not in ("required", "requisite"):
        return f"{line} is neither required nor requisite"
    options, _ = parse(line.ours or [])
    if options["service"] not in ("*", service):
        return f"{line} is for another service"
    return ""


def runs_script(line: Line) -> bool:
    """Say whether a line has its module run the script of ours that is made for it.

    pam_exec takes options of its own in front of it; `type=` among them has it answer one phase
    alone.
    """
    module, words = line.module.rpartition("/")[2], line.arguments
    if module == EXEC:
        while words and words[0].lower() in EXEC_OPTIONS:
            words = words[1:]
    return bool(words) and words[0].rpartition("/")[2] == SCRIPTS.get(module)


def _unreached(stack: Stack, service: str, places: tuple[str, ...], since: float) -> str:
    """Return how a session may be opened without our line, or against its refusal; else ""."""
    ours = stack.ours[0]
    excused = {index for index in range(ours) if is_guard(stack.lines[index])}
    reason = _escape(stack.lines, ours, excused)
    if not reason or not any(is_of_user(line) for line in stack.lines[:ours]):
        return reason
    account = read("account", service, places, since)
    excused.update(i for i in range(ours) if _is_twin(stack.lines, i, ours, account))
    return _escape(stack.lines, ours, excused)


def _escape(lines: list[Line], ours: int, excused: Container[int]) -> str:
    """Return how a run through a stack may succeed without our line or its consent; else ""."""
    for (refused, fate), why in _walk(lines, ours, excused)[-1].items():
        if not refused and fate != _MET:
            return why
    return ""


def _walk(lines: list[Line], target: int, excused: Container[int] = ()) -> list[dict[State, str]]:
    """Return for each line, and for the end, in which states a run may come there, and why.

    Each line may return any value each time. A run counts as a success unless a line refused: that
    at least one must have succeeded is left out, and a `reset` forgets all refusals, even those of
    before its substack. Jumps over the target from `excused` lines are not followed.
    """
    states: list[dict[State, str]] = [{} for _ in range(len(lines) + 1)]
    states[0][False, _AHEAD] = ""
    for index, line in enumerate(lines):
        for (refused, fate), why in states[index].items():
            for action in _possible(line):
                after, now = _step(lines, index, action, refused=refused)
                then = _fate(fate, index, after, target, action)
                missed = then == _MISSED != fate
                if missed and index in excused and isinstance(action, int):
                    continue
                because = f"{line} {_blame(action)}" if missed or (refused and not now) else why
                states[after].setdefault((now, then), because)
    return states


def _possible(line: Line) -> dict[Action, None]:
    """Return the actions that may follow a line; a value that PAM does not know is `bad`."""
    return dict.fromkeys((*line.actions.values(), "bad") if line.actions else ("ignore",))


def _step(lines: list[Line], index: int, action: Action, *, refused: bool) -> tuple[int, bool]:
    """Return the line that follows an action, and whether the run is refused by then."""
    if isinstance(action, int):
        after, complete = jump(lines, index, action)
        return after, refused or not complete
    if action == "die" or (action == "done" and not refused):
        return end_of(lines, index), action == "die"
    return index + 1, action == "bad" or (refused and action != "reset")


def jump(lines: Sequence[Line], index: int, count: int) -> tuple[int, bool]:
    """Return where a jump ends, and whether there were lines enough.

    A substack counts as one line. None jumps out of its own.
    """
    level = lines[index].level
    after = index + 1
    while count and after < len(lines) and lines[after].level >= level:
        after += 1
        while after < len(lines) and lines[after].level > level:
            after += 1
        count -= 1
    return after, not count


def end_of(lines: Sequence[Line], index: int) -> int:
    """Return the line that follows if a line ends the stack, or the substack, that it is in."""
    level = lines[index].level
    rest = range(index + 1, len(lines))
    return next((after for after in rest if lines[after].level < level), len(lines))


def _fate(fate: str, index: int, after: int, target: int, action: Action) -> str:
    if fate != _AHEAD:
        return fate
    if index == target:
        return _REFUSED if action in ("bad", "die") else _MET
    return _MISSED if after > target else _AHEAD


def _blame(action: Action) -> str:
    if isinstance(action, int):
        return "may jump over this module's line"
    return (
        "may undo a refusal" if action == "reset" else "may end the stack before this module's line"
    )


def is_guard(line: Line) -> bool:
    """Say whether a line is the documented guard for root."""
    return (
        line.module == "pam_succeed_if.so" and line.arguments == _GUARD and line.actions == _GUARDS
    )


def _is_twin(lines: list[Line], index: int, ours: int, account: Stack) -> bool:
    """Say whether all who jump over our session line at this one jump over our account line, too.

    They do if each way to our account line leads through the same line as this one, and whatever
    lets it jump over the session line lets it jump over the account line.
    """
    line = lines[index]
    twins = [i for i, other in enumerate(account.lines) if other.is_like(line)]
    if account.flaw or len(account.ours) != 1 or len(twins) != 1 or not is_of_user(line):
        return False
    target, twin = account.ours[0], twins[0]
    counts = [action for action in line.actions.values() if isinstance(action, int)]
    over = [count for count in counts if jump(lines, index, count)[0] > ours]
    return (
        twin < target
        and all(fate != _MISSED for _, fate in _walk(account.lines, twin)[target])
        and all(jump(account.lines, twin, count)[0] > target for count in over)
    )


def is_of_user(line: Line) -> bool:
    """Say whether a line asks pam_succeed_if of nothing but what both phases see alike."""
    words = [word for word in line.arguments if word not in FLAGS]
    return (
        line.module == "pam_succeed_if.so"
        and len(words) % 3 == 0 != len(words)
        and "use_uid" not in words
        and all(word in _SUBJECTS for word in words[::3])
        and all(word in (*_TESTS, *_GROUPS) for word in words[1::3])
    )
