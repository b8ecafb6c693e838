"""`slurm-adopt logins`: the logins that the module has decided, listed and counted from the log."""

from __future__ import annotations

import heapq
import time
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from slurm_adopt.cli import complete, output, textfile
from slurm_adopt.cli.errors import OK, USAGE, WARNING, CliError
from slurm_adopt.decision.record import OUTCOMES

from . import counts, decisions, log_lines, story
from .moments import moment, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .decisions import Decision, Login
    from .log_lines import Source

DAY = 86400
SETTLED = 120  # seconds after which a login is counted: its session phase has come by then
HEAD = ("time", "user", "from", "outcome", "job", "why", "ms", "ref")


class Filters(NamedTuple):
    """Which logins are asked for; empty means any."""

    user: str | None = None
    job: int | None = None
    outcome: tuple[str, ...] = ()
    ref: str | None = None

    def take(self, login: Login) -> bool:
        """Say whether it is one of these."""
        who = str(login.last.uid), login.last.user
        return (
            (self.user is None or self.user in who)
            and (self.job is None or self.job in (login.first.job, login.last.job))
            and (not self.outcome or login.last.outcome in self.outcome)
            and (self.ref is None or self.ref in login.refs)
        )


class Found:
    """What was found: the newest logins, and the counts of all."""

    def __init__(self, most: int) -> None:
        """`most`: how many are kept."""
        self.counts = counts.Counts()
        self._most = most
        self._newest: list[tuple[float, int, Login]] = []
        self._number = count()

    def add(self, login: Login) -> None:
        """Count one; keep it if it is among the newest."""
        self.counts.add(login)
        row = (login.first.time, next(self._number), login)
        if len(self._newest) < self._most:
            heapq.heappush(self._newest, row)
        elif self._most:
            heapq.heappushpop(self._newest, row)

    @property
    def newest(self) -> list[Login]:
        """The newest, in their order."""
        return [login for *_, login in sorted(self._newest)]


class Reader:
    """Reads a source's decisions, and knows what could not be read."""

    def __init__(self, source: Source) -> None:
        """Nothing is read yet."""
        self.source = source
        self.unread = 0

    def decisions(self, wanted: log_lines.Wanted) -> Iterator[Decision]:
        """Yield decisions in their order."""
        self.unread = 0
        for line in self.source.lines(wanted):
            decision = decisions.read(line)
            if decision is not None:
                yield decision
            else:
                self.unread += decisions.is_cut(line)

    def between(self, since: float, until: float) -> Iterator[Login]:
        """Yield the logins that began between two times."""
        wide = log_lines.Wanted(max(0.0, since - decisions.BETWEEN), until + decisions.BETWEEN)
        for login in decisions.logins(self.decisions(wide)):
            if since <= login.first.time < until:
                yield login

    def remarks(self) -> list[str]:
        """Say what could not be read."""
        said = list(self.source.remarks)
        if garbage := self.source.garbage + self.unread:
            said.append(f"{_lines(garbage)} of {self.source.name} cannot be read as a log's")
        if self.source.forged:
            said.append(f"{_lines(self.source.forged)} left out: not sent by a process of root's")
        return said


def _lines(number: int) -> str:
    return f"{number} line{'s' if number != 1 else ''}"


@click.command()
@click.option(
    "--since", metavar="TIME", help="From when on. Default: the last 24 hours; with --file: all."
)
@click.option("--until", metavar="TIME", help="Until when.")
@click.option(
    "--user", metavar="USER", shell_complete=complete.users, help="Of one user, by name or uid."
)
@click.option(
    "--job", type=click.IntRange(1), metavar="JOB", help="Into one job, also where that failed."
)
@click.option(
    "--outcome",
    multiple=True,
    type=click.Choice([*OUTCOMES]),
    help="Those that came to this; may be given more than once.",
)
@click.option("--ref", metavar="REF", help="All that the log has of the login with this reference.")
@click.option("--count", "--summary", "summary", is_flag=True, help="Show counts, and no logins.")
@click.option(
    "--lines",
    type=click.IntRange(0, 1_000_000),
    default=1000,
    metavar="N",
    help="List the newest N logins (1000); all are counted.",
)
@click.option(
    "--file",
    metavar="FILE",
    help="Read this file (-: standard input), of a syslog daemon or of `journalctl -o json`.",
)
@click.option(
    "--prometheus",
    metavar="FILE",
    help="Add to the counts in FILE, for node_exporter's textfile collector.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    since: str | None,
    until: str | None,
    user: str | None,
    job: int | None,
    outcome: tuple[str, ...],
    ref: str | None,
    summary: bool,
    lines: int,
    file: str | None,
    prometheus: str | None,
    as_json: bool,
) -> int:
    """List and count the logins that the module has decided.

    They are read from the journal, where /dev/log leads to journald. Else they are read from
    /var/log/auth.log, secure, syslog or messages, and from the older ones of these.

    TIME is 2h, 30min, 7d, today, yesterday, 07:30, 2026-11-28, '2026-11-28 07:30' or @SECONDS.

    Exit status: 0; 1 if something could not be read, or no login has the reference; 3 if there is
    no log.
    """
    now = time.time()
    begin = moment(since, "--since", now) if since else (0.0 if file else now - DAY)
    end = moment(until, "--until", now) if until else float("inf")
    if end <= begin:
        raise CliError("--until is before --since", USAGE)
    filters = Filters(user, job, outcome, story.reference(ref) if ref else None)
    reader = Reader(log_lines.find(file))
    if prometheus:
        if any((until, user, job, outcome, ref, summary, as_json)):
            raise CliError(
                "--prometheus counts all logins: give it with --since and --file alone", USAGE
            )
        _add_to(prometheus, reader, begin, now)
        return _warn(reader)
    if filters.ref:
        if file == "-":
            raise CliError("--ref reads the log twice: name a file, not -", USAGE)
        return story.show(reader.source, filters.ref, log_lines.Wanted(begin, end), as_json=as_json)
    found = Found(0 if summary else lines)
    for login in reader.between(begin, end):
        if filters.take(login):
            found.add(login)
    if as_json:
        output.as_json(_as_json(found, reader))
    elif summary:
        _show_counts(found)
    else:
        _show(found)
    return _warn(reader)


def _warn(reader: Reader) -> int:
    """Say on standard error what could not be read; return the exit status."""
    for remark in reader.remarks():
        click.echo(f"slurm-adopt: {output.printable(remark)}", err=True)
    return WARNING if reader.source.remarks else OK


def _add_to(path: str, reader: Reader, begin: float, now: float) -> None:
    """Count what has come since the file was written; write it again, by rename."""
    so_far = counts.before(path) or counts.Counts()
    until = float(int(now - SETTLED))
    for login in reader.between(so_far.until or begin, until):
        so_far.add(login)
    so_far.until = max(until, so_far.until)
    textfile.write(path, so_far.lines())


# What is printed


def why(login: Login) -> str:
    """Say in few words why a login came to what it came to."""
    deciding = login.deciding
    if login.in_job:
        return login.how
    tried = f" (job {login.job})" if login.job else ""
    return f"{deciding.situation}{tried}{f'; {deciding.option}' if deciding.option else ''}"


def _show(found: Found) -> None:
    output.table(
        HEAD,
        (
            (
                shown(login.first.time),
                login.last.user,
                login.last.source or "?",
                login.last.outcome,
                login.job if login.in_job else "",
                why(login),
                f"{login.msec:.1f}",
                " ".join(sorted(login.refs)),
            )
            for login in found.newest
        ),
    )
    left = found.counts.total - len(found.newest)
    output.line(f"{_logins(found.counts.total)}{f', {left} older ones not listed' if left else ''}")


def _show_counts(found: Found) -> None:
    rows = sorted(found.counts.by_outcome.items(), key=lambda row: (-row[1], row[0]))
    output.table(("outcome", "situation", "logins"), ((*what, number) for what, number in rows))
    total, seconds = found.counts.total, found.counts.seconds
    mean = f", {seconds * 1000 / total:.1f} ms on average" if total else ""
    output.line(f"{_logins(total)}{mean}")


def _logins(number: int) -> str:
    return f"{number} login{'s' if number != 1 else ''}"


def _as_json(found: Found, reader: Reader) -> dict[str, Any]:
    """Return what --json prints; the page docs/reference/logins.md has the names."""
    by_outcome = sorted(found.counts.by_outcome.items())
    return {
        "schema": story.SCHEMA,
        "source": reader.source.name,
        "logins": [login.as_dict() for login in found.newest],
        "total": found.counts.total,
        "counts": [
            {"outcome": outcome, "situation": situation, "logins": number}
            for (outcome, situation), number in by_outcome
        ],
        "seconds": round(found.counts.seconds, 4),
        "unreadable": reader.source.garbage + reader.unread,
        "forged": reader.source.forged,
        "remarks": list(reader.source.remarks),
    }
