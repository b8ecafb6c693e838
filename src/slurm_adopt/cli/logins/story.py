"""The story of one login, by its reference: all that the log has of it, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from slurm_adopt.cli import output
from slurm_adopt.cli.errors import OK, USAGE, WARNING, CliError
from slurm_adopt.decision.outcome import SITUATIONS

from . import decisions
from .log_lines import Wanted, find
from .moments import shown

if TYPE_CHECKING:
    from .decisions import Login
    from .log_lines import Line, Source

LETTERS = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")  # of a reference
TAKEN_FOR = str.maketrans("OIL", "011")  # as people read them
MOST = 1000  # lines
SCHEMA = 1


class Story(NamedTuple):
    """A login, and the lines that its process has written, sshd's own too."""

    login: Login
    lines: list[Line]


def reference(text: str) -> str:
    """Return a reference as the log has it; CliError if this is none."""
    found = text.strip().upper().translate(TAKEN_FOR)
    if len(found) != 4 or not LETTERS.issuperset(found):
        raise CliError(f"{text[:32]!r} is no reference: it has four letters or digits", USAGE)
    return found


def told(ref: str, source: Source | None = None, wanted: Wanted | None = None) -> Story | None:
    """Return the newest login with a reference; None if there is none."""
    source = source or find()
    wanted = wanted or Wanted()
    login = None
    read = (decisions.read(line) for line in source.lines(wanted))
    for found in decisions.logins(decision for decision in read if decision):
        if ref in (found.first.ref, found.last.ref):
            login = found
    if login is None:
        return None
    lines: list[Line] = []
    for pid in sorted({login.first.pid, login.last.pid}):
        around = Wanted(
            max(login.first.time - decisions.BETWEEN, 0),
            login.last.time + decisions.BETWEEN,
            pid,
        )
        for line in source.lines(around):
            if len(lines) < MOST:
                lines.append(line)
    return Story(login, sorted(lines, key=lambda line: line.time))


def words(login: Login) -> list[str]:
    """Say in words what a login came to, and why."""
    last, deciding = login.last, login.deciding
    where = f" from {last.source}" if last.source else ""
    who = f"{last.user} (uid {last.uid}){where}"
    how = f" ({login.how})" if login.how else ""
    came = {
        "adopted": f"was adopted into job {login.job}{how}",
        "chosen": f"was to be adopted into job {login.job}{how}, and no session was opened",
        "allowed": "was let in without a job",
        "ignored": "was left to the other modules of the stack",
        "refused": "was refused",
    }[last.outcome]
    by = f" by {deciding.option}" if deciding.option else ""
    said = [f"{who} {came}{by}, in {login.msec:.1f} ms."]
    rows = {str(name): row for name, row in SITUATIONS.items()}
    row = rows.get(deciding.situation)  # None where another release has written the line
    if row and not login.in_job:
        said.append(f"{deciding.situation}: {row.when}.")
    if row and last.outcome == "refused" and row.message:
        said.append(f"The user was shown this, unless the site has words of its own: {row.message}")
    return said


def show(source: Source, ref: str, wanted: Wanted, *, as_json: bool = False) -> int:
    """Print the story of a login; return the exit status."""
    story = told(ref, source, wanted)
    if story is None:
        since = f" since {shown(wanted.since)}" if wanted.since else ""
        hint = ": look further back with --since, or on another node" if since else ""
        raise CliError(f"no login in {source.name}{since} has the reference {ref}{hint}", WARNING)
    if as_json:
        output.as_json(_as_json(story))
        return OK
    for text in words(story.login):
        output.line(text)
    output.line()
    for line in story.lines:
        output.line(f"{shown(line.time)} {line.program}[{line.pid}]: {line.text}")
    return OK


def _as_json(story: Story) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "login": story.login.as_dict(),
        "words": words(story.login),
        "lines": [
            {
                "time": round(line.time, 3),
                "program": line.program,
                "pid": line.pid,
                "text": line.text,
            }
            for line in story.lines
        ],
    }
