"""`./dev storm`: hundreds of logins at the same moment, the C module and ours in one run.

Launchers open as many (mpirun over ssh, pdsh, dask). All sessions stay until the last login is
decided, and root then reads in the node's /proc where each of them is: its shell, and root's sshd
above it. A session is in its job only if each confining hierarchy says so. sshd takes as many
logins at a time as are made, and gives each as long as it likes, for both modules alike: it is the
module's own limits that are seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.cluster.harness import config, landing, pam
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.config import Settings
from tests.cluster.harness.host import end
from tests.cluster.harness.login import ssh_argv
from tests.cluster.harness.wait import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.cluster.harness.host import Host

SCRIPT = "/checkout/tests/cluster/inside/storm.py"
LOGINS, JOBS = 300, 30
LIMIT = 400.0  # seconds that all logins of a storm have
AHEAD = 1.0  # seconds until it begins
STEPS = 10.0  # the same where clients are in steps of jobs, which have to start first
FIRST_UID = 5101  # of the users that only storms have
STAYS = "echo $$; read end"  # what each login runs
MEMORY = 12000  # MB that each job has: the cluster is told of more than there is
NODES = "NodeName=n[1-2] CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN\n"
WIDTH = 150  # of the table in a file
SHOWN = 6  # different lines of a log or of complaints
NUMBER = re.compile(r"\d+(\.\d+)?")
MODULE = "pam_slurm_adopt"

# allow, so that what is not adopted stays and is seen; the source host's slurmd has a queue as well
OPTIONS = ("action_adopt_failure=allow", "action_generic_failure=allow")
MODULES = {
    "C module": lambda: pam.with_module(*OPTIONS, line=pam.C_MODULE),
    "both lines": lambda: pam.both(*OPTIONS, "callerid_timeout=30"),
    "account line": lambda: pam.with_module(*OPTIONS, "callerid_timeout=30"),
}


class Crowd(NamedTuple):
    """Logins that start in one place: in a job on n2 if there is one, else on the login node."""

    user: str
    logins: int
    target: int  # the job that they have to land in
    source: int | None = None


@dataclass
class Seen:
    """What came of one storm."""

    shape: str
    module: str
    logins: int
    admitted: int = 0
    inside: int = 0  # wholly, in the right job
    half: int = 0  # in some hierarchies and not in others
    apart: int = 0  # root's sshd in a job, its session not, as when a stepd takes it late
    elsewhere: int = 0  # wholly in another job of the user
    outside: int = 0
    refused: int = 0
    load: float = 0  # of the machine when it began, as uptime has it
    seconds: float = 0  # until the last login was decided
    slowest_ms: float = 0  # of the module, by its own line
    left: int = 0  # sessions that are there once their jobs have ended
    said: dict[str, int] = field(default_factory=dict)  # the module's complaints, numbers left out
    complaints: dict[str, int] = field(default_factory=dict)  # the clients'

    @property
    def missed(self) -> bool:
        """Say whether a login was refused, or is not where it belongs."""
        return self.inside < self.logins or self.left > 0


class Storms:
    """A cluster whose sshd takes all that comes."""

    def __init__(self, cluster: Cluster) -> None:
        """Take a cluster that is up."""
        self.cluster = cluster

    @contextlib.contextmanager
    def prepared(self, logins: int, users: int) -> Iterator[None]:
        """Have an sshd for as many logins, and so many users of one job each."""
        more = f"MaxStartups {4 * logins}\nLoginGraceTime 600\nMaxSessions 1000"
        self._restart_sshd(config.SSHD_CONFIG.replace("MaxStartups 500", more))
        for host in self.cluster.hosts.values():
            host.run(["sh", "-ec", ACCOUNTS, "sh", *users_of(users)], timeout=120)
        try:
            yield
        finally:
            self._restart_sshd(config.SSHD_CONFIG)

    def _restart_sshd(self, text: str) -> None:
        for node in self.cluster.nodes:
            node.write("etc/ssh/sshd_config", text)
            node.stop("sshd")
            node.start("sshd", under=node.front)

    def play(
        self,
        shape: str,
        module: str,
        logins: int,
        jobs: int = 1,
        during: Callable[[int], None] = lambda _: None,
        later: Callable[[int], None] | None = None,
        lines: Sequence[str] = (),
    ) -> Seen:
        """Play one storm; no job is left.

        `lines` are the PAM stack of a module that is not one of MODULES. `during` is called with
        the first job while the logins go on; `later` once all are decided and looked at, and then
        they are looked at again.
        """
        self.cluster.pam(lines or MODULES[module]())
        try:
            crowds = SHAPES[shape](self.cluster, logins, jobs)
            load = round(os.getloadavg()[0], 1)
            seen = Seen(shape, module, logins, load=load)
            with contextlib.ExitStack() as going:
                self._play(seen, crowds, going, during, later)
            return seen
        finally:
            self.cluster.cancel_all()

    def _play(
        self,
        seen: Seen,
        crowds: Sequence[Crowd],
        going: contextlib.ExitStack,
        during: Callable[[int], None],
        later: Callable[[int], None] | None,
    ) -> None:
        node = self.cluster.n1
        mark = node.mark()
        at = time.time() + (STEPS if any(crowd.source for crowd in crowds) else AHEAD)
        places: dict[int | None, list[Crowd]] = {}
        for crowd in crowds:
            places.setdefault(crowd.source, []).append(crowd)
        started = [
            (members, self._start(going, source, members, at)) for source, members in places.items()
        ]
        during(crowds[0].target)
        pids = [one for members, process in started for one in self._told(seen, members, process)]
        self._observe(seen, pids)
        if later:
            half = seen.half
            later(crowds[0].target)
            self._observe(seen, pids)
            seen.half += half
        self._read_log(seen, node.log(mark))
        self.cluster.cancel_all()
        seen.left = sum(node.alive(pid) for pid, _ in pids)

    def _start(
        self, going: contextlib.ExitStack, source: int | None, crowds: Sequence[Crowd], at: float
    ) -> subprocess.Popen[str]:
        """Have the clients of one place wait for the moment."""
        node = self.cluster.n1
        # ServerAliveInterval is a client's own limit: three times that without a word ends it.
        given = ("LogLevel=ERROR", "ServerAliveInterval=0", f"ConnectTimeout={LIMIT:.0f}")
        options = ["-i", KEY, *(word for one in given for word in ("-o", one))]
        commands = [
            [*ssh_argv(node.name, crowd.user, options), STAYS]
            for crowd in crowds
            for _ in range(crowd.logins)
        ]
        argv, user = ["python3", SCRIPT, "storm"], None
        if source is not None:
            step = ["srun", f"--jobid={source}", "--overlap", "--nodelist=n2", "-N1", "-n1"]
            argv, user = [*step, "--chdir=/tmp", *argv], crowds[0].user
        process = self.cluster.login.popen(
            argv, user, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        going.callback(_close, process)
        assert process.stdin
        what = {"commands": commands, "at": at, "limit": LIMIT * PATIENCE}
        process.stdin.write(json.dumps(what) + "\n")  # more than fits into an argument
        process.stdin.flush()
        return process

    def _told(
        self, seen: Seen, crowds: Sequence[Crowd], process: subprocess.Popen[str]
    ) -> list[tuple[int, Crowd]]:
        """Return the sessions of one place, each with what it belongs to; count the others."""
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the clients have ended: status {process.wait(10)}")
        whose = [crowd for crowd in crowds for _ in range(crowd.logins)]
        sessions = []
        for (said, status, complaint, seconds), crowd in zip(json.loads(line), whose):
            seen.seconds = max(seen.seconds, seconds)
            if said.isdecimal() and status is None:
                sessions.append((int(said), crowd))
                continue
            seen.refused += 1
            text = f"{complaint or said or 'nothing'} (status {status})"
            seen.complaints[text] = seen.complaints.get(text, 0) + 1
        return sessions

    def _observe(self, seen: Seen, pids: Sequence[tuple[int, Crowd]]) -> None:
        """Look where each session is, in the kernel's words: its shell and two sshd above it."""
        node = self.cluster.n1
        seen.admitted = len(pids)
        seen.inside = seen.half = seen.apart = seen.outside = seen.elsewhere = 0
        what = json.dumps({"pids": [pid for pid, _ in pids]})
        texts = json.loads(node.run(["python3", SCRIPT, "look", what], timeout=60).stdout)
        where = {text: _place(node, text) for three in texts for text in three}
        for three, (_, crowd) in zip(texts, pids):
            found = {where[text] for text in three}
            if found == {crowd.target}:
                seen.inside += 1
            elif HALF in found:
                seen.half += 1
            elif len(found) > 1:
                seen.apart += 1
            elif found == {None}:
                seen.outside += 1
            else:
                seen.elsewhere += 1

    def _read_log(self, seen: Seen, lines: Sequence[str]) -> None:
        ours = [line for line in lines if MODULE in line]
        took = [landing._TOOK.search(line) for line in ours]
        seen.slowest_ms = max((float(one["ms"]) for one in took if one), default=0)
        texts = [line.partition(MODULE)[2] for line in ours if not _usual(line)]
        kinds = Counter(NUMBER.sub("N", text) for text in texts)
        seen.said = dict(kinds.most_common(SHOWN))


HALF = -1  # in place of a job


def _place(node: Host, cgroup: str) -> int | None:
    """Return the job that a /proc/PID/cgroup shows; HALF for one in some hierarchies only."""
    try:
        return landing.job_of(node, cgroup)
    except AssertionError:
        return HALF


def _usual(line: str) -> bool:
    """Say whether a line has nothing to complain of."""
    words = ("PAM_SUCCESS in", "adopted into job", "Connection by user", "From newest")
    return any(word in line for word in words) and "failure" not in line


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(90)
    end(process)


# Users and jobs

KEY = "/home/storm/id"
# All of these users have one home and one key; alice has that key as well.
ACCOUNTS = """\
install -d -m 755 /home/storm /home/storm/.ssh
cp /home/alice/.ssh/id_ed25519.pub /home/storm/.ssh/authorized_keys
chmod 644 /home/storm/.ssh/authorized_keys
for account; do
    user=${account%:*} uid=${account#*:}
    id "$user" >/dev/null 2>&1 && continue
    echo "$user:x:$uid:$uid::/home/storm:/bin/sh" >>/etc/passwd
    echo "$user:x:$uid:" >>/etc/group
    echo "$user:*:19000::::::" >>/etc/shadow
done
install -m 600 -o alice /home/alice/.ssh/id_ed25519 /home/storm/id
"""


def users_of(number: int) -> list[str]:
    """Return so many users with their uids."""
    return [f"storm{one}:{FIRST_UID + one}" for one in range(number)]


def one_job(cluster: Cluster, logins: int, jobs: int) -> list[Crowd]:
    """All into the only job of one user."""
    del jobs
    job = cluster.submit("alice", mem=f"{MEMORY}")
    return [Crowd("alice", logins, job)]


def newest_job(cluster: Cluster, logins: int, jobs: int) -> list[Crowd]:
    """All into the newest of one user's jobs: nothing tells which they come from."""
    for _ in range(jobs - 1):
        cluster.submit("alice", mem=f"{MEMORY}")
    return one_job(cluster, logins, 1)


def users_jobs(cluster: Cluster, logins: int, jobs: int) -> list[Crowd]:
    """As many users as jobs, each with one."""
    names = [name.partition(":")[0] for name in users_of(jobs)]
    ids = [cluster.submit(name, mem=f"{MEMORY}") for name in names]
    return [Crowd(name, part, job) for name, part, job in zip(names, _parts(logins, jobs), ids)]


def source_jobs(cluster: Cluster, logins: int, jobs: int) -> list[Crowd]:
    """One user's jobs on both nodes: from inside of each on n2 into the same job on n1."""
    ids = [cluster.submit("alice", "n1,n2", mem=f"{MEMORY}") for _ in range(jobs)]
    return [Crowd("alice", part, job, source=job) for part, job in zip(_parts(logins, jobs), ids)]


def _parts(logins: int, jobs: int) -> list[int]:
    return [logins // jobs + (number < logins % jobs) for number in range(jobs)]


SHAPES = {
    "one job": one_job,
    "users": users_jobs,
    "newest": newest_job,
    "callerid": source_jobs,
}


# All of them


def run(
    console: Console,
    logins: Sequence[int],
    jobs: int,
    shapes: Sequence[str],
    modules: Sequence[str],
    file: Path | None = None,
) -> int:
    """Play each shape by each module; print the table; return the exit status."""
    seen: list[Seen] = []
    own = os.getpid()
    try:
        _play_all(console, seen, logins, jobs, shapes, modules)
    finally:
        if os.getpid() == own:  # pyroute2 forks, and what it forks comes by here
            wide = console if console.is_terminal else Console(highlight=False, width=WIDTH)
            wide.print(table(seen, jobs))
            if file:
                file.write_text(json.dumps([asdict(one) for one in seen], indent=1) + "\n")
    return 1 if any(one.missed for one in seen if one.module != "C module") else 0


def _play_all(
    console: Console,
    seen: list[Seen],
    logins: Sequence[int],
    jobs: int,
    shapes: Sequence[str],
    modules: Sequence[str],
) -> None:
    settings = Settings(slurm_conf=NODES.format(cpus=os.cpu_count(), memory=MEMORY * (jobs + 1)))
    with Cluster(f"storm-{os.getpid()}", settings, console.print) as cluster:
        storms = Storms(cluster)
        with storms.prepared(max(logins), jobs):
            for shape in shapes:
                for number in logins:
                    for module in modules:
                        console.print(f"{number} logins, {shape}: {module}")
                        seen.append(one := storms.play(shape, module, number, jobs))
                        _tell(console, one)


def _tell(console: Console, seen: Seen) -> None:
    for texts in (seen.complaints, seen.said):
        for text, times in texts.items():
            console.print(f"    {times} times: {text}", markup=False, soft_wrap=True)


COLUMNS: dict[str, str] = {
    "admitted": "admitted",
    "inside": "wholly in",
    "half": "half in",
    "apart": "in part",
    "elsewhere": "other job",
    "outside": "in none",
    "refused": "refused",
    "left": "left at the end",
}


def table(seen: Sequence[Seen], jobs: int) -> Table:
    """Return one row for each storm."""
    report = Table(title=f"logins at the same moment; all shapes but one have {jobs} jobs")
    for name in (
        "logins",
        "shape",
        "module",
        *COLUMNS.values(),
        "all done in s",
        "load before",
        "slowest ms",
    ):
        report.add_column(name, justify="left" if name in ("shape", "module") else "right")
    for one in seen:
        numbers: list[Any] = [getattr(one, name) for name in COLUMNS]
        slowest = f"{one.slowest_ms:.0f}" if one.slowest_ms else ""
        took = (f"{one.seconds:.1f}", f"{one.load:.0f}", slowest)
        report.add_row(f"{one.logins}", one.shape, one.module, *map(str, numbers), *took)
    return report
