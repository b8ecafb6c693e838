"""`./dev bench --commands [SESSIONS] [--json FILE]`: what the commands of `slurm-adopt` take.

On a node with that many real ssh sessions, of three users in as many jobs. Each command is a
process of its own, byte-compiled as it is installed. Times are medians in milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster, Settings
from tests.cluster.harness.config import USERS
from tests.cluster.harness.login import ssh_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.host import Host

SESSIONS = 300
AT_ONCE = 10  # logins
ROUNDS = 15
INSTALLED = "PYTHONPATH=/opt/slurm_adopt/src /usr/bin/python3 -sBm slurm_adopt"
ALONE = "/usr/bin/python3 -sB -c pass"
TIMING = "python3 /checkout/tests/cluster/inside/timing.py"

# What is measured -> the command; the first two in a shell of alice's job, all others as root.
IN_A_JOB = {
    "the interpreter alone": ALONE,
    "whoami --prompt": f"{INSTALLED} whoami --prompt",
}
AS_ROOT = {
    "sessions": f"{INSTALLED} sessions",
    "sessions --outside": f"{INSTALLED} sessions --outside",
    "sessions --json": f"{INSTALLED} sessions --json",
    "check --quick": f"{INSTALLED} check --quick",
}


@click.command()
@click.argument("sessions", default=SESSIONS)
@click.option("--json", "file", type=click.Path(path_type=Path), help="write the medians there")
def main(sessions: int, file: Path | None) -> None:
    """Bring a cluster up, open the sessions, measure, print."""
    console = Console(highlight=False)
    with Cluster("bench", Settings(slurm_conf="DefMemPerCPU=20"), console.print) as cluster:
        cluster.pam(pam.both("job_env=all"))
        for user in USERS:
            cluster.submit(user, mem="2000M")
        with cluster.session("alice") as session:
            console.print(f"{sessions} sessions by ssh")
            with _opened(cluster, sessions - 1):
                said = session.run(timing(IN_A_JOB), timeout=120)
                found = medians(IN_A_JOB, said) | medians(AS_ROOT, _as_root(cluster.n1))
    console.print(table(found, sessions))
    if file:
        rows = {name: {"ms": ms, "cpu_ms": cpu} for name, (ms, cpu) in found.items()}
        file.write_text(json.dumps({"schema": 1, "sessions": sessions, "commands": rows}) + "\n")


@contextlib.contextmanager
def _opened(cluster: Cluster, number: int) -> Iterator[None]:
    """Open sessions of all users in turn, with a command that stays; close them at the end."""
    users = [list(USERS)[at % len(USERS)] for at in range(number)]
    clients: list[subprocess.Popen[str]] = []

    def open_one(user: str) -> None:
        argv = [*ssh_argv("n1", user), "echo in; exec sleep 3600"]
        client = cluster.login.popen(
            argv, user, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        clients.append(client)
        assert client.stdout
        assert client.stdout.readline() == "in\n", f"a login of {user}'s has failed"

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(open_one, users))
        yield
    finally:
        for client in clients:
            client.terminate()
        for client in clients:
            client.wait()
        cluster.cancel_all()


def timing(commands: dict[str, str]) -> str:
    """Return the command line that times commands, whatever their statuses are."""
    each = (f"-- /bin/sh -c {shlex.quote(f'{line}; true')}" for line in commands.values())
    return f"{TIMING} {ROUNDS} {' '.join(each)}"


def _as_root(node: Host) -> str:
    """Time those that there are."""
    return node.run(["sh", "-c", timing(AS_ROOT)], timeout=300).stdout


Medians = dict[str, tuple[float, float]]  # by command: milliseconds, and those of CPU time


def medians(commands: dict[str, str], said: str) -> Medians:
    """Return the medians of each command's runs."""
    times = json.loads(said)
    rows = zip(times["ms"], times["cpu_ms"])
    middle = ((round(statistics.median(one), 1) for one in row) for row in rows)
    return {name: (ms, cpu) for name, (ms, cpu) in zip(commands, middle)}


def table(found: Medians, sessions: int) -> Table:
    """Return the report."""
    report = Table(title=f"a command of slurm-adopt, {sessions} sessions on the node")
    report.add_column("command")
    report.add_column("ms", justify="right")
    report.add_column("of CPU time", justify="right")
    for name, (ms, cpu) in found.items():
        report.add_row(name, f"{ms:.0f}", f"{cpu:.0f}")
    return report
