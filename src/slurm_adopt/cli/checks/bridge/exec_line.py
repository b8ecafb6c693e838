"""Lines that pam_exec runs: the words in front of the script, and whether the script runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.finding import Check, error, ok, warning
from slurm_adopt.cli.checks.pam.by_exec import exec_lines, sound
from slurm_adopt.cli.checks.pam.pam_modules import is_missing
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.fronts import PAM_EXEC, exec_words, is_kept_out

from .bridge import BRIDGE_S, OLDEST
from .scripts import tried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.node.pam_files import Line

# Services of programs that run as root from the start. Others users may start themselves.
OF_ROOT = ("sshd", "ssh", "login", "remote", "cron", "crond", "atd", "systemd-user", "xrdp-sesman")

# Options of pam_exec's that have no place in front of the script -> what they do there.
ODD = {
    "type": "it names the only call that is answered: there is one line for each",
    "expose_authtok": "it hands a password to the script, which reads none",
    "log": "it puts into a file what the script has to say to the user",
}


def runs(host: Host) -> Iterator[Seen]:
    """Tell whether pam_exec is there and can run the script, and by which Python."""
    missing = [line for _, line in exec_lines(host) if is_missing(line)]
    for line in missing[:1]:
        yield error(f"there is no {line.module}", "", *pam_line(line))
    for script, told in (yield from tried(host, explain=PAM_EXEC)):
        version = ".".join(map(str, told["version"]))
        place = pam_line(script.line)
        if tuple(told["version"]) < OLDEST:
            title = f"the script of pam_exec is run by Python {version}, which is too old"
            yield error(title, told["interpreter"], *place)
        else:
            found = f"{told['interpreter']} starts in {told['start'] * 1000:.0f} ms of CPU time"
            yield ok(f"the script of pam_exec runs, by Python {version}", found, *place)
    if host.all_our_lines() and not exec_lines(host):
        yield ok("no line of this module is run by pam_exec")


def words(host: Host) -> Iterator[Seen]:
    """Tell what the options of pam_exec's, in front of the script, do to the module."""
    wrong = False
    for phase, line in exec_lines(host):
        for seen in _words(host, phase, line):
            wrong = True
            yield seen
    if not wrong:
        yield sound(host, "no line that pam_exec runs has a wrong word in front of the script")


def _words(host: Host, phase: str, line: Line) -> Iterator[Seen]:
    place = pam_line(line)
    given, program = exec_words(line)
    names = [word.lower().partition("=")[0] for word in given]
    if program.rpartition("/")[2] != PAM_EXEC.script:
        yield error(f"the {phase} line has pam_exec run {program[:32]}", "", *place)
        return
    if is_kept_out(line, phase):
        title = f"type= keeps pam_exec from running the {phase} line's script"
        yield error(title, "pam_exec ignores the line, and users get in", *place)
        return
    for name in names:
        if name in ODD:
            yield warning(f"{name} stands in front of the {phase} line's script", ODD[name], *place)
    if "stdout" not in names:
        found = "stdout is missing in front of the script"
        yield warning(f"the {phase} line tells users nothing", found, *place)
    if "quiet" not in names:
        found = "quiet is missing in front of the script"
        yield warning(f"pam_exec adds a word of its own to the {phase} line's", found, *place)
    if "seteuid" not in names and host.service not in OF_ROOT:
        found = f"seteuid is missing; a program of the service {host.service} may be a user's"
        yield warning(f"the {phase} line's script may run with a user's uid", found, *place)


CHECKS = (
    Check(
        "SA209",
        BRIDGE_S,
        "pam_exec runs the script",
        runs,
        expected="pam_exec.so is there, and so is the interpreter that the script's first line "
        "names. It is Python 3.9 or later.",
        why="Where the script cannot be run pam_exec fails, so everybody but root is locked out.",
        fix="Name a Python of 3.9 or later in the script's first line: docs/how-to/pam-exec.md.",
        seconds=SLOW,
    ),
    Check(
        "SA210",
        BRIDGE_S,
        "the words in front of pam_exec's script",
        words,
        expected="quiet and stdout stand between pam_exec.so and the script, seteuid where users "
        "start the service themselves, and no other word.",
        why="Without stdout a refused user is not told why. Without quiet the user is shown an "
        "exit status as well. A word that pam_exec does not know is taken for the program to run.",
        fix="Write the line as docs/how-to/pam-exec.md has it.",
    ),
)
