"""The PAM stack of the service: this module's lines, and what others do in front and behind."""

from __future__ import annotations

import os
import pwd
from itertools import islice
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.bridge.owners import Groups, all_others_may_write
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.pam_line import PHASES, where
from slurm_adopt.decision.outcome import REFUSALS
from slurm_adopt.node import pam_stack
from slurm_adopt.node.pam_files import PLACES, SCRIPT, TYPES

from .pam_modules import is_missing, is_unread
from .pam_runs import action_of, anything, name_of, runs
from .pam_start import is_refused
from .pam_users import UID_MIN, is_meant, of_root, of_user, who

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.node.pam_files import Line, Stack

    from .pam_runs import Returns, Run

PAM = "PAM"
NO = tuple(sorted(code.removeprefix("PAM_").lower() for code in REFUSALS))
BROKEN = {
    "module_unknown": "pam_python.so cannot be loaded",
    "open_err": "the script cannot be read",
}
MOVERS = ("pam_systemd.so", "pam_elogind.so", "pam_cgroup.so", "pam_cgfs.so", "pam_cgm.so")
NOBODY = 65534
REFUSED = {  # phases of a login, and what it comes to where one refuses everybody
    "account": "every login is refused",
    "session": "every login is refused",
    "auth": "every login is refused that PAM authenticates, as by password",
}
SLURM_S = ("pam_slurm.so", "pam_slurm_adopt.so")

PROFILES, ACTIVE = "/usr/share/pam-configs", "/var/lib/pam"  # of pam-auth-update
AUTHSELECT = "/etc/authselect"


def files_read(host: Host) -> Iterator[Seen]:
    """Whether the service has a file, and whether libpam reads all of it as it is written."""
    path = _file_of(host)
    if not path:
        yield error(f"there is no PAM file for the service {host.service}", file=PLACES[0])
        return
    flaws = {host.stack(kind).flaw: host.stack(kind).flaw_at for kind in TYPES}
    flaws.pop("", None)
    if flaws and is_refused(host.service):
        flaw, (file, line) = next(iter(flaws.items()))
        yield error(f"libpam refuses {host.service} as a whole: nobody gets in", flaw, file, line)
    for flaw, (file, line) in flaws.items():
        yield warning("a PAM file is not surely read as it is written", flaw, file or path, line)
    for phase in PHASES:
        for unread in filter(is_unread, host.stack(phase).lines):
            title = f"{unread.control} of a file that is not there: every login is refused"
            yield error(title, unread.module, *pam_line(unread))
    empty = [phase for phase in PHASES if not host.stack(phase).lines]
    for phase in empty:
        yield error(f"{host.service} has no {phase} line: libpam takes those of other", "", path)
    if not flaws and not empty:
        yield ok(f"the PAM files of {host.service} are read as they are written", file=path)


def files_owned(host: Host) -> Iterator[Seen]:
    """Whether only root may write the files of the stack."""
    groups = host.once("groups", Groups)
    paths = [path for kind in TYPES for path in host.stack(kind).paths]
    bad = list(all_others_may_write(paths, groups))
    for path, why in bad:
        yield error("others than root may write a PAM file", f"{path} {why}", path)
    if paths and not bad:
        yield ok(f"only root may write the PAM files of {host.service}")
    if not paths:
        yield skipped(f"no PAM file of {host.service} can be read")


def account_line(host: Host) -> Iterator[Seen]:
    """How many account lines there are."""
    yield from _lines_of(host, "account", "session")


def session_line(host: Host) -> Iterator[Seen]:
    """How many session lines there are."""
    yield from _lines_of(host, "session", "account")


def refusals(host: Host) -> Iterator[Seen]:
    """Whether what our lines refuse is refused."""
    for phase in PHASES:
        line = _first(host, phase)
        if line is None:
            continue
        if any(run.opened and run.met for run in _refusing(host, phase)):
            found = f"'{line.control}', or a line behind it, has PAM go on to a success"
            yield error(f"a refusal by the {phase} line does not count", found, *pam_line(line))
        else:
            yield ok(f"a refusal by the {phase} line counts", line.control, *pam_line(line))
    yield from _without_lines(host)


def root_gets_in(host: Host) -> Iterator[Seen]:
    """Whether root gets in: as it is, and where our lines cannot be run."""
    for phase in PHASES:
        line = _first(host, phase)
        if line is None:
            continue
        stack = host.stack(phase)
        of_others = of_root(host.service)
        ways = {"": "ignore", **{why: value for value, why in BROKEN.items()}}
        wrong = ""
        for why, value in ways.items():
            ended = runs(stack.lines, _where(of_others, [value]), stack.ours[0])
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
    ours = _first(host, "account")
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
    if _first(host, "account") is None and _first(host, "session") is None:
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
    phase = "account" if _first(host, "account") else "session"
    past = _past(host, phase)
    kept = [one for one in past if phase == "session" or not _session_decides(host, one[0])]
    people = sorted({who(*one) for one in kept if is_meant(one[0])}, key=_root_first)
    return people, sorted({who(*one) for one in kept if not is_meant(one[0])})


def broken(host: Host) -> Iterator[Seen]:
    """Tell what users come to where our lines cannot be run."""
    phases = [phase for phase in PHASES if _first(host, phase)]
    open_ = {
        value: all(
            any(run.opened and run.met for run in _walk(host, phase, [value])) for phase in phases
        )
        for value in BROKEN
    }
    for value, lets_in in open_.items():
        if phases and lets_in:
            line = _first(host, phases[0])
            place = pam_line(line) if line else ("", 0)
            yield warning(f"users get in without a job where {BROKEN[value]}", "", *place)
    if phases and not any(open_.values()):
        yield ok("users are refused where pam_python or the script is missing")
    yield from _without_lines(host)


def certain(host: Host) -> Iterator[Seen]:
    """Whether the account phase leaves the adoption to the session line."""
    line = _first(host, "session")
    if line is None:
        yield skipped(f"there is no session line in {host.service}")
        return
    why = pam_stack.why_uncertain(host.service)
    if why:
        yield warning("the session line is not certain to come", why, *pam_line(line))
    else:
        yield ok("the session line is certain to come", "", *pam_line(line))


def movers(host: Host) -> Iterator[Seen]:
    """Whether a module moves sessions out of their jobs."""
    stack = host.stack("session")
    there = [index for index, line in enumerate(stack.lines) if name_of(line) in MOVERS]
    if not there:
        yield ok("no module of the session phase moves sessions")
        return
    if not stack.ours and _first(host, "account") is None:
        yield skipped("this module has no line that could be in front of another")
        return
    for index in there:
        line = stack.lines[index]
        if not stack.ours:
            found = "there is no session line of this module that would bring it back"
        elif index > stack.ours[-1]:
            last = where(stack.lines[stack.ours[-1]])
            found = f"it stands behind the session line of this module ({last})"
        else:
            yield ok(f"{name_of(line)} stands in front of the session line", "", *pam_line(line))
            continue
        yield error(f"{name_of(line)} moves sessions out of their jobs", found, *pam_line(line))


def slurm_s_own(host: Host) -> Iterator[Seen]:
    """Whether Slurm's PAM modules stand beside ours."""
    there = [
        line for phase in TYPES for line in host.stack(phase).lines if name_of(line) in SLURM_S
    ]
    for line in there:
        yield error(f"{name_of(line)} stands beside this module", str(line), *pam_line(line))
    if not there:
        yield ok("no PAM module of Slurm's stands beside this module")


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
    returns = _where(of_user(user, uid, host.service), ["success", "ignore"])
    return any(run.opened for run in runs(host.stack(kind).lines, returns))


def tools(host: Host) -> Iterator[Seen]:
    """Whether a tool writes the files that our lines stand in."""
    bad = list(_tools(host))
    yield from bad
    if not bad:
        yield ok("this module's lines stand in no file that a tool writes", _profiles())


def _tools(host: Host) -> Iterator[Seen]:
    for line in host.all_our_lines():
        tool = _tool_of(line.path)
        if tool:
            yield warning(
                f"{tool} writes a file that a line of this module is in", "", *pam_line(line)
            )
    for path, number, name in _profiles_with_ours():
        yield warning(
            f"pam-auth-update's profile {name} has a line of this module", "", path, number
        )
    if os.path.exists(f"{AUTHSELECT}/authselect.conf"):
        for name in ("system-auth", "password-auth"):
            path = f"{PLACES[0]}/{name}"
            if os.path.exists(path) and not os.path.realpath(path).startswith(f"{AUTHSELECT}/"):
                found = "it is no link to authselect's file, so authselect refuses to change it"
                yield warning(f"{name} was changed beside authselect", found, path)


def _tool_of(path: str) -> str:
    """Return which tool writes a file; "" for none."""
    if os.path.realpath(path).startswith(f"{AUTHSELECT}/"):
        return "authselect"
    name = os.path.basename(path)
    return "pam-auth-update" if name.startswith("common-") and os.path.isdir(PROFILES) else ""


def _profiles_with_ours() -> Iterator[tuple[str, int, str]]:
    """Yield the profiles of pam-auth-update that would bring a line of ours into every service."""
    for name in sorted(os.listdir(PROFILES)) if os.path.isdir(PROFILES) else ():
        path = f"{PROFILES}/{name}"
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, text in enumerate(file, 1):
                if SCRIPT in text and not text.startswith("#"):
                    yield path, number, name
                    break


def _profiles() -> str:
    """Return what the tools have in use."""
    try:
        with open(f"{AUTHSELECT}/authselect.conf", encoding="utf-8", errors="replace") as file:
            return f"authselect: {' '.join(file.read().split())}"
    except OSError:
        pass
    try:
        with open(f"{ACTIVE}/account", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("Module:")]
    except OSError:
        return ""
    return f"pam-auth-update: {', '.join(names)}" if names else ""


# What these share


def _file_of(host: Host) -> str:
    """Return the service's own file; "" where libpam would take that of `other`."""
    paths = [f"{place}/{host.service.lower()}" for place in PLACES]
    return next((path for path in paths if os.path.exists(path)), "")


def _first(host: Host, phase: str) -> Line | None:
    return next(iter(host.our_lines(phase)), None)


def _lines_of(host: Host, phase: str, other: str) -> Iterator[Seen]:
    lines = host.our_lines(phase)
    if len(lines) == 1:
        yield ok(f"there is one {phase} line of this module", str(lines[0]), *pam_line(lines[0]))
    elif lines:
        found = f"{len(lines)} lines; the first is in {where(lines[0])}"
        yield warning(f"there are several {phase} lines of this module", found, *pam_line(lines[1]))
    elif host.our_lines(other):
        yield warning(f"there is no {phase} line of this module", "", _file_of(host))
    else:
        yield error(f"there is no {phase} line of this module", "", _file_of(host))


def _without_lines(host: Host) -> Iterator[Seen]:
    if not any(_first(host, phase) for phase in PHASES):
        yield skipped(f"this module has no line in {host.service}")


def _where(others: Returns, ours: Iterable[str]) -> Returns:
    """Return what lines return where ours return these values."""
    values = tuple(ours)
    return lambda line: others(line) if line.ours is None else values


def _walk(host: Host, phase: str, ours: Iterable[str]) -> set[Run]:
    stack = host.stack(phase)
    target = stack.ours[0] if stack.ours else None
    return runs(stack.lines, _where(anything, ours), target)


def _refusing(host: Host, phase: str) -> set[Run]:
    return host.once(f"runs {phase}", lambda: _walk(host, phase, NO))


def _past(host: Host, phase: str) -> list[tuple[Line, str]]:
    """Return the lines in front of ours that let a login by, and the values that do it."""
    lines = host.stack(phase).lines
    steps = {run.past for run in _refusing(host, phase) if run.opened and run.past}
    return [(lines[step.at], step.value) for step in sorted(steps)]


def _session_decides(host: Host, line: Line) -> bool:
    """Say whether who goes by our account line at a line has to pass our session line."""
    if _first(host, "session") is None:
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


_GUARD = "[success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"

CHECKS = (
    Check(
        "SA101",
        PAM,
        "the service's PAM files are read as written",
        files_read,
        expected="The service has a file, and every release of libpam reads it alike.",
        why="Where a service has no file libpam takes that of other. Where a line is not "
        "understood libpam refuses, or reads something else than is written there. This module "
        "then takes its session line for uncertain, and adopts in the account phase.",
        fix="Write the named line as pam.conf(5) has it: type, control, module, arguments. It has "
        "to be ASCII and shorter than 1000 bytes, without a comment inside a continued line.",
    ),
    Check(
        "SA102",
        PAM,
        "only root may write the PAM files",
        files_owned,
        expected="The PAM files and the directories above them belong to root, and nobody else "
        "may write to them.",
        why="Who writes these files decides who logs in, as root too.",
        fix="Run chown root:root and chmod go-w on what is named.",
        seconds=SLOW,
    ),
    Check(
        "SA103",
        PAM,
        "one account line",
        account_line,
        expected="The stack of the service has one account line of this module.",
        why="The account line decides and refuses before sshd has taken the login. With the "
        "session line alone a refusal comes late, and the client shows no reason. A second line "
        "decides a second time.",
        fix="Put the two account lines in front of the include of the account phase, as "
        "docs/how-to/install.md shows them. Take out a second one.",
    ),
    Check(
        "SA104",
        PAM,
        "one session line",
        session_line,
        expected="The stack of the service has one session line of this module.",
        why="Without the session line the account phase adopts a login that is not finished yet. "
        "It needs a watcher then. What moves the session later takes it out of the job. A second "
        "line makes the session line uncertain.",
        fix="Put the two session lines behind the last session line, as docs/how-to/install.md "
        "shows them. Take out a second one.",
    ),
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
        why="The module never refuses root. It cannot answer where its script or pam_python is "
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
        "SA110",
        PAM,
        "the session line is certain to come",
        certain,
        expected="The session line comes in each session that is opened.",
        why="The account phase leaves the adoption to the session line only then. Otherwise it "
        "adopts a login that is not finished yet, and a watcher looks after it.",
        fix="Put the session lines last, required, with the options of the account line. No line "
        "in front of them may end the phase or jump over them.",
    ),
    Check(
        "SA111",
        PAM,
        "nothing moves the session out of its job",
        movers,
        expected="pam_systemd, and others that move sessions, stand in front of the session line "
        "or are not in the stack.",
        why="What moves the session behind this module takes it out of the job. The session then "
        "has no limits and outlives the job, and the log says that it was adopted.",
        fix="Put this module's session lines behind it, or take it out of the service's stack: "
        "docs/how-to/pam-systemd.md.",
    ),
    Check(
        "SA112",
        PAM,
        "none of Slurm's PAM modules",
        slurm_s_own,
        expected="Neither pam_slurm.so nor pam_slurm_adopt.so is in the stack of the service.",
        why="pam_slurm_adopt.so adopts the login into a job that it chooses by itself, perhaps "
        "another one. pam_slurm.so refuses by slurmctld's answer.",
        fix="Take the named line out: docs/how-to/migrate.md.",
    ),
    Check(
        "SA113",
        PAM,
        "no tool rewrites the lines",
        tools,
        expected="The lines of this module are in the service's own file.",
        why="pam-auth-update and authselect write these files again, and other services read them "
        "as well.",
        fix="Move this module's lines to the service's own file in /etc/pam.d. Undo other changes "
        "by authselect apply-changes --force, or make a profile of your own.",
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
