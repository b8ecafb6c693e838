"""The situations of tests/decisions.py, each arranged on the real cluster.

An arrangement is entered once for all rows of its situation; what it changes it puts back.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.harness import cgroups, pam, scancel
from tests.cluster.harness.cluster import Settings
from tests.cluster.harness.driver import Driver
from tests.cluster.harness.login import Result, ssh_argv
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import job_namespaces
from tests.cluster.standins.slurmd import StandinSlurmd
from tests.fakes.background import Background

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

Login = Callable[[str], Result]  # runs a command by ssh, as the situation's user

CONF = "etc/slurm/slurm.conf"
SLURMD_ERROR = "2001"  # any error number of Slurm's
NO_CGROUPS = Settings(
    jobacct="jobacct_gather/linux",
    slurm_conf="ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n",
)
X11 = Settings(slurm_conf="PrologFlags=contain,x11\n")
SECOND_SSHD = 2022


@dataclass(frozen=True)
class Stage:
    """A situation that is there now, for one user."""

    cluster: Cluster
    driver: Driver
    user: str | None
    login: Login | None  # from where the situation says; None where a login cannot show it
    jobs: dict[str, int] = field(default_factory=dict)  # by role
    request: dict[str, Any] = field(default_factory=dict)  # more for a call by the driver
    namespaces: dict[str, str] = field(default_factory=dict)  # where they are bound, by role of job

    def pam(self, line: str) -> None:
        """Have sshd on n1 use a module; root goes through it as well."""
        self.cluster.n1.pam("sshd", pam.stack(line))


Arrangement = Callable[[Stage], AbstractContextManager[Stage]]


@contextlib.contextmanager
def arranged(cluster: Cluster, driver: Driver, situation: str, user: str | None) -> Iterator[Stage]:
    """Arrange a situation for a user."""
    settings, arrangement = {**ARRANGEMENTS, **COMPARED}[situation]
    cluster.reconfigure(settings)
    login = functools.partial(_login, cluster, user) if user and user != "zoe" else None
    try:
        with arrangement(Stage(cluster, driver, user, login)) as stage:
            yield stage
    finally:  # when all is in its place again: slurmd has to reach the stepds
        cluster.cancel_all()


class Scenery(Background):
    """One situation at a time: it stays until another is wanted."""

    def __init__(self, cluster: Cluster, driver: Driver) -> None:
        """Arrange nothing yet."""
        self._cluster = cluster
        self._driver = driver
        self._entered = contextlib.ExitStack()
        self._now: tuple[str, str | None, Stage] | None = None

    def end(self) -> None:
        """Put everything back."""
        self._entered.close()

    def stage(self, situation: str, user: str | None) -> Stage:
        """Return a situation, arranged for a user."""
        if self._now is None or self._now[:2] != (situation, user):
            self._now = None
            self._entered.close()
            wanted = arranged(self._cluster, self._driver, situation, user)
            self._now = (situation, user, self._entered.enter_context(wanted))
        return self._now[2]


def _login(cluster: Cluster, user: str, command: str, **how: Any) -> Result:
    return cluster.ssh(user, command=command, timeout=60, **how)


# Without Slurm


@contextlib.contextmanager
def nothing(stage: Stage) -> Iterator[Stage]:
    """Leave an idle node idle."""
    yield stage


@contextlib.contextmanager
def no_conf(stage: Stage) -> Iterator[Stage]:
    """Take slurm.conf away from n1."""
    file = stage.cluster.n1.root / CONF
    away = file.rename(file.with_name("away"))
    try:
        yield stage
    finally:
        away.rename(file)


def conf(change: Callable[[str], str]) -> Arrangement:
    """Return the arrangement that writes another slurm.conf on n1."""

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        text = stage.cluster.n1.read(CONF)
        stage.cluster.n1.write(CONF, change(text))
        try:
            yield stage
        finally:
            stage.cluster.n1.write(CONF, text)

    return arrangement


@contextlib.contextmanager
def no_slurmd(stage: Stage) -> Iterator[Stage]:
    """Have no slurmd on n1, as on a login node."""
    stage.cluster.n1.stop("slurmd")
    try:
        yield stage
    finally:
        stage.cluster.n1.start("slurmd")
        time.sleep(1)  # the node is idle in slurmctld's eyes until it registers anew
        stage.cluster.wait_idle()


# Jobs


def jobs(**wanted: str) -> Arrangement:
    """Return the arrangement of jobs by role, in this order: `USER NODES`, * for the user."""

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        numbers = {}
        for role, job in wanted.items():
            user, nodes = job.replace("*", str(stage.user)).split()
            numbers[role] = stage.cluster.submit(user, nodes)
        yield replace(stage, jobs={**stage.jobs, **numbers})

    return arrangement


@contextlib.contextmanager
def in_namespaces(stage: Stage) -> Iterator[Stage]:
    """Have Slurm give jobs namespaces of their own."""
    with job_namespaces.plugin_in_use(stage.cluster, job_namespaces.TMPFS):
        yield stage


@contextlib.contextmanager
def with_namespaces(stage: Stage) -> Iterator[Stage]:
    """Note where the jobs' namespaces are bound."""
    root = stage.cluster.n1.root
    base = root / job_namespaces.BASE.lstrip("/")
    places = {}
    for role, job in stage.jobs.items():
        (file,) = base.glob(f"**/{job}/.ns")  # below the NodeName in a build for several slurmd
        places[role] = f"/{file.relative_to(root)}"
    yield replace(stage, namespaces=places)


def listed_last(role: str) -> Arrangement:
    """Return the arrangement in which a directory's listing has a job's stepd behind all others.

    The C module takes that one for the newest. Names that come anew into a tmpfs are listed first,
    or last, by the kernel's release; where neither is so there is no telling, and this fails.
    """

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        socket = stage.cluster.socket("n1", stage.jobs[role])
        others = [
            file.name
            for other, job in stage.jobs.items()
            if other != role and (file := stage.cluster.socket("n1", job)).exists()
        ]
        for name in (socket.name, *others):
            if _is_last(socket, others):
                break
            moved = socket.with_name(name)
            moved.rename(away := moved.with_name(f"{name}.moved"))
            away.rename(moved)
        assert _is_last(socket, others), os.listdir(socket.parent)
        yield stage

    return arrangement


def _is_last(file: Path, others: list[str]) -> bool:
    """Say whether others are all listed before a file; in which order is the listing's own."""
    names = os.listdir(file.parent)
    return all(names.index(name) < names.index(file.name) for name in others)


one = jobs(only="* n1")
# A later job on n1 than the newest of the user's belongs to another one; both also run on n2.
several_jobs = jobs(source="* n1,n2", newest="* n1", elsewhere="* n2", foreign="bob n1,n2")


def x11(role: str, nodes: str) -> Arrangement:
    """Return the arrangement of a job whose programs have a display."""

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        display = ["env", "DISPLAY=localhost:10.0"]
        stage.cluster.login.run(["xauth", "add", "login/unix:10", ".", "0" * 32], stage.user)
        wanted = ["--x11=all"]
        job = stage.cluster.submit(str(stage.user), nodes, options=wanted, under=display)
        yield replace(stage, jobs={**stage.jobs, role: job})

    return arrangement


def chosen(role: str) -> Arrangement:
    """Return the arrangement in which the user has chosen one of the jobs, on n1."""

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        n1, job = stage.cluster.n1, stage.jobs[role]
        n1.run(["sh", "-ec", HAVE_PLACE, CHOICES, _uid(stage)])
        n1.run(["touch", "-hmd", f"@{job}", f"{CHOICES}/{_uid(stage)}"], stage.user)
        try:
            yield replace(stage, jobs={**stage.jobs, "chosen": job})
        finally:
            n1.run(["rm", "-r", CHOICES])

    return arrangement


CHOICES = "/run/slurm_adopt/choices"
HAVE_PLACE = 'umask 0; mkdir -p -m 711 "${0%/*}" "$0"; ln -s x "$0/$1"; chown -h "$1" "$0/$1"'


# Where the login comes from


@contextlib.contextmanager
def from_login(stage: Stage) -> Iterator[Stage]:
    """Let the driver's connection come from the login node, as the login does."""
    with stage.driver.connection(stage.cluster.login) as said:
        yield replace(stage, request=said)


@contextlib.contextmanager
def from_n2(stage: Stage) -> Iterator[Stage]:
    """Log in from n2, outside any job: its slurmd knows of none."""
    with stage.driver.connection(stage.cluster.n2) as said:
        login = functools.partial(_login, stage.cluster, str(stage.user), source="n2")
        yield replace(stage, request=said, login=login)


def from_job(role: str, owner: str = "*", node: str = "n2", target: str = "n1") -> Arrangement:
    """Return the arrangement that lets the login to n1 come from inside a job on a node.

    `target`: what n1 is called there.
    """

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        user = owner.replace("*", str(stage.user))
        host = stage.cluster.hosts[node]
        key = host.read(f"home/{stage.user}/.ssh/id_ed25519")
        host.run(["sh", "-c", "umask 77; cat >/tmp/key.$0", user], user, input=key)

        def login(command: str) -> Result:
            argv = [*ssh_argv(target, str(stage.user), ["-i", f"/tmp/key.{user}"]), command]
            job = stage.jobs[role]
            return stage.cluster.in_job(job, user, node, argv, timeout=60, check=False)

        srun = ["srun", f"--jobid={stage.jobs[role]}", "--overlap", f"--nodelist={node}", "-N1",
                "-n1"]  # fmt: skip
        with stage.driver.connection(stage.cluster.login, user, srun, target) as said:
            yield replace(stage, request=said, login=login)

    return arrangement


def answering(*behaviour: str) -> Arrangement:
    """Return the arrangement of something in the place of a slurmd on the login node."""

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        with StandinSlurmd(stage.cluster.login, *behaviour), from_login(stage) as staged:
            yield staged

    return arrangement


@contextlib.contextmanager
def dropped(stage: Stage) -> Iterator[Stage]:
    """Have the login node drop what is sent to slurmd's port."""
    chain = "chain input { type filter hook input priority 0; tcp dport 6818 drop; }"
    login = stage.cluster.login
    login.run(["nft", "-f", "-"], input=f"table inet drops {{\n{chain}\n}}\n")
    try:
        with from_login(stage) as staged:
            yield staged
    finally:
        login.run(["nft", "delete", "table", "inet", "drops"])
        for node in stage.cluster.nodes:  # the next situation's source is asked
            node.run(["rm", "-rf", "/run/slurm_adopt/unreached"])


# What takes nothing


def suspended(*roles: str) -> Arrangement:
    """Return the arrangement of jobs that their user has stopped: their cgroups are frozen."""

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        numbers = [str(stage.jobs[role]) for role in roles]
        scancel.send(stage.cluster.ctl, "STOP", *numbers, user=stage.user)
        _wait_for(stage, numbers, "FROZEN")
        try:
            yield stage
        finally:
            scancel.send(stage.cluster.ctl, "CONT", *numbers, user=stage.user)
            _wait_for(stage, numbers, "THAWED")

    return arrangement


def _wait_for(stage: Stage, numbers: Sequence[str], state: str) -> None:
    """Return when the cgroups of these jobs' extern steps are in this state."""
    there = lambda: {_state(stage, number) for number in numbers} == {state}  # noqa: E731
    wait_for(f"jobs {state}", there, 30)


def _state(stage: Stage, job: str) -> str:
    path = cgroups.folder("freezer", f"/slurm_n1/uid_{_uid(stage)}/job_{job}/step_extern")
    return stage.cluster.n1.read(f"{path}/freezer.state").strip()


def _uid(stage: Stage) -> str:
    return stage.cluster.n1.run(["id", "-u", str(stage.user)]).stdout.strip()


def replaced(role: str) -> Arrangement:
    """Return the arrangement in which the user has put a cgroup in the place of one of Slurm's.

    The directories below step_extern are the user's in 22.05 on cgroup v1.
    """

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        job = f"/slurm_n1/uid_{_uid(stage)}/job_{stage.jobs[role]}/step_extern"
        step = "/" + cgroups.folder("memory", job)
        stage.cluster.n1.run(["sh", "-ec", REPLACE, "sh", step], stage.user)
        try:
            yield stage
        finally:
            stage.cluster.n1.run(["sh", "-ec", PUT_BACK, "sh", step], stage.user)

    return arrangement


REPLACE = 'cd "$1"; mv task_0 slurm_s; mkdir task_0'
PUT_BACK = 'cd "$1"; rmdir task_0; mv slurm_s task_0'


# What fails


def refusing(role: str, reply: str = "-1", *more: str) -> Arrangement:
    """Return the arrangement in which a job's extern stepd takes no process, and replies this.

    `more`: for the stand-in.
    """

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        n1, job = stage.cluster.n1, stage.jobs[role]
        real = stage.cluster.socket("n1", job)
        away = real.rename(real.with_name(real.name + ".away"))
        uid = n1.run(["id", "-u", str(stage.user)]).stdout.strip()
        place = stage.namespaces.get(role)
        words = (uid, reply, *more, *([f"namespace={place}"] if place else []))
        try:
            with _standin(n1, f"/var/spool/slurmd/{real.name}", *words):
                yield stage
        finally:
            away.rename(real)

    return arrangement


@contextlib.contextmanager
def _standin(host: Host, socket: str, *words: str) -> Iterator[None]:
    """Run a stand-in on a stepd's socket."""
    module = ["python3", "-m", "tests.cluster.standins.stepd", socket, *words]
    script = 'cd /checkout; setsid "$@" >/dev/null 2>&1 </dev/null &'
    host.run(["sh", "-c", script, "sh", *module])
    wait_for("the stand-in", (host.root / f"{socket}.pid".lstrip("/")).exists, 30)
    try:
        yield
    finally:
        host.run(["sh", "-c", f"kill $(cat {socket}.pid); rm {socket} {socket}.pid"])


def without(path: str, *, login: bool) -> Arrangement:
    """Return the arrangement in which a mount is not there for the process that logs in.

    `login`: whether an sshd can live without it.
    """

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        request = {**stage.request, "umount": [path]}
        if not login:
            yield replace(stage, request=request, login=None)
            return
        with _sshd_without(stage.cluster.n1, path):
            options = ["-p", str(SECOND_SSHD)]
            there = functools.partial(_login, stage.cluster, str(stage.user), options=options)
            yield replace(stage, request=request, login=there)

    return arrangement


@contextlib.contextmanager
def _sshd_without(host: Host, path: str) -> Iterator[None]:
    """Run a second sshd in a mount namespace of its own."""
    sshd = f"umount {path} && exec /usr/sbin/sshd -D -p {SECOND_SSHD}"
    script = 'setsid "$@" >/dev/null 2>&1 </dev/null & echo $!'
    argv = ["unshare", "--mount", "sh", "-c", sshd]
    pid = host.run(["sh", "-c", script, "sh", *argv]).stdout.strip()
    try:
        wait_for("the second sshd", lambda: SECOND_SSHD in host.listening(), 30)
        yield
    finally:
        host.run(["kill", pid])


@contextlib.contextmanager
def bound(stage: Stage) -> Iterator[Stage]:
    """Have the process bound to one CPU, as by CPUAffinity= of sshd's unit, and a job of two."""
    job = stage.cluster.submit(str(stage.user), cpus=2)
    yield replace(stage, jobs={"only": job}, request={"cpus": [0]})


def both(*arrangements: Arrangement) -> Arrangement:
    """Return the arrangement of several things, one after the other."""

    @contextlib.contextmanager
    def arrangement(stage: Stage) -> Iterator[Stage]:
        with contextlib.ExitStack() as stack:
            for one_of_them in arrangements:
                stage = stack.enter_context(one_of_them(stage))
            yield stage

    return arrangement


def _named_otherwise(text: str) -> str:
    return text.replace("NodeName=n[1-2]", "NodeName=x[1-2]")


def _line(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}{line}\n"


# The C module takes the older one for the newest.
several = both(several_jobs, listed_last("source"))
PLAIN = Settings()
ENDING = refusing("only", "-1", "state=3")  # slurmstepd_state_t up to 23.02
ERROR = answering("slurm_rc", SLURMD_ERROR)
# What the C module waits for; ours has callerid_timeout.
PATIENCE = conf(_line("MessageTimeout=2\nTCPTimeout=1"))
SILENT = both(PATIENCE, answering("never"))
DROPPED = both(PATIENCE, dropped)
# Here it agrees about the newest: action_unknown itself is what is compared.
SOURCE_FAILS = both(from_job("source"), refusing("source"), listed_last("newest"))
NO_FREEZER = without("/sys/fs/cgroup/freezer", login=True)
NO_PROC = without("/proc", login=False)
LATER = jobs(newest="* n1", later="* n1")
NEWEST_FAILS = both(from_login, refusing("newest"), listed_last("source"))
BOTH_FAIL = both(from_login, refusing("source"), refusing("newest"))
BY_LOOPBACK = from_job("source", node="n1", target="::1")
ONE_PRIVATE = both(in_namespaces, one, with_namespaces)
WITH_X11 = both(x11("source", "n1,n2"), jobs(newest="* n1"), from_job("source"))

# fmt: off
ARRANGEMENTS: dict[str, tuple[Settings, Arrangement]] = {
    "another service":                         (PLAIN, nothing),
    "no PAM_USER":                             (PLAIN, nothing),
    "unknown user":                            (PLAIN, nothing),
    "root":                                    (PLAIN, nothing),
    "one job":                                 (PLAIN, one),
    "one job, others elsewhere and of others": (PLAIN, jobs(only="* n1", a="* n2", b="bob n1")),
    "one job, asked about":                    (PLAIN, both(one, from_login)),
    "several jobs, from one of them":          (PLAIN, both(several, from_job("source"))),
    "one job, with X11":                       (X11, x11("only", "n1")),
    "no slurm.conf":                           (PLAIN, no_conf),
    "slurm.conf is no text":                   (PLAIN, conf(_line("\0"))),
    "node name unknown":                       (PLAIN, conf(_named_otherwise)),
    "no slurm.conf, no slurmd":                (PLAIN, both(no_slurmd, no_conf)),
    "node name unknown, no slurmd":            (PLAIN, both(no_slurmd, conf(_named_otherwise))),
    "spool directory missing":                 (PLAIN, conf(_line("SlurmdSpoolDir=/nowhere"))),
    "spool directory is a file":               (PLAIN, conf(_line("SlurmdSpoolDir=/etc/passwd"))),
    "idle node":                               (PLAIN, nothing),
    "jobs of other users only":                (PLAIN, jobs(a="bob n1", b="carol n1")),
    "job on another node only":                (PLAIN, jobs(a="* n2", b="bob n1")),
    "the only job is ending":                  (PLAIN, both(one, ENDING)),
    "several jobs, one of them chosen":        (PLAIN, both(several, from_login, chosen("source"))),
    "several jobs, one chosen, from another":  (PLAIN, both(several, from_job("source"),
                                                            chosen("newest"))),
    "several jobs, from no job":               (PLAIN, both(several, from_n2)),
    "several jobs, from another user's":       (PLAIN, both(several, from_job("foreign", "bob"))),
    "several jobs, from one elsewhere":        (PLAIN, both(several, from_job("elsewhere"))),
    "several jobs, slurmd refuses":            (PLAIN, both(several, from_login)),
    "several jobs, slurmd is silent":          (PLAIN, both(several, SILENT)),
    "several jobs, packets are dropped":       (PLAIN, both(several, DROPPED)),
    "several jobs, slurmd answers an error":   (PLAIN, both(several, ERROR)),
    "several jobs, nobody is asked":           (PLAIN, both(several, from_login)),
    "several jobs, from one that fails":       (PLAIN, both(several, SOURCE_FAILS)),
    "the only job fails":                      (PLAIN, both(one, refusing("only"))),
    "the newest job fails":                    (PLAIN, both(several, NEWEST_FAILS)),
    "the only job is suspended":               (PLAIN, both(one, suspended("only"))),
    "the only job has a cgroup of the user's": (PLAIN, both(one, replaced("only"))),
    "several jobs, all suspended":             (PLAIN, both(several, from_login,
                                                            suspended("source", "newest"))),
    "several jobs, a newer one is suspended":  (PLAIN, both(LATER, from_login, suspended("later"))),
    "freezer is not mounted":                  (PLAIN, both(one, NO_FREEZER)),
    "/proc is not mounted":                    (PLAIN, both(one, NO_PROC)),
    "one job, not confined by cgroups":        (NO_CGROUPS, one),
    "the only job fails, not confined by cgroups": (NO_CGROUPS, both(one, refusing("only"))),
}
# What only the comparison with the C module has: the outcome is one of those above.
COMPARED: dict[str, tuple[Settings, Arrangement]] = {
    "several jobs, all fail":                  (PLAIN, both(several, BOTH_FAIL)),
    "several jobs, from one with X11":         (X11, WITH_X11),
    "several jobs, from one of them by ::1":   (PLAIN, both(several, BY_LOOPBACK)),
    "the stepd says yes and does nothing":     (PLAIN, both(one, refusing("only", "0"))),
    "one job, with namespaces":                (PLAIN, ONE_PRIVATE),
    "the only job fails, with namespaces":     (PLAIN, both(ONE_PRIVATE, refusing("only"))),
    "one job, sshd is bound to a CPU":         (PLAIN, bound),
}
# fmt: on


# For tests


@pytest.fixture(scope="module")
def driver(running_cluster: Cluster) -> Iterator[Driver]:
    """Make calls of PAM on n1."""
    with Driver(running_cluster.n1) as found:
        yield found
    running_cluster.reconfigure(Settings())


@pytest.fixture(scope="module")
def scenery(running_cluster: Cluster, driver: Driver) -> Iterator[Scenery]:
    """Arrange situations, each until another one is wanted."""
    with Scenery(running_cluster, driver) as found:
        yield found
