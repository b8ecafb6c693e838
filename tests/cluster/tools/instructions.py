"""`./dev bench --instructions [--record] [COMMIT...]`: the instructions of an ordinary login.

An ordinary login: one job, account and session phase, pamtester under sshd's name. callgrind counts
them. They nearly repeat where milliseconds do not, so that two commits can be compared. "Own" is
what is beyond an empty script of the same front in both phases. The processes that a login starts
count. With `--record` what is found is what `tests/cluster/test_instructions.py` expects from then
on.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from tests.cluster.harness import cgroups
from tests.cluster.harness.cluster import Cluster, Roots
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.suites import WITH_VALGRIND
from tests.cluster.tools.bench import counting, measuring
from tests.cluster.tools.bench.subjects import FRONTS, SUBJECTS, Subject, command, prepare
from tests.cluster.tools.bench.worlds import MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.host import Host

RUNS = 3  # the first fills caches and does not count
RECORD = Path(__file__).parents[1] / "instructions.json"
TOLERANCE = 0.03
ADOPTED = "adopted into job"


@click.command()
@click.option("--record", "recording", is_flag=True, help="record it for the test that guards it")
@click.argument("commits", nargs=-1)
def main(commits: tuple[str, ...], recording: bool) -> None:
    """Count the instructions of one login by both fronts, and with the module of each commit."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    if recording and commits:
        raise click.UsageError("--record is of this checkout; it takes no commits")
    for commit in commits:
        refuse_unknown(commit)
    roots = {"n1": Roots(WITH_VALGRIND)}
    with Cluster("instructions", report=console.print, roots=roots) as cluster:
        cluster.submit("alice", mem=MEMORY)
        if recording:
            prepare(cluster.n1)
            record(measuring.count_login(cluster.n1, RUNS))
            console.print(f"wrote {RECORD}")
            return
        found = dict(_of_all(cluster.n1, commits))
    console.print(table(found))


def refuse_unknown(commit: str) -> None:
    """Refuse what git does not know as a commit, before a cluster is made."""
    verify = ["git", "-C", str(CHECKOUT), "rev-parse", "--verify", "--quiet", "--end-of-options"]
    for part, nothing in (("^{commit}", "git knows no commit"), (":pam", "no module in")):
        said = subprocess.run([*verify, f"{commit}{part}"], check=False, capture_output=True)
        if said.returncode:
            raise click.UsageError(f"{nothing} {commit}")


def _of_all(node: Host, commits: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Count the empty scripts, this checkout by both fronts, and the commits."""
    subjects = {name: SUBJECTS[name] for front in FRONTS for name in (front.empty, front.ours)}
    for number, commit in enumerate(commits):
        line = SUBJECTS["ours"].line.replace("slurm_adopt/", f"commit{number}/", 1)
        subjects[commit] = Subject(line, decides=True)
        bring(node, commit, f"commit{number}")
    prepare(node, subjects)
    for name, subject in subjects.items():
        yield name, counted(node, name, adopts=subject.decides)


def bring(node: Host, commit: str, folder: str) -> None:
    """Put a commit's module into the host."""
    # Nobody else may write: of another group's files the module uses no login image.
    git = ["git", "-C", str(CHECKOUT), "-c", "tar.umask=022"]
    archive = [*git, "archive", commit, "src", "pam"]
    tar = subprocess.run(archive, check=True, stdout=subprocess.PIPE).stdout
    place = node.root / "opt" / folder
    place.mkdir()
    subprocess.run(["tar", "-x", "-C", str(place)], input=tar, check=True)
    node.run(["python3", "-m", "compileall", "-q", f"/opt/{folder}"])
    maker = f"/opt/{folder}/src/slurm_adopt/login_image.py"
    if (node.root / maker.lstrip("/")).exists():  # earlier commits have none
        node.run(["python3", "-I", maker])


def counted(node: Host, name: str, *, adopts: bool) -> list[int]:
    """Return the instructions of the runs after the first; each adopts, if it is ours."""
    found = []
    for _ in range(RUNS):
        counting.empty(node)
        mark = node.mark()
        node.run(counting.under_valgrind("login", command(name)), timeout=300)
        log = "".join(node.log(mark))
        if adopts and ADOPTED not in log:
            raise SystemExit(f"{name}: not adopted: {log}")
        found.append(counting.instructions(node, "login"))
    return found[1:]


def table(found: dict[str, list[int]]) -> Table:
    """Return the report."""
    report = Table(title="instructions of one login, in millions")
    for column in ("module", "all", "own", "least to most"):
        report.add_column(column, justify="left" if column == "module" else "right")
    floors = {front.ours: front.empty for front in FRONTS}
    for name, counts in found.items():
        floor = name if name in floors.values() else floors.get(name, FRONTS[0].empty)
        middle = statistics.median(counts)
        own = middle - statistics.median(found[floor])
        spread = f"{min(counts) / 1e6:.1f} to {max(counts) / 1e6:.1f}"
        report.add_row(name, f"{middle / 1e6:.1f}", f"{own / 1e6:.1f}", spread)
    return report


# What test_instructions.py expects


def kind() -> str:
    """Return what hosts differ by: how the kernel shows cgroups."""
    return f"cgroup {'v2' if cgroups.unified() else 'v1'}"


def own(found: dict[str, float]) -> dict[str, float]:
    """Return the module's own instructions by front, in millions."""
    return {
        front.name: round((found[front.ours] - found[front.empty]) / 1e6, 2) for front in FRONTS
    }


def record(found: dict[str, float], file: Path = RECORD) -> None:
    """Keep what was found as what is expected on hosts of this kind."""
    known = json.loads(file.read_text()) if file.exists() else {}
    known[kind()] = own(found)
    file.write_text(json.dumps(known, indent=1) + "\n")


def bounds(known: dict[str, dict[str, float]], host: str, front: str) -> tuple[float, float]:
    """Return the least and the most that is expected.

    On a kind of host that nobody has recorded there is only a most, that of the others: v2 has
    fewer hierarchies to look at.
    """
    if host in known:
        recorded = known[host][front]
        return recorded * (1 - TOLERANCE), recorded * (1 + TOLERANCE)
    return 0, max(one[front] for one in known.values()) * (1 + TOLERANCE)
