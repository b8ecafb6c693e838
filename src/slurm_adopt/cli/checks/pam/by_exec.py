"""What a stack may not have, and which options do nothing, where pam_exec runs this module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.verdict.fronts import front_of, is_exec, passes
from slurm_adopt.cli.verdict.pam_line import PHASES
from slurm_adopt.decision.options import BY_NAME, parse
from slurm_adopt.decision.outcome import action_of as action_of_option
from slurm_adopt.node.pam_files import TYPES
from slurm_adopt.slurm.errors import SetupError

from .options import OPTIONS
from .pam_lines import PAM
from .pam_runs import action_of, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.decision.options import Name
    from slurm_adopt.node.pam_files import Line

USER_S = "user_readenv"
# Of slurm.conf: what gives jobs namespaces, with other values than PLUGIN/none.
NAMESPACES = ("JobContainerType", "NamespaceType")


def exec_lines(host: Host) -> list[tuple[str, Line]]:
    """Return this module's lines that pam_exec runs, with their phases."""
    return [(phase, line) for phase in PHASES for line in host.our_lines(phase) if is_exec(line)]


def sound(host: Host, title: str) -> Seen:
    """Say what is so where nothing is wrong, also where no line of ours is pam_exec's."""
    return (
        ok(title) if host.all_our_lines() else skipped(f"this module has no line in {host.service}")
    )


def users_variables(host: Host) -> Iterator[Seen]:
    """Tell whether users' own variables come to the script that root runs."""
    yield from (bad := [*_users_variables(host)])
    if not bad:
        yield sound(host, "no line lets users put variables into pam_exec's environment")


def _users_variables(host: Host) -> Iterator[Seen]:
    for kind in TYPES if exec_lines(host) else ():
        for line in host.stack(kind).lines:
            if reads_users_file(line):
                title = f"users run code as root: {USER_S}=1 in the {kind} phase, and pam_exec"
                found = "LD_PRELOAD of ~/.pam_environment comes to the script that root runs"
                yield error(title, found, *pam_line(line))


def reads_users_file(line: Line) -> bool:
    """Say whether a line has pam_env read ~/.pam_environment: the last of its words counts."""
    if name_of(line) != "pam_env.so":
        return False
    values = [word.partition("=")[2] for word in line.arguments if word.startswith(f"{USER_S}=")]
    return bool(values) and values[-1] != "0"


def other_phases(host: Host) -> Iterator[Seen]:
    """Tell whether the script stands in a phase that it does not answer."""
    wrong = False
    for kind in sorted(set(TYPES) - set(PHASES)):
        for line in filter(is_exec, host.our_lines(kind)):
            wrong = True
            refuses = action_of(line, "system_err") in ("bad", "die")
            found = "it refuses there, root as well" if refuses else "it fails there, whoever it is"
            yield error(f"the script of pam_exec has a line of type {kind}", found, *pam_line(line))
    if not wrong:
        yield sound(host, "no auth or password line has pam_exec run this module")


def mixed(host: Host) -> Iterator[Seen]:
    """Tell whether two modules run this one in one service, and what comes of it."""
    first = [host.our_lines(phase)[:1] for phase in PHASES]
    lines = [line for found in first for line in found]
    if not lines:
        yield skipped(f"this module has no line in {host.service}")
        return
    names = [front_of(line).name for line in lines]
    if len(set(names)) < 2:
        yield ok(f"one module runs all lines of this one: {names[0]}")
        return
    if is_exec(lines[1]):
        found = "the session line decides a second time: it is not told what the first came to"
    else:
        found = "users who were let in without a job are decided about a second time"
    title = f"the account line is run by {names[0]}, the session line by {names[1]}"
    yield warning(title, found, *pam_line(lines[1]))


def ignoring(host: Host) -> Iterator[Seen]:
    """Tell whether ignore_passes fits the control of each line."""
    wrong = False
    for phase, line in exec_lines(host):
        success = action_of(line, "success")
        ends = success == "done" or isinstance(success, int)
        refuses = action_of(line, "system_err") in ("bad", "die")
        if passes(line) and ends:
            wrong = True
            title = f"the {phase} line lets in whom it should leave to others: ignore_passes=1"
            yield error(title, f"a success ends the stack by '{line.control}'", *pam_line(line))
        elif not passes(line) and refuses:
            wrong = True
            title = f"the {phase} line refuses whom it should leave to others: ignore_passes=0"
            yield warning(title, f"a failure refuses by '{line.control}'", *pam_line(line))
    if not wrong:
        yield sound(host, "ignore_passes fits the control of each line that pam_exec runs")


def out_of_reach(host: Host) -> Iterator[Seen]:
    """Tell which options want what pam_exec cannot do; each once, where it stands first."""
    told: dict[str, Seen] = {}
    for phase, line in exec_lines(host):
        for seen in _out_of_reach(host, phase, line):
            told.setdefault(seen.title, seen)
    yield from told.values()
    if not told:
        yield sound(host, "no option wants what pam_exec cannot do")


def _out_of_reach(host: Host, phase: str, line: Line) -> Iterator[Seen]:
    place, options = pam_line(line), parse(line.ours or [])[0]
    asks = phase == "account" and action_of_option(options, "action_unknown").does == "ask"
    wanted: tuple[tuple[Name, bool, str], ...] = (
        ("job_env", options["job_env"] != BY_NAME["job_env"].default, "no variable is set"),
        ("runtime_dir", options.on("runtime_dir"), "no directory is made, and no variable set"),
        ("disable_x11", options.on("disable_x11"), "DISPLAY is never set"),
        ("action_unknown", asks, "it is newest: a program cannot ask by PAM"),
    )
    for name, is_wanted, found in wanted:
        if is_wanted:
            given = f"{name}={options[name]}"
            yield warning(f"{given[:40]} does nothing with pam_exec", found, *place)
    namespaces = _namespaces(host) if _may_adopt(host, phase) else ""
    if options.on("join_container") and namespaces:
        title = "adoptions fail: with pam_exec nobody can enter the jobs' namespaces"
        yield error(title, f"join_container is true, and slurm.conf has {namespaces}", *place)


def _may_adopt(host: Host, phase: str) -> bool:
    """Say whether a line adopts: the session line, and the account line without one."""
    return phase == "session" or not host.our_lines("session")


def _namespaces(host: Host) -> str:
    """Return what of slurm.conf gives jobs namespaces; "" for nothing, or where it is not read."""
    try:
        conf = host.site.conf
    except SetupError:
        return ""
    for key in NAMESPACES:
        value = conf.get(key)
        if value and value.lower().rpartition("/")[2] != "none":
            return f"{key}={value}"
    return ""


CHECKS = (
    Check(
        "SA115",
        PAM,
        "no user's variables with pam_exec",
        users_variables,
        expected="Where pam_exec runs this module no pam_env line of the service has "
        "user_readenv=1.",
        why="pam_exec hands PAM's environment to the script, at each call from then on, also when "
        "the session closes. A user's LD_PRELOAD in it is code that root runs.",
        fix="Take user_readenv=1 out of the named line. Debian 12 ships /etc/pam.d/sshd with one.",
    ),
    Check(
        "SA116",
        PAM,
        "no auth or password line with pam_exec",
        other_phases,
        expected="pam_slurm_adopt_exec stands in account and session lines only.",
        why="It fails in every other phase, and cannot let root by there.",
        fix="Take the named line out.",
    ),
    Check(
        "SA117",
        PAM,
        "one module runs both lines",
        mixed,
        expected="Account and session line are both run by pam_python, or both by pam_exec.",
        why="What pam_python has decided is kept in sshd, where a program cannot see it. So "
        "pam_exec's session line asks all again. Where the account phase adopts, the job's "
        "accounting then has two entries.",
        fix="Have pam_python run both lines where it is there, else pam_exec: "
        "docs/how-to/pam-exec.md.",
    ),
    Check(
        "SA128",
        OPTIONS,
        "ignore_passes fits the control",
        ignoring,
        expected="A required line that pam_exec runs has ignore_passes=1, a sufficient one "
        "ignore_passes=0.",
        why="pam_exec has no PAM_IGNORE: a success or a failure has to stand for it.",
        fix="Make the control required and leave ignore_passes out, or see the table of "
        "docs/how-to/pam-exec.md.",
    ),
    Check(
        "SA129",
        OPTIONS,
        "options that pam_exec can follow",
        out_of_reach,
        expected="Lines that pam_exec runs have no job_env, runtime_dir=job, disable_x11=1 or "
        "action_unknown=ask. Where jobs have namespaces they have join_container=false.",
        why="A program can set no variable of the session, ask nobody, and enter no namespace for "
        "sshd. With namespaces action_adopt_failure decides about every login.",
        fix="Take the option out, or have pam_python run the lines. For namespaces set "
        "join_container=false on both lines.",
    ),
)
