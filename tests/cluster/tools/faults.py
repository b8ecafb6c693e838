"""`./dev faults`: every fault on the real cluster, for each kind of user, front, phase, options.

One row of the table is one fault: how many logins, what came of them, the longest time that the
module took, and what was wrong.
"""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.cluster.faults.arena import Arena
from tests.cluster.faults.fault import GONE, KINDS, OPTIONS, REFUSED, Fault
from tests.cluster.faults.play import Played, play
from tests.cluster.faults.table import FAULTS
from tests.cluster.harness.cluster import Cluster
from tests.signals import heed

BESIDE = (REFUSED, GONE)  # what no line of ours decides

console = Console(highlight=False, width=160)


def rounds(fault: Fault) -> list[tuple[str, str, str]]:
    """Return the fronts, phases and options that a fault is played with."""
    return [(f, p, o) for f in fault.fronts for p in fault.phases for o in OPTIONS]


@click.command()
@click.option("--only", default="*", help="pattern of names of faults; commas between")
@click.option("--front", default="", help="only this front")
@click.option("--phase", default="", help="only this phase")
@click.option("--list", "listing", is_flag=True, help="only name the faults")
@click.option("--json", "file", type=click.Path(path_type=Path), help="write what was seen there")
def main(only: str, front: str, phase: str, listing: bool, file: Path | None) -> None:
    """Play every fault on the real cluster, or those of a pattern; print a table of them."""
    patterns = only.split(",")
    chosen = [f for f in FAULTS.values() if any(fnmatch.fnmatch(f.name, p) for p in patterns)]
    if listing or not chosen:
        console.print(*(fault.name for fault in chosen or FAULTS.values()), sep="\n", markup=False)
        sys.exit(0 if chosen else 2)
    heed(lambda signum: sys.exit(128 + signum))
    rows: list[Played] = []
    with Cluster(f"faults-{os.getpid()}") as cluster:
        arena = Arena(cluster)
        for fault in chosen:
            for by, when, options in rounds(fault):
                if front in ("", by) and phase in ("", when):
                    rows += play(arena, fault, by, when, options)
            if of_it := [row for row in rows if row.fault == fault.name]:
                show(of_it)
    if file:
        file.write_text(json.dumps([row.as_json() for row in rows], indent=1))
    sys.exit(report(rows))


def show(rows: list[Played]) -> None:
    """Print what a fault came to, as soon as that is known."""
    wrong = sum(bool(row.wrong) for row in rows)
    longest = max((row.ms for row in rows), default=0) / 1000
    name = rows[0].fault if rows else ""
    console.print(f"{name}: {len(rows)} logins, {longest:.1f} s, {wrong} wrong", markup=False)
    for row in rows:
        for what in row.wrong:
            where = f"{row.kind}, {row.front}, {row.phase}, {row.options}"
            console.print(f"  {where}: {what}", markup=False, soft_wrap=True)


def report(rows: list[Played]) -> int:
    """Print the table, and the figure; return the exit status."""
    table = Table("fault", "logins", *KINDS, "longest", "wrong")
    for name in dict.fromkeys(row.fault for row in rows):
        of_it = [row for row in rows if row.fault == name]
        cells = []
        for kind in KINDS:
            counted = Counter(row.expected for row in of_it if row.kind == kind)
            cells.append(", ".join(outcome for outcome, _ in counted.most_common()))
        longest = max(row.ms for row in of_it) / 1000
        wrong = sum(bool(row.wrong) for row in of_it)
        table.add_row(name, str(len(of_it)), *cells, f"{longest:.1f} s", str(wrong or ""))
    console.print(table)
    faults = len({row.fault for row in rows})
    wrong = sum(bool(row.wrong) for row in rows)
    roots = [row for row in rows if row.kind == "root"]
    refused = sum(not row.admitted for row in roots if row.expected not in BESIDE)
    beside = sum(row.expected in BESIDE for row in roots)
    by_others = f" (and {beside} that sshd itself could not serve)" if beside else ""
    console.print(
        f"{faults} faults, {len(rows)} logins, {wrong} wrong; "
        f"root: {len(roots) - beside} logins, {refused} refused{by_others}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    main(prog_name="./dev faults")
