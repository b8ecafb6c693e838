"""`slurm-adopt sessions`: which ssh sessions are on this node, and in which jobs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from slurm_adopt.cli import complete
from slurm_adopt.cli.accounts import uid_of
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.deadlines import EVERY
from slurm_adopt.cli.errors import OK, UNKNOWN, WARNING, CliError
from slurm_adopt.cli.output import as_json, line, on_terminal, printable, table, width
from slurm_adopt.slurm.digits import number

from . import ssh_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_adopt.node.slurm_site import SlurmSite

    from .ssh_sessions import Session, Sight

SCHEMA = 1
HEAD = ("USER", "JOB", "SINCE", "FROM", "TERMINAL", "PROCESSES", "CPU", "MEMORY", "REMARK")
NARROW = 72  # columns: the table of shorter lines would break its words
NONE, NONE_OUTSIDE = "no ssh sessions", "no ssh session of a user outside of jobs"
CLEAR = "\033[H\033[2J"
MIB = 1 << 20


@click.command()
@click.argument("which", metavar="[USER|JOB]", required=False, shell_complete=complete.users)
@click.option(
    "--outside",
    is_flag=True,
    help="List only the sessions of users that are not wholly in a job of theirs.",
)
@click.option(
    "--watch",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=EVERY,
    help=f"Look again every {EVERY:g} seconds, or with --watch=10 every ten.",
)
@click.option(
    "--log",
    is_flag=True,
    help="Say how each job was chosen, or why there is none, as the log has it.",
)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
def command(which: str | None, outside: bool, watch: float | None, log: bool, json_: bool) -> int:
    """List the ssh sessions on this node, and the jobs that they are in.

    USER or JOB: only the sessions of this user, or in this job. A session that is not wholly in a
    job of its user says so, and why. CPU time and memory are those of the session's processes.

    A user who is not root sees the user's own sessions.

    Exit status: 0; with --outside 1 if there is such a session; 3 for wrong usage, for a user or
    job that is not there, and where the processes or their jobs do not show.
    """
    show = _json if json_ else _table
    while True:
        sight = _seen(which)
        status = OK
        if outside:
            kept = [one for one in sight.sessions if one.is_outside]
            unknown = any(one.outside == ssh_sessions.UNKNOWN for one in sight.sessions)
            status = WARNING if kept else UNKNOWN if unknown else OK
            if unknown:
                sight.remarks.append(ssh_sessions.NO_CGROUPS)
            sight = sight._replace(sessions=kept)
        if log:
            from slurm_adopt.cli.logins import log_lines

            from . import from_log

            sight.remarks.extend(from_log.note(sight.sessions, log_lines.find()))
        if watch and on_terminal() and not json_:
            click.echo(CLEAR, nl=False)
        show(sight, _none(which, outside))
        if not watch:
            return status
        time.sleep(watch)


def _none(which: str | None, outside: bool) -> str:
    """Say that there is none of what is asked for."""
    if which is None:
        return NONE_OUTSIDE if outside else NONE
    whose = f"of {which}" if number(which) is None else f"in job {which}"
    return f"no ssh session {whose}{' that is outside of jobs' if outside else ''}"


def _seen(which: str | None) -> Sight:
    """Return the sessions that are asked for."""
    if not os.path.isdir("/proc/self"):
        raise CliError("/proc is not mounted: the processes of this node do not show")
    own = os.geteuid()
    sight = ssh_sessions.look(_site, own or None)
    if own:
        sight.remarks.append("only your own sessions: root sees all")
    return sight if which is None else sight._replace(sessions=_chosen(sight, which))


def _site() -> SlurmSite:
    """Return where this node's Slurm is."""
    host = Host()
    return host.once("site", lambda: _known(host))


def _known(host: Host) -> SlurmSite:
    """Look up all that is wanted of it while somebody counts the seconds."""
    site = host.site
    _ = site.name, site.spool
    return site


def _chosen(sight: Sight, which: str) -> list[Session]:
    """Return the sessions of a user or in a job; CliError if there is neither."""
    uid = uid_of(which)
    if uid is not None:
        return [one for one in sight.sessions if one.login.uid == uid]
    job = number(which)
    if job is None:
        raise CliError(f"no such user: {which} (a job is given by its number)")
    found = [one for one in sight.sessions if one.job_id == job]
    if not found and job not in sight.jobs.steps():
        raise CliError(f"no job {job} on this node")
    return found


# What is printed


def _table(sight: Sight, nothing: str) -> None:
    if sight.sessions:
        rows = sorted(sight.sessions, key=lambda one: (one.job_id or 0, one.login.pid))
        (table if width() >= NARROW else _stacked)(HEAD, [_row(one) for one in rows])
    else:
        line(nothing)
    for remark in sight.remarks:
        click.echo(f"({printable(remark)})", err=True)


def _stacked(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print what a table would have, a cell a line: for a terminal of few columns."""
    for row in rows:
        for name, cell in zip(head, row):
            if cell not in ("", "-"):
                line(f"{name} {cell}")
        line()


def _row(one: Session) -> tuple[object, ...]:
    return (
        one.login.user,
        one.job_id or one.place.job or "-",
        _when(one.since),
        one.connection.source if one.connection else "-",
        one.login.terminal or "-",
        len(one.pids),
        "-" if one.cpu is None else _duration(one.cpu),
        f"{one.memory / MIB:.0f} MiB",
        one.why or one.how,
    )


def _when(since: float) -> str:
    if not since:
        return "-"
    today = time.strftime("%Y-%m-%d")
    day, clock = time.strftime("%Y-%m-%d %H:%M", time.localtime(since)).split(" ")
    return clock if day == today else f"{day} {clock}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _json(sight: Sight, _: str) -> None:
    sessions = [as_dict(one) for one in sight.sessions]
    as_json({"schema": SCHEMA, "sessions": sessions, "remarks": sight.remarks})


def as_dict(one: Session) -> dict[str, Any]:
    """Return a session as JSON has it."""
    end = one.connection
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(one.since)) if one.since else None
    return {
        "user": one.login.user,
        "uid": one.login.uid,
        "job": one.job_id,
        "in_job": None if one.outside == ssh_sessions.UNKNOWN else not one.outside,
        "outside": one.outside or None,
        "why": one.why or None,
        "how": one.how or None,
        "since": since,
        "from": {"address": end.source, "port": end.source_port} if end else None,
        "terminal": one.login.terminal or None,
        "pid": one.login.pid,
        "pids": one.pids,
        "elsewhere": one.elsewhere,
        "cpu_seconds": None if one.cpu is None else round(one.cpu, 2),
        "memory_bytes": one.memory,
        "cgroup": one.place.outside if one.outside else None,
    }
