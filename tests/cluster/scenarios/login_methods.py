"""Logins by every method, with the module in either phase or both, and what moves their sessions.

Each play ends in two facts: the cgroups of the shells, and whether these are gone with the job.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.config import BOTH_PORT
from tests.cluster.harness.landing import job_of
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.basic import PRIVILEGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.cluster.harness.login import Session

STRICT = ("action_adopt_failure=deny", "action_generic_failure=deny")
NOTES = "run/slurm_adopt/adoptions"


@dataclass(frozen=True)
class Way:
    """One way to log in."""

    name: str
    method: str
    user: str = "alice"
    port: int = 22

    @property
    def options(self) -> tuple[str, ...]:
        """Return what ssh is told beside the method."""
        return ("-p", str(self.port))

    def session(self, cluster: Cluster) -> Session:
        """Log in to n1, and stay."""
        return cluster.session(self.user, method=self.method, options=self.options, timeout=60)


KBDINT = "keyboard-interactive"
PUBLIC_KEY = Way("public key", "publickey")
ONE_PROMPT = Way("one prompt", KBDINT)
TWO_PROMPTS = Way("two prompts", KBDINT, user="bob")
TWO_METHODS = Way("public key and one prompt", f"publickey,{KBDINT}", port=BOTH_PORT)
THE_OTHER_WAY_ROUND = Way("one prompt and public key", f"{KBDINT},publickey", port=BOTH_PORT)
WAYS = (
    PUBLIC_KEY, Way("password", "password"), ONE_PROMPT, TWO_PROMPTS, TWO_METHODS,
    THE_OTHER_WAY_ROUND,
)  # fmt: skip

# A module that asks bob for a second word; tests.cluster.harness.login.ANSWER knows it.
SECOND_WORD = """\
def pam_sm_authenticate(pamh, flags, argv):
    if pamh.user != "bob":
        return pamh.PAM_IGNORE
    said = pamh.conversation(pamh.Message(pamh.PAM_PROMPT_ECHO_OFF, "second word: "))
    return pamh.PAM_SUCCESS if said.resp == "second word of bob" else pamh.PAM_AUTH_ERR


def pam_sm_setcred(pamh, flags, argv):
    return pamh.PAM_IGNORE
"""
ASK = "auth required pam_python.so /etc/security/second_word.py"

# Does with the process that opens a session what pam_systemd has logind do: it goes into a cgroup
# of its own in every hierarchy.
MOVER = """\
#!/bin/sh -e
[ "$PAM_TYPE" = open_session ] || exit 0
[ -e /sys/fs/cgroup/cgroup.procs ] || v1='*'
for top in /sys/fs/cgroup/$v1; do
    mkdir -p $top/session.scope
    for file in cpuset.cpus cpuset.mems; do
        [ ! -e $top/session.scope/$file ] || cat $top/$file >$top/session.scope/$file
    done
    for pid in $PPID $$; do echo $pid >$top/session.scope/cgroup.procs; done
done
"""
MOVE = "session required pam_exec.so quiet /usr/local/sbin/move-session"
MOVED = "/session.scope"
UNMOVE = "find /sys/fs/cgroup -name session.scope -type d -exec rmdir {} +"


def stack(lines: str, mover: str = "", *options: str) -> list[str]:
    """Return a stack with our account lines, session lines or both; the mover before or after."""
    options = (*STRICT, *options)
    account = pam.stack() if lines == "session" else pam.with_module(*options)
    session = [] if lines == "account" else pam.session_lines(*options)
    before = [MOVE] if mover == "before" else []
    after = [MOVE] if mover == "after" else []
    head, *rest = account
    return [head, ASK, *rest, *before, *session, *after]


@contextlib.contextmanager
def prepared(node: Host) -> Iterator[None]:
    """Have on a node what the stacks name; take away what the mover has made."""
    for root in ("", *node.front[1:]):
        node.write(f"{root}/etc/security/second_word.py", SECOND_WORD)
        node.write(f"{root}/usr/local/sbin/move-session", MOVER, 0o755)
    yield
    gone = lambda: node.run(["sh", "-c", UNMOVE], check=False).returncode == 0  # noqa: E731
    wait_for("the mover's cgroups removed", gone)


class Taken:
    """Which processes the stepds of a node have been asked to take since this was made."""

    LINE = re.compile(r"_handle_add_extern_pid_internal: for .*?(\d+)\.extern, pid (\d+)")
    LOG = "var/log/slurmd.log"

    def __init__(self, node: Host) -> None:
        """Begin now."""
        self.node = node
        self.start = len(node.read(self.LOG))

    def pids(self) -> Counter[tuple[int, int]]:
        """Return how often each process was taken: by job id and pid."""
        log = self.node.read(self.LOG)[self.start :]
        return Counter((int(job), int(pid)) for job, pid in self.LINE.findall(log))


def privileged(session: Session) -> int:
    """Return the pid of a session's privileged sshd: what PAM brings into the job."""
    return int(session.run(PRIVILEGED))


def job_with(node: Host, pid: int) -> int | None:
    """Return the job that a process is in, in all confined hierarchies; None for none."""
    return job_of(node, node.run(["cat", f"/proc/{pid}/cgroup"]).stdout)


def where(node: Host, pid: int) -> str:
    """Return a process's cgroup, in v1 that of the freezer."""
    return node.cgroups(pid)["freezer"]


def listens_outside(node: Host) -> bool:
    """Say whether the sshd that listens is where it was started."""
    listener = node.pid("sshd")
    assert listener
    return where(node, listener) == where(node, 1)


def notes(node: Host) -> list[str]:
    """Return the names of what account phases have left for session phases."""
    directory = node.root / NOTES
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def play(
    cluster: Cluster, lines: str, mover: str, in_job: bool, ways: Sequence[Way] = WAYS
) -> None:
    """Log in by each way; see where the shells are, and what is left of them without the jobs."""
    node = cluster.n1
    with prepared(node), contextlib.ExitStack() as opened:
        cluster.pam(stack(lines, mover))
        jobs = {user: cluster.submit(user) for user in sorted({way.user for way in ways})}
        taken = Taken(node)
        sessions = [(way, opened.enter_context(way.session(cluster))) for way in ways]
        for way, session in sessions:
            _check(node, way, session, jobs[way.user] if in_job else None)
            number = str(jobs[way.user]) if pam.sets_variables() else ""
            assert session.run("echo $SLURM_JOB_ID").strip() == number
        pids = {way: privileged(session) for way, session in sessions}
        assert taken.pids() == {(jobs[way.user], pid): 1 for way, pid in pids.items()}
        assert listens_outside(node)
        untaken = {pid for way, pid in pids.items() if KBDINT in way.method and lines == "account"}
        untaken = untaken if pam.sets_variables() else set()  # where no session line comes: none
        assert {int(name.partition("-")[0]) for name in notes(node)} & {*pids.values()} == untaken
        scancel.end(cluster, *jobs.values(), timeout=60)
        for way, session in sessions:
            if in_job:
                session.wait_gone(30)
            else:
                assert session.alive(), way


def _check(node: Host, way: Way, session: Session, expected: int | None) -> None:
    """Look at the shell, and at the sshd of root's that it comes from."""
    for pid in (session.pid, privileged(session)):
        assert job_with(node, pid) == expected, (way, node.cgroups(pid))
        assert expected is not None or where(node, pid).endswith(MOVED), (way, node.cgroups(pid))


def both_lines(cluster: Cluster) -> None:
    """Hold every login in its job where something takes it out before the session line."""
    play(cluster, "both", "before", in_job=True)


def account_line_alone(cluster: Cluster) -> None:
    """Adopt the process that becomes the session, whatever the method."""
    play(cluster, "account", "", in_job=True)


def session_line_alone(cluster: Cluster) -> None:
    """Adopt in the session phase."""
    play(cluster, "session", "before", in_job=True)


EVERYWHERE: tuple[Callable[[Cluster], None], ...] = (
    both_lines, account_line_alone, session_line_alone,
)  # fmt: skip
