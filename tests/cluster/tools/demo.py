"""`./dev demo`: log in by ssh in every situation and show what the kernel says about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule

from tests.cluster.harness import cgroups, landing, pam, setup
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.login import SessionEndedError
from tests.cluster.harness.scancel import end as end_jobs
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console

    from tests.cluster.harness.landing import Landing
    from tests.cluster.harness.state import State

CONFINING = ("freezer", "memory", "cpuset", "devices")

HOG = "python3 -c 'b\"x\" * (400 << 20)'"  # 400 MB in a job of 100 MB
BURN = "python3 -c 'import time\nwhile time.process_time() < 2: pass'"


@dataclass
class Stage:
    """Where a situation is played: the cluster, and the screen."""

    cluster: Cluster
    console: Console
    line: str = pam.OURS  # sshd's PAM line that adopts
    failed: list[str] = field(default_factory=list)

    def do(self, text: str) -> None:
        """Print what is tried."""
        self.console.print(f"  [bold]$[/] {escape(text)}")

    def note(self, text: str) -> None:
        """Print what is so."""
        self.console.print(f"  {escape(text)}")

    def show(self, lines: Iterable[str]) -> None:
        """Print what proves it."""
        for line in lines:
            self.console.print(Padding(f"[cyan]{escape(line)}[/]", (0, 0, 0, 6), expand=False))

    def check(self, true: bool, text: str) -> None:
        """Print what happened, and whether that is right."""
        mark = "[green]ok[/]" if true else "[bold red]WRONG[/]"
        self.console.print(f"  {mark}  {escape(text)}")
        if not true:
            self.failed.append(text)


def one_job(stage: Stage) -> None:
    """Show a login in the extern step of the user's only job."""
    job = _job(stage)
    with stage.cluster.session("alice") as session:
        stage.do(f"ssh alice@n1; cat /proc/{session.pid}/cgroup")
        found = stage.cluster.n1.cgroups(session.pid)
        step = cgroups.of_extern_step("n1", 5001, job)
        shown = [""] if cgroups.unified() else CONFINING
        stage.show(f"{name or 'cgroup v2':<9} {found[name]}" for name in shown)
        inside = all((found[name] + "/").startswith(step + "/") for name in CONFINING)
        stage.check(inside, "the shell is in the job's extern step, in every hierarchy")
        stage.do("echo $SLURM_JOB_ID")
        said = session.run("echo $SLURM_JOB_ID").strip()
        stage.show([said])
        stage.check(said == str(job), "and knows its job")


def accounted(stage: Stage) -> None:
    """Show that the job pays for what the session burns."""
    job = _job(stage)
    with stage.cluster.session("alice") as session:
        stage.do("ssh alice@n1: two seconds of work")
        session.run(BURN)
        stage.do(f"sstat -j {job}.extern")
        argv = ["sstat", "-nP", "-j", f"{job}.extern", "-o", "JobID,AveCPU,MaxRSS"]

        def charged() -> str | None:
            said = stage.cluster.login.run(argv, "alice").stdout.strip()
            return None if said.split("|")[1] < "00:00:02" else said

        # The stepd counts every second; on a busy machine the session has its seconds later.
        said = wait_for("two seconds in sstat", charged, 60, every=0.3)
        stage.show([said])
        stage.check("|00:00:02|" in said, "charged to the job, once")


def memory(stage: Stage) -> None:
    """Show that the job's memory limit holds in the session."""
    job = _job(stage, mem="100M")
    cgroup = cgroups.folder("memory", cgroups.of_job("n1", 5001, job))
    limit = "memory.max" if cgroups.unified() else "memory.limit_in_bytes"
    with stage.cluster.session("alice") as session:
        stage.do(f"ssh alice@n1 {HOG}")
        status = session.run(f"{HOG}; echo $?").split()[-1]
        stage.show([
            f"exit status {status} (128 + SIGKILL)",
            f"job's {limit} {int(stage.cluster.n1.read(f'{cgroup}/{limit}')):,}",
        ])  # fmt: skip
        stage.check(status == "137", "killed by the job's limit")
        stage.check(session.alive(), "the session is still there")


def device(stage: Stage) -> None:
    """Show that the session has the job's devices and no other."""
    _job(stage, gres="gpu:1")
    with stage.cluster.session("alice") as session:
        own, other = "head -c1 /dev/fakegpu0 >/dev/null", "head -c1 /dev/fakegpu1 >/dev/null"
        stage.do(f"ssh alice@n1 {own}")
        stage.check(session.run(own) == "", "the job's device opens")
        stage.do(f"ssh alice@n1 {other}")
        said = session.run(other).strip()
        stage.show([said])
        stage.check("Operation not permitted" in said, "one that the job has not got is refused")


def no_job(stage: Stage) -> None:
    """Show that there is no way in without a job."""
    job = stage.cluster.submit("bob")
    stage.note(f"alice has no job; bob has job {job} on n1")
    stage.do("ssh alice@n1 touch /tmp/was-here")
    result = stage.cluster.ssh("alice", "n1", "touch /tmp/was-here")
    stage.show(result.err.splitlines())
    refused = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
    ran = (stage.cluster.n1.root / "tmp/was-here").exists()
    stage.check(result.rc == 255 and refused in result.err and not ran, "refused; nothing ran")


def root(stage: Stage) -> None:
    """Show that root always comes in."""
    stage.do("ssh root@n1 id -un")
    result = stage.cluster.ssh("root", "n1", "id -un")
    stage.show(result.out.splitlines())
    stage.check(result.rc == 0 and result.out == "root\n", "root needs no job")


def scancel(stage: Stage) -> None:
    """Show that the end of the job is the end of the session and of all it started."""
    job = _job(stage)
    with stage.cluster.session("alice") as session:
        stage.do("ssh alice@n1: setsid sleep 600 &")
        child = int(session.run("setsid sleep 600 >&- 2>&- <&- & echo $!"))
        both = f"{session.pid},{child}"
        argv = ["ps", "-o", "pid,user,args", "-p", both]
        stage.show(stage.cluster.n1.run(argv).stdout.splitlines())
        stage.do(f"scancel {job}")
        end_jobs(stage.cluster, job)
        session.wait_gone()
        try:
            session.run("true")
        except SessionEndedError as ended:
            stage.show(str(ended).splitlines())
        left = stage.cluster.n1.run(["ps", "-o", "pid=,args=", "-p", both], check=False).stdout
        stage.check(not left.strip(), "shell and detached child are gone")


def callerid(stage: Stage) -> None:
    """Show that a login from inside either of two jobs lands in that job."""
    for job in _two_jobs(stage):
        stage.do(f"inside job {job} on n2: ssh n1")
        _land(stage, landing.from_job(stage.cluster, job), job, "the job it comes from")


def second_hop(stage: Stage) -> None:
    """Show that a login from inside an adopted login still lands in the job."""
    for job in _two_jobs(stage):
        stage.do(f"inside job {job} on n2: ssh n1 ssh n2")
        hops = ("n2", "n1", "n2")
        _land(stage, landing.from_job(stage.cluster, job, hops), job, "still the job it comes from")


def newest(stage: Stage) -> None:
    """Show that a login from a host without jobs lands in the newest."""
    jobs = _two_jobs(stage)
    stage.do("on the login node, where no slurmd runs: ssh n1")
    _land(stage, landing.from_login(stage.cluster), jobs[-1], "the newest")


def no_job_named(stage: Stage) -> None:
    """Show what action_unknown does with a login that the source host knows no job of."""
    jobs = _two_jobs(stage)
    for value in landing.UNKNOWN:
        stage.cluster.n1.pam("sshd", pam.with_module(f"action_unknown={value}", line=stage.line))
        stage.do(f"on n2, but in no job: ssh n1; n1 has action_unknown={value}")
        found = landing.from_node(stage.cluster, "n2")
        if value == "deny":
            stage.show([*found.said.splitlines()[:1], *_text(found)])
            stage.check(found.rc != 0 and landing.REFUSED in found.said, "refused")
        else:
            job, where = (jobs[-1], "the newest") if value == "newest" else (None, "let in, no job")
            _land(stage, found, job, where)
    stage.cluster.pam(pam.with_module(line=stage.line))


def keyboard_interactive(stage: Stage) -> None:
    """Show that the process adopted is the one that becomes the session."""
    job = _job(stage)
    stage.do("ssh -o PreferredAuthentications=keyboard-interactive alice@n1")
    login = lambda: stage.cluster.ssh(  # noqa: E731
        "alice", "n1", landing.COMMAND, method=login_methods.KBDINT, timeout=60
    )
    found = landing.land(stage.cluster.n1, login)
    _land(stage, found, job, "in the job, though sshd asked PAM in a child that has ended")


def moved(stage: Stage) -> None:
    """Show that the session line puts back what a line before it has moved out of the job."""
    job = _job(stage)
    stage.note("sshd's session lines on n1:")
    session_lines = [login_methods.MOVE, *pam.session_lines()]
    stage.show(session_lines)
    with login_methods.prepared(stage.cluster.n1):
        for lines, where in (session_lines[:1], None), (session_lines, job):
            stage.cluster.n1.pam("sshd", [*pam.with_module(line=stage.line), *lines])
            what = "with the first alone" if where is None else "with all of them"
            stage.do(f"ssh alice@n1, {what}")
            found = landing.from_login(stage.cluster)
            in_it = "out of the job" if where is None else "in the job"
            _land(stage, found, where, f"{what}: {in_it}")
    stage.cluster.pam(pam.with_module(line=stage.line))


# Title and what plays it: a situation is one row.
SITUATIONS: list[tuple[str, Callable[[Stage], None]]] = [
    ("One job: the login becomes part of it", one_job),
    ("What the session uses is charged to the job", accounted),
    ("The job's memory limit holds in the session", memory),
    ("The job's devices, and no other", device),
    ("No job: no login", no_job),
    ("Root always comes in", root),
    ("Keyboard-interactive: no way around", keyboard_interactive),
    ("What moves sessions away, as pam_systemd does, and the session line", moved),
    ("scancel ends the session and all it started", scancel),
    ("Two jobs: the login goes to the one that it comes from", callerid),
    ("A login from that login: still the same job", second_hop),
    ("From the login node, with several jobs: the newest", newest),
    ("From where no job is known: action_unknown decides", no_job_named),
]


def main(console: Console, keep: bool, line: str = pam.OURS) -> int:
    """Bring the cluster up, play every situation, take it down; return the exit status."""
    started = time.monotonic()
    cluster = Cluster("demo", report=lambda text: console.print(f"  {escape(text)} …"))
    console.print(Rule("A small Slurm cluster: ctl, n1, n2, login", align="left"))
    with cluster:
        cluster.pam(pam.with_module(line=line))
        console.print(
            f"  up after {time.monotonic() - started:.1f} s; sshd's PAM line on the nodes:"
        )
        console.print(f"      [cyan]{escape(line)}[/]\n")
        for node in cluster.nodes if keep else ():
            setup.keep_auth_log(node)
            node.run(["cp", "-r", "--no-preserve=ownership", "/checkout/bin", setup.MODULE_DIR])
        stage = Stage(cluster, console, line)
        play(stage)
        if keep:
            cluster.state.keep = True
            cluster.state.save()
    stage.failed += _farewell(console, cluster.state)
    seconds = time.monotonic() - started
    verdict = (
        f"[bold red]{len(stage.failed)} WRONG[/]"
        if stage.failed
        else "[green]all as it should be[/]"
    )
    console.print(f"{len(SITUATIONS)} situations, {verdict}, {seconds:.0f} s")
    return 1 if stage.failed else 0


def play(stage: Stage) -> None:
    """Play every situation, each without jobs of the one before."""
    for number, (title, situation) in enumerate(SITUATIONS, 1):
        stage.console.print(Rule(f"{number}. {title}", align="left"))
        mark = {node.name: node.mark() for node in stage.cluster.nodes}
        try:
            situation(stage)
        except (SessionEndedError, RuntimeError, TimeoutError, ValueError) as error:
            stage.check(False, f"{type(error).__name__}: {error}")
            for node in stage.cluster.nodes:
                stage.show(node.log(mark[node.name])[-10:])
        stage.cluster.cancel_all()
        stage.console.print()


def _job(stage: Stage, **wanted: str) -> int:
    """Submit alice's job and say so."""
    job = stage.cluster.submit("alice", **wanted)  # type: ignore[arg-type]
    asked = "".join(f", {key}={value}" for key, value in wanted.items())
    stage.note(f"alice has job {job} on n1{asked}")
    return job


def _two_jobs(stage: Stage) -> list[int]:
    """Submit two jobs of alice's on both nodes and say so."""
    jobs = [stage.cluster.submit("alice", "n1,n2") for _ in range(2)]
    stage.note(f"alice has jobs {jobs[0]} and {jobs[1]} on both nodes")
    return jobs


def _land(stage: Stage, found: Landing, job: int | None, where: str) -> None:
    """Show a login's cgroup and what the log says, and check that it is in the job."""
    hierarchy = "0::" if cgroups.unified() else ":freezer:"
    cgroup = [line for line in found.said.splitlines() if hierarchy in line]
    stage.show([*cgroup, *_text(found)])
    stage.check(found.rc == 0 and found.job == job, where)


def _text(found: Landing) -> list[str]:
    """Return what the module's last line says of the login, without what is before it."""
    return [line.partition("): ")[2].partition(": ")[2] for line in found.lines[-1:]]


def _farewell(console: Console, state: State) -> list[str]:
    """Say what is left, after looking; return what should not be."""
    if state.keep:
        console.print(f"The cluster stays up. From {CHECKOUT}:")
        console.print("  ./dev shell login su - alice     then: salloc --no-shell; ssh n1")
        console.print(
            "  ./dev shell n1                   root on a node; its syslog is /var/log/syslog"
        )
        console.print(f"{'':35}{setup.MODULE_DIR}/bin/slurm-adopt check")
        console.print(
            "  docs/tutorial.md                 goes on from here: the module by its package"
        )
        console.print("  ./dev down                       stops and removes everything")
        return []
    left = [str(path) for path in (*state.cgroup_dirs, state.directory) if path.exists()]
    left += [f"process {host.init.pid}" for host in state.hosts.values() if host.init.alive()]
    said = f"[bold red]WRONG[/]  left behind: {escape(', '.join(left))}"
    console.print(said if left else "Everything is stopped and removed.")
    return left
