"""`./dev compare`: the C module and ours, side by side, in the same situations and one run.

Each row is seen by a call of PAM: code, text, environment, cgroups and mount namespace after. With
the defaults, the strictest value and each value of the option that governs it is also seen by
pamtester and by a login by ssh. differences.py has the rows that are meant to differ, what the C
module does there, and why.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slurm_adopt.decision.options import LOG_LEVELS, OPTIONS
from tests import decisions
from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster, Settings
from tests.cluster.harness.driver import WORDS, Driver, cgroups
from tests.cluster.scenarios.differences import (
    ANY,
    DIFFERENCES,
    NODE,
    OURS,
    RELEASES,
    Did,
    Difference,
    Rows,
)
from tests.cluster.scenarios.situations import Scenery, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFINED = ("cpuset", "devices", "freezer", "memory")
NAMES = ("DISPLAY=", "XAUTHORITY=", "SLURM")  # what a module may set, in what a session has
COMMAND = "env; readlink /proc/self/ns/mnt; cat /proc/self/cgroup"
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
    namespace: str  # whose mounts it has: the node's, those of a job by role, others; "" if unseen
    ended: str  # how the process ended, if not as it should
    cpus: str = ""  # that it may use; "" if unseen

    def __str__(self) -> str:
        """Put it in a few words."""
        if self.ended:
            return self.ended
        job = self.environment.get("SLURM_JOB_ID", "")
        into = sorted({p.partition(" ")[0] for p in self.place} - {"-"})
        parts = [self.code.removeprefix("PAM_"), f"job {job}" if job else "",
                 f"in {' and '.join(into)}" if into and into != [job] else "",
                 f"mounts of {self.namespace}" if self.namespace not in ("", NODE) else "",
                 f"CPUs {self.cpus}" if self.cpus else "",
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
    def wrong(self) -> str:
        """What is not as it should be; the other ways may show less than a call."""
        known = self.listed
        same = self.theirs == self.ours
        if known is None and not same:
            return "different"
        if known and same and self.by == "call":
            return f"not different: {known.name}"
        did = _of(known.rows, self.row) if known else None
        if did and not _as_expected(did, self.theirs, self.by):
            return f"the C module does not {did}"
        did = _of(OURS, self.row)
        if did and not _as_expected(did, self.ours, self.by):
            return f"ours does not {did}"
        return ""

    def __str__(self) -> str:
        """Return the verdict in a word or two."""
        if self.wrong:
            return f"WRONG: {self.wrong}"
        return self.listed.name if self.listed and self.theirs != self.ours else "same"


def _as_expected(did: Did, seen: Seen, by: str) -> bool:
    """Say whether a module did what is written down, as far as the way to see it shows that."""
    if seen.environment.get("SLURM_JOB_ID", "") != did.job:
        return False
    if seen.namespace and did.namespace not in ("", seen.namespace):
        return False
    if by == "call":
        said, cpus = (did.said,) if did.said else (), did.cpus or seen.cpus
        return (seen.ended or seen.code, seen.said, seen.cpus) == (did.code, said, cpus)
    if by == "ssh":
        return seen.code == ("let in" if did.code in ("PAM_SUCCESS", "PAM_IGNORE") else "refused")
    if did.code not in WORDS:  # PAM_SUCCESS, or the process has ended
        return (seen.code == "let in") == (did.code == "PAM_SUCCESS")
    return seen.code == WORDS[did.code]


def listed(row: Row) -> Difference | None:
    """Return the deliberate difference of a row; None if the modules are to do the same."""
    found = [one for one in DIFFERENCES if _of(one.rows, row)]
    assert len(found) <= 1, f"{row} is listed twice"
    return found[0] if found else None


def differing_releases(row: Row) -> list[int]:
    """Return where the releases of the C module differ about a row: numbers in RELEASES, from 1."""
    return [number for number, one in enumerate(RELEASES, 1) if _of(one.rows, row)]


T = TypeVar("T")


def _of(rows: Rows[T], row: Row) -> T | None:
    """Return what a list has for a row."""
    of_situation = rows.get(row.name, {})
    return of_situation.get(row.options) or of_situation.get(ANY)


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
    "several jobs, from one of them by ::1": ["", "action_unknown=deny"],
    "the stepd says yes and does nothing": ["", "action_adopt_failure=deny"],
    "the only job is ending": ["action_adopt_failure=allow", "action_adopt_failure=deny"],
    "one job, with namespaces": ["", "join_container=true", "join_container=false"],
    "the only job fails, with namespaces": ["", "action_adopt_failure=allow",
                                            "action_adopt_failure=deny", "join_container=false",
                                            "action_adopt_failure=deny join_container=false"],
    "one job, sshd is bound to a CPU": [""],
    # The C module takes what begins with a value for that value.
    "idle node": ["action_no_jobs=ignorex"],
    "several jobs, slurmd refuses": ["action_unknown=allowed", "action_unknown=denyx",
                                     "action_unknown=newest1"],
    "the only job fails": ["action_adopt_failure=allowed", "action_adopt_failure=denyx"],
    "node name unknown": ["action_generic_failure=ignored", "action_generic_failure=allowed",
                          "action_generic_failure=denyx"],
    "one job, with X11": ["disable_x11=1x", "disable_x11=0x"],
}  # fmt: skip
ALONE = {one.alone for one in DIFFERENCES if one.alone}  # situations that ours alone is tried in


def rows() -> list[Row]:
    """Return all rows, those of a situation together."""
    found: dict[Row, None] = {}
    for row in decisions.rows():
        if "callerid=0" in row.options or row.situation in ALONE:
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


# What governs a situation; of the situations that the decision table does not have, one each.
GOVERNING = {one.name: one.answer for one in decisions.SITUATIONS} | {
    "several jobs, all fail": "action_unknown",
    "several jobs, from one with X11": "disable_x11",
    "one job, with namespaces": "join_container",
    "the only job fails, with namespaces": "join_container",
}


def in_other_ways(row: Row) -> bool:
    """Whether a row is seen by more than a call.

    With the defaults, the strictest value, and each value of what governs the situation.
    """
    words = row.options.split()
    if not words or words[-1].endswith("=deny"):
        return True
    option, _, value = words[-1].partition("=")
    return option == GOVERNING.get(row.situation) and value in decisions.ANSWERS.get(
        option, (value,)
    )


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
    return Seen(answer.code, answer.said, environment, place, _mounts(stage, answer.namespace),
                answer.ended.partition(":")[0], answer.cpus)  # fmt: skip


def _pamtester(stage: Stage, row: Row, line: str) -> Seen:
    done = stage.driver.pamtester(line, str(row.user), seconds=PATIENCE, **stage.request)
    said = [text for text in done.printed.splitlines() if any(part in text for part in TEXTS)]
    last = done.printed.rpartition("pamtester: ")[2].strip()
    return Seen(last if done.status else "let in", tuple(said), _by_role(stage, done.environment),
                _place(stage, done.cgroups), _mounts(stage, done.namespace), "")  # fmt: skip


def _ssh(stage: Stage, row: Row, line: str) -> Seen:
    del row
    assert stage.login
    stage.pam(line)
    result = stage.login(COMMAND)
    said = [text for text in result.err.splitlines() if any(part in text for part in TEXTS)]
    if result.rc:
        return Seen("refused", tuple(said), {}, (), "", "")
    variables, mounts, rest = result.out.partition("mnt:[")
    number, _, rest = rest.partition("\n")
    set_by_us = [line.split("=", 1) for line in variables.splitlines() if line.startswith(NAMES)]
    environment = _by_role(stage, dict(set_by_us))
    place = _place(stage, cgroups(rest))
    return Seen("let in", tuple(said), environment, place, _mounts(stage, mounts + number), "")


def _by_role(stage: Stage, environment: dict[str, str]) -> dict[str, str]:
    roles = {str(job): role for role, job in stage.jobs.items()}
    job = environment.get("SLURM_JOB_ID", "")
    return {**environment, "SLURM_JOB_ID": roles.get(job, job)} if job else environment


def _place(stage: Stage, found: dict[str, str]) -> tuple[str, ...]:
    """Return role and path below the job for each confined cgroup; - for none of any job."""
    jobs = {f"job_{job}": role for role, job in stage.jobs.items()}
    places = []
    for name in CONFINED:
        parts = found.get(name, "").split("/")
        job = next((part for part in parts if part in jobs), "")
        places.append(f"{jobs[job]} {'/'.join(parts[parts.index(job) + 1 :])}" if job else "-")
    return tuple(places)


def _mounts(stage: Stage, namespace: str) -> str:
    """Return whose mount namespace it is that /proc/PID/ns/mnt showed."""
    n1 = stage.cluster.n1
    known = {os.readlink(f"/proc/{n1.init.pid}/ns/mnt"): NODE, "": ""}
    for role, place in stage.namespaces.items():
        known[f"mnt:[{(n1.root / place.lstrip('/')).stat().st_ino}]"] = role
    return known.get(namespace, "others")


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
    wrong = sum(bool(verdict.wrong) for verdict in seen)
    different = sum(verdict.theirs != verdict.ours for verdict in seen)
    console.print(f"{len(seen)} rows, {different} differ, {wrong} not as they should")
    return 1 if wrong else 0


def table(seen: list[Verdict]) -> Table:
    """Return the report: a line for each row."""
    report = Table(title="C module (Slurm 22.05) and slurm_adopt", title_justify="left")
    for column in ("situation", "options", "by", *MODULES, "verdict", "of releases"):
        report.add_column(column, overflow="fold")
    before = ""
    for one in seen:
        report.add_row(*map(escape, (one.row.name if one.row.name != before else "",
                       one.row.options, one.by, str(one.theirs),
                       "" if one.theirs == one.ours else str(one.ours), str(one),
                       ", ".join(map(str, differing_releases(one.row))))))  # fmt: skip
        before = one.row.name
    return report


def reasons() -> Table:
    """Return the list of deliberate differences."""
    report = Table(title="what is different on purpose", title_justify="left")
    for column in ("verdict", "C module", "slurm_adopt", "why", "as in the C module of"):
        report.add_column(column, overflow="fold")
    for one in DIFFERENCES:
        tried = f"{one.name} (tried on ours only: {one.alone})" if one.alone else one.name
        report.add_row(*map(escape, (tried, *one[1:5])))
    return report


def releases() -> Table:
    """Return where the releases of the C module differ, and which of them we follow."""
    report = Table(title="where releases of the C module differ", title_justify="left")
    for column in ("of releases", "what", "C module", "slurm_adopt", "why"):
        report.add_column(column, overflow="fold")
    for number, one in enumerate(RELEASES, 1):
        report.add_row(*map(escape, (str(number), *one[:4])))
    return report


if __name__ == "__main__":
    sys.exit(main())
