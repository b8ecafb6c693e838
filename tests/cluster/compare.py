"""`./dev compare`: the C module and ours, side by side, in the same situations and one run.

Each row is seen by a call of PAM (code, text, environment, cgroups after), and with the defaults
and the strictest value also by pamtester and by a login by ssh. differences.py has the rows that
are meant to differ, and why.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slurm_adopt.options import LOG_LEVELS, OPTIONS
from tests import decisions
from tests.cluster import pam
from tests.cluster.cluster import Cluster, Settings
from tests.cluster.differences import ANY, DIFFERENCES, RELEASES, Difference
from tests.cluster.driver import Driver, cgroups
from tests.cluster.situations import Scenery, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFINED = ("cpuset", "devices", "freezer", "memory")
COMMAND = "echo SLURM_JOB_ID=$SLURM_JOB_ID; cat /proc/self/cgroup"
TEXTS = ("pam_slurm_adopt", decisions.GENERIC)  # what is a module's in what ssh prints
PATIENCE = 20.0  # seconds for the C module, which may wait for ever
MODULES = {"C module": pam.C_MODULE, "slurm_adopt": pam.OURS}


class Row(NamedTuple):
    """A situation and what stands behind both modules in the PAM line."""

    situation: str
    user: str | None
    options: str

    @property
    def name(self) -> str:
        """The situation as differences.py names it."""
        of_root = self.user == "root" and self.situation != "root"
        return f"root: {self.situation}" if of_root else self.situation

    def __str__(self) -> str:
        """Name it."""
        return f"{self.name} [{self.options or 'defaults'}]"


class Seen(NamedTuple):
    """What came of it with one module."""

    code: str
    said: tuple[str, ...]
    environment: dict[str, str]
    place: tuple[str, ...]  # the process's confined cgroups, job numbers as roles
    ended: str  # how the process ended, if not as it should

    def __str__(self) -> str:
        """Put it in a few words."""
        if self.ended:
            return self.ended
        job = self.environment.get("SLURM_JOB_ID", "")
        into = sorted({p.partition(" ")[0] for p in self.place} - {"-"})
        parts = [self.code.removeprefix("PAM_"), f"job {job}" if job else "",
                 f"in {' and '.join(into)}" if into and into != [job] else "",
                 "display" if "DISPLAY" in self.environment else "",
                 *(f'"{text}"' for text in self.said)]  # fmt: skip
        return ", ".join(filter(None, parts))


class Verdict(NamedTuple):
    """A row, seen with both."""

    row: Row
    by: str  # call, pamtester or ssh
    theirs: Seen
    ours: Seen

    @property
    def listed(self) -> Difference | None:
        """The deliberate difference that the row belongs to."""
        return listed(self.row)

    @property
    def wrong(self) -> bool:
        """Whether it is not as it should be; the other ways may show less than a call."""
        if self.theirs == self.ours:
            return self.listed is not None and self.by == "call"
        return self.listed is None

    def __str__(self) -> str:
        """Return the verdict in a word or two."""
        known = self.listed
        if self.wrong:
            return f"WRONG: not different: {known.name}" if known else "WRONG: different"
        return known.name if known and self.theirs != self.ours else "same"


def listed(row: Row) -> Difference | None:
    """Return the deliberate difference of a row; None if the modules are to do the same."""
    found = [
        one for one in DIFFERENCES
        if row.name in one.rows and (one.rows[row.name] == ANY or row.options in one.rows[row.name])
    ]  # fmt: skip
    assert len(found) <= 1, f"{row} is listed twice"
    return found[0] if found else None


# Rows

_VALUES = {"nodename": ("n1", "n9"), "service": ("sshd", "*", "login"),
           "log_level": (*LOG_LEVELS, "0", "9", "10", "loud")}  # fmt: skip
# Each value of each option of the C module; a value that it takes for another it begins with; names
# in other letters; a name that is none.
EVERY_OPTION = [
    f"{option.name}={value}"
    for option in OPTIONS
    if option.since
    for value in _VALUES.get(option.name, option.values)
] + ["action_no_jobs=denyx", "Action_No_Jobs=ignore", "action_nojobs=ignore", "action_no_jobs"]
IN_THESE = ("one job", "idle node", "several jobs, from one of them")
SLOW = ("several jobs, slurmd is silent", "several jobs, packets are dropped")
OURS_ALONE = ("callerid=0", "callerid_timeout=0.3")
MORE = {
    "several jobs, all fail": ["", "action_adopt_failure=allow", "action_adopt_failure=deny",
                               "action_unknown=allow", "action_unknown=deny"],
    "several jobs, from one with X11": ["", "disable_x11=0", "disable_x11=1"],
    "the stepd says yes and does nothing": ["", "action_adopt_failure=deny"],
}  # fmt: skip


def rows() -> list[Row]:
    """Return all rows, those of a situation together."""
    found: dict[Row, None] = {}
    for row in decisions.rows():
        if "callerid=0" in row.options:
            continue
        options = " ".join(word for word in row.options.split() if word not in OURS_ALONE)
        if row.situation in SLOW and options not in ("", "action_unknown=deny"):
            continue
        found[Row(row.situation, row.user, options)] = None
    for situation in IN_THESE:
        found.update(dict.fromkeys(Row(situation, "alice", options) for options in EVERY_OPTION))
    for situation, more in MORE.items():
        found.update(dict.fromkeys(Row(situation, "alice", options) for options in more))
    first: dict[tuple[str, str | None], int] = {}
    for number, one in enumerate(found):
        first.setdefault(one[:2], number)
    return sorted(found, key=lambda one: first[one[:2]])


def in_other_ways(row: Row) -> bool:
    """Whether a row is seen by more than a call: with the defaults and with the strictest value."""
    words = row.options.split()
    return not words or words[-1].endswith("=deny")


# Seeing


def verdicts(scenery: Scenery, row: Row) -> Iterator[Verdict]:
    """See a row with both modules."""
    stage = scenery.stage(row.situation, row.user)
    ways = {"call": _call}
    if in_other_ways(row) and row.user:
        ways["pamtester"] = _pamtester
    if in_other_ways(row) and stage.login:
        ways["ssh"] = _ssh
    for by, see in ways.items():
        theirs, ours = (see(stage, row, f"{m} {row.options}".strip()) for m in MODULES.values())
        yield Verdict(row, by, theirs, ours)


def _call(stage: Stage, row: Row, line: str) -> Seen:
    answer = stage.driver.call(line, row.user, seconds=PATIENCE, **stage.request)
    environment = _by_role(stage, answer.environment)
    place = _place(stage, answer.cgroups)
    return Seen(answer.code, answer.said, environment, place, answer.ended.partition(":")[0])


def _pamtester(stage: Stage, row: Row, line: str) -> Seen:
    status, printed = stage.driver.pamtester(line, str(row.user), seconds=PATIENCE, **stage.request)
    said = [text for text in printed.splitlines() if any(part in text for part in TEXTS)]
    last = printed.rpartition("pamtester: ")[2].strip()
    return Seen(last if status else "let in", tuple(said), {}, (), "")


def _ssh(stage: Stage, row: Row, line: str) -> Seen:
    del row
    assert stage.login
    stage.pam(line)
    result = stage.login(COMMAND)
    said = [text for text in result.err.splitlines() if any(part in text for part in TEXTS)]
    if result.rc:
        return Seen("refused", tuple(said), {}, (), "")
    job, _, rest = result.out.partition("\n")
    environment = _by_role(stage, {"SLURM_JOB_ID": job.partition("=")[2]})
    return Seen("let in", tuple(said), environment, _place(stage, cgroups(rest)), "")


def _by_role(stage: Stage, environment: dict[str, str]) -> dict[str, str]:
    roles = {str(job): role for role, job in stage.jobs.items()}
    job = environment.get("SLURM_JOB_ID", "")
    return {**environment, "SLURM_JOB_ID": roles.get(job, job)} if job else {}


def _place(stage: Stage, found: dict[str, str]) -> tuple[str, ...]:
    """Return role and path below the job for each confined cgroup; - for none of any job."""
    jobs = {f"job_{job}": role for role, job in stage.jobs.items()}
    places = []
    for name in CONFINED:
        parts = found.get(name, "").split("/")
        job = next((part for part in parts if part in jobs), "")
        places.append(f"{jobs[job]} {'/'.join(parts[parts.index(job) + 1 :])}" if job else "-")
    return tuple(places)


# The report


def main() -> int:
    """See everything, print it; return the exit status."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 190)
    seen: list[Verdict] = []
    with Cluster("compare", report=console.print) as cluster, Driver(cluster.n1) as driver:
        with Scenery(cluster, driver) as scenery:
            for row in rows():
                if not seen or row.name != seen[-1].row.name:
                    console.print(f"  {escape(row.name)} …")
                seen += verdicts(scenery, row)
        cluster.reconfigure(Settings())
    console.print(table(seen), reasons(), releases())
    wrong = sum(verdict.wrong for verdict in seen)
    different = sum(verdict.theirs != verdict.ours for verdict in seen)
    console.print(f"{len(seen)} rows, {different} differ, {wrong} not as they should")
    return 1 if wrong else 0


def table(seen: list[Verdict]) -> Table:
    """Return the report: a line for each row."""
    report = Table(title="C module (Slurm 22.05) and slurm_adopt", title_justify="left")
    for column in ("situation", "options", "by", *MODULES, "verdict"):
        report.add_column(column, overflow="fold")
    before = ""
    for one in seen:
        report.add_row(*map(escape, (one.row.name if one.row.name != before else "",
                       one.row.options, one.by, str(one.theirs),
                       "" if one.theirs == one.ours else str(one.ours), str(one))))  # fmt: skip
        before = one.row.name
    return report


def reasons() -> Table:
    """Return the list of deliberate differences."""
    report = Table(title="what is different on purpose", title_justify="left")
    for column in ("verdict", "C module", "slurm_adopt", "why", "as in the C module of"):
        report.add_column(column, overflow="fold")
    for one in DIFFERENCES:
        report.add_row(*map(escape, one[:5]))
    return report


def releases() -> Table:
    """Return where the releases of the C module differ, and which of them we follow."""
    report = Table(title="where releases of the C module differ", title_justify="left")
    for column in ("what", "C module", "slurm_adopt", "why"):
        report.add_column(column, overflow="fold")
    for one in RELEASES:
        report.add_row(*map(escape, one))
    return report


if __name__ == "__main__":
    sys.exit(main())
