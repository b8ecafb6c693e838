"""The logins of `./dev soak`: streams beside each other, in each one login after the other.

A stream from the login node draws user and method of each login from the seed. A stream from
inside of jobs is one user's: its clients are a step of a job of the user's on n2, and begin again
in another job when that one ends.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.cluster.harness import landing
from tests.cluster.harness.host import end
from tests.cluster.harness.login import ANSWER, ASKPASS, METHODS, ssh_argv
from tests.cluster.harness.wait import PATIENCE
from tests.cluster.tools.soak_oracle import (
    APART,
    CLIENT,
    DOCUMENTED,
    HALF,
    ROOT,
    Login,
    Span,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.tools.soak_world import World

SCRIPT = "/checkout/tests/cluster/inside/soak.py"
LIMIT = DOCUMENTED + CLIENT + 40.0  # seconds until a client is killed
SILENT = LIMIT + 60.0  # seconds until clients that say nothing are ended
LEAVES = 0.05  # of the logins leave a process in their session
PROCESS = "setsid sleep 99999 >/dev/null 2>&1 </dev/null & "
# Where the shell is, the user's sshd above it, and root's above that.
PLACES = (
    "read -r a b c parent rest </proc/$PPID/stat; "
    "exec cat /proc/self/cgroup /proc/$PPID/cgroup /proc/$parent/cgroup"
)
OPTIONS = ("GSSAPIAuthentication=no", "LogLevel=INFO", "ServerAliveInterval=0")
ROLES = {"root": 20, "one job": 35, "several jobs": 30, "no job": 15}
BY = {METHODS[0]: 6, METHODS[1]: 1, METHODS[2]: 3}  # how often each method


class Cast(NamedTuple):
    """Who logs in."""

    one: tuple[str, ...]
    several: tuple[str, ...]
    none: tuple[str, ...]

    @property
    def users(self) -> list[str]:
        """All but root."""
        return [*self.one, *self.several, *self.none]

    @property
    def wanted(self) -> dict[str, int]:
        """How many jobs each of them has, unless one is just over."""
        return dict.fromkeys(self.one, 1) | dict.fromkeys(self.several, 3)


@dataclass
class Quota:
    """How many logins are still to be made; streams share it."""

    left: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Say whether there is one more."""
        with self._lock:
            there = self.left > 0
            self.left -= there
            return there

    def give_back(self) -> None:
        """Have one made by another, since it was cut short."""
        with self._lock:
            self.left += 1


class Stream:
    """Logins one after the other."""

    def __init__(self, world: World, cast: Cast, quota: Quota, seed: str) -> None:
        """Describe it."""
        self.world = world
        self.cluster: Cluster = world.cluster
        self.cast = cast
        self.quota = quota
        self.draw = random.Random(seed)
        self.logins: list[Login] = []
        self.cut = 0  # clients that were ended with the job they were in
        self.trouble = ""
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Return when the quota is used up."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - the run has to end, and to say so
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            if self._process:
                end(self._process)

    def _go_on(self) -> None:
        self._process = self._clients(["python3", SCRIPT, "clients"], None)
        while self.quota.take():
            user, method = self._next()
            if not self._login(self._process, user, method, None):
                raise RuntimeError("the clients have ended")

    def _next(self) -> tuple[str, str]:
        """Draw who logs in next, and how."""
        (role,) = self.draw.choices([*ROLES], [*ROLES.values()])
        (method,) = self.draw.choices([*BY], [*BY.values()])
        if role == "root":
            return ROOT, METHODS[0]
        users = {"one job": self.cast.one, "several jobs": self.cast.several}
        return self.draw.choice(users.get(role, self.cast.none)), method

    def _clients(self, argv: Sequence[str], user: str | None) -> subprocess.Popen[str]:
        return self.cluster.login.popen(
            argv, user, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def _login(
        self, clients: subprocess.Popen[str], user: str, method: str, source: int | None
    ) -> bool:
        """Log in once; say whether the clients are still there."""
        command = (PROCESS if self.draw.random() < LEAVES and user != ROOT else "") + PLACES
        options = [word for option in OPTIONS for word in ("-o", option)]
        if source is None and user != ROOT:
            options += ["-i", f"/home/{user}/.ssh/id_ed25519"]
        env = {"SSH_ASKPASS": ASKPASS, "SSH_ASKPASS_REQUIRE": "force", "LOGIN_AS": user}
        what = {
            "argv": [*ssh_argv("n1", user, options, method), command],
            "env": env,
            "limit": LIMIT,
        }
        assert clients.stdin
        assert clients.stdout
        try:
            clients.stdin.write(json.dumps(what) + "\n")
            clients.stdin.flush()
        except OSError:
            return False
        watch = threading.Timer(SILENT * PATIENCE, end, [clients])  # of srun, whose job is gone
        watch.start()
        line = clients.stdout.readline()
        watch.cancel()
        if not line.endswith("\n"):
            return False
        self.logins.append(self._seen(json.loads(line), user, method, source))
        return True

    def _seen(self, told: dict[str, Any], user: str, method: str, source: int | None) -> Login:
        """Return how a login went."""
        when, said = Span(told["begin"], told["end"]), told["out"] + told["err"]
        lines = [line for line in told["out"].splitlines() if line[:1].isdigit() and ":/" in line]
        size = len(lines) // 3
        landed = size > 0 and len(lines) == 3 * size and lines[0][0] == lines[size][0]
        login = Login(user, source, method, when, told["status"], said, landed)
        if landed:
            parts = ("\n".join(lines[one * size : (one + 1) * size]) for one in range(3))
            found = {self._place(text) for text in parts}
            login.place = found.pop() if len(found) == 1 else HALF if HALF in found else APART
        return login

    def _place(self, cgroup: str) -> int | None:
        try:
            return landing.job_of(self.cluster.n1, cgroup)
        except AssertionError:
            return HALF


class FromJobs(Stream):
    """The same from inside of one user's jobs on n2."""

    def __init__(self, world: World, cast: Cast, quota: Quota, seed: str, user: str) -> None:
        """Say whose."""
        super().__init__(world, cast, quota, seed)
        self.user = user

    def _go_on(self) -> None:
        while self.quota.left > 0:
            job = self.world.source_of(self.user)
            if not job:
                time.sleep(0.1)
                continue
            step = ["srun", f"--jobid={job.number}", "--overlap", "--nodelist=n2", "-N1", "-n1",
                    "--chdir=/tmp"]  # fmt: skip
            self._process = self._clients([*step, "python3", SCRIPT, "clients"], self.user)
            while self.world.source_of(self.user) is job and self.quota.take():
                (method,) = self.draw.choices([*BY], [*BY.values()])
                if not self._login(self._process, self.user, method, job.number):
                    self.quota.give_back()
                    self.cut += 1
                    break
            end(self._process)


def write_askpass(cluster: Cluster) -> None:
    """Write what answers ssh's questions."""
    for name in ("login", "n2"):
        cluster.hosts[name].write(ASKPASS, ANSWER, 0o755)
