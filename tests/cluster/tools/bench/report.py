"""The report of the benchmark: tables for the terminal, and the same as rows of text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from tests.cluster.tools.bench import counting, goals
from tests.cluster.tools.bench.rows import LISTENERS, NAMES, PYTHONS, SOURCE, STORM, WITHOUT
from tests.cluster.tools.bench.subjects import FRONTS, SUBJECTS, TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.cluster.tools.bench.goals import Found
    from tests.cluster.tools.bench.subjects import Front

NONE = "-"
LISTENING = ("own_ms", "own_ms_full")
ORIGIN = ("date", "machine", "Debian", "Slurm", "Python", "runs")  # of what was measured
UNITS = {"instructions": 1e6, "bytes": 1e3, "cpu_ms": 1}
HEADINGS = {
    "cpu_ms": "CPU time of the whole process, median in ms",
    "instructions": "instructions in millions",
    "calls": "system calls",
    "bytes": "kB read",
    "files": "files opened",
    "connections": "connections",
}


class Rows(NamedTuple):
    """A table as text."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    words: int = 1  # columns of text, from the left


def all_rows(found: Found) -> Iterator[Rows]:
    """Yield what is reported, but for what was not measured."""
    several = (
        times(found), cpu_times(found), answers(found), floors(found), *counts(found),
        traceback(found), memory(found), storm(found), listeners(found), verdicts(found),
    )  # fmt: skip
    return (one for one in several if one.rows)


def tables(found: Found) -> list[Table]:
    """Return the same for a terminal."""
    made = []
    for one in all_rows(found):
        table = Table(title=one.title)
        for number, column in enumerate(one.columns):
            table.add_column(column, justify="left" if number < one.words else "right")
        for row in one.rows:
            table.add_row(*row)
        made.append(table)
    return made


def _known(found: Found, measure: str) -> list[str]:
    return [name for name in NAMES if measure in found.get(name, {})]


def times(found: Found) -> Rows:
    """Return milliseconds, and ours to the limit and to the C module."""
    ratios = ["to limit", "to C", "exec to limit", "exec to C"]
    rows = []
    for name in _known(found, "ms"):
        ms = found[name]["ms"]
        row = [number(ms.get(subject), 1) for subject in SUBJECTS]
        for front in FRONTS:
            whole = "C" in ms and front.ours in ms
            row.append(number(ms[front.ours] / goals.limit(ms, front) if whole else None))
            row.append(number(ms[front.ours] / ms["C"] if whole else None))
        rows.append([name, *row])
    return Rows("whole process, median in ms", ["row", *TITLES.values(), *ratios], rows)


def answers(found: Found) -> Rows:
    """Return what the slurmd of the source takes, and ours to no other sockets with and without."""
    rows = []
    for name in _known(found, "answer_ms"):
        row = [name, number(found[name]["answer_ms"][SOURCE], 1)]
        for how in (goals.to_row, goals.less_answer):
            row += [number(_ratio(how(name, goals.NO_SOCKETS), found, front)) for front in FRONTS]
        rows.append(row)
    heads = [TITLES[front.ours] for front in FRONTS]
    columns = ["row", "answer, ms", *heads, *(f"{head}, less it" for head in heads)]
    title = "the answer of the source's slurmd, and ours to no other sockets"
    return Rows(title, columns, rows)


def _ratio(how: goals.How, found: Found, front: Front) -> float | None:
    return how(found, front) if "answer_ms" in found.get(goals.NO_SOCKETS, {}) else None


def floors(found: Found) -> Rows:
    """Return what an empty script costs on each Python, and ours there."""
    rows = []
    for name in PYTHONS:
        ms = found.get(name, {}).get("ms", {})
        if ms:
            row = [name]
            for front in FRONTS:
                empty, ours = ms[front.empty], ms[front.ours]
                row += [number(empty, 1), number(ours, 1), number(ours / empty)]
            rows.append(row)
    columns = ["one job"]
    for front in FRONTS:
        columns += [TITLES[front.empty], TITLES[front.ours], f"{TITLES[front.ours]} to empty"]
    return Rows("on each Python, median in ms", columns, rows)


def counts(found: Found) -> Iterator[Rows]:
    """Yield what repeats, one table each; our own is what is beyond an empty script."""
    for measure in counting.NUMBERS:
        yield _with_own(found, measure)


def cpu_times(found: Found) -> Rows:
    """Return milliseconds of CPU time, and our own of them."""
    return _with_own(found, "cpu_ms")


def _with_own(found: Found, measure: str) -> Rows:
    unit, digits = UNITS.get(measure, 1), 1 if measure in UNITS else 0
    rows = []
    for name in _known(found, measure):
        of = found[name][measure]
        own = [of[f.ours] - of[f.empty] if f.ours in of else None for f in FRONTS]
        values = [*(of.get(subject) for subject in SUBJECTS), *own]
        rows.append([name, *(number(None if v is None else v / unit, digits) for v in values)])
    return Rows(HEADINGS[measure], ["row", *TITLES.values(), "own", "own, exec"], rows)


def traceback(found: Found) -> Rows:
    """Return what pam_python's import of traceback costs on each Python, in the empty script."""
    rows = []
    for name in PYTHONS:
        of = found.get(name, {}).get("instructions", {})
        if WITHOUT in of:
            saved = of["empty"] - of[WITHOUT]
            share = f"{saved / of['empty']:.0%}"
            rows.append([
                name,
                *(number(value / 1e6, 1) for value in (of["empty"], of[WITHOUT], saved)),
                share,
            ])  # fmt: skip
    columns = ["both phases", "empty script", "without traceback", "saved", "share"]
    return Rows("instructions in millions", columns, rows)


def memory(found: Found) -> Rows:
    """Return what stays in a session's privileged sshd."""
    measures = [m for name in found for m in ("rss", "pss") if m in found[name]]
    whole: dict[str, dict[str, float]] = {}
    for name in _known(found, "pss"):
        whole = found[name]
    rows = [
        [TITLES[subject], *(number(whole[measure].get(subject)) for measure in measures)]
        for subject in (SUBJECTS if whole else ())
    ]
    columns = ["a session's privileged sshd", *(measure.upper() for measure in measures)]
    return Rows("memory that stays, in MiB", columns, rows)


def storm(found: Found) -> Rows:
    """Return how many logins at once get in, and how many would where each takes the limit."""
    of = found.get(STORM, {})
    rates = of.get("per_second", {})
    named: list[tuple[str, str, float | None]] = [
        (TITLES[subject], number(of["inside"].get(subject), 0), rate)
        for subject, rate in rates.items()
    ]
    if rates:
        named += [(f"limit, {f.name}", NONE, goals.most(found, f)) for f in FRONTS]
    rows = [
        [name, inside, number(rate, 1), number(rate / rates["C"] if rate else None)]
        for name, inside, rate in named
    ]
    columns = ["module", "wholly in their job, at least", "in a second, median", "to C"]
    return Rows("300 logins at the same moment", columns, rows)


def listeners(found: Found) -> Rows:
    """Return the module's own ms by its log lines, without and with sockets that listen."""
    of = found.get(LISTENERS, {})
    rows = [
        [
            front.name,
            *(number(of[measure][front.ours], 1) for measure in LISTENING),
            number(goals.listeners(found, front)),
        ]
        for front in FRONTS
        if of
    ]
    columns = ["front", "without such sockets", "with 150,000", "ratio"]
    return Rows("the module's own time by its log lines, median in ms", columns, rows)


def origins(kept: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Rows:
    """Return what the rows were measured on: a line for all that were measured alike."""
    seen: dict[tuple[str, ...], int] = {}
    for of_row in kept.values():
        for what, origin in of_row.items():
            line = (what, *(str(origin[column]) for column in ORIGIN))
            seen[line] = seen.get(line, 0) + 1
    rows = [[*line, str(number_of)] for line, number_of in sorted(seen.items(), reverse=True)]
    return Rows("what it was measured on", ["what", *ORIGIN, "rows"], rows, 6)


def verdicts(found: Found) -> Rows:
    """Return what is wanted, and what it came to by each front."""
    several = [one for one in goals.verdicts(found) if one.value is not None]
    rows = []
    for one in several:
        sign = "at least" if one.goal.at_least else "at most"
        rows.append([
            one.goal.row,
            one.goal.name,
            one.front.name,
            f"{sign} {one.wanted:g} {one.goal.unit}",
            f"{number(one.value)} {one.goal.unit}",
            "reached" if one.reached else "missed",
            one.margin,
        ])  # fmt: skip
    columns = ["row", "what", "front", "wanted", "found", "verdict", "by"]
    return Rows("goals that were measured", columns, rows, 3)


BUSY = 1.1  # times its CPU time: an empty script waits for nothing but a core


def busy(found: Found) -> str:
    """Name the rows in which others had the cores; "" for none."""
    names = [
        name for name in _known(found, "ms")
        if found[name]["ms"]["empty"] > BUSY * found[name]["cpu_ms"]["empty"]
    ]  # fmt: skip
    return f"the machine was busy, so times say little: {'; '.join(names)}" if names else ""


def unmeasured(found: Found) -> str:
    """Name the goals that were not measured, with their rows; "" for none."""
    rows: dict[str, dict[str, None]] = {}
    for one in goals.verdicts(found):
        if one.value is None:
            rows.setdefault(one.goal.name, {})[one.goal.row] = None
    several = (f"{name} ({'; '.join(of)})" for name, of in rows.items())
    return f"goals that were not measured: {', '.join(several)}" if rows else ""


def summary(found: Found) -> str:
    """Say in one line how many goals are reached; the table before it names them."""
    several = [one for one in goals.verdicts(found) if one.reached is not None]
    reached = sum(bool(one.reached) for one in several)
    unknown = len(goals.GOALS) * len(FRONTS) - len(several)
    said = f"{reached} of {len(several)} goals are reached, {len(several) - reached} missed"
    return f"{said}; {unknown} were not measured" if unknown else said


def number(value: float | None, digits: int = 2) -> str:
    """Return a number as a table has it."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:,.{digits}f}"
