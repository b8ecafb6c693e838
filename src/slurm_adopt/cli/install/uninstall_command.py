"""`slurm-adopt uninstall`: the PAM lines of a service are taken out; also a trial that is over."""

from __future__ import annotations

import os

import click

from slurm_adopt.cli.deadlines import TURN
from slurm_adopt.cli.errors import OK, USAGE, CliError
from slurm_adopt.cli.output import line
from slurm_adopt.cli.verdict.pam_line import SSHD

from . import image, plan, record
from .command import checked, held, must_be_root, show


@click.command()
@click.option("--service", metavar="NAME", default=SSHD, show_default=True,
              help="The PAM service that loses the lines.")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Show what would be changed, and change nothing.")  # fmt: skip
@click.option("--trial-over", "trial", metavar="NAME",
              help="Take this trial back, if it runs still. The timer that install has set "
              "runs this.")  # fmt: skip
def command(service: str, dry_run: bool, trial: str | None) -> int:
    """Take this module's lines out of a service's PAM file.

    A file that nobody has edited since the installation becomes what it was before, to the byte.
    From another this module's lines are taken out, with the guards in front of them. A trial that
    runs is ended. The login image of a wheel is removed where no PAM file names the wheel any more.

    From then on every user who has an account gets in. Only root can change something.

    Exit status: 0 the lines are gone, 2 it cannot be done, 3 wrong usage.
    """
    service = checked(service)
    if trial is not None:
        if dry_run:
            raise CliError("--trial-over goes with --service alone", USAGE)
        return _trial_over(service, trial)
    if dry_run:
        _show(service)
        return OK
    must_be_root()
    with held(service) as node:
        node.settle()
        files, notes = node.removal()
        for note in notes:
            line(note)
        show(files)
        node.uninstall(files)
    for file in files:
        line(f"written: {file.path}" if file.after is not None else f"removed: {file.path}")
    for text in image.remove():
        line(text)
    if files:
        line(f"this module decides no more about logins by {service}")
    else:
        line(f"{service} has no line of this module: nothing is changed")
    return OK


def _show(service: str) -> None:
    """Print what would be changed, or nothing; by the record, where root runs this."""
    if os.geteuid() == 0 and record.exists(service):
        with held(service) as node:
            files, notes = node.removal()
        for note in notes:
            line(note)
        show(files)
        return
    planned = plan.uninstall(service)
    for note in planned.notes if planned.changes else ():
        line(note)
    show(planned.changes)


def _trial_over(service: str, name: str) -> int:
    must_be_root()
    with held(service, TURN) as node:
        if node.trial_over(name):
            line(f"the trial is over: the PAM file of {service} is as it was before")
        else:
            line("this trial has ended before: nothing is changed")
    return OK
