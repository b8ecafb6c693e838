"""Where faults are played: a cluster with the jobs of all kinds of users, and logins of each."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.cluster.faults.fault import (
    GONE,
    KINDS,
    NEWEST,
    OUTSIDE,
    OWN,
    REFUSED,
    SOURCE,
)
from tests.cluster.harness import cgroups, config, landing, pam
from tests.cluster.harness.host import as_user
from tests.cluster.harness.login import Session, SessionEndedError
from tests.cluster.harness.traces import traces
from tests.cluster.harness.wait import NotInTimeError, wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from tests.cluster.faults.fault import Fault
    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

MEETING = "/var/spool/fault"  # where logins wait for the fault, between the two phases
NOTE = re.compile(r"run/slurm_adopt/adoptions/(?P<pid>\d+)-\d+")
WAITING = "/usr/local/sbin/wait-for-the-fault"
# What sshd runs in front of our lines, and after them: with usual limits, whatever sshd's are.
USUAL = "--nofile=4096: --as=unlimited: --data=unlimited: --fsize=unlimited:"
WAIT = f"""\
#!/usr/bin/env -S prlimit {USUAL} /bin/sh
export sshd=$PPID
if test "$1" = session && test -e {MEETING}/armed; then
    : >{MEETING}/reached.$$
    n=0
    until test -e {MEETING}/go || test $n -ge 1500; do sleep 0.02; n=$((n + 1)); done
fi
test -e {MEETING}/hook || exit 0
. {MEETING}/hook
"""

OF_JOBS = ("processes", "cgroups", "processes in jobs", "spool directory")  # in the inventory

AGAIN = ("-oConnectionAttempts=4",)  # while an sshd starts again nobody listens
LIMIT = 90.0  # seconds that a login has, whatever is broken
OURS = "pam_slurm_adopt("
DECIDED = re.compile(
    r"pam_slurm_adopt\(sshd:(?P<phase>\w+)\): user (?P<user>\S+) .*?, pid \d+.*?: "
    r"(?P<text>.*) -> (?P<code>PAM_\w+) in (?P<ms>[0-9.]+) ms"
)
# Into the step's cgroups by root's hand, then the user's: nothing of Slurm's is asked for that.
IN_JOB = """\
n=$1; shift
while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 1; shift; n=$((n - 1)); done
exec "$@"
"""


BEFORE = "/etc/security/before_ours.py"  # a module of pam_python's that changes the process

IN_STEPS = "find /sys/fs/cgroup -path '*/step_extern*' -name cgroup.procs -exec cat {} + || true"


AFTER = "after"


def _runs(phase: str, when: str = "") -> str:
    """Return a line that runs WAIT."""
    return f"{phase} optional pam_exec.so quiet {WAITING} {phase} {when}".rstrip()


class InJob:
    """A host as seen from inside a job on it: what is started there is in the job's cgroups."""

    def __init__(self, host: Host, uid: int, job: int) -> None:
        """Say which job."""
        self.host = host
        self.name = host.name
        step = cgroups.of_extern_step(host.name, uid, job)
        names = [""] if cgroups.unified() else landing.CONFINED
        self._files = [f"/{cgroups.folder(name, step)}/cgroup.procs" for name in names]

    def popen(
        self,
        argv: Sequence[str],
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command in the job."""
        inside = ["sh", "-c", IN_JOB, "sh", str(len(self._files)), *self._files]
        return self.host.popen(
            [*inside, *(as_user(user) if user else []), *argv], None, env, **options
        )

    def __getattr__(self, name: str) -> Any:
        """Be that host in all else."""
        return getattr(self.host, name)


@dataclass
class Came:
    """What came of one login."""

    kind: str
    outcome: str  # one of fault.py's
    admitted: bool
    seconds: float  # of the whole login, by the clock here
    shown: str = ""  # by ssh
    left: str = ""  # in the session's sshd that is not there after an undisturbed login


class Arena:
    """A cluster in which each kind of user has its jobs."""

    def __init__(self, cluster: Cluster) -> None:
        """Take a cluster that is up."""
        self.cluster = cluster
        self.node = cluster.n1
        self.jobs: dict[str, int] = {}  # one, old, new
        self.over: set[str] = set()  # kinds whose logins of this batch have come to something
        self.module = ""  # the text of BEFORE
        self._usual: dict[tuple[str, ...], dict[str, object]] = {}
        self.node.write(WAITING, WAIT, 0o755)
        self.sh(f"mkdir -p {MEETING}")

    def sh(self, script: str, timeout: float = 60) -> str:
        """Run a script on n1; return its output."""
        return self.node.run(["sh", "-ec", script], timeout=timeout).stdout

    def ready(self) -> None:
        """Have the jobs that are wanted, and no others."""
        if not self._sound():
            self.end_jobs()
            for node in self.cluster.nodes:
                for daemon in ("munged", "slurmd", "sshd"):
                    if not node.pid(daemon):
                        node.start(daemon)
            self.cluster.wait_idle()
            self.jobs = {
                "one": self.cluster.submit("alice", mem="50M"),
                "old": self.cluster.submit("bob", "n1,n2", mem="50M"),
                "new": self.cluster.submit("bob", mem="50M"),
            }

    def end_jobs(self) -> None:
        """End all jobs: the next ready() makes others."""
        self.cluster.cancel_all()
        self.cluster.end_left_over()
        self.jobs = {}

    def _sound(self) -> bool:
        return len(self.jobs) == 3 and all(
            self.cluster.has_stepd(job)
            and self.stepd(name)
            and self.cluster.job_state(job) == "RUNNING"
            for name, job in self.jobs.items()
        )

    def stepd(self, name: str) -> str:
        """Return the pid of a job's extern stepd on n1, of `one`, `old` or `new`; "" for none."""
        pattern = rf"^slurmstepd: \[{self.jobs[name]}\.extern\]"
        return self.node.run(["pgrep", "-f", pattern], check=False).stdout.strip()

    # Stacks

    def write_stack(self, front: str, phase: str, options: Sequence[str], hooked: str = "") -> None:
        """Write the documented stack; between its two halves a login waits for the fault.

        `hooked`: there are lines for a script of `hook`, `before` ours or `around` them.
        """
        by_exec = front == "pam_exec"
        account, session = (pam.both_by_pam_exec if by_exec else pam.both_lines)(*options)
        if hooked:
            account = [_runs("account"), *account]
        if hooked == "around":
            account = [*account, _runs("account", AFTER)]
            session = [*session, _runs("session", AFTER)]
        session = [] if phase == "account" else [_runs("session"), *session]
        self._write(account, session)

    def _write(self, account: list[str], session: list[str]) -> None:
        """Write a stack, with the module in front that changes the process, and behind."""
        if self.module:
            self.node.write(BEFORE, self.module)
            lines = f"optional pam_python.so {BEFORE}"
            account = [f"account {lines} before", *account, f"account {lines} after"]
            session = [f"session {lines} before", *session, f"session {lines} after"]
        self.node.pam("sshd", [*pam.stack(*account), *session])

    @contextlib.contextmanager
    def hook(self, script: str) -> Iterator[None]:
        """Have sshd run a script at its logins, where the stack is hooked.

        `$sshd` is the sshd that calls PAM, `$1` the phase, `$2` is `after` behind our lines.
        """
        self.node.write(f"{MEETING}/hook", script)
        try:
            yield
        finally:
            self.sh(f"rm -f {MEETING}/hook")

    # Logins

    def log_in(self, fault: Fault, front: str, phase: str) -> list[Came]:
        """Log in as each kind of user at the same time, with the fault; return what came of it."""
        self.over.clear()
        setting = fault.setting(self) if fault.setting else contextlib.nullcontext()

        def log_in(kind: str) -> Came:
            return self.login(kind, front, phase, fault.method, traced=fault.traced)

        with setting, ThreadPoolExecutor(len(KINDS)) as pool:
            if phase != "session":
                with fault.bring(self):
                    started = [pool.submit(log_in, kind) for kind in KINDS]
                    return [future.result() for future in started]
            self.sh(f"rm -f {MEETING}/*; touch {MEETING}/armed")
            started = [pool.submit(log_in, kind) for kind in KINDS]
            try:
                with contextlib.suppress(NotInTimeError):
                    wait_for("all logins between the phases", lambda: self._met(started), 30)
                with fault.bring(self):
                    self.sh(f"touch {MEETING}/go")
                    return [future.result() for future in started]
            finally:
                self.sh(f"rm -f {MEETING}/armed; touch {MEETING}/go")

    def _met(self, started: Sequence[Future[Came]]) -> bool:
        """Say whether each login is between the phases, or was refused before."""
        folder = self.node.root / MEETING.lstrip("/")
        over = sum(future.done() for future in started)
        return len(list(folder.glob("reached.*"))) + over == len(started)

    def login(self, kind: str, front: str, phase: str, method: str, *, traced: bool) -> Came:
        """Log in as a kind of user; look where that is, and log out."""
        began = time.monotonic()
        try:
            session = self._session(kind, method)
        except SessionEndedError as error:
            return Came(kind, REFUSED, False, time.monotonic() - began, str(error))
        except TimeoutError as error:
            return Came(kind, GONE, False, time.monotonic() - began, f"no end: {error}")
        finally:
            self.over.add(kind)
        seconds = time.monotonic() - began
        with session:
            try:
                key = (kind, front, phase, method, self.module)
                left = self._left_in_sshd(session, kind, self._usual.get(key) if traced else None)
            except (OSError, RuntimeError) as error:
                return Came(kind, GONE, False, seconds, f"let in, and ended: {error}")
            cgroup = self.node.run(["cat", f"/proc/{session.pid}/cgroup"]).stdout
            return Came(kind, self._place(cgroup), True, seconds, left=left)

    def _left_in_sshd(self, session: Session, kind: str, usual: dict[str, object] | None) -> str:
        """Return what is otherwise in a session's sshd than as usual; None: nothing is compared.

        It may still be about to go on: the user's shell is there before it has done so.
        """
        found: list[dict[str, object]] = []

        def as_usual() -> bool:
            found.append(traces(self.cluster, session.pid, kind))
            return usual in (None, found[-1])

        with contextlib.suppress(NotInTimeError):
            wait_for("sshd as usual", as_usual, 15, every=0.2)
        return "" if usual in (None, found[-1]) else f"{usual} before, {found[-1]} now"

    def learn(self, front: str, phase: str, method: str) -> None:
        """Log in without our lines, to know what is in a session's sshd then."""
        kinds = set(KINDS) - {"none"}
        missing = {kind: (kind, front, phase, method, self.module) for kind in kinds}
        if {*missing.values()} <= self._usual.keys():
            return
        self._write([], [])
        for kind, key in missing.items():
            if key not in self._usual:
                with self._session(kind, method) as session:
                    found = traces(self.cluster, session.pid, kind)
                    self._usual[key] = found

    @contextlib.contextmanager
    def passwords(self, method: str) -> Iterator[None]:
        """Have a password for root, too, where logins are made by one."""
        if method == "publickey":
            yield
            return
        self.sh("echo 'root:password of root' | chpasswd")
        try:
            yield
        finally:
            self.sh("usermod -p '*' root")

    def _session(self, kind: str, method: str) -> Session:
        source: Any = self.cluster.login
        if kind == "two":
            source = InJob(self.cluster.n2, config.USERS["bob"], self.jobs["old"])
        return Session(source, self.node, KINDS[kind], options=AGAIN, method=method, timeout=LIMIT)

    def _place(self, cgroup: str) -> str:
        try:
            job = landing.job_of(self.node, cgroup)
        except AssertionError:
            return f"in several jobs, or half in one: {cgroup}"
        names = {self.jobs["one"]: OWN, self.jobs["old"]: SOURCE, self.jobs["new"]: NEWEST}
        return OUTSIDE if job is None else names.get(job, f"in job {job}, which is not known")

    # What is there

    def _programs(self) -> list[str]:
        return self.sh("ps -eo comm=").split()

    def inventory(self) -> dict[str, object]:
        """Return what logins could leave behind on n1: it is the same before and after."""
        listed = self.sh(
            "cd /; find run/slurm_adopt ! -type d 2>/dev/null | sort; find tmp -mindepth 1 | sort;"
            "ls --ignore=slurm_adopt run"
        ).split()
        sshd = self.node.pid("sshd")
        # One whose end comes while the sshd that listens starts again waits for the next one's.
        script = f"ps -eo ppid=,stat=,comm= | awk '$1 != {sshd} || $2 !~ /^Z/ {{ print $3 }}'"
        names = self.sh(script).split()
        kinds = self.sh(f"ls -l /proc/{sshd}/fd | sed '1d;s/.* -> //;s/:.*//' | sort").split()
        groups = self.sh("find /sys/fs/cgroup -mindepth 1 -type d | sort").split()
        inside = self.sh(IN_STEPS).split()
        return {
            "files": [path for path in listed if not self._is_stale(path)],
            "processes": dict(Counter(n for n in names if n not in ("ps", "awk", "sh", "sleep"))),
            "sshd's descriptors": kinds,
            "cgroups": groups,
            "processes in jobs": len(set(inside)),
            "spool directory": self.sh(f"find {config.Settings().spool} -type s | sort").split(),
        }

    def _is_stale(self, path: str) -> bool:
        """Say whether a file is the account phase's note of a login that has ended.

        The next note that is written takes it away.
        """
        found = NOTE.fullmatch(path)
        return found is not None and not self.node.alive(int(found["pid"]))

    def at_rest(self) -> dict[str, object]:
        """Return the same once all logins are over: what closes a session runs a little longer."""
        sshd = self.node.pid("sshd")
        children = f"/proc/{sshd}/task/{sshd}/children"
        with contextlib.suppress(NotInTimeError):
            wait_for("no login", lambda: not self.node.read(children).split(), 15, every=0.1)
        with contextlib.suppress(NotInTimeError):  # what a job has forked may still be ending
            wait_for("no shells", lambda: "bash" not in self._programs(), 15, every=0.2)
        return self.inventory()

    def left(self, before: Mapping[str, object], without: Collection[str] = ()) -> str:
        """Return what is otherwise now than before, once that has had time to go.

        `without`: what is not looked at.
        """
        seen: list[dict[str, object]] = []

        def as_before() -> bool:
            seen.append({**self.inventory(), **{name: before[name] for name in without}})
            return seen[-1] == before

        with contextlib.suppress(NotInTimeError):
            wait_for("the node as before", as_before, 15, every=0.2)
        now = seen[-1]
        other = [name for name in before if before[name] != now[name]]
        said = [f"{name}: {before[name]} before, {now[name]} now" for name in other]
        if "processes" in other:
            said.append(self.node.run(["ps", "-eo", "pid,ppid,stat,lstart,wchan:30,args"]).stdout)
        return "; ".join(said)

    @contextlib.contextmanager
    def with_sshd(self, *under: str, options: Sequence[str] = ()) -> Iterator[None]:
        """Have n1's sshd run under another command, or with more options."""
        self.node.stop("sshd")
        self.node.start("sshd", under=under, options=options)
        try:
            yield
        finally:
            self.node.stop("sshd")
            self.node.start("sshd", under=self.node.front)

    def in_sshd(self, script: str) -> str:
        """Run a script where n1's sshd has its mounts."""
        sshd = self.node.pid("sshd")
        argv = ["nsenter", f"--mount=/proc/{sshd}/ns/mnt", "sh", "-ec", script]
        return self.node.run(argv, timeout=60).stdout

    @contextlib.contextmanager
    def limited(self, **limits: int) -> Iterator[None]:
        """Have the sshd that runs give its children soft limits, named as prlimit(1) does."""
        sshd = str(self.node.pid("sshd"))
        shown = ["prlimit", "--raw", "--noheadings", "--output=SOFT", "--pid", sshd]
        usual = {name: self.node.run([*shown, f"--{name}"]).stdout.strip() for name in limits}

        def give(values: Mapping[str, object]) -> None:
            words = [f"--{name}={value}:" for name, value in values.items()]
            self.node.run(["prlimit", "--pid", sshd, *words])

        give(limits)
        try:
            yield
        finally:
            give(usual)
