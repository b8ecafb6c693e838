"""Who gets in by the PAM stack of the service: whom this module refuses, root, and who goes by."""

from __future__ import annotations

import pwd
from itertools import islice
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.fronts import front_of, is_exec, passes
from slurm_adopt.cli.verdict.pam_line import PHASES

from .pam_lines import PAM, first_line
from .pam_modules import is_missing, is_unread
from .pam_runs import action_of, anything, name_of, runs
from .pam_users import UID_MIN, is_meant, of_root, of_user, who

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.cli.verdict.fronts import Front
    from slurm_adopt.node.pam_files import Line, Stack

    from .pam_runs import Returns, Run


NOBODY = 65534
REFUSED = {  # phases of a login, and what it comes to where one refuses everybody
    "account": "every login is refused",
    "session": "every login is refused",
    "auth": "every login is refused that PAM authenticates, as by password",
}
_GUARD = "[success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"


def refusals(host: Host) -> Iterator[Seen]:
    """Whether what our lines refuse is refused."""
    for phase in PHASES:
        line = first_line(host, phase)
        if line is None:
            continue
        if any(run.opened and run.met for run in _refusing(host, phase)):
            title = f"a refusal by the {phase} line does not count"
            found = f"'{line.control}', or a line behind it, has PAM go on to a success"
            if is_exec(line) and not passes(line):  # as the control that belongs to it has it
                found = f"'{line.control}' with ignore_passes=0: the lines behind it decide"
                yield warning(title, found, *pam_line(line))
            else:
                yield error(title, found, *pam_line(line))
        else:
            yield ok(f"a refusal by the {phase} line counts", line.control, *pam_line(line))
    yield from _without_lines(host)


def root_gets_in(host: Host) -> Iterator[Seen]:
    """Whether root gets in: as it is, and where our lines cannot be run."""
    for phase in PHASES:
        line = first_line(host, phase)
        if line is None:
            continue
        stack = host.stack(phase)
        of_others = of_root(host.service)
        front = front_of(line)
        ways = {"": front.ignores, **{why: value for value, why in front.broken.items()}}
        wrong = ""
        for why, value in ways.items():
            ours = _of(front, value, lambda other: (front_of(other).ignores,))
            ended = runs(stack.lines, _where(of_others, ours), stack.ours[0])
            refused = [run for run in ended if not run.opened]
            if refused:
                wrong = _who_refuses(stack, refused[0], why)
                break
        if wrong:
            yield error(f"the {phase} phase can lock out root", wrong, *pam_line(line))
        else:
            yield ok(f"root gets through the {phase} phase, also where this module is broken")
    yield from _without_lines(host)


def account_reached(host: Host) -> Iterator[Seen]:
    """Tell what lets logins by in front of our account line."""
    ours = first_line(host, "account")
    if ours is None:
        yield skipped(f"there is no account line in {host.service}")
        return
    unmeant = [(line, value) for line, value in _past(host, "account") if not is_meant(line)]
    for line, value in unmeant:
        whom = who(line, value)
        title = f"{name_of(line)} in front of the account line lets users by"
        if _session_decides(host, line):
            found = f"the session line decides about {whom}, and refuses them late"
            yield warning(title, found, *pam_line(line))
        else:
            yield error(title, f"without a job get in: {whom}", *pam_line(line))
    late = [
        (line, value)
        for line, value in _past(host, "account")
        # Root is refused by no line of ours; an expired password is not what a line is meant for.
        if is_meant(line)
        and value != "new_authtok_reqd"
        and who(line, value) != "root"
        and _session_decides(host, line)
    ]
    for line, value in late:
        title = f"the session line refuses whom {name_of(line)} lets by in the account phase"
        yield warning(title, who(line, value), *pam_line(line))
    if not unmeant and not late:
        yield ok("no line in front of the account line ends the account phase", "", *pam_line(ours))


def who_gets_in(host: Host) -> Iterator[Seen]:
    """Who gets in without a job by the lines of the stack."""
    if first_line(host, "account") is None and first_line(host, "session") is None:
        yield skipped("this module has no line, so nobody needs a job")
        return
    people, others = free(host)
    found = f"{', '.join([*people, *others])}; also where this module is broken"
    if others:
        yield warning("more than the administrators' lines let users in without a job", found)
    elif people:
        verb = "gets" if people == ["root"] else "get"
        yield ok(f"without a job {verb} in: {', '.join(people)}", found)
    else:
        yield ok("no line of the stack lets anybody in without a job")


def free(host: Host) -> tuple[list[str], list[str]]:
    """Return who gets in without a job: by lines that are there for it, and by others."""
    phase = "account" if first_line(host, "account") else "session"
    past = _past(host, phase)
    kept = [one for one in past if phase == "session" or not _session_decides(host, one[0])]
    people = sorted({who(*one) for one in kept if is_meant(one[0])}, key=_root_first)
    return people, sorted({who(*one) for one in kept if not is_meant(one[0])})


def broken(host: Host) -> Iterator[Seen]:
    """Tell what users come to where our lines cannot be run."""
    lines = {phase: line for phase in PHASES if (line := first_line(host, phase))}
    fronts = [*{front_of(line).name: front_of(line) for line in lines.values()}.values()]
    wrong = False
    for front in fronts:
        for value, why in front.broken.items():
            ours = _of(front, value, _refuses)
            if all(any(r.opened and r.met for r in _walk(host, phase, ours)) for phase in lines):
                wrong = True
                line = next(one for one in lines.values() if front_of(one) == front)
                yield warning(f"users get in without a job where {why}", "", *pam_line(line))
    if fronts and not wrong:
        names = " or ".join(front.name for front in fronts)
        yield ok(f"users are refused where {names} or the script is missing")
    yield from _without_lines(host)


def modules_there(host: Host) -> Iterator[Seen]:
    """Whether a line wants a module that is not there, and refuses for it."""
    wrong = False
    for kind, comes_to in REFUSED.items():
        stack = host.stack(kind)
        missing = [
            line
            for line in stack.lines
            if line.ours is None
            and not is_unread(line)
            and is_missing(line)
            and action_of(line, "module_unknown") in ("bad", "die")
        ]
        if not missing:
            continue
        # Whom no way leads through for it; an account of another source may never come to it.
        refused = [user for user, uid in _some_users() if not _opens(host, kind, user, uid)]
        if not refused:
            continue
        wrong = True
        for line in missing:
            name = name_of(line)
            title = f"a line of the {kind} phase wants {name.rstrip()}, which is not there"
            found = comes_to if "root" in refused else f"{refused[0]} is refused"
            if name != name.rstrip():
                found += "; the name ends with a carriage return, as in files of DOS"
            yield error(title, found, *pam_line(line))
    if not wrong:
        yield ok("no line refuses because its module is not there")


def _some_users() -> list[tuple[str, int]]:
    """Return root, and the first account of a person that this host has."""
    people = (one for one in pwd.getpwall() if UID_MIN <= one.pw_uid < NOBODY)
    return [("root", 0), *((one.pw_name, one.pw_uid) for one in islice(people, 1))]


def _opens(host: Host, kind: str, user: str, uid: int) -> bool:
    """Say whether a way leads a user through a phase where this module lets everybody in."""
    returns = _where(of_user(user, uid, host.service), _lets_in)
    return any(run.opened for run in runs(host.stack(kind).lines, returns))


# What these share


def _without_lines(host: Host) -> Iterator[Seen]:
    if not any(first_line(host, phase) for phase in PHASES):
        yield skipped(f"this module has no line in {host.service}")


def _where(others: Returns, ours: Returns) -> Returns:
    """Return what lines return where ours return something apart."""
    return lambda line: others(line) if line.ours is None else ours(line)


def _of(front: Front, value: str, others: Returns) -> Returns:
    """Return what our lines return where those of one front return a value."""
    return lambda line: (value,) if front_of(line) == front else others(line)


def _refuses(line: Line) -> tuple[str, ...]:
    return front_of(line).refuses


def _lets_in(line: Line) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("success", front_of(line).ignores)))


def _walk(host: Host, phase: str, ours: Returns) -> set[Run]:
    stack = host.stack(phase)
    target = stack.ours[0] if stack.ours else None
    return runs(stack.lines, _where(anything, ours), target)


def _refusing(host: Host, phase: str) -> set[Run]:
    return host.once(f"runs {phase}", lambda: _walk(host, phase, _refuses))


def _past(host: Host, phase: str) -> list[tuple[Line, str]]:
    """Return the lines in front of ours that let a login by, and the values that do it."""
    lines = host.stack(phase).lines
    steps = {run.past for run in _refusing(host, phase) if run.opened and run.past}
    return [(lines[step.at], step.value) for step in sorted(steps)]


def _session_decides(host: Host, line: Line) -> bool:
    """Say whether who goes by our account line at a line has to pass our session line."""
    if first_line(host, "session") is None:
        return False
    if any(run.opened and run.met for run in _refusing(host, "session")):
        return False
    return not any(
        line.module == other.module and line.arguments == other.arguments
        for other, _ in _past(host, "session")
    )


def _who_refuses(stack: Stack, run: Run, why: str) -> str:
    said = f"where {why}, " if why else ""
    if run.refused is None:
        return f"{said}no line of the stack says yes to root"
    return f"{said}root is refused by {stack.lines[run.refused.at]}"


def _root_first(name: str) -> tuple[bool, str]:
    return name != "root", name


CHECKS = (
    Check(
        "SA105",
        PAM,
        "refusals count",
        refusals,
        expected="The lines of this module are required, and no line behind them forgets a "
        "refusal.",
        why="The module refuses users without a job. With the controls optional and sufficient, "
        "and with reset behind it, PAM lets them in all the same.",
        fix="Make the control of this module's lines required.",
    ),
    Check(
        "SA106",
        PAM,
        "root gets in",
        root_gets_in,
        expected=f"Directly in front of each line of this module stands: {_GUARD}. Another line "
        "of the phase says yes to root.",
        why="The module never refuses root. It cannot answer where its script, or what runs it, is "
        "missing: PAM then refuses everybody whom no line has let by. So root could not log in to "
        "mend it.",
        fix="Put the guard directly in front of each line of this module. Where no other line of "
        "the phase says yes, its control has to be sufficient: docs/how-to/install.md.",
        seconds=SLOW,
    ),
    Check(
        "SA107",
        PAM,
        "the account line is reached",
        account_reached,
        expected="In front of the account line nothing ends the phase with a success, but for "
        "root's guard and administrators' lines.",
        why="Who is let by in front of the account line is not asked for a job there. An include "
        "is textual: a line that ends it ends the whole phase. Debian's common-account ends it "
        "for an expired password, RHEL's password-auth for every user of /etc/passwd.",
        fix="Put the account lines in front of the include of the account phase.",
    ),
    Check(
        "SA108",
        PAM,
        "who gets in without a job",
        who_gets_in,
        expected="Root gets in without a job, and those whom the site means to let in.",
        why="Whom a line lets by in front of this module needs no job, and is in none. That holds "
        "also where the module is broken.",
        fix="Take out the named lines, or put them behind this module's. Administrators have "
        "lines of their own: docs/how-to/administrators.md.",
    ),
    Check(
        "SA109",
        PAM,
        "users where the module is broken",
        broken,
        expected="Users are refused where the module cannot be run.",
        why="A package that is removed by mistake then opens the node to everybody.",
        fix="Make the control of this module's lines required. Leave it as it is where one image "
        "is shared with machines that have no pam_python: docs/how-to/images.md.",
    ),
    Check(
        "SA114",
        PAM,
        "the modules of other lines are there",
        modules_there,
        expected="Each module whose failure would refuse is installed.",
        why="A missing module counts as one that has failed, also with a - in front of the line. "
        "A control such as required then refuses everybody, root as well.",
        fix="Install the package that has the module, or take the line out. In a file with line "
        "ends of DOS a name ends with a carriage return: remove these.",
    ),
)
