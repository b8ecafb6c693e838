"""`./dev programs`: what starts programs is run in sessions by ssh, for each way to make a job.

A row is a job, a node of it and a value of job_env; a column is a program with its launcher. They
are Debian's: srun, sbatch, salloc, and Open MPI and MPICH in the launchers' own way and by ssh.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.cluster import Cluster, Roots, Settings
from tests.cluster.harness.host import HostTimeoutError, end
from tests.cluster.harness.suites import WITH_LAUNCHERS
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

ROOTS = dict.fromkeys(("ctl", "n1", "n2", "login"), Roots(WITH_LAUNCHERS))
STRICT = ("action_adopt_failure=deny", "action_generic_failure=deny")
GIVEN = ("SLURM_JOB_ID", "all")  # values of job_env
BOTH = "n1,n2"
WIDTH = 190  # columns of the report, where no terminal has its own
SECONDS = 180  # for one program, or those at the same time; a busy machine takes most of them

END = "--end of a program--\n"
TOGETHER = f"""\
directory=$(mktemp -d)
number=0
for command; do
    number=$((number + 1))
    (cd /tmp; sh -c "$command" >$directory/$number 2>&1; echo "status $?" >>$directory/$number) &
done
wait
for number in $(seq $number); do
    cat $directory/$number; echo '{END.strip()}'
done
rm -r $directory
"""

MPIRUN = "mpirun.openmpi --map-by node"
HELLO = "python3 /checkout/tests/cluster/inside/mpi_hello.py"
OPENMPI = f"{HELLO} libmpi.so.40 ompi_mpi_comm_world ompi_mpi_int ompi_mpi_op_sum"
MPICH = f"{HELLO} libmpich.so.12 0x44000000 0x4c000405 0x58000003"
# Hydra hangs now and then on a busy machine, by srun in a job's own script as well: 1 of 60 there.
# So it has a second try.
HYDRA = f"mpirun.mpich {{}}-n $(nproc) -ppn 1 {MPICH}"
BY_SSH = "-launcher ssh "
TWICE = f"timeout 40 {HYDRA} || {HYDRA}"
SUBMIT = "sbatch --wait --chdir=/tmp --output=/dev/null -N1 {} --wrap 'srun hostname'"
ALLOCATE = "salloc -Q --chdir=/tmp -N1 {} srun hostname"


@dataclass(frozen=True)
class Program:
    """A command, how many lines it prints at least, and whether it is in the session's own job.

    MPI has as many ranks as the job has CPUs here: Open MPI starts no more where it knows no list.
    """

    name: str
    command: str
    lines: int
    own: bool = True


# fmt: off
PROGRAMS = (
    Program("srun",                "srun hostname", 1),
    Program("srun -n2",            "srun -n2 hostname", 2),
    Program("openmpi",             f"{MPIRUN} -n $(nproc) {OPENMPI}", 1),
    Program("openmpi, all slots",  "mpirun.openmpi hostname", 1),
    Program("openmpi by ssh",      f"{MPIRUN} --mca plm rsh -n $(nproc) {OPENMPI}", 1),
    Program("mpich",               TWICE.format("", ""), 1),
    Program("mpich by ssh",        TWICE.format(BY_SSH, BY_SSH), 1),
    Program("sbatch",              SUBMIT.format(""), 0, own=False),
    Program("sbatch --mem",        SUBMIT.format("--mem=50M"), 0, own=False),
    Program("sbatch --mem-per-cpu", SUBMIT.format("--mem-per-cpu=50M"), 0, own=False),
    Program("salloc --mem",        ALLOCATE.format("--mem=50M"), 1, own=False),
    Program("salloc --mem-per-cpu", ALLOCATE.format("--mem-per-cpu=50M"), 1, own=False),
)
# fmt: on

SBATCH, SALLOC, SRUN, SHELL = "sbatch", "salloc", "srun", "salloc's shell on the node"
SLEEP = "exec sleep 900"
STEP = "srun --overlap -N1 -n1 -w n2 --mem=20M sleep 901 & exec sleep 900"


GPU = ("--gpus-per-node=1", "--mem-per-gpu=200M")


@dataclass(frozen=True)
class Making:
    """How a job is made: by which command, with which options; its script; a step beside it."""

    name: str
    by: str
    options: tuple[str, ...]
    nodes: str = BOTH
    script: str = SLEEP
    step: bool = False  # one of one task on n2, by another srun


# fmt: off
JOBS = (
    Making("--mem",                 SBATCH, ("-n4", "--mem=300M")),
    Making("--mem-per-cpu",         SBATCH, ("-n4", "--mem-per-cpu=150M")),
    Making("DefMemPerCPU",          SBATCH, ("-n4",)),
    Making("--mem-per-gpu",         SBATCH, ("-n2", "-c2", *GPU)),
    Making("uneven",                SBATCH, ("-n3", "--mem-per-cpu=200M")),
    Making("--cpus-per-task",       SBATCH, ("-n2", "-c2", "--mem=300M")),
    Making("--array",               SBATCH, ("-n4", "--mem-per-cpu=150M", "--array=3")),
    Making("one node",              SBATCH, ("-n2", "--mem-per-cpu=150M"), nodes="n1"),
    Making("a step on n2",          SBATCH, ("-n4", "--mem-per-cpu=150M"), script=STEP),
    Making("--mem",                 SALLOC, ("-n4", "--mem=300M")),
    Making("--mem-per-cpu",         SALLOC, ("-n4", "--mem-per-cpu=150M")),
    Making("--mem-per-gpu",         SALLOC, ("-n2", "-c2", *GPU)),
    Making("a step on n2",          SALLOC, ("-n4", "--mem-per-cpu=150M"), step=True),
    Making("--mem-per-cpu",         SRUN,   ("-n4", "--mem-per-cpu=150M")),
    Making("--mem-per-cpu",         SHELL,  ("-n4", "--mem-per-cpu=150M")),
)
# fmt: on


@dataclass(frozen=True)
class Row:
    """Where the programs are run."""

    job: Making
    node: str
    job_env: str

    @property
    def name(self) -> str:
        """What it is called in a report."""
        return f"{self.job.by} {self.job.name}/{self.node}/{self.job_env}"


@dataclass(frozen=True)
class Seen:
    """What came of one program; `wrong` is empty where it did what it should."""

    row: str
    program: str
    wrong: str
    said: str


def rows(jobs: tuple[Making, ...] = JOBS) -> list[Row]:
    """Return all of them."""
    return [
        Row(job, node, given) for job in jobs for node in job.nodes.split(",") for given in GIVEN
    ]


# Jobs


@contextlib.contextmanager
def made(cluster: Cluster, making: Making) -> Iterator[int]:
    """Have a job of alice's that is made in this way, with the programs it has."""
    with contextlib.ExitStack() as stack:
        if making.by in (SBATCH, SALLOC):
            script = making.script if making.by == SBATCH else None
            job = cluster.submit("alice", making.nodes, script, options=making.options)
        else:
            job = _by_hand(cluster, making, stack)
        if making.step:
            argv = ["srun", f"--jobid={job}", "--overlap", "-N1", "-n1", "-wn2", "sleep", "901"]
            stack.callback(end, _started(cluster, argv))
        if making.step or making.script == STEP:
            _wait_for(cluster, "n2", "sleep 901")
        if making.by == SBATCH:
            _wait_for(cluster, "n1", "sleep 900")
        yield job
        scancel.end(cluster, job)


def _by_hand(cluster: Cluster, making: Making, stack: contextlib.ExitStack) -> int:
    """Have a job that lives as long as its command on the login node."""
    before = set(_jobs(cluster))
    where = ["-N2", f"-w{making.nodes}", *making.options]
    if making.by == SRUN:
        stack.callback(end, _started(cluster, ["srun", "--overlap", *where, "sleep", "900"]))
    else:
        command = shlex.join(["salloc", *where])
        stack.callback(end, _started(cluster, ["script", "-qc", command, "/dev/null"]))
    job = wait_for("the job is there", lambda: set(_jobs(cluster)) - before, 20, cluster.tails)
    (number,) = job
    cluster.wait_running(number, making.nodes.split(","), batch=False)
    if making.by == SRUN:
        _wait_for(cluster, "n1", "sleep 900")
        _wait_for(cluster, "n2", "sleep 900")
    else:
        _wait_for(cluster, "n1", "bash")
    return number


def _jobs(cluster: Cluster) -> list[int]:
    said = cluster.ctl.run(["squeue", "-hu", "alice", "-o", "%A"]).stdout
    return [int(job) for job in said.split()]


def _started(cluster: Cluster, argv: list[str]) -> subprocess.Popen[str]:
    return cluster.login.popen(
        argv, "alice", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait_for(cluster: Cluster, node: str, program: str) -> None:
    """Return when a process of alice's runs the program on the node."""
    find = ["pgrep", "-u", "alice", "-f", f"(^|/){program}$"]
    host = cluster.hosts[node]
    wait_for(f"{program} on {node}", lambda: host.run(find, check=False).stdout, 20, cluster.tails)


# Programs


def seen(cluster: Cluster, row: Row, programs: Sequence[Program] = PROGRAMS) -> list[Seen]:
    """Run the programs in sessions in the row's job, which is there.

    Those in the job run one after the other, since each may want all that the job has. What is
    submitted has its own, and is submitted at the same time from one session: the next login would
    be taken into the newest job.
    """
    cluster.pam(pam.both(*STRICT, *([f"job_env={row.job_env}"] if row.job_env == "all" else [])))
    own = [_login(cluster, row, [one]) for one in programs if one.own]
    others = [one for one in programs if not one.own]
    return [*itertools.chain(*own), *(_login(cluster, row, others) if others else [])]


def _login(cluster: Cluster, row: Row, programs: list[Program]) -> list[Seen]:
    """Run programs at the same time in one session."""
    command = shlex.join(["sh", "-c", TOGETHER, "sh", *(one.command for one in programs)])
    try:
        done = cluster.ssh("alice", row.node, command, timeout=SECONDS)
    except HostTimeoutError as error:
        _end_launchers(cluster)
        wrong = f"it hangs: {str(error).splitlines()[-1]}"
        return [Seen(row.name, one.name, wrong, "") for one in programs]
    parts = done.out.split(END)
    if len(parts) != len(programs) + 1:
        wrong = f"the login failed: {done.err[-200:]}"
        return [Seen(row.name, one.name, wrong, "") for one in programs]
    return [_judged(row, one, part) for one, part in zip(programs, parts)]


def _end_launchers(cluster: Cluster) -> None:
    """End what a program that hung has left: it would keep the job's CPUs from the others."""
    for node in cluster.nodes:
        node.run(["pkill", "-u", "alice", "^(srun|mpirun|mpiexec|hydra|orted)"], check=False)


def _judged(row: Row, program: Program, said: str) -> Seen:
    *lines, status = said.strip("\n").split("\n")
    printed = [line for line in lines if line in ("n1", "n2") or " heard of " in line]
    wrong = ""
    if status != "status 0":
        wrong = f"{status}: {' '.join(lines)[-300:]}"
    elif len(printed) < program.lines or ("hello" in program.command and not _heard(printed)):
        wrong = f"it prints {lines}"
    return Seen(row.name, program.name, wrong, " ".join(sorted(set(_hosts(printed)))))


def _heard(lines: list[str]) -> bool:
    """Say whether all ranks have heard of each other."""
    return all(line.endswith(f"heard of {len(lines)}") for line in lines)


def _hosts(lines: list[str]) -> list[str]:
    words = {word.rstrip(",") for line in lines for word in line.split()}
    return [word for word in words if word in ("n1", "n2")]


# The report


def run(console: Console, pattern: str, file: Path | None) -> int:
    """Run all, print the table; return the exit status."""
    jobs = tuple(job for job in JOBS if pattern in f"{job.by} {job.name}")
    found: list[Seen] = []
    with Cluster("programs", report=console.print, roots=ROOTS) as cluster:
        for job in jobs:
            console.print(f"  {escape(f'{job.by} {job.name}')} …")
            extra = "LaunchParameters=use_interactive_step\n" if job.by == SHELL else ""
            cluster.reconfigure(Settings(slurm_conf=extra))
            with made(cluster, job):
                for row in rows((job,)):
                    found += seen(cluster, row)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table(found))
    wrong = [one for one in found if one.wrong]
    for one in wrong:
        console.print(f"{one.row}: {one.program}: {one.wrong}", markup=False)
    console.print(f"{len(found)} programs started, {len(wrong)} failed")
    if file:
        file.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 1 if wrong or not found else 0


def table(found: list[Seen]) -> Table:
    """Return the report: where the program ran, in each row and column."""
    report = Table(title="programs in sessions by ssh", title_justify="left")
    for column in ("job", "node", "job_env", *(program.name for program in PROGRAMS)):
        report.add_column(column, overflow="fold")
    of_row: dict[str, list[Seen]] = {}
    for one in found:
        of_row.setdefault(one.row, []).append(one)
    for name, cells in of_row.items():
        shown = ["FAILED" if cell.wrong else cell.said or "ok" for cell in cells]
        report.add_row(*map(escape, (*name.split("/"), *shown)))
    return report
