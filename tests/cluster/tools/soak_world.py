"""What changes while `./dev soak` logs in: jobs, daemons, slurm.conf; and the history of it.

One thread has jobs come and go, one rewrites slurm.conf. What they do next is drawn from the seed.
No job is submitted, cancelled or suspended while a daemon that has to hear of it is down: what
Slurm makes of that is Slurm's own.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.cluster.harness import cgroups, config
from tests.cluster.harness.cluster import _serves
from tests.cluster.harness.wait import wait_for
from tests.cluster.tools.soak_oracle import IN_PLACE, History, Job, Outage, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

CONF = "etc/slurm/slurm.conf"
MUNGED = "run/munge/munge.socket.2"
HEARD = 1.0  # seconds until a node's daemons have heard of what was done to its jobs
FROZEN = 15.0  # seconds that the node may take to suspend a job
RESUMED = 3.0  # seconds after the kernel's word until a resumed job surely runs
PAUSED = (0.5, 3.0)  # seconds that a job is suspended
DOWN = (0.0, 1.5)  # seconds that a daemon is down
KILLED = (1.0, 4.0)  # seconds that a job stays without its extern stepd
TROUBLES = 5  # changes that failed, until no more are made
STARTED = 60.0  # seconds until a job runs
ENDED = 90.0  # seconds until a job is gone
IN_PLACE_SHARE = 0.3  # of the rewritings
OTHERS = 3000  # NodeName lines of nodes that are not there
COMMENTS = 2000

# What is done next, and how often in comparison.
ACTIONS = {
    "cancel": 30,
    "suspend": 14,
    "kill stepd": 7,
    "kill slurmd n1": 3,
    "restart slurmd n1": 3,
    "kill slurmd n2": 3,
    "restart slurmd n2": 3,
    "kill munged n1": 3,
    "kill munged n2": 3,
}


class World:
    """The jobs of some users on a cluster, and what happens to it."""

    def __init__(self, cluster: Cluster, wanted: dict[str, int], seed: int, pace: float) -> None:
        """Describe it; `wanted`: how many jobs each user has; `pace`: seconds between changes."""
        self.cluster = cluster
        self.wanted = wanted
        self.pace = pace
        self.history = History()
        self.done: Counter[str] = Counter()  # how often each was done
        self.trouble: list[str] = []
        self._draw = random.Random(f"{seed}: jobs")
        self._draw_conf = random.Random(f"{seed}: slurm.conf")
        self._resume: dict[int, float] = {}  # job -> when
        self._cancel: dict[int, float] = {}
        self._thawing: list[Job] = []  # told to go on; the kernel has the last word
        self._slurmd = threading.Lock()  # one is being started, and reads slurm.conf
        self._file = cluster.n1.root / CONF
        self._text = self._file.read_text()

    # Going on

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Have things change; in the end no job is left."""
        while self._short():
            self._submit(self._short()[0])
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._go_on, args=(stop, step), daemon=True)
            for step in (self._step, self._rewrite)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            replace(self._file, self._text)
            self._end_all()

    def _go_on(self, stop: threading.Event, step: Callable[[], None]) -> None:
        while not stop.is_set() and len(self.trouble) < TROUBLES:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the run goes on, and says so
                self.trouble.append(f"{type(error).__name__}: {error}")
                self._start_daemons()

    def _start_daemons(self) -> None:
        """Start what a change that failed has left down."""
        for host in self.cluster.nodes:
            for daemon in ("munged", "slurmd"):
                if not host.pid(daemon):
                    host.start(daemon)

    @property
    def alive(self) -> list[Job]:
        """The jobs that were not yet told to end."""
        return [job for job in self.history.jobs if job.ending > time.monotonic()]

    def source_of(self, user: str) -> Job | None:
        """Return a job of a user's from inside of which to log in, the oldest on n2."""
        return next((job for job in self.alive if job.user == user and "n2" in job.nodes), None)

    def _step(self) -> None:
        """Do what is due, then one thing."""
        self._due()
        if short := self._short():
            self._submit(self._draw.choice(short))
        else:
            (action,) = self._draw.choices([*ACTIONS], [*ACTIONS.values()])
            what, *rest = action.split()
            if rest[:1] == ["stepd"]:
                self._kill_stepd()
            elif rest:
                self._bounce(what, *rest)
            else:
                {"cancel": self._cancel_one, "suspend": self._suspend}[what]()
        time.sleep(self._draw.uniform(0, 2 * self.pace))

    def _short(self) -> list[str]:
        """Return the users who have fewer jobs than wanted."""
        have = Counter(job.user for job in self.alive)
        return [user for user, number in self.wanted.items() if have[user] < number]

    # Jobs

    def _submit(self, user: str) -> None:
        """Start a job of a user's: on n1, or on both nodes."""
        mine = [job for job in self.alive if job.user == user]
        both = not any("n2" in job.nodes for job in mine) or self._draw.random() < 0.3
        nodes = "n1,n2" if both else "n1"
        names = nodes.split(",")
        options = [f"--nodes={len(names)}", f"--nodelist={nodes}", "--mem=200M", "--chdir=/tmp"]
        self._undrain()
        job = Job(0, user, nodes, asked=time.monotonic())
        job.number = self.cluster._salloc(user, options, (), timeout=STARTED)
        self.history.jobs.append(job)
        if self._runs(job):
            job.up = time.monotonic()
            self.done["submitted"] += 1
        else:
            self.done["not started in time"] += 1
            self._end(job)

    def _undrain(self) -> None:
        """Have nodes take jobs again that Slurm has drained: it could not end a step in time."""
        argv = ["sinfo", "--noheader", "--Node", "--format=%N %T"]
        for line in self.cluster.ctl.run(argv, check=False).stdout.splitlines():
            node, state = line.split()
            if state.startswith("drain"):
                resume = ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
                self.cluster.ctl.run(resume, check=False)
                self.done["node drained by Slurm"] += 1

    def _runs(self, job: Job) -> bool:
        """Wait for a job's extern stepds, then for the controller's word."""
        sockets = [self.cluster.socket(node, job.number) for node in job.nodes.split(",")]
        deadline = time.monotonic() + STARTED
        while time.monotonic() < deadline:
            there = all(path.is_socket() for path in sockets)
            if there and self.cluster.job_state(job.number) == "RUNNING":
                return True
            time.sleep(0.05)
        return False

    def _one(self) -> Job | None:
        """Return a job that nothing is done to."""
        calm = [one for one in self.alive if one.number not in {**self._resume, **self._cancel}]
        return self._draw.choice(calm) if calm else None

    def _cancel_one(self) -> None:
        if job := self._one():
            self._end(job)
            self.done["cancelled"] += 1

    def _end(self, job: Job) -> None:
        job.ending = min(job.ending, time.monotonic())
        self.cluster.cancel(job.number)

    def _suspend(self) -> None:
        """Suspend a job; its pause is open until the kernel says otherwise.

        slurmd may let a request wait for 10 s, and refuse one to resume meanwhile. Then the job
        stays suspended on the node, whatever the controller says.
        """
        job = self._one()
        if job and all(pause.end < math.inf for pause in job.pauses):
            job.pauses.append(Span(time.monotonic()))
            self._control("suspend", job)
            self._resume[job.number] = time.monotonic() + self._draw.uniform(*PAUSED)
            self.done["suspended"] += 1

    def _control(self, what: str, job: Job) -> None:
        self.cluster.ctl.run(["scontrol", what, str(job.number)], check=False)

    def _kill_stepd(self) -> None:
        """Kill the extern stepd on n1: nobody can log in to that job any more."""
        if not (job := self._one()):
            return
        pattern = rf"^slurmstepd: \[{job.number}\.extern\]"
        job.killed, job.ending = True, time.monotonic()
        self.cluster.n1.run(["pkill", "-KILL", "-f", pattern], check=False)
        self._cancel[job.number] = time.monotonic() + self._draw.uniform(*KILLED)
        self.done["stepd killed"] += 1

    def _due(self, at: float | None = None) -> None:
        """Resume and cancel what is due; see which jobs are gone."""
        now = time.monotonic() if at is None else at
        jobs = {job.number: job for job in self.history.jobs}
        for number, due in [*self._resume.items()]:
            frozen = _frozen(self.cluster.n1, number)
            if due <= now and (frozen or due + FROZEN <= now):
                self._control("resume", jobs[number])
                del self._resume[number]
                if frozen:
                    self._thawing.append(jobs[number])
        for job in [job for job in self._thawing if not _frozen(self.cluster.n1, job.number)]:
            job.pauses[-1] = Span(job.pauses[-1].begin, time.monotonic() + RESUMED)
            self._thawing.remove(job)
        for number, due in [*self._cancel.items()]:
            if due <= now:
                self._end(jobs[number])
                del self._cancel[number]
        self._see_gone()

    def _see_gone(self) -> None:
        """Note the jobs whose stepds are no more: by their sockets, then by the controller."""
        waiting = [
            job
            for job in self.history.jobs
            if job.gone == float("inf") and job.ending < float("inf")
            if job.number not in self._cancel and not self._serves(job)
        ]
        if not waiting:
            return
        queued = self.cluster._queued()
        for job in waiting:
            if str(job.number) not in queued:
                if job.killed:
                    remove(self.cluster.n1, job)
                job.gone = time.monotonic()

    def _serves(self, job: Job) -> bool:
        spools = [node.root / "var/spool/slurmd" for node in self.cluster.nodes]
        return any(_serves(path) for spool in spools for path in spool.glob(f"*_{job.number}.*"))

    def _end_all(self) -> None:
        """End every job; return when all are gone."""
        self._due(float("inf"))
        for job in self.alive:
            self._end(job)

        def gone() -> bool:
            self._see_gone()
            return all(job.gone < float("inf") for job in self.history.jobs)

        details = lambda: self.cluster.squeue() + self.cluster.tails()  # noqa: E731
        wait_for("all jobs gone", gone, ENDED, details, every=0.2)

    # Daemons

    def _bounce(self, how: str, daemon: str, name: str) -> None:
        """Kill a daemon or stop it, and start it again."""
        host = self.cluster.hosts[name]
        time.sleep(HEARD)
        begin = time.monotonic()
        host.kill(daemon) if how == "kill" else host.stop(daemon, timeout=60)
        wait_for(f"{daemon} ended", lambda: not host.pid(daemon))
        time.sleep(self._draw.uniform(*DOWN))
        with self._slurmd:
            host.start(daemon)
        if daemon == "munged":  # the socket of a killed one is still there
            wait_for("munged to serve", lambda: _serves(host.root / MUNGED), 30)
        else:
            wait_for("the node in sinfo", self._nodes_usable, 60, self.cluster.tails, every=0.1)
        self.history.outages.append(Outage(f"{daemon} {name}", Span(begin, time.monotonic())))
        self.done[f"{daemon} {'killed' if how == 'kill' else 'restarted'}"] += 1

    def _nodes_usable(self) -> bool:
        states = self.cluster.ctl.run(["sinfo", "-hN", "-o", "%T"], check=False).stdout.split()
        return len(states) == len(config.NODES) and set(states) <= {"idle", "mixed", "allocated"}

    # slurm.conf

    def _rewrite(self) -> None:
        """Write another slurm.conf of the same meaning, by rename or in place."""
        text = self._draw_conf.choice(VARIANTS)(self._text)
        in_place = self._draw_conf.random() < IN_PLACE_SHARE
        begin = time.monotonic()
        if in_place:
            with self._slurmd:
                begin = time.monotonic()
                self._write_in_place(text)
        else:
            replace(self._file, text)
        what = IN_PLACE if in_place else "slurm.conf renamed"
        self.history.outages.append(Outage(what, Span(begin, time.monotonic())))
        self.done[what] += 1
        time.sleep(self._draw_conf.uniform(0, 6 * self.pace))

    def _write_in_place(self, text: str) -> None:
        """Write it in two parts, as an editor on a slow file system does."""
        middle = len(text) // 2
        with self._file.open("w") as out:
            for part in (text[:middle], text[middle:]):
                time.sleep(self._draw_conf.uniform(0, 0.1))
                out.write(part)
                out.flush()


def replace(file: Path, text: str) -> None:
    """Write a file by rename."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text)
    os.replace(new, file)


def _frozen(node: Host, number: int) -> bool:
    """Say whether the kernel has stopped a job's extern step, or is about to."""
    states = (
        path.read_text().split()
        for name in cgroups.FREEZERS
        for above in ("*/*", "*/*/*")  # v2's, v1's
        for path in (node.root / "sys/fs/cgroup").glob(f"{above}/job_{number}/step_extern/{name}")
    )
    with contextlib.suppress(OSError):  # it has just ended
        return any(state not in ([word] for word in cgroups.FREEZERS.values()) for state in states)
    return False


def remove(node: Host, job: Job) -> None:
    """End and remove what a job whose stepd was killed has left, as the Epilog and slurmd would."""
    path = f"*/job_{job.number}"
    of_job = f"find /sys/fs/cgroup ( -path '{path}' -o -path '{path}/*' )".replace("(", r"\(")
    of_job = of_job.replace(" )", r" \)")
    script = f"""
        {of_job} -name cgroup.procs -exec cat {{}} + | grep -xv 0 | sort -u | xargs -r kill -KILL
        sleep 0.3
        {of_job} -depth -type d -exec rmdir {{}} +
        find /sys/fs/cgroup -depth -type d -name 'uid_*' -exec rmdir {{}} +
        rm -f /var/spool/slurmd/{node.name}_{job.number}.*
    """
    node.run(["sh", "-c", script], check=False)


# Other texts of the same meaning


def as_it_was(text: str) -> str:
    """Return it as it was."""
    return text


def with_comments(text: str) -> str:
    """Return it with a comment between any two lines."""
    more = "".join(f"# {number} of {COMMENTS}\n" for number in range(COMMENTS))
    return f"{more}{text}".replace("\n", "  # until the end of the line\n\n") + "\n"


def with_nodes(text: str) -> str:
    """Return it with many other nodes."""
    more = (f"NodeName=x{one} NodeAddr=10.79.0.1 State=FUTURE" for one in range(OTHERS))
    return text.replace("PartitionName", "\n".join([*more, "PartitionName"]))


def in_other_words(text: str) -> str:
    """Return it with the keys in capitals, lines that go on in the next, and blanks."""
    words = [line.partition("=") for line in text.splitlines()]
    lines = (f"  {key.upper()}{equals}{value}" for key, equals, value in words)
    return "\n".join(lines).replace(" State", " \\\n  State") + "\n"


VARIANTS = (as_it_was, with_comments, with_nodes, in_other_words)

# Users

HOME = "/home/{user}"
FIRST_UID = 5201
ACCOUNTS = """\
for account; do
    user=${account%:*} uid=${account#*:}
    id "$user" >/dev/null 2>&1 && continue
    useradd --create-home --shell /bin/bash --uid "$uid" "$user"
    ssh="/home/$user/.ssh"
    mkdir -m 700 "$ssh"
    cp /home/alice/.ssh/id_ed25519 /home/alice/.ssh/id_ed25519.pub "$ssh"
    cp "$ssh/id_ed25519.pub" "$ssh/authorized_keys"
    chown -R "$user:$user" "$ssh"
    echo "$user:password of $user"
done | chpasswd
"""


def add_users(cluster: Cluster, users: list[str]) -> None:
    """Make users on all hosts, each with a key and a password."""
    accounts = [f"{user}:{FIRST_UID + number}" for number, user in enumerate(users)]
    for host in cluster.hosts.values():
        host.run(["sh", "-ec", ACCOUNTS, "sh", *accounts], timeout=120)


def remove_users(cluster: Cluster, users: list[str]) -> None:
    """Undo that."""
    script = 'for user; do userdel -rf "$user"; done 2>/dev/null'
    for host in cluster.hosts.values():
        host.run(["sh", "-c", script, "sh", *users], check=False, timeout=120)
