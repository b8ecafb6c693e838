"""Faults of sshd and of its clients: ended, stopped, gone, in the middle of the module's work.

Stepds that are stopped see to it that the module is at work then: it waits for them for seconds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from tests.cluster.faults.arena import OURS, InJob
from tests.cluster.faults.fault import GONE, Fault
from tests.cluster.faults.of_jobs import step
from tests.cluster.harness import cgroups
from tests.cluster.harness.config import USERS
from tests.cluster.harness.host import end
from tests.cluster.harness.wait import NotInTimeError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.faults.arena import Arena
    from tests.cluster.faults.fault import Bring

ALL = {"one": GONE, "two": GONE, "none": GONE}
WITH_JOBS = {"one": GONE, "two": GONE}
IN_CALL = 2.0  # seconds after which the module waits for a stepd, mostly


@contextlib.contextmanager
def silent(arena: Arena) -> Iterator[None]:
    """Have all stepds of n1 stopped."""
    stepds = " ".join(arena.stepd(name) for name in arena.jobs)
    arena.sh(f"kill -STOP {stepds}")
    try:
        yield
    finally:
        arena.sh(f"kill -CONT {stepds}")


def meanwhile(act: Callable[[Arena], object]) -> Bring:
    """Do something while the module waits for stepds."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        timer = threading.Timer(IN_CALL, act, [arena])
        with silent(arena):
            timer.start()
            try:
                yield
            finally:
                timer.join()

    return brought


def hooked(script: str) -> Bring:
    """Have sshd run a script for each user but root, in front of our lines."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with arena.hook(f"test $PAM_USER = root || {script}"):
            yield

    return brought


def besides(script: str) -> Bring:
    """Have sshd start a script in the same way, which goes on alone."""
    return hooked(f"setsid sh -c '{script}' >/dev/null 2>&1 </dev/null &")


def while_silent(bring: Bring) -> Bring:
    """Have all stepds of n1 stopped as well."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with silent(arena), bring(arena):
            yield

    return brought


def hang_up(arena: Arena) -> None:
    """End the ssh of all users but root."""
    uids = ",".join(map(str, USERS.values()))
    for host in (arena.cluster.login, arena.cluster.n2):
        host.run(["pkill", "-KILL", "-x", "-u", uids, "ssh"], check=False)


# The kernel ends a connection, and tells the other side by a reset.
RESET = """
ours=$(pgrep -d'|' -x -u "$1" ssh) || exit 0
ss -Htnp dport = :22 | grep -E "pid=($ours)," | awk '{print $4}' | sed 's/.*://' |
while read -r port; do ss -KHtn sport = ":$port"; done
"""


def reset(arena: Arena) -> None:
    """Have the connections of all users but root reset, from their side."""
    uids = ",".join(map(str, USERS.values()))
    for host in (arena.cluster.login, arena.cluster.n2):
        host.run(["sh", "-c", RESET, "sh", uids], check=False)


def hurried(*options: str) -> Bring:
    """Have an sshd with more options."""

    @contextlib.contextmanager
    def brought(arena: Arena) -> Iterator[None]:
        with arena.with_sshd(options=[word for option in options for word in ("-o", option)]):
            yield

    return brought


def listener(signal: str) -> Callable[[Arena], object]:
    """Return what sends the sshd that listens a signal."""
    return lambda arena: arena.sh(f"kill -{signal} {arena.node.pid('sshd')}")


ENDED = (
    Fault(
        "LoginGraceTime expires in the call",
        while_silent(hooked("sleep 4.5")),  # and then the module waits for 2 s
        ALL,
        setting=hurried("LoginGraceTime=6"),
        phases=("account",),  # it is over before the session phase
        hooked="before",
    ),
    Fault("the client hangs up in the call", meanwhile(hang_up), ALL, in_session=WITH_JOBS),
    Fault("the connection is reset in the call", meanwhile(reset), ALL, in_session=WITH_JOBS),
    Fault(
        "the session's sshd gets SIGTERM in the call",
        while_silent(besides(f"sleep {IN_CALL}; kill -TERM $sshd")),
        ALL,
        in_session=WITH_JOBS,
        hooked="before",
    ),
    Fault(
        "the session's sshd gets SIGKILL in the call",
        while_silent(besides(f"sleep {IN_CALL}; kill -KILL $sshd")),
        ALL,
        in_session=WITH_JOBS,
        hooked="before",
    ),
)


@contextlib.contextmanager
def restarted(arena: Arena) -> Iterator[None]:
    """Have the sshd that listens read its configuration again, which starts it again."""
    timer = threading.Timer(0.5, listener("HUP"), [arena])
    timer.start()
    try:
        yield
    finally:
        timer.join()
        time.sleep(0.2)


STOPPED = (
    Fault("sshd gets SIGHUP meanwhile", restarted),
    Fault(
        "the session's sshd is stopped for 7 s in the call",
        besides("sleep 0.03; kill -STOP $sshd; sleep 7; kill -CONT $sshd"),
        phases=("both", "session"),  # with the account line alone its watcher would end it
        hooked="before",
    ),
)


@contextlib.contextmanager
def gone_when_told(arena: Arena) -> Iterator[None]:
    """Have the client of the user without a job hang up as soon as that is decided."""
    mark, over = arena.node.mark(), threading.Event()

    def decided() -> bool:
        lines = arena.node.log(mark)
        return over.is_set() or any(OURS in line and "user carol" in line for line in lines)

    def watch() -> None:
        with contextlib.suppress(NotInTimeError):
            wait_for("a refusal", decided, 30, every=0.005)
            kill = ["pkill", "-KILL", "-x", "-u", str(USERS["carol"]), "ssh"]
            arena.cluster.login.run(kill, check=False)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


BOMB = "for n in 1 2 3 4 5 6 7 8; do (while :; do (:) 2>/dev/null & wait; done) & done; wait"

# The kernel may kill the job's stepd for the memory that it wants for the others.
UNLIMITED = """
for file in memory.memsw.limit_in_bytes memory.limit_in_bytes memory.max; do
    for cgroup in {step}/.. {step}; do
        test ! -e $cgroup/$file || echo 1G >$cgroup/$file
    done
done
"""


@contextlib.contextmanager
def forking(arena: Arena) -> Iterator[None]:
    """Have the job of the user with one start processes as fast as it can."""
    arena.sh(UNLIMITED.format(step=step(arena, "one", "memory")))
    job = InJob(arena.node, USERS["alice"], arena.jobs["one"])
    bomb = job.popen(["bash", "-c", f"ulimit -u 40; {BOMB}"], "alice")
    try:
        yield
    finally:
        end(bomb)
        arena.sh(f"pkill -KILL -u {USERS['alice']} || true")
        arena.end_jobs()  # the next has its limits again


# A cgroup of its own for each sshd that calls PAM, with so little memory that Python dies of it.
LIMIT_FILE = "memory.max" if cgroups.unified() else "memory.limit_in_bytes"
TIGHT = f"""
cgroup=/{cgroups.folder("memory", "/fault-")}$sshd
mkdir $cgroup
echo {3 << 20} >$cgroup/{LIMIT_FILE}
echo $sshd >$cgroup/cgroup.procs
"""


@contextlib.contextmanager
def out_of_memory(arena: Arena) -> Iterator[None]:
    """Have the memory of each sshd that calls PAM limited to little more than it has."""
    with arena.hook(TIGHT):
        yield
    ended = f"rmdir /{cgroups.folder('memory', '/fault-')}* 2>/dev/null"
    arena.sh(f"n=0; until {ended} || test $((n += 1)) -gt 100; do sleep 0.1; done")


OTHERS = (
    Fault(
        "the client hangs up while it is told of a refusal",
        gone_when_told,
        phases=("account", "both"),
        method="keyboard-interactive",
    ),
    Fault("the job forks without end", forking, jobs_end=True),
    Fault(
        "sshd's cgroup is out of memory",
        out_of_memory,
        ALL,
        phases=("account", "both"),  # later pam_python's Python has all that it needs
        hooked="before",
        logged=False,
    ),
)

FAULTS = (*ENDED, *STOPPED, *OTHERS)
