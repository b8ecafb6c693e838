"""The options of this module's lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.bridge.owners import others_may_write
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.verdict.fronts import is_exec
from slurm_adopt.cli.verdict.pam_line import PHASES, named, where
from slurm_adopt.decision.options import parse
from slurm_adopt.decision.outcome import REFUSALS, action_of
from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

from .pam_runs import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.decision.options import Options
    from slurm_adopt.node.pam_files import Line

OPTIONS = "options"
MESSAGE_LIMIT = 4096  # bytes, as in front/refusal_text.py
REPLACED = "uhjmr%"  # what stands behind a % of the message file

# What lets users in where something is wrong: option, value, and when that is.
FAIL_OPEN = (
    ("action_no_jobs", "ignore", "users without a job are left to the lines behind"),
    ("action_unknown", "allow", "users with several jobs get in without adoption"),
    ("action_adopt_failure", "allow", "users whose adoption fails get in without limits"),
    ("action_generic_failure", "allow", "users get in where the module cannot decide"),
    (
        "action_generic_failure",
        "ignore",
        "users are left to the lines behind where it cannot decide",
    ),
    ("action_generic_failure", "auto", "users get in while no slurmd or slurmstepd runs"),
    ("action_suspended", "allow", "users get in without limits by suspending their own job"),
)


def spelled(host: Host) -> Iterator[Seen]:
    """Tell which options the module does not take as they are given."""
    wrong = False
    for phase, line, _ in _lines(host):
        for complaint in parse(line.ours or [])[1]:
            wrong = True
            # Of these the module says that they count as something else than is written.
            grave = complaint.startswith(("ignoring", "unrecognized", "the options are"))
            found = error if grave else warning
            yield found(f"an option of the {phase} line is wrong", complaint, *pam_line(line))
    if not wrong:
        yield _unless_no_line(host, ok("all options are known, and their values too"))


def same(host: Host) -> Iterator[Seen]:
    """Tell which options of the two lines differ that decide about a login."""
    given = {phase: (line, options) for phase, line, options in _lines(host)}
    if len(given) < 2:
        yield skipped("there is one line of this module at most, so none differs")
        return
    (_, account), (line, session) = given["account"], given["session"]
    names = account.differing(session)
    if names:
        yield warning(f"the two lines have other options: {', '.join(names)}", "", *pam_line(line))
    else:
        yield ok("account and session line have the same options")


def fail_closed(host: Host) -> Iterator[Seen]:
    """Tell which options let users in where something is wrong."""
    wrong = False
    for _, line, options in _different(host):
        for name, value, when in FAIL_OPEN:
            if options[name] == value:  # type: ignore[index]
                wrong = True
                found = when if name in named(line.ours or []) else f"{when}; this is the default"
                yield warning(f"{name}={value} lets users in", found, *pam_line(line))
    if not wrong:
        yield _unless_no_line(
            host, ok("every option that decides refuses where something is wrong")
        )


def root_ignored(host: Host) -> Iterator[Seen]:
    """Tell whether root is adopted."""
    wrong = False
    for phase, line, options in _different(host):
        if not options.on("ignore_root"):
            wrong = True
            found = "what root starts, services too, is limited by the job and ends with it"
            yield warning(f"the {phase} line adopts root: ignore_root=0", found, *pam_line(line))
    if not wrong:
        yield _unless_no_line(host, ok("root is never adopted"))


def consistent(host: Host) -> Iterator[Seen]:
    """Tell which options are of no use, or come to what is hardly meant, beside others."""
    wrong = False
    for phase, line, options in _different(host):
        for title, found in _odd(host, phase, line, options):
            wrong = True
            yield warning(title, found, *pam_line(line))
    if not wrong:
        yield _unless_no_line(host, ok("no option speaks against another"))


def message(host: Host) -> Iterator[Seen]:
    """Tell whether the file for refused users can be shown."""
    said: dict[str, tuple[Line, Options]] = {}
    for _, line, options in _lines(host):
        if options["message"]:
            said.setdefault(options["message"], (line, options))
    for path, (line, options) in said.items():
        wrong = _wrong_message(path, referred=options.on("reference"))
        wrong = wrong or others_may_write(path)
        if wrong:
            yield warning("the file of message= is not shown as it is", wrong, *pam_line(line))
        else:
            yield ok("the file of message= can be shown", "", path)
    if not said:
        yield _unless_no_line(host, ok("refused users are told the module's own sentence"))


def for_this_service(host: Host) -> Iterator[Seen]:
    """Tell whether the lines are for the service that they stand in."""
    wrong = False
    for phase, line, options in _different(host):
        if options["service"] not in ("*", host.service):
            wrong = True
            title = f"the {phase} line ignores {host.service}: service={options['service']}"
            yield error(title, "", *pam_line(line))
    if not wrong:
        yield _unless_no_line(host, ok(f"the lines are for the service {host.service}"))


# What these share


def _lines(host: Host) -> Iterator[tuple[str, Line, Options]]:
    """Yield the first of our lines in each phase, with its options."""
    for phase in PHASES:
        for line in host.our_lines(phase)[:1]:
            yield phase, line, parse(line.ours or [])[0]


def _unless_no_line(host: Host, seen: Seen) -> Seen:
    return seen if any(_lines(host)) else skipped(f"this module has no line in {host.service}")


def _different(host: Host) -> Iterator[tuple[str, Line, Options]]:
    """Yield the same, but for a session line that decides as the account line does."""
    there = list(_lines(host))
    yield from there[:1]
    yield from (one for one in there[1:] if one[2].differing(there[0][2]))


def _odd(host: Host, phase: str, line: Line, options: Options) -> Iterator[tuple[str, str]]:
    given = named(line.ours or [])
    if not options.on("callerid"):
        if not options.on("single_job_skip_rpc"):
            yield (
                "single_job_skip_rpc=0 is of no use with callerid=0",
                "the source host is never asked",
            )
        unknown = action_of(options, "action_unknown")
        refuses = unknown.does == "answer" and unknown.code in REFUSALS
        if refuses and not options.on("user_choice"):
            yield (
                "callerid=0 with action_unknown=deny refuses users with several jobs",
                "nobody is asked which of the jobs a login comes from",
            )
    session = host.our_lines("session")
    if phase == "account" and options.on("job_limits"):
        theirs = parse(session[0].ours or [])[0] if session else None
        if theirs is None or not theirs.on("job_limits"):
            yield "job_limits=1 is not on the session line", "only that line sets limits"
    if not is_exec(line):  # else by_exec.py
        yield from _odd_by_pam_python(host, phase, options, given)


def _odd_by_pam_python(
    host: Host, phase: str, options: Options, given: set[str]
) -> Iterator[tuple[str, str]]:
    if "ignore_passes" in given:
        yield "ignore_passes is of no use with pam_python", "pam_python has PAM_IGNORE itself"
    if action_of(options, "action_unknown").does == "ask" and not host.our_lines("account"):
        yield (
            "action_unknown=ask is not on an account line",
            "nobody is asked in the session phase: it is newest there",
        )
    joins = "join_container" in given and options.on("join_container")
    if phase == "account" and joins and not host.our_lines("session"):
        yield (
            "join_container=true has no session line",
            "namespaces are entered in the account phase, with keyboard-interactive not at all",
        )
    if options.on("runtime_dir"):
        there = [one for one in host.stack("session").lines if name_of(one) == "pam_systemd.so"]
        if there:
            yield (
                "runtime_dir=job and pam_systemd both set XDG_RUNTIME_DIR",
                f"pam_systemd is in {where(there[0])}",
            )


def _wrong_message(path: str, *, referred: bool) -> str:
    """Return why the file is not shown, or not as it is; "" if it is.

    `referred`: whether logins get a reference.
    """
    try:
        data = files.read(path, MESSAGE_LIMIT)
    except SetupError as wrong:
        return str(wrong)
    if not data.strip(b"\n"):
        return f"{path} is empty"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"{path} is not UTF-8"
    has = _wrong_signs(set(re.findall(r"%(.?)", text)), referred=referred)
    if not has and any(not char.isprintable() and char not in "\n\t" for char in text):
        has = "control characters, which are left out"
    return f"{path} has {has}" if has else ""


def _wrong_signs(signs: set[str], *, referred: bool) -> str:
    unknown = sorted(signs - set(REPLACED))
    if unknown:
        return f"%{unknown[0]}, which stands for nothing"
    if "r" in signs and not referred:
        return "%r, which stands for nothing without reference=1"
    return ""


CHECKS = (
    Check(
        "SA121",
        OPTIONS,
        "options are known",
        spelled,
        expected="All options and values are those of the manual page slurm_adopt(8), each given "
        "once.",
        why="A misspelt option is ignored, so its default counts. A misspelt value means the "
        "strictest one. Each is logged as an error at every login.",
        fix="Correct the named option.",
    ),
    Check(
        "SA122",
        OPTIONS,
        "both lines have the same options",
        same,
        expected="Account and session line have the same options, but for those that decide "
        "nothing.",
        why="Where they differ the account phase adopts, as without a session line.",
        fix="Give both lines the same options.",
    ),
    Check(
        "SA123",
        OPTIONS,
        "options refuse where something is wrong",
        fail_closed,
        expected="action_adopt_failure and action_generic_failure are deny, and no other option "
        "lets users in where something is wrong.",
        why="Such a value lets users in without the limits of a job. action_adopt_failure and "
        "action_generic_failure do so by default, as in the C module.",
        fix="Set the named option to deny on both lines. Leave it where that is what the site "
        "wants.",
    ),
    Check(
        "SA124",
        OPTIONS,
        "root is not adopted",
        root_ignored,
        expected="ignore_root is 1, which is the default.",
        why="Services that root restarts from an adopted session end with the job of that session.",
        fix="Take ignore_root=0 out.",
    ),
    Check(
        "SA125",
        OPTIONS,
        "options fit together",
        consistent,
        expected="No option makes another one useless.",
        why="Something else happens than the line seems to say.",
        fix="Take out one of the two, or set it on the other line, too.",
    ),
    Check(
        "SA126",
        OPTIONS,
        "the message for refused users",
        message,
        expected="The file is root's, has at most 4096 bytes of UTF-8, and no other signs than "
        "%u, %h, %j, %m, %r and %%.",
        why="Where the file cannot be read refused users are told the module's own sentence, and "
        "each refusal logs an error.",
        fix="Correct the file, or take message= out.",
    ),
    Check(
        "SA127",
        OPTIONS,
        "the lines are for this service",
        for_this_service,
        expected="The option service names the PAM service that the lines stand in.",
        why="The module ignores all other services, so users need no job there.",
        fix="Write the name of the service behind service=, on both lines. The default is sshd.",
    ),
)
