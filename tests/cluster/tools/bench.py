"""`./dev bench`: what a login costs by either front, beside the C module and empty scripts.

pamtester runs the account phase of each stack in turn, or that and the session phase, inside a node
of the real cluster, as a process of its own, so that loading and ending the interpreter counts.
Times are medians; what matters are the ratios within this run. "Own work" is what is beyond the
floor: pam_permit for the C module, an empty pam_python script for ours. Memory is that of the
privileged sshd of a real login, with both lines. `--instructions [COMMIT...]` counts instructions
instead: see instructions.py. `--commands` measures those of `slurm-adopt`: see bench_commands.py.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.cluster.harness import pam
from tests.cluster.harness.cluster import Cluster, Settings
from tests.cluster.harness.config import USERS
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cluster.harness.host import Host

ROUNDS = 40
OTHERS = (0, 10, 50, 120)  # the partition lets 64 jobs share a core
PORT = 5555
FLOOR = "account required pam_python.so /opt/floor.py"
FLOOR_SCRIPT = """\
def pam_sm_acct_mgmt(pamh, flags, argv):
    return pamh.PAM_SUCCESS
pam_sm_open_session = pam_sm_acct_mgmt
"""

# The same by pam_exec: an interpreter of its own, which ends at once.
FLOOR_EXEC = "account required pam_exec.so quiet stdout /opt/floor"
FLOOR_PROGRAM = """\
#!/usr/bin/python3 -IS
import os
os._exit(0)
"""
EVERY = " service=* join_container=false"

STACKS = {
    "pam_permit": "account required pam_permit.so",
    "C module": pam.C_MODULE + " service=*",
    "empty script": FLOOR,
    "slurm_adopt": pam.OURS + EVERY,
    "empty by pam_exec": FLOOR_EXEC,
    "slurm_adopt by pam_exec": pam.EXEC + EVERY,
}

# The session line that goes with each; the C module has none.
PERMIT = "session required pam_permit.so"
SESSIONS = {
    name: PERMIT if name in ("pam_permit", "C module") else line.replace("account", "session", 1)
    for name, line in STACKS.items()
}
# A user who has no job, and is left to the next line.
NONE = {"C module", "slurm_adopt", "slurm_adopt by pam_exec"}
ACCOUNT, BOTH = ("acct_mgmt",), ("acct_mgmt", "open_session")

# Opens 60,000 TCP sockets in the host: pairs on loopback, spread over processes and ports, since a
# process may open some thousands of files and a port pair is used once.
SOCKETS = """\
import os, socket, sys, time
for worker in range(15):
    if os.fork() == 0:
        server = socket.create_server(("127.0.0.1", 20000 + worker), backlog=4096)
        held = []
        for _ in range(2000):
            client = socket.create_connection(("127.0.0.1", 20000 + worker))
            held += [client, server.accept()[0]]
        open(f"/run/sockets.{worker}", "w")
        time.sleep(600)
time.sleep(600)
"""


# Has a user listen on 150,000 ports, over 15 addresses of the loopback.
LISTENING = 150_000
LISTENERS = """\
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
# pamtester by the name of OpenSSH's program: the account phase leaves the adoption to the session
# line, as it does in a login.
AS_SSHD = "/opt/bench/sshd"


class Cost(NamedTuple):
    """One row of the report: medians in milliseconds by stack."""

    title: str
    ms: dict[str, float]
    cpu: dict[str, float]

    def ratio(self) -> float:
        """Return ours to the C module's."""
        return self.ms["slurm_adopt"] / self.ms["C module"]

    def own_ratio(self) -> float:
        """Return what ours adds to an empty script to what the C module adds to pam_permit."""
        ours = self.ms["slurm_adopt"] - self.ms["empty script"]
        return ours / (self.ms["C module"] - self.ms["pam_permit"])


def main() -> None:
    """Run everything and print it."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    with Cluster("bench", Settings(slurm_conf="DefMemPerCPU=20"), console.print) as cluster:
        prepare(cluster)
        rows = [
            *one_job(cluster, rounds, console),
            several_jobs(cluster, rounds, console),
            many_sockets(cluster, rounds, console),
        ]
        sizes = memory(cluster)
        logins = many_listeners(cluster, max(5, rounds // 4), console)
    console.print(time_table(rows), cpu_table(rows), memory_table(sizes), login_table(logins))


def prepare(cluster: Cluster) -> None:
    """Write a PAM service for each stack and the empty script."""
    cluster.n1.write("opt/floor.py", FLOOR_SCRIPT)
    cluster.n1.run(["install", "-D", "/usr/bin/pamtester", AS_SSHD])
    cluster.n1.write("opt/floor", FLOOR_PROGRAM, 0o755)
    for number, name in enumerate(STACKS):
        cluster.n1.pam(f"bench{number}", [STACKS[name], SESSIONS[name]])
        ignored = " action_no_jobs=ignore" if name in NONE else ""
        cluster.n1.pam(f"none{number}", [STACKS[name] + ignored, "account required pam_permit.so"])


def measure(
    host: Host,
    title: str,
    rounds: int,
    accept: int | None = None,
    phases: tuple[str, ...] = ACCOUNT,
    service: str = "bench",
) -> Cost:
    """Time these phases of each stack for alice."""
    argv = ["python3", "/checkout/tests/cluster/inside/timing.py", str(rounds)]
    argv += ["--accept", str(accept)] if accept else []
    program = AS_SSHD if phases == BOTH else "/usr/bin/pamtester"
    for number, _ in enumerate(STACKS):
        argv += ["--", program, f"{service}{number}", "alice", *phases]
    said = json.loads(host.run(argv, timeout=590).stdout)
    ms, cpu = (dict(zip(STACKS, map(statistics.median, said[what]))) for what in ("ms", "cpu_ms"))
    return Cost(title, ms, cpu)


def one_job(cluster: Cluster, rounds: int, console: Console) -> list[Cost]:
    """Measure with one job and growing numbers of other users' jobs."""
    others = 0
    console.print("no job")
    rows = [measure(cluster.n1, "no job, left to the next line", rounds, service="none")]
    cluster.submit("alice")
    console.print("account and session phase")
    title = "one job, account and session line"
    rows.append(measure(cluster.n1, title, rounds, phases=BOTH))
    for wanted in OTHERS:
        console.print(f"one job, {wanted} of others")
        while others < wanted:
            cluster.submit("bob")
            others += 1
        rows.append(measure(cluster.n1, f"one job, {wanted} of others", rounds))
    cluster.cancel_all()
    return rows


def several_jobs(cluster: Cluster, rounds: int, console: Console) -> Cost:
    """Measure with three jobs, the connection held by one of them on the other node."""
    console.print("three jobs, callerid")
    jobs = [cluster.submit("alice", nodes="n1,n2") for _ in range(3)]
    client = connect_from_job(cluster, jobs[1], rounds)
    try:
        return measure(cluster.n1, "three jobs, callerid", rounds, PORT)
    finally:
        client.kill()


def many_sockets(cluster: Cluster, rounds: int, console: Console) -> Cost:
    """Measure the same with 60,000 other TCP sockets on the node."""
    console.print("the same with 60,000 TCP sockets")
    filler = cluster.n1.popen(["python3", "-c", SOCKETS])
    run = cluster.n1.root / "run"
    wait_for("60,000 sockets", lambda: len(list(run.glob("sockets.*"))) == 15, 60)
    (job, *_) = [int(word) for word in cluster.squeue().split() if word.isdecimal()]
    client = connect_from_job(cluster, job, rounds)
    try:
        return measure(cluster.n1, "the same, 60,000 TCP sockets", max(5, rounds // 4), PORT)
    finally:
        client.kill()
        cluster.n1.run(["pkill", "-f", "sockets"], check=False)
        filler.wait(20)
        cluster.cancel_all()


def connect_from_job(cluster: Cluster, job: int, rounds: int) -> Client:
    """Have a process of the job on n2 connect to n1 and stay."""
    script = (
        "import socket, time\n"
        "while True:\n"
        "    try: held = socket.create_connection(('n1', 5555)); break\n"
        "    except OSError: time.sleep(0.05)\n"
        f"time.sleep({60 + rounds * 4})\n"
    )
    return Client(cluster, job, script)


class Client:
    """A process inside a job on n2."""

    def __init__(self, cluster: Cluster, job: int, script: str) -> None:
        """Start it."""
        argv = ["srun", f"--jobid={job}", "--overlap", "--nodelist=n2", "-N1", "-n1"]
        self._process = cluster.login.popen(
            [*argv, "python3", "-c", script], "alice", stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(20)


def memory(cluster: Cluster) -> dict[str, tuple[float, float]]:
    """Return RSS and PSS in MiB of a login's privileged sshd by stack."""
    found = {}
    cluster.submit("alice")
    for name, line in STACKS.items():
        cluster.pam([*pam.with_module(line=line), SESSIONS[name]])
        with cluster.session("alice") as session:
            time.sleep(0.2)
            found[name] = sizes(cluster.n1, session.pid)
    cluster.cancel_all()
    return found


def many_listeners(
    cluster: Cluster, rounds: int, console: Console
) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the module's own ms in bob's logins, without and with alice's listening sockets."""
    ways = [(lines, method) for lines in STACKS_OF_LOGINS for method in METHODS]
    cluster.submit("bob")
    console.print("logins by ssh")
    idle = {way: _own_ms(cluster, *way, rounds) for way in ways}
    console.print(f"the same with {LISTENING:,} sockets of another user that listen")
    filler = cluster.n1.popen(["python3", "-c", LISTENERS, str(USERS["alice"])])
    made = cluster.n1.root / "tmp"
    try:
        wait_for("sockets", lambda: len(list(made.glob("listeners.*"))) == 15, 120)
        full = {way: _own_ms(cluster, *way, rounds) for way in ways}
    finally:
        cluster.n1.run(["pkill", "-f", "listeners"], check=False)
        filler.wait(60)
        cluster.cancel_all()
    return {way: (idle[way], full[way]) for way in ways}


STACKS_OF_LOGINS = {"account line alone": pam.with_module, "account and session line": pam.both}
METHODS = ("publickey", "keyboard-interactive")


def _own_ms(cluster: Cluster, lines: str, method: str, rounds: int) -> float:
    """Return the median of what the module's lines in the log say for a login, all phases."""
    cluster.pam(STACKS_OF_LOGINS[lines]())
    found = []
    for _ in range(rounds):
        mark = cluster.n1.mark()
        cluster.ssh("bob", method=method, timeout=60)
        time.sleep(0.1)  # until the kernel's grace period after the adoption is over
        said = [line for line in cluster.n1.log(mark) if "pam_slurm_adopt(" in line]
        found.append(sum(float(line.split()[-2]) for line in said if line.endswith(" ms")))
    return statistics.median(found)


def login_table(found: dict[tuple[str, str], tuple[float, float]]) -> Table:
    """Return the report on sockets that listen."""
    table = Table(title="a login by ssh: the module's own ms, both phases, median")
    for column in ("lines", "method", "idle", f"{LISTENING:,} sockets listen"):
        table.add_column(column, justify="left" if column in ("lines", "method") else "right")
    for (lines, method), ms in found.items():
        table.add_row(lines, method, *(f"{one:.1f}" for one in ms))
    return table


def sizes(host: Host, shell: int) -> tuple[float, float]:
    """Return RSS and PSS in MiB of the privileged sshd above a shell."""
    monitor = shell
    for _ in range(2):
        stat = host.read(f"proc/{monitor}/stat")
        monitor = int(stat.rpartition(")")[2].split()[1])
    rollup = host.read(f"proc/{monitor}/smaps_rollup").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


def time_table(rows: Sequence[Cost]) -> Table:
    """Return the report on time."""
    table = Table(title="whole process, median in ms", expand=False)
    table.add_column("situation")
    for name in STACKS:
        table.add_column(name, justify="right")
    table.add_column("ours : C", justify="right")
    table.add_column("own work, ours : C", justify="right")
    for row in rows:
        ratios = [f"{row.ratio():.2f}", f"{row.own_ratio():.2f}"]
        table.add_row(row.title, *(f"{ms:.1f}" for ms in row.ms.values()), *ratios)
    return table


def cpu_table(rows: Sequence[Cost]) -> Table:
    """Return the report on CPU time, which a busy machine changes less."""
    table = Table(title="whole process, its children too, median of CPU time in ms", expand=False)
    table.add_column("situation")
    for name in STACKS:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.title, *(f"{ms:.1f}" for ms in row.cpu.values()))
    return table


def memory_table(found: dict[str, tuple[float, float]]) -> Table:
    """Return the report on memory."""
    table = Table(title="privileged sshd of a login, MiB")
    for column in ("stack", "RSS", "PSS", "PSS : C"):
        table.add_column(column, justify="left" if column == "stack" else "right")
    for name, (rss, pss) in found.items():
        ratio = pss / found["C module"][1]
        table.add_row(name, f"{rss:.1f}", f"{pss:.1f}", f"{ratio:.2f}")
    return table


if __name__ == "__main__":
    if sys.argv[1:2] == ["--instructions"]:
        from tests.cluster.tools.instructions import main as count

        count(sys.argv[2:])
    elif sys.argv[1:2] == ["--commands"]:
        from tests.cluster.tools.bench_commands import main as measure_commands

        measure_commands(sys.argv[2:])
    else:
        main()
