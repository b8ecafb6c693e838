"""`./dev fuzz [SECONDS] [TARGET...]`: every parser that meets bytes it did not write."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table

from tests.cluster.harness.root import cache_dir
from tests.fuzz.running import Seen, run
from tests.fuzz.target import every
from tests.json_file import json_file
from tests.signals import heed

SECONDS = 10


@click.command()
@click.argument("seconds", type=click.IntRange(1), default=SECONDS)
@click.argument("names", metavar="[TARGET]...", nargs=-1)
@click.option("--jobs", type=click.IntRange(1), help="targets at a time; by default one per core")
@click.option("--list", "listing", is_flag=True, help="only name the targets and their invariants")
@json_file
@click.option(
    "--corpora",
    type=click.Path(path_type=Path, file_okay=False),
    help="keep the corpora that grow there, and begin with them",
)
def main(
    seconds: int,
    names: tuple[str, ...],
    jobs: int | None,
    listing: bool,
    file: Path | None,
    corpora: Path | None,
) -> None:
    """Fuzz every parser that meets bytes it did not write; SECONDS for each target."""
    console = Console(highlight=False)
    targets = every()
    if unknown := sorted({*names} - {*targets}):
        raise click.UsageError(f"{', '.join(unknown)}: there are {', '.join(targets)}")
    chosen = [targets[name] for name in dict.fromkeys(names)] or [*targets.values()]
    if listing:
        table = Table("target", "invariant", "words", "bytes", box=None)
        for one in chosen:
            table.add_row(one.name, one.invariant, str(len(one.words)), str(one.longest))
        console.print(table)
        return
    began, elapsed = time.monotonic(), 0.0
    kept = cache_dir() / "fuzz" / "findings"
    seen: list[Seen] = []
    for result in run(chosen, seconds, jobs or os.cpu_count() or 1, kept, corpora):
        seen.append(result)
        numbers = f"{result.runs} runs, cov {result.cov}, ft {result.ft}"
        console.print(f"{result.target}: {numbers}", style="dim")
        for finding in result.findings:
            console.print(f"{result.target}: {finding}", style="red", markup=False, soft_wrap=True)
        if result.said:
            console.print(result.said, markup=False, soft_wrap=True)
        elapsed = time.monotonic() - began
        if file:  # each time: it may take hours
            file.write_text(json.dumps(_as_dict(seen, seconds, elapsed), indent=1) + "\n")
    console.print(_table(seen))
    findings = sum(len(one.findings) for one in seen)
    runs = sum(one.runs for one in seen)
    console.print(
        f"{len(seen)} targets, {runs} runs, {elapsed:.0f} seconds, {findings} findings",
        style="red" if findings else "green",
    )
    sys.exit(1 if findings else 0)


def _as_dict(seen: list[Seen], seconds: int, elapsed: float) -> dict[str, object]:
    return {
        "schema": 1,
        "seconds_of_each": seconds,
        "seconds": round(elapsed),
        "runs": sum(one.runs for one in seen),
        "findings": sum(len(one.findings) for one in seen),
        "targets": [one._asdict() for one in sorted(seen)],
    }


def _table(seen: list[Seen]) -> Table:
    table = Table("target", box=None)
    for name in ("runs", "cov", "ft", "corpus", "MiB", "findings"):
        table.add_column(name, justify="right")
    for one in sorted(seen):
        numbers = (one.runs, one.cov, one.ft, one.corpus, one.memory, len(one.findings))
        table.add_row(one.target, *map(str, numbers), style="red" if one.findings else "")
    return table


def _ended(signum: int) -> NoReturn:
    """Leave through every `finally`: the processes of targets end."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    heed(_ended)
    main(prog_name="./dev fuzz")
