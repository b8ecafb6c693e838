"""`./dev inject`: each system call that the module makes at a login fails in turn.

A first login is recorded by strace. Then each call from the opening of the entry script on is tried
by logins of its own, by strace's fault injection: with the errors of inject/errors.py, and late
where it talks to others. strace counts by name from the start of the process, and so does
inject/calls.py; what hits nothing is not counted as tried. The whole takes most of an hour on two
cores.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.login import SessionEndedError
from tests.cluster.inject.engine import (
    GUARDED,
    IN_JOB,
    LET_IN,
    NOT_PLAYED,
    REFUSED,
    Bench,
    Case,
    Seen,
    as_json,
    plan,
)
from tests.cluster.inject.scenes import SCENES
from tests.json_file import json_file
from tests.signals import heed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cluster.inject.scenes import Scene

WORKERS, LATE = 4, 16  # logins beside each other; of those that only wait
WIDTH = 150  # of the table in a file
SHOWN = 20  # of what is wrong
OUTCOMES = (LET_IN, IN_JOB, REFUSED, GUARDED)


def play(bench: Bench, scene: Scene, only: str = "", every: int = 1) -> list[Seen]:
    """Play the cases of a scene that are chosen, of them each so many-th; judge what is left."""
    seen: list[Seen] = []
    with bench.set_for(scene):
        chosen = planned(bench, scene, only)[::every]
        for late, workers in ((False, WORKERS), (True, LATE)):
            bench.workers = 1 if scene.fresh else workers
            bench.play([case for case in chosen if case.late == late], seen.append)
        if left := bench.close(scene):
            seen.append(Seen(scene.name, "the end", "", "left", wrong=left))
    return seen


def planned(bench: Bench, scene: Scene, only: str = "") -> list[Case]:
    """Return the cases of a scene whose name has this in it, or matches it as a pattern."""
    calls = bench.record(scene)
    cases = [one for phase, found in calls.items() for one in plan(scene, phase, found)]
    return [case for case in cases if fnmatch.fnmatch(case.name, f"*{only}*")]


def table(seen: Sequence[Seen]) -> Table:
    """Return what came of all, by scene."""
    made = Table(title="System calls that fail at a login")
    for name in ("login", "calls", "tried", "missed", *OUTCOMES, "escapes", "wrong", "longest"):
        made.add_column(name, justify="left" if name == "login" else "right")
    for scene in dict.fromkeys(one.scene for one in seen):
        rows = [one for one in seen if one.scene == scene]
        made.add_row(scene, *figures(rows))
    return made


def figures(seen: Sequence[Seen]) -> list[str]:
    """Return the figures of some cases, as the table has them."""
    hit = [one for one in seen if one.hit]
    outcomes = Counter(one.outcome for one in hit)
    return [
        str(len({one.call for one in hit})),
        str(len(hit)),
        str(len(seen) - len(hit)),
        *(str(outcomes[name]) for name in OUTCOMES),
        str(sum(one.escape for one in seen)),
        str(sum(bool(one.wrong) for one in seen)),
        f"{max((one.seconds for one in hit), default=0):.1f} s",
    ]


def tell(console: Console, seen: Sequence[Seen]) -> int:
    """Print the table, what is wrong, and the line with the figures; return the exit status."""
    wide = console if console.is_terminal else Console(highlight=False, width=WIDTH)
    wide.print(table(seen))
    wrong = [one for one in seen if one.wrong]
    for one in wrong[:SHOWN]:
        wide.print(
            f"{one.call} {one.how}: {', '.join(one.wrong)}",
            one.hit,
            *one.log,
            sep="\n  ",
            markup=False,
        )
    calls, tried, missed, *_, escapes, bad, longest = figures(seen)
    wide.print(
        f"{tried} logins in which one of {calls} system calls failed or was late "
        f"({missed} more hit nothing): {escapes} escapes, {bad} wrong, longest {longest}"
    )
    return 1 if wrong or not int(tried) else 0


@click.command()
@click.option("--only", default="", help="cases whose name has this in it: a word, or a pattern")
@click.option("--every", default=1, type=click.IntRange(1), help="of these each so many-th")
@click.option("--list", "listing", is_flag=True, help="only name the cases")
@json_file
def main(only: str, every: int, listing: bool, file: Path | None) -> None:
    """Have every system call of a login fail in turn; print what became of the logins."""
    heed(lambda signum: sys.exit(128 + signum))
    console = Console(highlight=False)
    seen: list[Seen] = []
    with contextlib.ExitStack() as going:
        cluster = going.enter_context(Cluster(f"inject-{os.getpid()}", report=console.print))
        bench = going.enter_context(Bench(cluster).prepared())
        for scene in SCENES.values():
            if listing:
                with bench.set_for(scene):
                    names = [case.name for case in planned(bench, scene, only)[::every]]
                click.echo("".join(f"{name}\n" for name in names), nl=False)
                continue
            began = time.monotonic()
            try:
                found = play(bench, scene, only, every)
            except (
                RuntimeError,
                OSError,
                SessionEndedError,
            ) as error:  # the others are played all the same
                found = [Seen(scene.name, "the login", "", NOT_PLAYED, wrong=[str(error)[:500]])]
            seen += found
            if found:
                took, wrong = time.monotonic() - began, sum(bool(one.wrong) for one in found)
                console.print(f"{scene.name}: {len(found)} in {took:.0f} s, {wrong} wrong")
            if file:
                file.write_text(as_json(seen))
    if listing:
        return
    if not seen:
        raise click.UsageError(f"no case has {only} in its name; --list names them")
    sys.exit(tell(console, seen))


if __name__ == "__main__":
    main(prog_name="./dev inject")
