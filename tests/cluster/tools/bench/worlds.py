"""What a login meets in a row of the benchmark: jobs, sockets, configurations, sources."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Callable, NamedTuple

from tests.cluster.harness.config import USERS
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import wait_for
from tests.cluster.inside.sockets import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

PORT = 5555
MEMORY = "1500M"  # of the job that is adopted into: valgrind's own memory is in it
LITTLE = "200M"
REAL = 50  # jobs of others that the cluster itself runs; the partition lets 64 share a core
FIRST_STANDIN = 500_000  # job id
SLURM_CONF, NODES_CONF = "etc/slurm/slurm.conf", "etc/slurm/nodes.conf"
CALLERID_JOBS = 3
FEW = 1 << 20  # bytes of /proc/net/tcp: 7,000 sockets
OWN_JOBS = 2  # of the rows in which the source is asked and knows nothing


class World(NamedTuple):
    """How the logins of a row are made."""

    job: int | None = None  # where those that adopt have to bring a login
    jobs: tuple[int, ...] = ()  # where the C module may: it tells the newest by the second
    accept: int | None = None  # the port on which the connection of the logins comes
    forget: str | None = None  # a folder that is emptied before each
    answered: bool = False  # whether a slurmd names the job that this connection comes from


Made = Callable[["Cluster"], contextlib.AbstractContextManager[World]]


@contextlib.contextmanager
def no_job(cluster: Cluster) -> Iterator[World]:
    """Leave the user without a job."""
    del cluster
    yield World()


@contextlib.contextmanager
def one_job(cluster: Cluster) -> Iterator[World]:
    """Give the user one job."""
    job = cluster.submit("alice", mem=MEMORY)
    try:
        yield World(job)
    finally:
        cluster.cancel_all()


@contextlib.contextmanager
def from_a_job(cluster: Cluster) -> Iterator[World]:
    """Have the logins come from one of three jobs, as callerid tells."""
    jobs = [cluster.submit("alice", nodes="n1,n2", mem=MEMORY) for _ in range(CALLERID_JOBS)]
    argv = ["srun", f"--jobid={jobs[1]}", "--overlap", "--nodelist=n2", "-N1", "-n1"]
    with _connecting(cluster, argv):
        yield World(jobs[1], accept=PORT, answered=True)


@contextlib.contextmanager
def _connecting(cluster: Cluster, argv: list[str]) -> Iterator[None]:
    """Have a process connect to n1 whenever a connection is wanted there; no job is left."""
    client = cluster.login.popen(
        [*argv, "python3", "-c", CLIENT], "alice", stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        _end_all(client)
        cluster.cancel_all()


def _end_all(process: subprocess.Popen[str]) -> None:
    """Ask a command and what it has started in its host to end; kill what does not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    end(process)


CLIENT = f"""\
import socket, time
while True:
    try:
        socket.create_connection(("n1", {PORT})).recv(1)
    except OSError:
        time.sleep(0.05)
"""


def jobs_of_others(number: int) -> Made:
    """Give the user one job, and another user so many; most of the latter are stand-ins."""

    @contextlib.contextmanager
    def world(cluster: Cluster) -> Iterator[World]:
        for _ in range(min(number, REAL)):
            cluster.submit("bob")
        with contextlib.ExitStack() as stack:
            if number > REAL:
                stack.enter_context(standins(cluster, number - REAL))
            yield stack.enter_context(one_job(cluster))

    return world


@contextlib.contextmanager
def standins(cluster: Cluster, number: int) -> Iterator[subprocess.Popen[str]]:
    """Have so many more extern steps of bob's on n1; all their stepds are one process."""
    numbers = [str(USERS["bob"]), str(FIRST_STANDIN), str(number)]
    script = 'cd /checkout; exec "$@"'
    argv = ["python3", "-m", "tests.cluster.standins.stepds", "/var/spool/slurmd", "n1", *numbers]
    process = cluster.n1.popen(["sh", "-c", script, "sh", *argv], stdout=subprocess.PIPE)
    spool = cluster.socket("n1", 0).parent
    try:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the stand-ins have ended")
        yield process
    finally:
        _end_all(process)  # nsenter first: the stand-ins take their sockets with them
        first = f"n1_{FIRST_STANDIN // 1000}"
        wait_for("stand-ins gone", lambda: not list(spool.glob(f"{first}???.*")), 20)


def own_jobs(number: int, forget: str | None = None, user: str = "alice") -> Made:
    """Give the user so many jobs; the logins come from the login node, where no slurmd runs."""

    @contextlib.contextmanager
    def world(cluster: Cluster) -> Iterator[World]:
        if user != "alice":  # whose login is the first
            for _ in range(number):
                cluster.submit("alice", mem=LITTLE)
        jobs = [cluster.submit(user) for _ in range(number - 1)]
        newest = cluster.submit(user, mem=MEMORY)
        with _connecting(cluster, []):
            yield World(newest, (*jobs, newest), PORT, forget)

    return world


def dropped(forget: str | None = None, user: str = "alice") -> Made:
    """Have the source drop what is sent to slurmd's port."""

    @contextlib.contextmanager
    def world(cluster: Cluster) -> Iterator[World]:
        chain = "chain input { type filter hook input priority 0; tcp dport 6818 drop; }"
        login = cluster.login
        login.run(["nft", "-f", "-"], input=f"table inet bench {{\n{chain}\n}}\n")
        try:
            with own_jobs(OWN_JOBS, forget, user)(cluster) as made:
                yield made
        finally:
            login.run(["nft", "delete", "table", "inet", "bench"])

    return world


def sockets(number: int) -> Made:
    """Have so many TCP sockets on the node, beside those of three jobs and callerid."""

    @contextlib.contextmanager
    def world(cluster: Cluster) -> Iterator[World]:
        folder = "/run/bench.sockets"
        argv = ["python3", "/checkout/tests/cluster/inside/sockets.py", str(number), folder]
        cluster.n1.run(["rm", "-rf", folder])
        made = cluster.n1.root / folder.lstrip("/")
        holder = cluster.n1.popen(argv)

        def all_made() -> bool:
            return made.is_dir() and len(list(made.iterdir())) == workers(number)

        try:
            wait_for(f"{number} sockets", all_made, 180)
            if (held := _held(cluster)) < number:
                raise RuntimeError(f"{held} sockets instead of {number}")
            with from_a_job(cluster) as world:
                yield world
        finally:
            end(holder)
            cluster.n1.run(["rm", "-rf", folder])
            table = Path(f"/proc/{cluster.n1.init.pid}/net/tcp")  # has those of TIME_WAIT
            wait_for("sockets gone", lambda: len(table.read_bytes()) < FEW, 180, every=1)

    return world


def _held(cluster: Cluster) -> int:
    """Return how many TCP sockets n1 has, by the kernel's count."""
    said = Path(f"/proc/{cluster.n1.init.pid}/net/sockstat").read_text()
    (line,) = (line for line in said.splitlines() if line.startswith("TCP:"))
    return int(line.split()[2])  # TCP: inuse N


def node_lines(number: int, *, included: bool = False) -> Made:
    """Have as many NodeName lines in the node's slurm.conf, or in a file that it includes."""

    @contextlib.contextmanager
    def world(cluster: Cluster) -> Iterator[World]:
        node = cluster.n1
        usual = node.read(SLURM_CONF)
        lines = "".join(
            f"NodeName=cloud{at:05} CPUs=64 RealMemory=256000 Feature=a,b Weight=8 State=CLOUD\n"
            for at in range(number)
        )
        with one_job(cluster) as made:
            try:
                if included:
                    node.write(NODES_CONF, lines)
                    lines = f"Include /{NODES_CONF}\n"
                before, partition, after = usual.partition("PartitionName=")
                node.write(SLURM_CONF, f"{before}{lines}{partition}{after}")
                yield made
            finally:
                node.write(SLURM_CONF, usual)
                node.run(["rm", "-f", f"/{NODES_CONF}"])

    return world


# What is there between two rows


def remains(cluster: Cluster) -> list[str]:
    """Return what a row could leave: programs of the hosts, sockets of jobs, configuration."""
    found = []
    for host in cluster.hosts.values():
        for path in (host.root / "proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_text(errors="replace").split("\0")
                found.append(f"{host.name} runs {' '.join(words).strip()[:80]}")
    spool = cluster.socket("n1", 0).parent
    found += [f"n1 has {path.name}" for path in spool.glob("n1_*.*")]
    found += [f"n1 has {len(cluster.n1.read(SLURM_CONF))} bytes of slurm.conf"]
    tables = cluster.login.run(["nft", "list", "tables"]).stdout.split("\n")
    return sorted(found + [f"login has {table}" for table in tables if table])
