"""`./dev bench`: what a login costs by either front, beside the C module and empty scripts.

pamtester runs the account phase of each subject in turn, or that and the session phase, inside a
node of the real cluster, as a process of its own, so that loading and ending the interpreter
counts. Times are medians; what matters are the ratios within this run. The limit of a login is an
empty script and the C module's own work: what that has beyond pam_permit. Memory is that of the
privileged sshd of a real login. Other modules do what `./dev bench --instructions` and `./dev bench
--commands` do: instructions.py and bench_commands.py.
"""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from tests.cluster.harness.cluster import IsUpError
from tests.cluster.harness.root import BuildError, suite_root
from tests.cluster.harness.suites import SUITES
from tests.cluster.harness.wait import NotInTimeError
from tests.cluster.tools.bench import measuring, report
from tests.cluster.tools.bench.rows import LISTENERS, MEMORY, NAMES, PYTHONS, ROWS, STORM
from tests.signals import heed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cluster.tools.bench.measuring import Numbers, Report

RUNS = 30
WIDTH = 130


@click.command()
@click.option(
    "--rows",
    default="*",
    metavar="PATTERN",
    help="names, parts of them and patterns with *, commas between; see --list",
)
@click.option("--list", "listing", is_flag=True, help="only name the rows")
@click.option("--runs", default=RUNS, type=click.IntRange(1), help="of each subject in a row")
@click.option(
    "--only", type=click.Choice(measuring.WHAT), help="times alone, or what can be counted"
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="write what was found there")
@click.option("--write", is_flag=True, help="put it into docs/performance.md and its pictures")
def main(
    rows: str, listing: bool, runs: int, only: str | None, file: Path | None, write: bool
) -> None:
    """Measure what a login costs; the other rows of the page stay as they are with --write.

    `./dev bench --instructions [COMMIT...]` counts the instructions of one login. `./dev bench
    --commands [SESSIONS]` measures the commands of slurm-adopt. Both have a --help of their own.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    refuse_unknown(rows)
    chosen = chosen_rows(rows)
    if listing:
        console.print(*chosen, sep="\n")
        sys.exit(0)
    refuse_unwritable(file)
    what = (only,) if only else measuring.WHAT
    if only == "counts":
        console.print(*(f"{name}: nothing is counted" for name in chosen if name in TIMED))
        chosen = [name for name in chosen if name not in TIMED]
    if not chosen:
        raise click.UsageError("nothing of these rows is counted; leave out --only counts")
    found: dict[str, Numbers] = {}
    try:
        found.update(measured(chosen, runs, what, partial(console.print, markup=False)))
    finally:
        if os.getpid() == OWN:  # pyroute2 forks, and what it forks comes by here
            origins = {name: origin(name, runs, what) for name in found}
            said = {"schema": 2, "rows": found, "origins": origins}
            if file and found:
                file.write_text(json.dumps(said, indent=1) + "\n")
            if found:
                console.print(*report.tables(found))
            if missing := [name for name in chosen if name not in found]:
                console.print(f"not measured: {', '.join(missing)}", markup=False)
    if write and found:
        from tests.dev import performance

        performance.keep(said)
        console.print(f"wrote {performance.PAGE}")
    for remark in filter(None, (report.unmeasured(found), report.busy(found))):
        console.print(remark, markup=False)
    console.print(report.summary(found))
    sys.exit(1 if missing else 0)


OWN = os.getpid()
TIMED = (MEMORY, LISTENERS, STORM)  # nothing is counted there


def chosen_rows(patterns: str) -> list[str]:
    """Return the names of the rows that one of the patterns, or a part of a name, means."""
    words = _words(patterns)
    return [name for name in NAMES if any(_means(word, name) for word in words)]


def refuse_unknown(patterns: str) -> None:
    """Refuse what means no row."""
    words = _words(patterns)
    nothing = [word for word in words if not any(_means(word, name) for name in NAMES)]
    if nothing:
        said = " or ".join(f"'{word}'" for word in nothing)
        raise click.UsageError(f"no row is named like {said}; ./dev bench --list names them")


def _words(patterns: str) -> list[str]:
    """Return the patterns; in names a blank comes after each comma."""
    return [word for part in re.split(r",(?! )", patterns) for word in _apart(part.strip())]


def _apart(part: str) -> list[str]:
    """Return a part as one pattern, or as several: the longest first ones that mean a row."""
    pieces = part.split(", ")
    for end in range(len(pieces), 0, -1):
        word = ", ".join(pieces[:end]).strip()
        if any(_means(word, name) for name in NAMES):
            return [word, *(_apart(", ".join(pieces[end:])) if pieces[end:] else [])]
    return [part]


def _means(word: str, name: str) -> bool:
    if word in NAMES:
        return word == name
    return bool(word) and (fnmatch.fnmatch(name, word) or word in name)


def refuse_unwritable(file: Path | None) -> None:
    """Refuse a file that could not be written in the end, before anything is measured."""
    if file and (file.is_dir() or not os.access(file.resolve().parent, os.W_OK)):
        raise click.BadParameter(f"{file} cannot be written", param_hint="--json")


def origin(name: str, runs: int, what: Sequence[str]) -> dict[str, dict[str, str | int]]:
    """Say when, on what and how often a row was measured; what is counted has one run."""
    root = suite_root(SUITES[PYTHONS.get(name, "bookworm")])
    query = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", "-f", "${Version}\n"]
    slurm, python = (
        subprocess.check_output([*query, package], text=True).partition("-")[0]
        for package in ("slurmd", "python3")
    )
    seen = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}",
        "Debian": (root / "etc/debian_version").read_text().strip(),
        "Slurm": slurm,
        "Python": python,
    }
    if name in TIMED:
        what = ("time",)
    times = {"time": measuring.rounds(name, runs), "counts": 1}
    return {one: {**seen, "runs": times[one]} for one in what}


def measured(
    names: Sequence[str], runs: int, what: Sequence[str], say: Report
) -> Iterator[tuple[str, Numbers]]:
    """Measure the rows; those by pamtester share a cluster."""
    shared = [name for name in names if name in ROWS]
    if shared:
        yield from measuring.by_pamtester(shared, runs, what, say)
    others: dict[str, Callable[[], Numbers]] = {
        MEMORY: lambda: measuring.memory(runs, say),
        **{name: partial(measuring.python, name, runs, what, say) for name in PYTHONS},
        LISTENERS: lambda: measuring.listeners(runs, say),
        STORM: lambda: measuring.at_once(runs, say),
    }
    for name, measure in others.items():
        if name not in names:
            continue
        started = time.monotonic()
        try:
            numbers = measure()
        except IsUpError:
            raise
        except (RuntimeError, OSError, BuildError) as error:  # the others are not lost
            say(f"{name}: {error}")
        else:
            say(f"{name}: measured in {time.monotonic() - started:.0f} s")
            yield name, numbers


def command(words: Sequence[str]) -> None:
    """Do what the words of the command line say."""
    for first in ("--instructions", "--commands"):
        if first in words[1:]:
            said = f"{first} stands first, and no option of the rows beside it"
            print(f"./dev bench: {said}", file=sys.stderr)
            sys.exit(2)
    if words[:1] == ["--instructions"]:
        from tests.cluster.tools.instructions import main as count

        count(words[1:], prog_name="./dev bench --instructions")
    elif words[:1] == ["--commands"]:
        from tests.cluster.tools.bench_commands import main as measure_commands

        measure_commands(words[1:], prog_name="./dev bench --commands")
    else:
        main(words, prog_name="./dev bench")


if __name__ == "__main__":
    heed(lambda signum: sys.exit(128 + signum))
    try:
        command(sys.argv[1:])
    except IsUpError as error:
        print(f"./dev bench: another benchmark is running: {error}", file=sys.stderr)
        sys.exit(1)
    except (BuildError, NotInTimeError, RuntimeError, OSError) as error:
        print(f"./dev bench: {error}", file=sys.stderr)
        sys.exit(1)
