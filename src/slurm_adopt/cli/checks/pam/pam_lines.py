"""The PAM files of the service, and this module's lines in them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.bridge.owners import all_others_may_write
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.pam_line import PHASES, where
from slurm_adopt.node import pam_stack
from slurm_adopt.node.pam_files import PLACES, SCRIPTS, TYPES

from .pam_modules import is_unread
from .pam_runs import name_of
from .pam_start import is_refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.node.pam_files import Line


PAM = "PAM"
MOVERS = ("pam_systemd.so", "pam_elogind.so", "pam_cgroup.so", "pam_cgfs.so", "pam_cgm.so")
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
    paths = [path for kind in TYPES for path in host.stack(kind).paths]
    bad = list(all_others_may_write(paths))
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


def certain(host: Host) -> Iterator[Seen]:
    """Whether the account phase leaves the adoption to the session line."""
    line = first_line(host, "session")
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
    if not stack.ours and first_line(host, "account") is None:
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
                if any(name in text for name in SCRIPTS.values()) and not text.startswith("#"):
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


def first_line(host: Host, phase: str) -> Line | None:
    """Return the first of our lines in a stack."""
    return next(iter(host.our_lines(phase)), None)


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
)
