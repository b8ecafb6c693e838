"""`./dev bench --instructions [COMMIT...]`: the instructions of an ordinary login, by callgrind.

An ordinary login: one job, account and session phase, pamtester under sshd's name as in bench.py.
Instructions nearly repeat where milliseconds do not, so that two commits can be compared. "Own" is
what is beyond an empty script of the same front in both phases. The processes that a login starts
count.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster, Roots
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.suites import BOOKWORM
from tests.cluster.tools.bench import (
    AS_SSHD,
    EVERY,
    FLOOR,
    FLOOR_EXEC,
    FLOOR_PROGRAM,
    FLOOR_SCRIPT,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cluster.harness.host import Host

WITH_VALGRIND = replace(BOOKWORM, more=("valgrind",))
RUNS = 3  # the first fills caches and does not count
OUT = "/run/instructions"
MEMORY = "1500M"  # of the job: valgrind's own memory is in it
HERE = "this checkout"
EMPTY = "empty script"
BY_EXEC, EMPTY_EXEC = "this checkout by pam_exec", "empty by pam_exec"


def main(commits: Sequence[str]) -> None:
    """Count and print."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    roots = {"n1": Roots(WITH_VALGRIND)}
    with Cluster("instructions", report=console.print, roots=roots) as cluster:
        node = cluster.n1
        node.write("opt/floor.py", FLOOR_SCRIPT)
        node.write("opt/floor", FLOOR_PROGRAM, 0o755)
        node.run(["install", "-D", "/usr/bin/pamtester", AS_SSHD])
        lines = {EMPTY: FLOOR}
        for number, commit in enumerate(commits):
            lines[commit] = pam.OURS.replace("slurm_adopt/", f"commit{number}/", 1)
            bring(node, commit, f"commit{number}")
        lines |= {HERE: pam.OURS, EMPTY_EXEC: FLOOR_EXEC, BY_EXEC: pam.EXEC}
        cluster.submit("alice", mem=MEMORY)
        found = {name: counted(node, name, line) for name, line in lines.items()}
    console.print(table(found))


def bring(node: Host, commit: str, folder: str) -> None:
    """Put a commit's module into the host."""
    archive = ["git", "-C", str(CHECKOUT), "archive", commit, "src", "pam"]
    tar = subprocess.run(archive, check=True, stdout=subprocess.PIPE).stdout
    place = node.root / "opt" / folder
    place.mkdir()
    subprocess.run(["tar", "-x", "-C", str(place)], input=tar, check=True)
    node.run(["python3", "-m", "compileall", "-q", f"/opt/{folder}"])


def counted(node: Host, name: str, line: str) -> list[int]:
    """Return the instructions of the runs after the first; each adopts, if it is ours."""
    empty = name in (EMPTY, EMPTY_EXEC)
    options = "" if empty else EVERY
    node.pam("instructions", [line + options, line.replace("account", "session", 1) + options])
    found = []
    for _ in range(RUNS):
        node.run(["sh", "-c", f"rm -rf {OUT}; mkdir {OUT}"])
        mark = node.mark()
        valgrind = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={OUT}/%p",
                    "--trace-children=yes"]  # fmt: skip
        phases = ["acct_mgmt", "open_session"]
        node.run([*valgrind, AS_SSHD, "instructions", "alice", *phases], timeout=300)
        log = "".join(node.log(mark))
        if not empty and "adopted into job" not in log:
            raise SystemExit(f"{name}: not adopted: {log}")
        texts = [path.read_text() for path in (node.root / OUT.lstrip("/")).iterdir()]
        found.append(sum(map(total, texts)))
    return found[1:]


def total(text: str) -> int:
    """Return what one process has executed, from callgrind's file."""
    return sum(map(int, re.findall(r"^totals: (\d+)", text, re.MULTILINE)))


def table(found: dict[str, list[int]]) -> Table:
    """Return the report."""
    report = Table(title="instructions of an ordinary login, both phases, in millions")
    for column in ("module", "all", "own", "least to most"):
        report.add_column(column, justify="left" if column == "module" else "right")
    for name, counts in found.items():
        floor = statistics.median(found[EMPTY_EXEC if name in (EMPTY_EXEC, BY_EXEC) else EMPTY])
        middle = statistics.median(counts)
        spread = f"{min(counts) / 1e6:.1f} to {max(counts) / 1e6:.1f}"
        report.add_row(name, f"{middle / 1e6:.1f}", f"{(middle - floor) / 1e6:.1f}", spread)
    return report
