"""Measure the rows: times by turns, then what can be counted."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Callable

from tests.cluster.harness import cgroups, landing, pam
from tests.cluster.harness.cluster import DAEMONS_OF, Cluster, Roots, Settings
from tests.cluster.harness.config import USERS
from tests.cluster.harness.suites import SUITES, WITH_VALGRIND, with_valgrind
from tests.cluster.harness.wait import wait_for
from tests.cluster.tools import storm
from tests.cluster.tools.bench import counting, worlds
from tests.cluster.tools.bench.rows import (
    LISTENERS,
    MEMORY,
    NOTES,
    OURS_ONLY,
    PYTHONS,
    ROWS,
    SOURCE,
    STORM,
    WITHOUT,
    Row,
)
from tests.cluster.tools.bench.subjects import (
    FRONTS,
    SUBJECTS,
    TOLD,
    command,
    prepare,
    service,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.cluster.harness.host import Host
    from tests.cluster.tools.bench.worlds import World

Numbers = dict[str, dict[str, float]]  # by measure and subject
Report = Callable[[str], None]

SETTINGS = Settings(slurm_conf="DefMemPerCPU=20")
TIMING = ["python3", "/checkout/tests/cluster/inside/timing.py"]
LEAST = 3  # runs
LIMIT = 590.0  # seconds that the logins of a row may take
WHAT = ("time", "counts")
MOST = {STORM: 2, MEMORY: 5}  # runs, of rows that take long


def rounds(name: str, runs: int) -> int:
    """Return how many runs of each subject a row has, where so many are wanted."""
    if name in MOST:
        return min(runs, MOST[name])
    if name == LISTENERS:
        return max(LEAST, runs // 4)
    share = ROWS[name].share if name in ROWS else 1
    return max(min(runs, LEAST), round(runs * share))


def by_pamtester(
    names: Sequence[str], runs: int, what: Sequence[str], report: Report
) -> Iterator[tuple[str, Numbers]]:
    """Measure rows on one cluster; yield each when it is done, but for those that fail."""
    roots = {"n1": Roots(WITH_VALGRIND)}
    with Cluster("bench", SETTINGS, report, roots) as cluster:
        cgroups.favour(cluster.state.cgroup_dirs)
        prepare(cluster.n1)
        before = worlds.remains(cluster)
        for name in names:
            started = time.monotonic()
            row = ROWS[name]
            try:
                with row.world(cluster) as world:
                    numbers = measured(cluster.n1, row, world, runs, what)
                _wait_as_before(cluster, before)
            except (RuntimeError, OSError) as error:  # the others are not lost
                report(f"{name}: {error}")
                before = _recovered(cluster, before)
            else:
                report(f"{name}: measured in {time.monotonic() - started:.0f} s")
                yield name, numbers


def _recovered(cluster: Cluster, before: list[str]) -> list[str]:
    """End what a row that has failed may have left; return what is there then."""
    try:
        cluster.cancel_all()
        _wait_as_before(cluster, before)
    except (RuntimeError, OSError):
        return worlds.remains(cluster)
    return before


def _wait_as_before(cluster: Cluster, before: Sequence[str]) -> None:
    """Return when nothing is left of a row: it would be in the figures of the next."""

    def difference() -> str:
        after = worlds.remains(cluster)
        return "\n".join(sorted(set(before) ^ set(after)))

    wait_for("all as before the row", lambda: not difference(), 30, difference, every=0.2)


def measured(node: Host, row: Row, world: World, runs: int, what: Sequence[str]) -> Numbers:
    """Return the medians and counts of one row."""
    of_row = partial(command, phases=row.phases, alone=row.alone)
    commands = {name: of_row(name, user=row.user) for name in row.subjects}
    _see_where(
        node, row, world, {name: of_row(name, user=row.user, telling=True) for name in row.subjects}
    )
    found: Numbers = {}
    if row.after:
        node.run(["rm", "-rf", NOTES])
        first = {name: of_row(name, user=row.after) for name in row.subjects}
        _run(node, row, world, 0, first, 1)
    if "time" in what:
        said = _run(node, row, world, rounds(row.name, runs), commands, row.warm)
        for measure in ("ms", "cpu_ms"):
            medians = (round(statistics.median(one), 2) for one in said[measure])
            found[measure] = dict(zip(commands, medians))
        if answers := said["answers"][0]:
            found["answer_ms"] = {SOURCE: round(statistics.median(answers), 2)}
    if "counts" in what:
        found |= _counts(node, row, world, commands)
    return found


def _counts(node: Host, row: Row, world: World, commands: Mapping[str, list[str]]) -> Numbers:
    """Run each under valgrind, and under strace."""
    counting.empty(node)
    tools = {"valgrind": counting.under_valgrind, "strace": counting.under_strace}
    both = {
        f"{name}/{tool}": under(name.replace(" ", "-"), argv)
        for name, argv in commands.items()
        for tool, under in tools.items()
        if tool == "strace" or name not in row.uncounted
    }
    _run(node, row, world, 0, commands, row.warm)
    _run(node, row, world, 1, both)
    found: Numbers = {measure: {} for measure in counting.NUMBERS}
    for name in commands:
        file = name.replace(" ", "-")
        numbers = counting.calls(node, file)
        if name not in row.uncounted:
            numbers["instructions"] = counting.instructions(node, file)
        for measure, number in numbers.items():
            found[measure][name] = number
    return found


def _see_where(node: Host, row: Row, world: World, commands: Mapping[str, list[str]]) -> None:
    """See by the kernel's word that one login of each subject is where the row says."""
    node.run(["sh", "-c", f"rm -rf {TOLD}; mkdir {TOLD}"])
    _run(node, row, world, 0, commands, 1)
    for name in commands:
        told = service(name, alone=row.alone, telling=True)
        job = landing.job_of(node, node.read(f"{TOLD}/{told}"))
        wanted = [world.job if SUBJECTS[name].decides else None]
        if job not in (world.jobs if name == "C" and world.jobs else wanted):
            raise RuntimeError(f"{row.name}, {name}: in job {job} instead of {wanted[0]}")
    node.run(["rm", "-rf", TOLD])


def _run(
    node: Host,
    row: Row,
    world: World,
    times: int,
    commands: Mapping[str, list[str]],
    warm: int = 0,
) -> dict[str, list[list[float]]]:
    """Have all take turns; see that those are refused that shall be, and that ours adopt."""
    argv = [*TIMING, str(times), "--any", "--warm", str(warm)]
    argv += ["--accept", str(world.accept)] if world.accept else []
    argv += ["--forget", world.forget] if world.forget else []
    argv += ["--ask"] if world.answered else []
    for one in commands.values():
        argv += ["--", *one]
    mark = node.mark()
    said: dict[str, list[list[float]]] = json.loads(node.run(argv, timeout=LIMIT).stdout)
    log = node.log(mark)
    for name, statuses in zip(commands, said["status"]):
        refused = row.refused and SUBJECTS[name.partition("/")[0]].decides
        if any(bool(status) is not refused for status in statuses):
            raise RuntimeError(f"{row.name}, {name}: {statuses}\n" + "\n".join(log[-20:]))
    ours = sum(name.partition("/")[0] in (front.ours for front in FRONTS) for name in commands)
    adopted = sum("adopted into job" in line for line in log)
    if not row.refused and adopted < ours * (times + warm):
        raise RuntimeError(f"{row.name}: {adopted} adopted\n" + "\n".join(log[-20:]))
    return said


# In logins by ssh


def memory(runs: int, report: Report) -> Numbers:
    """Return median RSS and PSS in MiB of a login's privileged sshd, by turns."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in SUBJECTS}
    with Cluster("bench", SETTINGS, report) as cluster:
        prepare(cluster.n1)
        cluster.submit("alice")
        for _ in range(rounds(MEMORY, runs)):
            for name in SUBJECTS:
                report(f"{MEMORY}: {name}")
                cluster.pam(_lines(name))
                with cluster.session("alice") as session:
                    time.sleep(0.2)
                    seen[name].append(_sizes(cluster.n1, session.pid))
    medians = {name: map(statistics.median, zip(*sizes)) for name, sizes in seen.items()}
    several = {name: [round(size, 2) for size in both] for name, both in medians.items()}
    return {
        measure: {name: sizes[at] for name, sizes in several.items()}
        for at, measure in enumerate(("rss", "pss"))
    }


def _lines(name: str) -> list[str]:
    subject = SUBJECTS[name]
    session = subject.session or subject.line.replace("account", "session", 1)
    return [*pam.with_module(line=subject.line), session]


def _sizes(host: Host, shell: int) -> tuple[float, float]:
    """Return RSS and PSS in MiB of the privileged sshd above a shell."""
    monitor = shell
    for _ in range(2):
        stat = host.read(f"proc/{monitor}/stat")
        monitor = int(stat.rpartition(")")[2].split()[1])
    rollup = host.read(f"proc/{monitor}/smaps_rollup").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


LOGINS = 300  # at once
STORM_OF = {"C": "C module", "ours": "both lines", "ours by pam_exec": "both lines"}
IN_STORM = ("permit", "C", *OURS_ONLY)  # permit and the empty scripts adopt nobody


def at_once(runs: int, report: Report) -> Numbers:
    """Return how 300 logins at the same moment go, by turns: the worst count, the median rate."""
    seen: dict[str, list[storm.Seen]] = {name: [] for name in IN_STORM}
    settings = Settings(slurm_conf=storm.NODES.format(cpus=2, memory=storm.MEMORY * 2))
    with Cluster("bench", settings, report) as cluster:
        prepare(cluster.n1)
        storms = storm.Storms(cluster)
        with storms.prepared(LOGINS, 1):
            for _ in range(rounds(STORM, runs)):
                for name in IN_STORM:
                    report(f"{STORM}: {name}")
                    front = "pam_exec" if name.endswith("pam_exec") else "pam_python"
                    lines = () if name in STORM_OF else _lines(name)
                    module = STORM_OF.get(name, name)
                    with pam.front(front):
                        seen[name].append(storms.play("one job", module, LOGINS, lines=lines))
    rates = {
        name: statistics.median(
            (one.inside if name in STORM_OF else one.admitted) / one.seconds for one in several
        )
        for name, several in seen.items()
    }
    return {
        "logins": dict.fromkeys(STORM_OF, LOGINS),
        "inside": {name: min(one.inside for one in seen[name]) for name in STORM_OF},
        "per_second": {name: round(rate, 2) for name, rate in rates.items()},
    }


# Has a user listen on 150,000 ports, over 15 addresses of the loopback.
LISTENING = """\
import os, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
os.setuid(int(sys.argv[1]))
for worker in range(15):
    if os.fork() == 0:
        held = [socket.create_server((f"127.0.1.{worker + 1}", 10000 + n)) for n in range(10000)]
        open(f"/tmp/listeners.{worker}", "w")
        time.sleep(600)
time.sleep(600)
"""


def listeners(runs: int, report: Report) -> Numbers:
    """Return the module's own ms in bob's logins, without and with alice's sockets that listen."""
    found: Numbers = {"own_ms": {}, "own_ms_full": {}}
    with Cluster("bench", SETTINGS, report) as cluster:
        cluster.submit("bob")
        for measure, filled in (("own_ms", False), ("own_ms_full", True)):
            with _listening(cluster) if filled else contextlib.nullcontext():
                for front in FRONTS:
                    report(f"{LISTENERS}: {front.name}, {filled}")
                    with pam.front(front.name):
                        cluster.pam(pam.both())
                    found[measure][front.ours] = _own_ms(cluster, rounds(LISTENERS, runs))
    return found


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[None]:
    holder = cluster.n1.popen(["python3", "-c", LISTENING, str(USERS["alice"])])
    made = cluster.n1.root / "tmp"
    try:
        wait_for("sockets", lambda: len(list(made.glob("listeners.*"))) == 15, 120)
        yield
    finally:
        cluster.n1.run(["pkill", "-f", "listeners"], check=False)
        holder.wait(60)


def _own_ms(cluster: Cluster, logins: int) -> float:
    """Return the median of what the module's lines in the log say for a login, all phases."""
    found = []
    for _ in range(logins):
        mark = cluster.n1.mark()
        cluster.ssh("bob", timeout=60)
        time.sleep(0.1)  # until the grace period of the kernel after the adoption is over
        said = [line for line in cluster.n1.log(mark) if "pam_slurm_adopt(" in line]
        found.append(sum(float(line.split()[-2]) for line in said if line.endswith(" ms")))
    return round(statistics.median(found), 2)


# Other Pythons


def python(name: str, runs: int, what: Sequence[str], report: Report) -> Numbers:
    """Measure one job on the suite that has this Python.

    Counted besides: the empty script where the module traceback, which pam_python imports, has an
    empty function and imports nothing.
    """
    suite = with_valgrind(SUITES[PYTHONS[name]])
    roots = dict.fromkeys(DAEMONS_OF, Roots(suite))  # a slurmctld takes no newer slurmd
    with Cluster("bench", SETTINGS, report, roots) as cluster:
        cgroups.favour(cluster.state.cgroup_dirs)
        prepare(cluster.n1)
        row = replace(ROWS["one job"], name=name)
        with row.world(cluster) as world:
            found = measured(cluster.n1, row, world, runs, what)
            emptied(cluster.n1, name.partition(" ")[2])
            alone = replace(row, subjects=("empty",))
            for measure, numbers in measured(cluster.n1, alone, world, runs, what).items():
                found[measure][WITHOUT] = numbers["empty"]
    return found


def emptied(node: Host, version: str) -> None:
    """Have a module traceback in the host's Python that has no more than pam_python looks for."""
    folder = f"/usr/lib/python{version}"
    node.write(f"{folder}/traceback.py", "def print_exception(*_): pass\n")
    node.run(["python3", "-m", "compileall", "-q", f"{folder}/traceback.py"])


# The login that the guard counts


def count_login(node: Host, runs: int) -> dict[str, float]:
    """Return the instructions of one job, both lines, by subject.

    Of ours it is the least of some runs, after one that fills caches and is not counted. An empty
    script has nothing that varies, and is counted meanwhile.
    """

    def count(subjects: Sequence[str], times: int) -> dict[str, float]:
        return {name: _least(node, name, times) for name in subjects}

    counting.empty(node)
    with ThreadPoolExecutor(1) as pool:
        empty = pool.submit(count, [front.empty for front in FRONTS], 1)
        return count([front.ours for front in FRONTS], runs) | empty.result()


def _least(node: Host, name: str, times: int) -> float:
    node.run(command(name))
    counts = []
    for run in range(times):
        file = f"{name.replace(' ', '-')}-{run}"
        node.run(counting.under_valgrind(file, command(name)), timeout=300)
        counts.append(counting.instructions(node, file))
    return min(counts)
