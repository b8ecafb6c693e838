"""`slurm-adopt install`: the PAM lines of a service, written, tried, confirmed."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING

import click

from slurm_adopt.cli import complete
from slurm_adopt.cli.errors import ERROR, OK, USAGE, CliError
from slurm_adopt.cli.explain.command import check
from slurm_adopt.cli.logins.moments import shown
from slurm_adopt.cli.output import line, styled
from slurm_adopt.cli.verdict.pam_line import SSHD

from . import epilog_line, fronts, image, place, plan, proof, record, trial
from .applying import Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .our_lines import Front
    from .plan import Plan
    from .record import Folder
    from .writing import File

SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_STYLES = {"+": "green", "-": "red", "@": "cyan"}
_CONFIRM = "slurm-adopt install --confirm"


@click.command()
@click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...", shell_complete=complete.options)
@click.option("--service", metavar="NAME", default=SSHD, show_default=True,
              help="The PAM service that gets the lines.")  # fmt: skip
@click.option("--front", type=click.Choice(list(place.FRONTS)),
              help="What runs the module. Default: that of the lines that are there, else "
              "pam_python if it works on this node, else pam_exec.")  # fmt: skip
@click.option("--trial", "time", metavar="TIME",
              help="Take everything back after this time, such as 10m, unless --confirm comes "
              "before. Also after a crash or a reboot.")  # fmt: skip
@click.option("--confirm", is_flag=True, help="End the trial that runs: the lines stay.")
@click.option("--dry-run", is_flag=True,
              help="Show what would be changed, and change nothing.")  # fmt: skip
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the lines of Slurm's own PAM modules; their options are taken over.",
)
@click.option("--epilog", is_flag=True,
              help="Print what slurm.conf wants for the Epilog, and do nothing else.")  # fmt: skip
def command(
    options: tuple[str, ...],
    service: str,
    front: Front | None,
    time: str | None,
    confirm: bool,
    dry_run: bool,
    replace: bool,
    epilog: bool,
) -> int:
    """Write this module's lines into a service's PAM file.

    The lines stand where docs/how-to/install.md says, each behind a guard for root. The change is
    shown, and what was there is kept for uninstall. Then the stack is checked. It is taken back at
    once if root, or everybody, would be kept out. The login image is made where logins do
    without it.

    OPTION=VALUE are the module's options; those of a line that is there are replaced as a whole.
    Without any the lines keep theirs. New ones get action_adopt_failure=deny and
    action_generic_failure=deny, unless these are given.

    What is as it should be is not touched. Only root can change something.

    Exit status: 0 it is so now, 2 it cannot be done or was taken back, 3 wrong usage.
    """
    service = checked(service)
    if epilog:
        for text in epilog_line.lines():
            line(text)
        return OK
    if confirm:
        if options or front or time or replace or dry_run:
            raise CliError("--confirm goes with --service alone", USAGE)
        return _confirm(service)
    _check(options)
    seconds = trial.duration(time) if time is not None else None
    if not dry_run:
        must_be_root()
    wish = _wish(service, front, dict(word.split("=", 1) for word in options), replace=replace)
    if dry_run:
        _show(service, plan.install(wish))
        return OK
    return _carry_out(wish, seconds)


def _carry_out(wish: plan.Wish, seconds: int | None) -> int:
    """Write what is wished, as a trial of some seconds or for good."""
    service = wish.service
    with held(service) as node:
        _no_trial(node)
        planned = plan.install(wish)
        _show(service, planned)
        if not planned.changes:
            _make_image(wish)
            if seconds:
                line("there is nothing to try: no trial begins")
            return OK
        tried = node.install(wish, planned, seconds)
    _make_image(wish)
    _say_done(service, planned)
    if tried:
        line(f"the trial ends at {shown(tried.ends)} ({tried.by}): then this is taken back")
        line(f"to keep it: {_CONFIRM}{_of(service)}")
    else:
        line(f"to undo it: slurm-adopt uninstall{_of(service)}")
    return OK


def _confirm(service: str) -> int:
    must_be_root()
    with held(service) as node:
        if not node.record.trial:
            raise CliError("no trial is running: it was taken back, or confirmed", ERROR)
        if not node.settle().trial:
            raise CliError("it is too late to confirm", ERROR)
        node.confirm()
    line(f"confirmed: the lines in {service} stay")
    return OK


# What install and uninstall share


def held(service: str, seconds: float = 0.0) -> _Held:
    """Hold the folder, and have the node's service in it."""
    return _Held(service, seconds)


class _Held:
    def __init__(self, service: str, seconds: float) -> None:
        self._service = service
        self._folder = record.held(seconds)

    def __enter__(self) -> Node:
        folder: Folder = self._folder.__enter__()
        timer = trial.Timer(self._service, place.command())
        return Node(self._service, folder, timer, line)

    def __exit__(self, *what: object) -> None:
        self._folder.__exit__(*what)  # type: ignore[arg-type]


def must_be_root() -> None:
    """Refuse whoever cannot write PAM files."""
    if os.geteuid() != 0:
        raise CliError("only root can change PAM files; --dry-run shows what would be changed")


def checked(service: str) -> str:
    """Return a service's name as libpam has it; CliError for what is none."""
    if not SERVICE.fullmatch(service):
        raise CliError(f"--service {service[:64]!r} is no name of a PAM service", USAGE)
    return service.lower()


def show(files: Iterable[plan.Change | File]) -> None:
    """Print what is changed, as diff -u has it."""
    lines = [one for file in files for one in _diff(file.path, file.before, file.after)]
    if lines:
        styled((_STYLES.get(one[:1], ""), one) for one in lines)


def _diff(path: str, before: bytes | None, after: bytes | None) -> Iterator[str]:
    old, new = (_lines(text) for text in (before, after))
    first, second = (path if text is not None else os.devnull for text in (before, after))
    yield from difflib.unified_diff(old, new, first, second, lineterm="")


def _lines(text: bytes | None) -> list[str]:
    """Return the lines of a file; the last says whether it ends."""
    if not text:
        return []
    lines = text.decode("utf-8", "backslashreplace").split("\n")
    if lines[-1]:
        return [*lines[:-1], f"{lines[-1]}\\ (no newline at the end)"]
    return lines[:-1]


def _of(service: str) -> str:
    return "" if service == SSHD else f" --service {service}"


# The plan


def _check(words: Iterable[str]) -> None:
    check(list(words))
    names = [word.partition("=")[0].lower() for word in words]
    for word in words:
        if re.search(r"[\s\[\]#\\]", word):
            raise CliError(f"{word!r} cannot stand in a PAM line: no blanks, [ ] # or \\", USAGE)
        if names.count(word.partition("=")[0].lower()) > 1:
            raise CliError(f"{word.partition('=')[0]} is given more than once", USAGE)


def _wish(service: str, front: Front | None, given: dict[str, str], *, replace: bool) -> plan.Wish:
    chosen = fronts.chosen(front, service, line)
    return plan.Wish(service, chosen, given, place.script_of(chosen), replace)


def _show(service: str, planned: Plan) -> None:
    for note in planned.notes:
        line(note)
    show(planned.changes)
    if not planned.changes:
        line(f"the lines in {service} are as they should be: nothing is changed")


def _make_image(wish: plan.Wish) -> None:
    said = image.make(wish.front)
    if said:
        line(said)


def _no_trial(node: Node) -> None:
    """Settle what an earlier run has left; refuse while a trial runs."""
    running = node.settle().trial
    if running:
        raise CliError(
            f"a trial runs until {shown(running.ends)}: keep it by {_CONFIRM}{_of(node.service)}, "
            f"or end it by slurm-adopt uninstall{_of(node.service)}",
            ERROR,
        )


def _say_done(service: str, planned: Plan) -> None:
    """Say what is so now, and what a quick check finds."""
    for change in planned.changes:
        line(f"written: {change.path}")
    whom = "everybody but root needs a job on this node to log in"
    line(f"from now on {whom if service == SSHD else f'users need a job here for {service}'}")
    first, bad = proof.rest(service)
    line(first)
    for one in bad:
        line(f"  {one}")
    line("keep this shell open, and log in once more before you close it")
