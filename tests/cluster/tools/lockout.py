"""`./dev lockout`: whether a user can keep others from logging in, by what is done to the own job.

A job's owner may freeze it (`scancel -s STOP`), also again and again, and with some releases of
Slurm make cgroups below its extern step. An sshd of root's that is brought in there before its
login is authenticated stops, and keeps one of sshd's MaxStartups. Each cell has one user do that
and log in many times; meanwhile and later root and another user with a job log in. Each is seen in
four stages (STAGES). The C module is there to show that the attack works.

A connection that just logs in counts among MaxStartups as well, and anybody can open many of those:
that is sshd's own matter, so few are begun at a time. The same goes for what sshd since 9.8 does
about a source of refused logins (PerSourcePenalties): all come from one host here, so it is off.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import subprocess
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rich.console import Console
from rich.table import Table

from tests.cluster.cells import CELLS as CLUSTERS
from tests.cluster.harness import cgroups, config, landing, pam, scancel
from tests.cluster.harness.cluster import EXTERN, Cluster
from tests.cluster.harness.config import Settings
from tests.cluster.harness.epilog import EPILOG
from tests.cluster.harness.host import HostTimeoutError, end
from tests.cluster.harness.login import asking, ssh_argv
from tests.cluster.harness.wait import NotInTimeError, wait_for
from tests.cluster.inside.lockout import SLOWER
from tests.cluster.scenarios.login_methods import STRICT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cluster.harness.site import LoggedMachine

SCRIPT = "/checkout/tests/cluster/inside/lockout.py"
ATTACKER, OTHER = "alice", "bob"
UID = config.USERS[ATTACKER]
TRIES, PARALLEL, PROBES = 500, 20, 20
CONTROL_TRIES = 120
LATER, FEWEST = 10, 10  # one in so many tries is made again in each of the later stages
HEAD_START = 2.0  # seconds that the attack has before anybody else logs in
DROPPED = "drop connection #"  # sshd's word for it
MODULE = "pam_slurm_adopt("  # in each of its lines
CGROUP = re.compile(r"^\d+:.*:/", re.MULTILINE)  # a line of /proc/PID/cgroup
SHOWN = 5  # lines of a log
CALM = 3  # logins before the attack: how long they take
STAGES = ("during", "after", "stepd killed", "job ended")
ENDED = STAGES[-1]
WIDTH = 180  # of the table in a file


def sshd_config(grace: int, penalties: bool) -> str:
    """Return sshd's configuration with few startups, each for `grace` seconds."""
    lines = ["MaxStartups 10:30:60", f"LoginGraceTime {grace}"]
    lines += ["PerSourcePenalties no"] if penalties else []
    return config.SSHD_CONFIG.replace("MaxStartups 500", "\n".join(lines))


# Where it is played


@dataclass(frozen=True)
class Pace:
    """How fast clients may be, and when they are late: in seconds, but for `fresh`."""

    grace: int = 20  # LoginGraceTime
    late: float = 6.0  # for one of the attacker's clients, at the least
    patience: float = 40.0  # for one of the others'
    fresh: int = 3  # of the attacker's clients at the most are about to log in
    settled: float = 1.5  # at the least: then it does not log in any more
    ending: float = 40.0  # for a job to end


class Site(Protocol):
    """A controller, a node and a place to log in from."""

    pace: Pace

    @property
    def client(self) -> LoggedMachine:
        """Where the clients run."""

    @property
    def node(self) -> LoggedMachine:
        """Where they log in."""

    def pam(self, lines: Sequence[str]) -> None:
        """Write sshd's PAM stack."""

    def submit(self, user: str) -> int:
        """Start a job; return its id when its extern step is there."""

    def freezer(self, job: int) -> tuple[str, list[str]]:
        """Return the file that freezes a job's extern step, and the words that do and undo it."""

    def inside(self, job: int, cgroup: str) -> bool:
        """Say whether a /proc/PID/cgroup shows a job's extern step wherever Slurm confines."""

    def ended(self, job: int) -> bool:
        """Cancel a job; say whether it and its Epilog came to their end in time."""

    def clear(self) -> None:
        """Leave no job behind; raise if that does not work."""


class Namespaces:
    """A cluster in namespaces."""

    pace = Pace()

    def __init__(self, cluster: Cluster, penalties: bool) -> None:
        """Take a cluster that is up."""
        self.cluster = cluster
        self._penalties = penalties

    @property
    def client(self) -> LoggedMachine:
        """The login node."""
        return self.cluster.login

    @property
    def node(self) -> LoggedMachine:
        """The compute node."""
        return self.cluster.n1

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Have our sshd_config and our Epilog."""
        self.cluster.n1.write("etc/slurm/epilog", EPILOG, 0o755)
        self.cluster.n2.write("etc/slurm/epilog", EPILOG, 0o755)
        before = self.cluster.settings
        self.cluster.reconfigure(Settings(slurm_conf="Epilog=/etc/slurm/epilog\n"))
        self._restart_sshd(sshd_config(self.pace.grace, self._penalties))
        try:
            yield
        finally:
            self._restart_sshd(config.SSHD_CONFIG)
            self.cluster.reconfigure(before)

    def _restart_sshd(self, text: str) -> None:
        node = self.cluster.n1
        node.write("etc/ssh/sshd_config", text)
        node.stop("sshd")
        node.start("sshd", under=node.front)

    def pam(self, lines: Sequence[str]) -> None:
        """Write sshd's PAM stack."""
        self.cluster.n1.pam("sshd", lines)

    def submit(self, user: str) -> int:
        """Start a job."""
        return self.cluster.submit(user)

    def step(self, controller: str, job: int) -> str:
        """Return the directory of the job's extern step in a hierarchy."""
        return "/" + cgroups.folder(controller, cgroups.of_extern_step("n1", UID, job))

    def freezer(self, job: int) -> tuple[str, list[str]]:
        """Return v1's."""
        return self.step("freezer", job) + "/freezer.state", ["FROZEN", "THAWED"]

    def inside(self, job: int, cgroup: str) -> bool:
        """Say whether all confined hierarchies show it."""
        try:
            return landing.job_of(self.cluster.n1, cgroup) == job
        except AssertionError:  # in several jobs, or in one and in none
            return False

    def ended(self, job: int) -> bool:
        """Cancel a job."""
        self.cluster.cancel(job)
        try:
            self.cluster.wait_gone(job, self.pace.ending)
            self.cluster.wait_idle()
        except NotInTimeError:
            return False
        return True

    def clear(self) -> None:
        """Leave no job behind, and no socket of a killed stepd."""
        self.cluster.cancel_all()
        sockets = f"{self.cluster.settings.spool}/n1_*.{EXTERN}"
        self.cluster.n1.run(["sh", "-c", f"rm -f {sockets}"])
        self.cluster.wait_idle()


@contextlib.contextmanager
def in_namespaces(suite: str, report: Callable[[str], None]) -> Iterator[Site]:
    """Bring a cluster up."""
    name = f"lockout-{suite}-{os.getpid()}"
    with Cluster(name, report=report, roots=CLUSTERS[suite].roots) as cluster:
        site = Namespaces(cluster, penalties=suite != "bookworm")
        with site.prepared():
            yield site


# Attacks


class Attack(NamedTuple):
    """What the user does to the job before and while logging in."""

    begin: Callable[[Site, int, contextlib.ExitStack], None]
    own: bool = False  # only where the directories below an extern step are the user's


def _run(machine: LoggedMachine, command: str, by: str | None = None, **what: Any) -> Any:
    """Run a command of lockout_host.py to its end; return what it says."""
    done = machine.run(["python3", SCRIPT, command, json.dumps(what)], by)
    return json.loads(done.stdout)


def _goes_on(
    going: contextlib.ExitStack,
    machine: LoggedMachine,
    argv: Sequence[str],
    user: str | None = None,
) -> None:
    """Start what goes on until the cell is over."""
    process = machine.popen(
        ["timeout", "3600", *argv],
        user,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    going.callback(_end, process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    end(process)


def stopped(site: Site, job: int, going: contextlib.ExitStack) -> None:
    """Freeze the job and leave it so."""
    scancel.send(site.client, "STOP", job, user=ATTACKER)
    file, (word, _) = site.freezer(job)
    wait_for("the extern step frozen", lambda: site.node.read(file).strip() == word, 20)
    assert going


LOOP = """\
while read -t 0.01 line; [ $? -gt 128 ]; do
    scancel -s STOP $1
    scancel -s CONT $1
done
"""


def scancel_loop(site: Site, job: int, going: contextlib.ExitStack) -> None:
    """Freeze the job and let it go on, as fast as scancel does it."""
    _goes_on(going, site.client, ["bash", "-c", LOOP, "bash", str(job)], ATTACKER)


def freezer_loop(site: Site, job: int, going: contextlib.ExitStack, period: float) -> None:
    """Do the same in the place of a faster scancel: root writes what the stepd would."""
    file, words = site.freezer(job)
    what = json.dumps({"file": file, "words": words, "period": period})
    _goes_on(going, site.node, ["nice", "python3", SCRIPT, "freeze", what])


def own_cgroup(
    site: Site, job: int, going: contextlib.ExitStack, controller: str, period: float | None = None
) -> None:
    """Have a cgroup of one's own, which stops what is in it, where Slurm has one."""
    assert isinstance(site, Namespaces)
    step = site.step(controller, job)
    what = {"step": step, "period": period or 0.0, "loop": period is not None}
    command = f"own_{controller}"
    if period is None:
        _run(site.node, command, ATTACKER, **what)
    else:
        argv = ["nice", "python3", SCRIPT, command, json.dumps(what)]
        _goes_on(going, site.node, argv, ATTACKER)


# fmt: off
ATTACKS = {
    "stopped":            Attack(stopped),
    "scancel-loop":       Attack(scancel_loop),
    "freezer-loop":       Attack(partial(freezer_loop, period=0)),
    "freezer-loop-10ms":  Attack(partial(freezer_loop, period=0.01)),
    "freezer-loop-100ms": Attack(partial(freezer_loop, period=0.1)),
    "own-memory":         Attack(partial(own_cgroup, controller="memory"), own=True),
    "own-memory-loop":    Attack(partial(own_cgroup, controller="memory", period=0.02), own=True),
    "own-freezer":        Attack(partial(own_cgroup, controller="freezer"), own=True),
    "own-freezer-loop":   Attack(partial(own_cgroup, controller="freezer", period=0), own=True),
}
# fmt: on


# Cells


class Place(NamedTuple):
    """Where cells are played."""

    up: Callable[[Callable[[str], None]], contextlib.AbstractContextManager[Site]]
    own: bool = False  # the directories below an extern step are the user's
    part: int = 1  # of the tries, one in so many is made


def in_machine(suite: str, report: Callable[[str], None]) -> Any:
    """Boot a machine."""
    from tests.vm.lockout import in_machine

    return in_machine(suite, report)


PLACES = {
    "v1-22.05": Place(partial(in_namespaces, "bookworm"), own=True),
    "v1-24.11": Place(partial(in_namespaces, "trixie")),
    "v2-24.11": Place(partial(in_machine, "trixie"), part=8),
}
IN_MACHINES = ("v2-24.11",)

OPTIONS = STRICT
STACKS = {
    "both": lambda: pam.both(*OPTIONS),
    "account": lambda: pam.with_module(*OPTIONS),
    "both-exec": lambda: _by_pam_exec(pam.both),
    "account-exec": lambda: _by_pam_exec(pam.with_module),
    "c-module": lambda: pam.with_module(*STRICT[:1], line=pam.C_MODULE),
}


def _by_pam_exec(stack: Callable[..., list[str]]) -> list[str]:
    """Return a stack with the module run by pam_exec."""
    with pam.front("pam_exec"):
        return pam.by_front("\n".join(stack(*OPTIONS))).splitlines()


METHODS = {"publickey": "publickey", "keyboard": "keyboard-interactive"}


@dataclass(frozen=True)
class Cell:
    """One cell, named by its parts."""

    place: str
    stack: str
    method: str
    attack: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.place}/{self.stack}/{self.method}/{self.attack}"

    @property
    def ours(self) -> bool:
        """Say whether it is our module that is attacked."""
        return self.stack != "c-module"


def _cells() -> Iterator[Cell]:
    for place, where in PLACES.items():
        yield Cell(place, "c-module", "publickey", "stopped")
        for stack in ("both", "account", "both-exec", "account-exec"):
            for method in METHODS:
                for name, attack in ATTACKS.items():
                    if where.own or not attack.own:
                        yield Cell(place, stack, method, name)


CELLS = {cell.name: cell for cell in _cells()}


# One cell


@dataclass
class Stage:
    """What was seen in one stage of a cell."""

    name: str
    tries: int = 0
    root: int = 0  # logins that were let in
    other: int = 0
    probes: int = 0  # of each
    outside: int = 0  # sessions and processes of the attacker that are not in the job
    left: int = 0  # startups older than LoginGraceTime; once the job has ended, all sshd there
    startups: int = 0  # the most at a time
    stopped: int = 0  # sshd processes that are frozen, or wait for memory
    seen: dict[str, list[list[Any]]] = field(default_factory=dict)  # who -> how logins went
    dropped: int = 0  # connections that sshd has dropped, by its log
    why: list[str] = field(default_factory=list)  # what the node's log has of the other user

    @property
    def missed(self) -> bool:
        """Say whether somebody was locked out, got out, or left something."""
        return min(self.root, self.other) < self.probes or self.outside + self.left > 0


@dataclass
class Found:
    """What came of a cell."""

    cell: str
    ours: bool
    stages: list[Stage] = field(default_factory=list)
    seconds: float = 0
    trouble: str = ""  # why it was not played to its end

    @property
    def missed(self) -> bool:
        """Say whether it shows the fault, or could not be played."""
        return bool(self.trouble) or any(stage.missed for stage in self.stages)

    def told(self) -> str:
        """Return all that was seen, a line for each kind."""
        lines = [f"{self.cell}: {self.trouble or 'played'}"]
        for stage in self.stages:
            numbers = (f"{title} {getattr(stage, name)}" for name, title in COLUMNS.items())
            lines += [f"{stage.name}: {', '.join(numbers)}", *stage.why]
            for user, seen in stage.seen.items():
                lines += [
                    f"    {user}, {n} times: {how} {out!r} {err}" for how, out, err, n in seen
                ]
        return "\n".join(lines)

    def row(self, *names: str) -> list[str]:
        """Return numbers of all stages."""
        return [" ".join(str(getattr(stage, name)) for stage in self.stages) for name in names]


class Play:
    """One cell as it goes."""

    def __init__(self, site: Site, cell: Cell, tries: int, parallel: int, probes: int) -> None:
        """Describe it."""
        self.site = site
        self.cell = cell
        self.tries = tries
        self.parallel = parallel
        self.probes = probes
        self.job = self.others = 0
        self.usual = 0.0  # seconds that a login takes until it is authenticated

    def play(self) -> Found:
        """Play it; nothing of it is left, or it says so."""
        found = Found(self.cell.name, self.cell.ours)
        started = time.monotonic()
        try:
            with contextlib.ExitStack() as going:
                going.callback(self._clean)
                self._stages(found.stages, going)
        except (RuntimeError, OSError, AssertionError) as error:
            found.trouble = f"{type(error).__name__}: {error}".strip()
        found.seconds = time.monotonic() - started
        return found

    def _stages(self, stages: list[Stage], going: contextlib.ExitStack) -> None:
        site = self.site
        site.pam(STACKS[self.cell.stack]())
        self.job, self.others = site.submit(ATTACKER), site.submit(OTHER)
        self.usual = _said(self._clients(going, OTHER, CALM, 60), 120)["usual"]
        ATTACKS[self.cell.attack].begin(site, self.job, going)
        few = max(self.tries // LATER, FEWEST)
        for name, tries in zip(STAGES, (self.tries, 0, few, few)):
            if name == "stepd killed":
                self._kill_stepd()
            if name == ENDED and not site.ended(self.job):
                raise RuntimeError(f"job {self.job} does not end")
            stages.append(self._stage(name, tries))

    def _kill_stepd(self) -> None:
        found = self.site.node.run(["pgrep", "-f", rf"^slurmstepd: \[{self.job}\.extern\]"])
        (pid,) = found.stdout.split()
        self.site.node.run(["kill", "-KILL", pid])

    def _stage(self, name: str, tries: int) -> Stage:
        stage = Stage(name, tries, probes=self.probes)
        pace = self.site.pace
        limit = 60 + 2 * tries * pace.late / self.parallel + 2 * self.probes * pace.settled
        spacing = tries * 0.2 * pace.settled / self.probes
        mark = self.site.node.mark()
        with contextlib.ExitStack() as going:
            watch = self._start(going, self.site.node, None, "watch")
            crowd = self._clients(going, ATTACKER, tries, limit) if tries else None
            time.sleep(HEAD_START if tries else 0)
            probes = [
                self._clients(going, user, self.probes, limit, spacing) for user in ("root", OTHER)
            ]
            for user, process in zip(("root", OTHER, ATTACKER), [*probes, crowd]):
                if process:
                    stage.seen[user] = _said(process, limit + pace.patience + 30)["seen"]
            stage.startups = _said(watch, 30)["most"]
        self._judge(stage)
        lines = self.site.node.log(mark)
        stage.dropped = sum(DROPPED in line for line in lines)
        of_other = [line for line in lines if f"): user {OTHER} " in line and MODULE in line]
        stage.why = [line for line in of_other if "PAM_SUCCESS" not in line][:SHOWN]
        return stage

    def _start(
        self,
        going: contextlib.ExitStack,
        machine: LoggedMachine,
        user: str | None,
        command: str,
        prefix: Sequence[str] = (),
        **what: Any,
    ) -> subprocess.Popen[str]:
        """Start a command of lockout_host.py."""
        process = machine.popen(
            [*prefix, "python3", SCRIPT, command, json.dumps(what)],
            user,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        going.callback(end, process)
        return process

    def _clients(
        self,
        going: contextlib.ExitStack,
        user: str,
        tries: int,
        limit: float,
        spacing: float = 0,
    ) -> subprocess.Popen[str]:
        """Have a user log in that many times."""
        pace, client = self.site.pace, self.site.client
        attacks = user == ATTACKER
        method = METHODS[self.cell.method] if attacks else "publickey"
        late = pace.late if attacks else pace.patience
        options = ["-o", "ControlMaster=no", "-o", "LogLevel=VERBOSE",
                   "-o", f"ConnectTimeout={late:.0f}"]  # fmt: skip
        what = {"argv": [*ssh_argv("n1", user, options, method), landing.COMMAND],
                "tries": tries, "limit": limit, "spacing": spacing, "late": late}  # fmt: skip
        if attacks:
            what |= {"parallel": self.parallel, "fresh": pace.fresh}
            what |= {"settled": max(pace.settled, SLOWER * self.usual)}
        as_user = None if user == "root" else user
        prefix = asking(client, user, method)
        return self._start(going, client, as_user, "clients", prefix, **what)

    def _judge(self, stage: Stage) -> None:
        """Count who was let in, and where; then what is left once LoginGraceTime is over."""
        stage.root = _let_in(stage.seen["root"], lambda said: "step_extern" not in said)
        of_other = partial(self.site.inside, self.others)
        stage.other = _let_in(stage.seen[OTHER], of_other)

        def is_outside(said: str) -> bool:
            return not self.site.inside(self.job, said)

        over = stage.name == ENDED
        stage.outside = _let_in(stage.seen.get(ATTACKER, []), is_outside)
        found = self._settled(over)
        stage.left, stage.stopped = found["startups"], found["stopped"]
        if over:
            stage.left = max(stage.left, found["of_user"])
        stage.outside += sum(n for text, n in found["cgroups"] if over or is_outside(text))

    def _settled(self, over: bool) -> Any:
        """Return what the node's sshd shows when nothing of the logins is left, or it ought to.

        Nobody logs in any more: startups that are still there then are older than LoginGraceTime.
        """
        deadline = time.monotonic() + self.site.pace.grace + 5
        while True:
            found = _run(self.site.node, "look", user=ATTACKER, uid=UID)
            quiet = not found["startups"] and not (over and found["of_user"])
            if quiet or time.monotonic() > deadline:
                return found
            time.sleep(0.5)

    def _clean(self) -> None:
        """Let everything run again, end the attacker's logins and all jobs."""
        if left := _run(self.site.node, "clean", user=ATTACKER)["left"]:
            raise RuntimeError(f"processes that cannot be ended: {left}")
        self.site.clear()


def _said(process: subprocess.Popen[str], limit: float) -> Any:
    try:
        out, err = process.communicate("", timeout=limit)
    except subprocess.TimeoutExpired:
        raise HostTimeoutError(f"{process.args!r}: not within {limit:.0f} s") from None
    if process.returncode:
        raise RuntimeError(f"{process.args!r}: status {process.returncode}\n{out}{err}")
    return json.loads(out)


def _let_in(seen: Sequence[Sequence[Any]], where: Callable[[str], bool]) -> int:
    """Count logins that printed their cgroups, and those that `where` says.

    Somebody whom the session phase refuses is told so in the place of a command's output.
    """
    return sum(times for _, out, _, times in seen if CGROUP.search(out) and where(out))


# All of them


def chosen(patterns: str, machines: bool) -> list[Cell]:
    """Return the cells that match one of the patterns, with commas between."""
    wanted = patterns.split(",") if patterns else ["*"]
    machines = machines or any(one.startswith("v2") for one in wanted)
    return [
        cell
        for cell in CELLS.values()
        if machines or cell.place not in IN_MACHINES
        if any(fnmatch.fnmatchcase(cell.name, one) for one in wanted)
    ]


def run(
    console: Console, cells: Sequence[Cell], tries: int, parallel: int, file: Path | None
) -> int:
    """Play cells; print the table; return the exit status."""
    found: list[Found] = []
    own = os.getpid()
    try:
        for place in dict.fromkeys(cell.place for cell in cells):
            waiting = [cell for cell in cells if cell.place == place]
            while waiting:
                found += _played(console, waiting, tries, parallel)
    finally:
        if os.getpid() == own:  # pyroute2 forks, and what it forks comes by here
            _tell(console, found, file)
    return 1 if any(one.ours and one.missed for one in found) else 0


def _tell(console: Console, found: Sequence[Found], file: Path | None) -> None:
    if file:
        file.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    wide = console if console.is_terminal else Console(highlight=False, width=WIDTH)
    wide.print(table(found))


def _played(console: Console, waiting: list[Cell], tries: int, parallel: int) -> Iterator[Found]:
    """Play the cells of one place until one of them breaks it; take those that were played out."""
    place = PLACES[waiting[0].place]
    with place.up(console.print) as site:
        while waiting:
            cell = waiting.pop(0)
            number = max(tries // place.part, 1)
            number = number if cell.ours else min(number, CONTROL_TRIES)
            console.print(f"{cell.name}: {number} tries")
            one = Play(site, cell, number, parallel, PROBES).play()
            console.print(f"    {_verdict(one)}, {one.seconds:.0f} s")
            for line in [line for stage in one.stages for line in stage.why]:
                console.print(f"    {line}", markup=False, soft_wrap=True)
            yield one
            if one.trouble:
                return  # the next has a fresh one


def _verdict(one: Found) -> str:
    if one.trouble:
        return f"[bold red]not played to its end:[/] {one.trouble.splitlines()[0][:200]}"
    if one.ours:
        return "[bold red]LOCKED OUT[/]" if one.missed else "[green]ok[/]"
    return "[green]shows the fault[/]" if one.missed else "[yellow]does not show the fault[/]"


COLUMNS = {
    "tries": "tries",
    "root": "root in",
    "other": "other in",
    "outside": "outside",
    "left": "left",
    "startups": "startups",
    "dropped": "dropped",
    "stopped": "stopped",
}


def table(found: Sequence[Found]) -> Table:
    """Return one row for each cell; what is in a column are the stages."""
    title = f"in each column: {', '.join(STAGES)}; root and the other user {PROBES} times in each"
    result = Table(title=title, title_justify="left")
    result.add_column("cell", no_wrap=True)
    for name in (*COLUMNS.values(), "seconds"):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("result")
    for one in found:
        numbers = one.row(*COLUMNS)
        result.add_row(one.cell, *numbers, f"{one.seconds:.0f}", _verdict(one))
    return result
