"""`./dev faults`: every fault on the real cluster, for each kind of user, front, phase, options.

One row of the table is one fault: how many logins, what came of them, the longest time that the
module took, and what was wrong.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from tests.cluster.faults.arena import Arena
from tests.cluster.faults.fault import FRONTS, GONE, KINDS, OPTIONS, PHASES, REFUSED, Fault
from tests.cluster.faults.play import Played, play
from tests.cluster.faults.table import FAULTS
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.root import BuildError
from tests.json_file import json_file
from tests.signals import heed

if TYPE_CHECKING:
    from collections.abc import Iterator

BESIDE = (REFUSED, GONE)  # what no line of ours decides

BESIDE_EACH_OTHER = 3  # most of a login is waiting

console = Console(highlight=False, width=160)


def rounds(fault: Fault) -> list[tuple[str, str, str]]:
    """Return the fronts, phases and options that a fault is played with."""
    return [(f, p, o) for f in fault.fronts for p in fault.phases for o in OPTIONS]


def asked(fault: Fault, front: str, phase: str) -> Iterator[tuple[str, str, str]]:
    """Yield those of a front and a phase, "" for all."""
    for by, when, options in rounds(fault):
        if front in ("", by) and phase in ("", when):
            yield by, when, options


@click.command()
@click.option("--only", default="*", help="pattern of names of faults; commas between")
@click.option("--front", default="", type=click.Choice(["", *FRONTS]), help="only this front")
@click.option("--phase", default="", type=click.Choice(["", *PHASES]), help="only this phase")
@click.option(
    "--beside", default=BESIDE_EACH_OTHER, type=click.IntRange(1), help="clusters beside each other"
)
@click.option("--turn", default=-1, hidden=True, help="which of these this process is")
@click.option("--list", "listing", is_flag=True, help="only name the faults")
@json_file
def main(
    only: str, front: str, phase: str, beside: int, turn: int, listing: bool, file: Path | None
) -> None:
    """Play every fault on the real cluster, or those of a pattern; print a table of them."""
    patterns = only.split(",")
    chosen = [f for f in FAULTS.values() if any(fnmatch.fnmatch(f.name, p) for p in patterns)]
    chosen = [fault for fault in chosen if any(asked(fault, front, phase))]
    if not chosen:
        raise click.UsageError(f"no fault of this front and phase matches {only}: see --list")
    if listing:
        console.print(*(fault.name for fault in chosen), sep="\n", markup=False)
        return
    heed(lambda signum: sys.exit(128 + signum), once=turn >= 0)  # Ctrl-C, and what starts them
    beside = min(beside, len(chosen))
    if turn < 0 and beside > 1:
        rows = played_beside(beside)
    else:
        mine = chosen[turn::beside] if turn >= 0 else chosen
        rows = list(played(mine, front, phase, file))
    if file:
        write(file, rows)
    if turn < 0:
        sys.exit(report(rows))


def played(chosen: list[Fault], front: str, phase: str, file: Path | None) -> Iterator[Played]:
    """Play faults on one cluster; where that cannot go on, on another."""
    left = list(chosen)
    rows: list[Played] = []
    while left:
        with contextlib.ExitStack() as stack:
            arena = Arena(stack.enter_context(Cluster(f"faults-{os.getpid()}")))
            sound = True
            while left and sound:
                of_it, sound = once(arena, left.pop(0), front, phase)
                rows += of_it
                yield from of_it
                if file:
                    write(file, rows)


def once(arena: Arena, fault: Fault, front: str, phase: str) -> tuple[list[Played], bool]:
    """Play a fault in all its rounds; say also whether the cluster can go on."""
    rows: list[Played] = []
    for by, when, options in asked(fault, front, phase):
        try:
            rows += play(arena, fault, by, when, options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other faults are played
            what = f"it could not be played: {error!r}"
            rows.append(Played(fault.name, by, when, options, "", "", "", False, 0, [what]))
            show(rows)
            return rows, False
    if rows:
        show(rows)
    return rows, True


def played_beside(number: int) -> list[Played]:
    """Have processes share the faults, each with a cluster of its own; return what they saw."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{turn}.json") for turn in range(number)]
        argv = [sys.executable, "-m", "tests.cluster.tools.faults", *sys.argv[1:]]
        more = [
            ["--beside", str(number), "--turn", str(turn), "--json", str(file)]
            for turn, file in enumerate(files)
        ]
        processes = [subprocess.Popen([*argv, *words]) for words in more]
        try:
            for process in processes:
                process.wait()
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        found = [
            Played(**row) for file in files if file.exists() for row in json.loads(file.read_text())
        ]
    order = list(FAULTS)
    found.sort(key=lambda row: order.index(row.fault))
    if ended := [process.returncode for process in processes if process.returncode]:
        what = f"{len(ended)} of {number} processes have ended with {ended}"
        found.append(Played("what was not played", "", "", "", "", "", "", False, 0, [what]))
        show(found[-1:])
    return found


def write(file: Path, rows: list[Played]) -> None:
    """Write what was seen to a file."""
    file.write_text(json.dumps([row.as_json() for row in rows], indent=1))


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
    try:
        main(prog_name="./dev faults")
    except (BuildError, RuntimeError, OSError) as error:
        Console(stderr=True).print(f"./dev faults: {error}", markup=False, soft_wrap=True)
        sys.exit(1)
