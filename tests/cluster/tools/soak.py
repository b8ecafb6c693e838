"""`./dev soak`: logins in a row while everything changes, the C module on the same script.

Jobs are submitted, cancelled and suspended, and their stepds are killed; slurmd and munged are
killed and started again; slurm.conf is rewritten. Each login is judged by what the node was in the
time that it took (soak_oracle.py). All streams of logins and all changes are drawn from one seed.
In a pause before, in the middle and at the end no job is left; what the node has then is compared.
Then hundreds log in at the same moment, and hundreds from inside of jobs, so that each asks the
slurmd there (storm.py).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.config import Settings
from tests.cluster.harness.root import BuildError
from tests.cluster.harness.wait import wait_for
from tests.cluster.tools import storm
from tests.cluster.tools.soak_clients import SCRIPT, Cast, FromJobs, Quota, Stream, write_askpass
from tests.cluster.tools.soak_oracle import (
    FAULTS,
    LEVEL,
    MISTAKE,
    ROOT,
    TOOK,
    Login,
    Verdict,
    explained,
    judge,
)
from tests.cluster.tools.soak_world import FIRST_UID, World, add_users, remove_users
from tests.json_file import json_file
from tests.signals import heed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STREAMS = 4  # from the login node, beside those from jobs
WARM_UP = 0.04  # of the logins, before the first look
AT_LEAST = 20  # of these
PACE = 0.3  # seconds between changes, in the middle
JOBS = 30  # of a storm
CAST = Cast(
    one=("one1", "one2", "one3"),
    several=("several1", "several2", "several3"),
    none=("none1",),
)
FROM_JOBS = ("several1", "several2")  # who logs in from inside of jobs, too
WIDTH = 150
SHOWN = 12  # different lines of a log
SLOW = 20.0  # seconds: such logins are kept for a look at them
KEPT = 100
SETTLED = 15.0  # seconds that sessions have to be gone once their jobs are
END_LEFT = f"pkill -KILL -U {','.join(str(FIRST_UID + one) for one in range(len(CAST.users)))}"

CALLERID = "callerid_timeout=20"  # time for an answer, on a machine that is full
MODULES: dict[str, Callable[[], list[str]]] = {
    "pam_python": lambda: pam.both(*pam.PRODUCTION, CALLERID),
    "pam_exec": lambda: pam.by_pam_exec(*pam.PRODUCTION, CALLERID),
    "C module": lambda: pam.with_module(*pam.PRODUCTION, line=pam.C_MODULE),
}
EXEC_SHARE = 5  # pam_exec has one of so many logins, by default

# What is compared, and by how much it may be more than after the warm-up.
GROWTH = {
    "descriptors": 0,
    "threads": 0,
    "rss_kb": 512,
    "private_kb": 512,
    "run": 0,
    "cgroups": 0,
    "processes": 0,
    "stray_sockets": 0,
    "temporary": 0,
}


@dataclass
class Played:
    """What came of one module."""

    module: str
    seed: int
    logins: int = 0
    strict: int = 0  # logins that had to be in by what the node was all the time
    by_user: dict[str, int] = field(default_factory=dict)
    by_method: dict[str, int] = field(default_factory=dict)
    meanwhile: int = 0  # logins in the time of which something changed that they could meet
    from_jobs: int = 0
    cut: int = 0  # clients that ended with the job that they were in; not among the logins
    outcomes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    faults_by_kind: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)
    looks: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)  # processes once all jobs are gone
    unexplained: list[str] = field(default_factory=list)  # lines of the module's
    worse: dict[str, int] = field(default_factory=dict)  # all lines worse than info, by kind
    slowest_s: float = 0  # a login, as its client sees it
    slowest_ms: float = 0  # of the module, as it says
    slowest: list[str] = field(default_factory=list)
    cpu_s: float = 0  # of all hosts, for all of it
    median_s: float = 0
    seconds: float = 0
    storms: list[storm.Seen] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)  # why a source host named no job, at once
    trouble: list[str] = field(default_factory=list)

    @property
    def ours(self) -> bool:
        """Say whether it is our module."""
        return self.module != "C module"

    @property
    def grown(self) -> dict[str, int]:
        """What there is more of at the end than after the warm-up."""
        if len(self.looks) < 2:
            return {}
        first, last = self.looks[0], self.looks[-1]
        more = {name: last[name] - first[name] for name in GROWTH}
        return {name: n for name, n in more.items() if n > GROWTH[name]}

    @property
    def new_cgroups(self) -> list[str]:
        """Which cgroups there are more at the end, if there are."""
        if "cgroups" not in self.grown:
            return []
        return sorted({*self.looks[-1]["cgroup_names"]} - {*self.looks[0]["cgroup_names"]})

    @property
    def missed(self) -> bool:
        """Say whether anything is wrong."""
        bad = any(self.faults.values()) or self.left or self.unexplained or self.grown
        storms = any(one.missed for one in self.storms if one.shape != CALLERID_SHAPE)
        lost = any(_astray(one) for one in self.storms)
        return bool(bad or storms or lost or self.trouble)


CALLERID_SHAPE = "callerid"


def _astray(seen: storm.Seen) -> bool:
    """Say whether a storm has sessions that are in none of the user's jobs, or refused ones.

    Where the source host was not asked in time action_unknown decides: that is the newest job.
    """
    return bool(seen.half or seen.apart or seen.outside or seen.refused or seen.left)


class Soak:
    """One module on a cluster that is up."""

    def __init__(self, cluster: Cluster, module: str, seed: int, cast: Cast = CAST) -> None:
        """Describe it."""
        self.cluster = cluster
        self.cast = cast
        self.played = Played(module, seed)
        self.from_jobs = [user for user in FROM_JOBS if user in cast.several]

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Have the users, and the module's lines."""
        add_users(self.cluster, self.cast.users)
        write_askpass(self.cluster)
        self.cluster.pam(MODULES[self.played.module]())
        try:
            yield
        finally:
            remove_users(self.cluster, self.cast.users)

    def play(
        self,
        logins: int,
        pace: float = PACE,
        streams: int = STREAMS,
        report: Callable[[str], object] = lambda _: None,
    ) -> Played:
        """Log in as often; look in between."""
        begun, cpu = time.monotonic(), self._cpu()
        warm = max(AT_LEAST, round(logins * WARM_UP))
        parts = [warm, (logins - warm) // 2, logins - warm - (logins - warm) // 2]
        seen: list[tuple[Login, Verdict]] = []
        mark = self.cluster.n1.mark()
        for number, part in enumerate(parts):
            seed = self.played.seed * 10 + number
            world = World(self.cluster, self.cast.wanted, seed, pace)
            with world.going_on():
                found = self._log_in(world, part, streams, seed)
            verdicts = [(login, judge(world.history, login)) for login in found]
            seen += verdicts
            self._add(world, verdicts)
            self.played.looks.append(self._look())
            self._read_log(world, mark)
            mark = self.cluster.n1.mark()
            faults = Counter(verdict.outcome for _, verdict in seen if verdict.fault)
            report(f"    {len(seen)} logins, {time.monotonic() - begun:.0f} s: {dict(faults)}")
        self._count(seen)
        self.played.seconds = time.monotonic() - begun
        self.played.cpu_s = self._cpu() - cpu
        return self.played

    def _cpu(self) -> float:
        """Return the seconds of CPU that all hosts have used."""
        for place in self.cluster.state.cgroup_dirs:
            with contextlib.suppress(FileNotFoundError):  # v1's hierarchy for it, alone
                return int((place / "cpuacct.usage").read_text()) / 1e9
        return 0.0

    def _log_in(self, world: World, logins: int, streams: int, seed: int) -> list[Login]:
        quota = Quota(logins)
        all_of_them = [
            *(Stream(world, self.cast, quota, f"{seed}/{one}") for one in range(streams)),
            *(FromJobs(world, self.cast, quota, f"{seed}/{u}", u) for u in self.from_jobs),
        ]
        for stream in all_of_them:
            stream.start()
        for stream in all_of_them:
            stream.join()
        self.played.cut += sum(stream.cut for stream in all_of_them)
        self.played.trouble += [stream.trouble for stream in all_of_them if stream.trouble]
        self.played.trouble += world.trouble
        return [login for stream in all_of_them for login in stream.logins]

    def _add(self, world: World, verdicts: Sequence[tuple[Login, Verdict]]) -> None:
        for what, times in world.done.items():
            self.played.changes[what] = self.played.changes.get(what, 0) + times
        for login, verdict in verdicts:
            jobs = world.history.of(login.user, login.when)
            self.played.strict += login.user == ROOT or any(job.sure(login.when) for job in jobs)
            self.played.meanwhile += world.history.changed(login)
            outages = [one for one in world.history.outages if one.when.meets(login.when)]
            text = f"{verdict}: {login}\n    {jobs}\n    {outages}"
            if verdict.fault and len(self.played.examples) < KEPT:
                self.played.examples.append(text)
            if login.when.end - login.when.begin > SLOW and len(self.played.slowest) < KEPT:
                self.played.slowest.append(text)

    def _count(self, seen: Sequence[tuple[Login, Verdict]]) -> None:
        played = self.played
        played.logins = len(seen)
        played.by_user = dict(Counter(login.user for login, _ in seen))
        played.by_method = dict(Counter(login.method for login, _ in seen))
        played.from_jobs = sum(login.source is not None for login, _ in seen)
        played.outcomes = dict(Counter(v.outcome for _, v in seen if not v.fault).most_common())
        found = Counter(verdict.fault for _, verdict in seen if verdict.fault)
        played.faults = {fault: found[fault] for fault in FAULTS}
        kinds = Counter(f"{v.fault}: {v.outcome}" for _, v in seen if v.fault)
        played.faults_by_kind = dict(kinds.most_common())
        times = sorted(login.when.end - login.when.begin for login, _ in seen)
        played.slowest_s, played.median_s = times[-1], times[len(times) // 2]

    def _look(self) -> dict[str, Any]:
        """Return what is there once the sessions of ended jobs are gone; note what is left."""
        found: dict[str, Any] = {}

        def quiet() -> bool:
            said = self.cluster.n1.run(["python3", SCRIPT, "look"], timeout=60).stdout
            found.clear()
            found.update(json.loads(said))
            return not found["left"] and not self._has_more(found)

        with contextlib.suppress(TimeoutError):
            wait_for("no session left", quiet, SETTLED, every=0.5)
        left = Counter(self.played.left)
        left.update(found.pop("left"))
        self.played.left = dict(left)
        self.cluster.n1.run(["sh", "-c", END_LEFT], check=False)
        return found

    def _has_more(self, found: dict[str, Any]) -> bool:
        """Say whether there is more than after the warm-up: a daemon may not be done yet."""
        if not self.played.looks:
            return False
        first = self.played.looks[0]
        return any(found[name] - first[name] > most for name, most in GROWTH.items())

    def _read_log(self, world: World, mark: int) -> None:
        """Read what is worse than info, and whether anything that changed explains it."""
        offset = time.monotonic() - time.time()
        midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
        kinds = Counter(self.played.worse)
        for line in self.cluster.n1.log(mark):
            if storm.MODULE in line and (took := TOOK.search(line)):
                self.played.slowest_ms = max(self.played.slowest_ms, float(took[1]))
            if not (found := LEVEL.match(line)):
                continue
            kinds[NUMBER.sub("N", line.split(" ", 1)[1])[:200]] += 1
            hours, minutes, seconds = found[1].split(":")
            at = midnight + int(hours) * 3600 + int(minutes) * 60 + float(seconds) + offset
            ours = storm.MODULE in line and "pam_exec(" not in line  # it has a line of its own
            if MISTAKE.search(line) or (ours and not explained(world.history, line, at)):
                self.played.unexplained.append(line)
        self.played.worse = dict(kinds.most_common())


NUMBER = re.compile(r"\d+")


# All of it


def run(
    console: Console,
    modules: Sequence[str],
    logins: int,
    exec_logins: int,
    storms: Sequence[int],
    seed: int,
    pace: float,
    file: Path | None,
) -> int:
    """Play all modules; print the table; return the exit status."""
    found: list[Played] = []
    own = os.getpid()
    begun = time.monotonic()
    try:
        for module in modules:
            number = exec_logins if module == "pam_exec" else logins
            console.print(f"{module}: {number} logins, seed {seed}", highlight=False)
            found.append(_one(console, module, number, storms, seed, pace))
            if file:
                file.write_text(json.dumps([_told(one) for one in found], indent=1) + "\n")
    finally:
        if os.getpid() == own:  # pyroute2 forks, and what it forks comes by here
            _show(console, found, time.monotonic() - begun)
    return 1 if any(one.missed for one in found if one.ours) else 0


def _one(
    console: Console, module: str, logins: int, storms: Sequence[int], seed: int, pace: float
) -> Played:
    nodes = storm.NODES.format(cpus=os.cpu_count(), memory=storm.MEMORY * (JOBS + 1))
    settings = Settings(slurm_conf=nodes)
    with Cluster(f"soak-{os.getpid()}", settings, lambda _: None) as cluster:
        soak = Soak(cluster, module, seed)
        with soak.prepared():
            played = soak.play(logins, pace, report=console.print)
        for line in (*played.examples[:SHOWN], *played.unexplained[:SHOWN], *played.trouble):
            console.print(f"    {line}", markup=False, soft_wrap=True)
        console.print(f"    {played.seconds:.0f} s; {played.outcomes}; {played.faults}")
        played.storms = list(_storms(console, cluster, played, storms))
    return played


UNKNOWN = re.compile(r":account\): .*the newest of \d+[^;)]*; (.*?)\) ->")
STORM_SHAPES = ("users", CALLERID_SHAPE)
STORM_NAMES = {"pam_python": "both lines", "pam_exec": "both lines", "C module": "C module"}


def _storms(
    console: Console, cluster: Cluster, played: Played, numbers: Sequence[int]
) -> Iterator[storm.Seen]:
    """Have many log in at the same moment: into jobs of many users, then from inside of jobs."""
    if not any(numbers):
        return
    module, storms = played.module, storm.Storms(cluster)
    with storms.prepared(max(numbers), JOBS):
        for shape, number in zip(STORM_SHAPES, numbers):
            if number:
                mark = cluster.n1.mark()
                with pam.front("pam_exec" if module == "pam_exec" else "pam_python"):
                    seen = storms.play(shape, STORM_NAMES[module], number, JOBS)
                console.print(f"    at once: {number}, {shape}: {_at_once(seen)}")
                if shape == CALLERID_SHAPE:
                    texts = (UNKNOWN.search(line) for line in cluster.n1.log(mark))
                    played.unknown = dict(Counter(text[1] for text in texts if text))
                    console.print(f"    {played.unknown}", markup=False)
                yield seen


def _at_once(seen: storm.Seen) -> str:
    numbers = {title: getattr(seen, name) for name, title in storm.COLUMNS.items()}
    told = ", ".join(f"{title} {number}" for title, number in numbers.items() if number)
    return f"{told}; all done in {seen.seconds:.0f} s"


def _told(played: Played) -> dict[str, Any]:
    return {**asdict(played), "grown": played.grown, "missed": played.missed}


def _show(console: Console, found: Sequence[Played], seconds: float) -> None:
    wide = console if console.is_terminal else Console(highlight=False, width=WIDTH)
    if found:
        wide.print(table(found))
        wide.print(looks(found))
    for played in found:
        for seen in played.storms:
            text = f"{played.module}: {seen.logins} at once, {seen.shape}: {_at_once(seen)}"
            wide.print(text, markup=False)
    wide.print(figure(found, seconds), markup=False, soft_wrap=True)


def table(found: Sequence[Played]) -> Table:
    """Return one column for each module."""
    seeds = ", ".join(sorted({str(one.seed) for one in found}))
    result = Table(title=f"logins while everything changes; seed {seeds}", title_justify="left")
    result.add_column("")
    for one in found:
        result.add_column(one.module, justify="right")

    def add(title: str, value: Callable[[Played], Any], style: str = "") -> None:
        result.add_row(title, *(str(value(one)) for one in found), style=style)

    add("logins", lambda one: one.logins)
    add("  of these: nothing may keep them out", lambda one: one.strict)
    add("  of these: something changed meanwhile", lambda one: one.meanwhile)
    add("  of these: from inside of jobs", lambda one: one.from_jobs)
    add("changes", lambda one: sum(one.changes.values()))
    for what in sorted({what for one in found for what in one.changes}):
        add(f"  {what}", _count_of("changes", what))
    result.add_section()
    for kind in sorted({kind for one in found for kind in one.outcomes}):
        add(kind, _count_of("outcomes", kind))
    result.add_section()
    for fault in FAULTS:
        add(FAULT_TITLES[fault], _count_of("faults", fault), "bold")
        kinds = {kind for one in found for kind in one.faults_by_kind}
        for kind in sorted(kind for kind in kinds if kind.startswith(f"{fault}: ")):
            add(f"  {kind.partition(': ')[2]}", _count_of("faults_by_kind", kind))
    add("left over, once all jobs are gone", lambda one: sum(one.left.values()), "bold")
    add("unexplained lines of the log", lambda one: len(one.unexplained), "bold")
    add("growth", lambda one: ", ".join(f"{k} +{v}" for k, v in one.grown.items()) or 0, "bold")
    for name in sorted({name for one in found for name in one.new_cgroups}):
        add(f"  {name}", _whether_new(name))
    result.add_section()
    add("median s of a login", lambda one: f"{one.median_s:.2f}")
    add("slowest login in s", lambda one: f"{one.slowest_s:.1f}")
    add("slowest phase of the module in s", lambda one: f"{one.slowest_ms / 1000:.1f}")
    add("minutes", lambda one: f"{one.seconds / 60:.0f}")
    return result


def _count_of(name: str, key: str) -> Callable[[Played], int]:
    """Return what takes one count of a module."""
    return lambda one: getattr(one, name).get(key, 0)


FAULT_TITLES = {
    "wrong": "WRONG: in where it must not be, or root refused",
    "other": "OTHER: in another job of the user's than the options name",
    "half": "HALF: in some of a job's cgroups only, or session and sshd apart",
    "lost": "LOST: refused, though nothing was in the way",
    "odd": "ODD: refused for what was not the case",
    "late": "LATE: longer than the documented ends",
}


def _whether_new(cgroup: str) -> Callable[[Played], object]:
    return lambda one: int(cgroup in one.new_cgroups)


def looks(found: Sequence[Played]) -> Table:
    """Return what was there after the warm-up, in the middle and at the end."""
    title = "sshd's listener and the node: after the warm-up, in the middle, at the end"
    result = Table(title=title, title_justify="left")
    for name in ("module", *GROWTH):
        result.add_column(name, justify="right")
    for one in found:
        rows = (" ".join(str(look[name]) for look in one.looks) for name in GROWTH)
        result.add_row(one.module, *rows)
    return result


def figure(found: Sequence[Played], seconds: float) -> str:
    """Return the last line."""
    ours, others = [one for one in found if one.ours], [one for one in found if not one.ours]
    parts = [_sum(ours, "ours"), *([_sum(others, "C module")] if others else [])]
    return f"soak: {'; '.join(parts)}; {seconds / 60:.0f} min"


def _sum(found: Sequence[Played], who: str) -> str:
    faults: Counter[str] = Counter()
    for one in found:
        faults.update(one.faults)
    told = ", ".join(f"{fault} {faults[fault]}" for fault in FAULTS)
    at_once = sum(seen.logins for one in found for seen in one.storms)
    right = sum(seen.inside for one in found for seen in one.storms)
    logins, changes = sum(one.logins for one in found), sum(sum(o.changes.values()) for o in found)
    left = sum(sum(one.left.values()) for one in found)
    grown = sum(len(one.grown) for one in found)
    return (
        f"{who}: {logins} logins, {changes} changes, {told}, left over {left}, grown {grown}, "
        f"at once {right} of {at_once} in the right job"
    )


MANY, SOME = click.IntRange(3 * AT_LEAST), click.IntRange(0)


@click.command()
@click.option("--logins", default=5000, type=MANY, help="of pam_python and of the C module")
@click.option("--exec-logins", type=MANY, help="of pam_exec; a fifth of the others by default")
@click.option("--at-once", default=500, type=SOME, help="logins at the same moment; 0 for none")
@click.option(
    "--callerid", default=300, type=SOME, help="the same from inside of jobs on another node"
)
@click.option("--modules", default=",".join(MODULES), help="which, with commas between")
@click.option("--seed", type=int, help="of all that is drawn; one is chosen and printed if none")
@click.option("--pace", default=PACE, type=click.FloatRange(0), help="seconds between two changes")
@json_file
def main(
    logins: int,
    exec_logins: int | None,
    at_once: int,
    callerid: int,
    modules: str,
    seed: int | None,
    pace: float,
    file: Path | None,
) -> None:
    """Log in thousands of times while everything changes; judge each login.

    Four streams of logins go on beside each other from the login node, and two from inside of jobs
    of another node.
    """
    chosen = modules.split(",")
    if unknown := {*chosen} - {*MODULES}:
        raise click.UsageError(f"{', '.join(unknown)}: there are {', '.join(MODULES)}")
    number = random.SystemRandom().randrange(10**6) if seed is None else seed
    few = max(3 * AT_LEAST, math.ceil(logins / EXEC_SHARE)) if exec_logins is None else exec_logins
    console = Console(highlight=False)
    sys.exit(run(console, chosen, logins, few, (at_once, callerid), number, pace, file))


if __name__ == "__main__":
    heed(lambda signum: sys.exit(128 + signum))
    try:
        main(prog_name="./dev soak")
    except (BuildError, RuntimeError, OSError) as error:
        Console(stderr=True).print(f"./dev soak: {error}", markup=False, soft_wrap=True)
        sys.exit(1)
