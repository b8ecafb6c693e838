"""What the log says of ssh sessions: how each one's job was chosen, or why it is in none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.cli.logins.command import Reader, why
from slurm_adopt.cli.logins.decisions import BETWEEN

from .ssh_sessions import NO_JOB

if TYPE_CHECKING:
    from slurm_adopt.cli.logins.decisions import Login
    from slurm_adopt.cli.logins.log_lines import Source

    from .ssh_sessions import Session

AROUND = float(BETWEEN)  # seconds between a session's start and its login's line, at most


def note(sessions: list[Session], source: Source) -> list[str]:
    """Note it at each session; return what could not be read. CliError if there is no log."""
    by_pid = {one.login.pid: one for one in sessions if one.since}
    if not by_pid:
        return []
    reader = Reader(source)
    first = min(one.since for one in by_pid.values()) - AROUND
    for login in reader.between(first, float("inf")):
        one = by_pid.get(login.last.pid)
        if one and is_of(login, one):
            _note(login, one)
    return reader.remarks()


def is_of(login: Login, session: Session) -> bool:
    """Say whether a login is a session's: a pid may have been another's before."""
    same_user = login.last.uid == session.login.uid
    return same_user and abs(login.last.time - session.since) < AROUND


def _note(login: Login, session: Session) -> None:
    place = session.place.outside
    if login.in_job and login.job == session.job_id:
        session.how = login.first.how or login.how  # the account phase's, where it has chosen
    elif login.in_job and session.outside == NO_JOB:
        session.why = f"adopted into job {login.job}, and moved away since: in {place}"
    elif session.outside == NO_JOB:
        session.why = f"let in without a job: {why(login)}: in {place}"
