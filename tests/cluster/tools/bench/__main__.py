"""`./dev bench`: what a login costs by either front, beside the C module and empty scripts.

pamtester runs the account phase of each subject in turn, or that and the session phase, inside a
node of the real cluster, as a process of its own, so that loading and ending the interpreter
counts. Times are medians; what matters are the ratios within this run. The limit of a login is an
empty script and the C module's own work: what that has beyond pam_permit. Memory is that of the
privileged sshd of a real login. `--instructions [COMMIT...]` counts one login of commits: see
instructions.py. `--commands` measures those of `slurm-adopt`: see bench_commands.py.
"""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from tests.cluster.harness.root import BuildError
from tests.cluster.tools.bench import measuring, report
from tests.cluster.tools.bench.rows import LISTENERS, MEMORY, NAMES, PYTHONS, ROWS, STORM
from tests.signals import heed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cluster.tools.bench.measuring import Numbers, Report

RUNS = 30
WIDTH = 130


@click.command()
@click.option("--rows", default="*", help="which: names or patterns, commas between; see --list")
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
    """Measure what a login costs; the other rows of the page stay as they are with --write."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    chosen = chosen_rows(rows)
    if listing or not chosen:
        console.print(*(chosen or NAMES), sep="\n")
        sys.exit(0 if chosen else 2)
    refuse_unwritable(file)
    what = (only,) if only else measuring.WHAT
    chosen = [name for name in chosen if "time" in what or name not in TIMED]
    found: dict[str, Numbers] = {}
    try:
        found.update(measured(chosen, runs, what, partial(console.print, markup=False)))
    finally:
        if os.getpid() == OWN:  # pyroute2 forks, and what it forks comes by here
            said = {"schema": 1, "machine": machine(), "runs": runs, "rows": found}
            if file and found:
                file.write_text(json.dumps(said, indent=1) + "\n")
            console.print(*report.tables(found))
    if write and found:
        from tests.dev import performance

        performance.keep(said)
        console.print(f"wrote {performance.PAGE}")
    missing = [name for name in chosen if name not in found]
    if missing:
        console.print(f"not measured: {', '.join(missing)}")
    console.print(report.summary(found))
    sys.exit(1 if missing else 0)


OWN = os.getpid()
TIMED = (LISTENERS, STORM)  # nothing is counted there


def chosen_rows(patterns: str) -> list[str]:
    """Return the names of the rows that one of the patterns, or a part of a name, means.

    A name may have a comma in it: so the whole is tried first.
    """
    if patterns in NAMES:
        return [patterns]
    words = [word.strip() for word in patterns.split(",")]
    return [
        name
        for name in NAMES
        if any(word and (fnmatch.fnmatch(name, word) or word in name) for word in words)
    ]


def refuse_unwritable(file: Path | None) -> None:
    """Refuse a file that could not be written in the end, before anything is measured."""
    if file and (file.is_dir() or not os.access(file.resolve().parent, os.W_OK)):
        raise click.BadParameter(f"{file} cannot be written", param_hint="--json")


def machine() -> str:
    """Say what it was measured on."""
    return f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"


def measured(
    names: Sequence[str], runs: int, what: Sequence[str], say: Report
) -> Iterator[tuple[str, Numbers]]:
    """Measure the rows; those by pamtester share a cluster."""
    shared = [name for name in names if name in ROWS]
    if shared:
        yield from measuring.by_pamtester(shared, runs, what, say)
    others: dict[str, Callable[[], Numbers]] = {
        MEMORY: lambda: measuring.memory(say),
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
        except (RuntimeError, OSError, BuildError) as error:  # the others are not lost
            say(f"{name}: {error}")
        else:
            say(f"{name}: measured in {time.monotonic() - started:.0f} s")
            yield name, numbers


if __name__ == "__main__":
    heed(lambda signum: sys.exit(128 + signum))
    if sys.argv[1:2] == ["--instructions"]:
        from tests.cluster.tools.instructions import main as count

        count(sys.argv[2:])
    elif sys.argv[1:2] == ["--commands"]:
        from tests.cluster.tools.bench_commands import main as measure_commands

        measure_commands(sys.argv[2:])
    else:
        main(prog_name="./dev bench")
