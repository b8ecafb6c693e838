"""The ssh sessions on this node, by its processes: whose, where from, in which job.

An authenticated login of OpenSSH 7 to 10 is a process of root's, `sshd` or `sshd-session`, that has
made one of the user's with the same program. A login of uid 0 has root's alone. The one that
listens, and those that have not authenticated, are told by their titles, which sshd itself sets.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli import processes
from slurm_adopt.cli.accounts import name_of, uid_of
from slurm_adopt.cli.checks.host import LateError
from slurm_adopt.cli.deadlines import ENDS
from slurm_adopt.node.ssh_connection import socket_inodes
from slurm_adopt.slurm.cgroup import paths
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import PROC, peer, read, start_time
from slurm_adopt.slurm.stepd import step_sockets

from . import sockets
from .places import Places

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_adopt.cli.processes import Process
    from slurm_adopt.node.slurm_site import SlurmSite
    from slurm_adopt.node.ssh_connection import Connection

    from .places import Place

PROGRAMS = ("sshd", "sshd-session")
_TITLE = re.compile(
    r"(?:sshd|sshd-session): (?P<user>[^\[/].*?)"
    r"(?:@(?P<terminal>(?:notty|internal-sftp|pts/\d+|tty\w+)(?:,(?:pts/\d+|tty\w+))*))?"
    r"(?P<before> \[\w+\])?"  # [priv], [postauth] of root's process; [net], [pam], [accepted]
)
SHOWN = 5  # pids in a line
NO_TERMINAL = ("notty", "internal-sftp", None)

# Where a session is, if it is not wholly in a job of its user's.
ROOT, NO_JOB, ENDED, IN_PART, FOREIGN = "root", "no job", "job ended", "in part", "foreign job"
UNKNOWN = "not known"
NO_CGROUPS = "jobs do not show: Slurm makes no cgroups on this node"


class Login(NamedTuple):
    """One authenticated login: root's process, and the user's own that it has made."""

    pid: int  # of root's process, which the module has adopted
    inner: int | None  # of the user's; None for a login of uid 0
    uid: int
    user: str
    terminal: str


@dataclass
class Session:
    """One ssh session."""

    login: Login
    pids: list[int]
    memory: int  # bytes
    place: Place
    elsewhere: list[int] = field(default_factory=list)  # its processes that are in another place
    since: float = 0.0  # seconds since the epoch; 0: not known
    connection: Connection | None = None
    cpu: float | None = None  # seconds
    outside: str = ""  # one of those above
    why: str = ""
    how: str = ""  # how its job was chosen
    job_id: int | None = None

    @property
    def displaced(self) -> bool:
        """Whether it, or a part of it, is not wholly in a job."""
        place = self.place
        return bool(self.elsewhere or place.missing or not (place.job or self.login.uid == 0))

    @property
    def is_outside(self) -> bool:
        """Whether it is a user's, and not wholly in a job of the user's."""
        return self.outside not in ("", ROOT, UNKNOWN)


# Which there are


def title(pid: int, proc: str = PROC) -> re.Match[str] | None:
    """Return the title that sshd has given a process, taken apart; of sshd's processes only."""
    text = read(f"{proc}/{pid}/cmdline").rstrip(b"\0 ").decode("utf-8", "surrogateescape")
    return _TITLE.fullmatch(text)


def logins(found: dict[int, Process], proc: str = PROC) -> list[Login]:
    """Return the authenticated logins among processes, in the order of their pids.

    Those of a container's sshd are none of this host's.
    """
    daemons = [one for one in found.values() if one.program in PROGRAMS and not one.nested]
    hidden = 1 not in found  # root's processes, by hidepid
    unprivileged = uid_of("sshd")
    with_user: dict[int, Login] = {}
    for one in daemons:
        parent = found.get(one.parent)
        own = hidden if parent is None else parent.program in PROGRAMS and parent.is_root
        if own and one.parent > 1 and one.uid not in (None, 0, unprivileged):
            named = title(one.pid, proc)
            if not (named and named["before"] == " [net]"):
                with_user[one.parent] = _login(one.parent, one, named)
    alone = [
        _alone(one, found, proc) for one in daemons if one.is_root and one.pid not in with_user
    ]
    return sorted([*with_user.values(), *filter(None, alone)])


def _login(pid: int, inner: Process, named: re.Match[str] | None) -> Login:
    uid = inner.uids[0]
    user = named["user"] if named else name_of(uid)
    return Login(pid, inner.pid, uid, user, _terminal(named))


def _alone(process: Process, found: dict[int, Process], proc: str) -> Login | None:
    """Return a login that has no process of the user's beside root's: uid 0, and old settings.

    Since OpenSSH 9.8 root's login has two processes, too.
    """
    named = title(process.pid, proc)
    if not named or named["before"]:
        return None
    uid = uid_of(named["user"])
    if uid is None:
        return None
    top = found.get(process.parent)
    above = title(top.pid, proc) if top and top.is_root and top.program in PROGRAMS else None
    if top and above and above["before"] and above["user"] == named["user"]:
        return Login(top.pid, process.pid, uid, named["user"], _terminal(named))
    return Login(process.pid, None, uid, named["user"], _terminal(named))


def _terminal(named: re.Match[str] | None) -> str:
    terminal = named["terminal"] if named else None
    return "" if terminal in NO_TERMINAL else str(terminal)


# Their jobs


class Jobs:
    """Which jobs this node has, by the sockets of their extern steps; looked up once."""

    def __init__(self, site: Callable[[], SlurmSite], places: Places) -> None:
        """`site`: where this node's Slurm is; nothing is looked at yet."""
        self._site = site
        self._places = places
        self._node = ""
        self._steps: dict[int, list[str]] | None = None
        self._by_name: dict[str, int] | None = None
        self._alive: dict[int, bool] = {}
        self._without_cgroups = False
        self.remark = ""  # why nothing is known of jobs; "" where something is

    def steps(self) -> dict[int, list[str]]:
        """Return the sockets of extern steps by job; none where this node's Slurm is not found."""
        if self._steps is None:
            self._steps = {}
            try:
                site = self._site()
                self._node = site.name
                for step in step_sockets.extern_steps(site.spool, site.name):
                    self._steps.setdefault(step.job_id, []).append(step.path)
                self._without_cgroups = site.layout() is None
            except (SetupError, LateError) as error:
                self.remark = f"whether jobs have ended is not known: {error}"
        return self._steps

    def without_cgroups(self) -> bool:
        """Say whether Slurm makes none here, by which a process's job would show."""
        self.steps()
        return self._without_cgroups

    def job_id(self, place: Place) -> int | None:
        """Return the id of the job that a process is in; None where it does not show."""
        if place.job_id is not None or not place.job:
            return place.job_id
        return self._named().get(place.job)

    def _named(self) -> dict[str, int]:
        """Return the job id by the name of a job's cgroup: that is where its stepd is, on v2."""
        if self._by_name is None:
            self._by_name = {}
            for job_id, sockets_of_job in self.steps().items():
                for pid in filter(None, map(_listener, sockets_of_job)):
                    self._by_name[self._places.of(pid).job] = job_id
        return self._by_name

    def runs(self, place: Place) -> bool | None:
        """Say whether the job that a process is in still has its stepd; None: not known."""
        steps = self.steps()
        if self.remark or not self._of_this_node(place):
            return None
        job_id = self.job_id(place)
        if job_id is None:
            return False
        if job_id not in self._alive:
            self._alive[job_id] = any(map(step_sockets.listens, steps.get(job_id, [])))
        return self._alive[job_id]

    def _of_this_node(self, place: Place) -> bool:
        """Say whether the job is of the node that was looked at: a host may have several."""
        names = {name for path in place.paths.values() for name in path.split("/")}
        return not names.isdisjoint(paths.tops(self._node) + paths.scopes(self._node))


def _listener(path: str) -> int:
    """Return the pid of who listens on a stepd's socket; 0 for nobody."""
    asked = step_sockets.new_socket()
    try:
        asked.setblocking(False)
        asked.connect(path)
        return peer(asked)[0]
    except OSError:
        return 0
    finally:
        asked.close()


# All that is shown of them


class Sight(NamedTuple):
    """The sessions of a node, and what does not show of them."""

    sessions: list[Session]
    jobs: Jobs
    remarks: list[str]


def look(site: Callable[[], SlurmSite], uid: int | None = None, proc: str = PROC) -> Sight:
    """Return the sessions of this node, or those of a uid.

    `site`: where this node's Slurm is.
    """
    found, jobs, sessions = judged(site, uid, proc)
    remarks = [_fill_ends(sessions, proc), jobs.remark, _ask(sessions, found, proc)]
    return Sight(sessions, jobs, list(filter(None, remarks)))


def judged(
    site: Callable[[], SlurmSite], uid: int | None = None, proc: str = PROC
) -> tuple[dict[int, Process], Jobs, list[Session]]:
    """Return all processes, jobs, and sessions without what is read in sockets and by a child."""
    found, sessions = _gathered(uid, proc)
    if any(one.displaced for one in sessions):
        sleep(ENDS)
        before = {one.login: one for one in sessions}
        found, sessions = _gathered(uid, proc)
        for one in sessions:
            _confirm(one, before.get(one.login))
    jobs = Jobs(site, Places(proc=proc))
    for one in sessions:
        _judge(one, jobs)
    return found, jobs, sessions


def _gathered(uid: int | None, proc: str) -> tuple[dict[int, Process], list[Session]]:
    """Return all processes, and the sessions with their processes and places."""
    found, places = processes.listed(proc), Places(proc=proc)
    every = logins(found, proc)
    children, of_session = processes.below(found.values()), _by_session(found)
    boot, tops = processes.boot_time(proc), {one.pid for one in every}
    sessions = []
    for one in every:
        if uid not in (None, one.uid):
            continue
        pids = processes.tree(one.pid, children, tops)
        pids += _left(pids, one, found, of_session)
        there = [pid for pid in pids if pid in found]
        place = places.of(one.inner or one.pid)
        where = {pid: places.of(pid) for pid in there}
        sessions.append(
            Session(
                one,
                sorted(there),
                sum(found[pid].memory for pid in there),
                place,
                elsewhere=sorted(
                    pid for pid, its in where.items() if its.paths and not its.same_as(place)
                ),
                since=processes.started(start_time(one.inner or one.pid, proc), boot),
            )
        )
    return found, sessions


def _confirm(one: Session, before: Session | None) -> None:
    """Believe that something is outside where it was before, too.

    cgroup v1 shows a process that is just ending in no cgroup (kernel/cgroup/cgroup.c,
    proc_cgroup_show), and a login is outside for an instant before it is adopted.
    """
    if before is None:
        return
    was_in = before.place.job and not before.place.missing
    if was_in and not one.place.same_as(before.place):
        one.place = before.place
        one.elsewhere = before.elsewhere
    one.elsewhere = sorted({*one.elsewhere} & {*before.elsewhere} & {*one.pids})


def _by_session(found: dict[int, Process]) -> dict[int, list[int]]:
    by: dict[int, list[int]] = {}
    for one in found.values():
        by.setdefault(one.session, []).append(one.pid)
    return by


def _left(
    pids: list[int], login: Login, found: dict[int, Process], of_session: dict[int, list[int]]
) -> list[int]:
    """Return the user's processes that the tree has lost: setsid(2) tells where they come from."""
    inside = set(pids)
    begun = (pid for pid in pids if pid in found and found[pid].session == pid)
    lost = (pid for session in begun for pid in of_session.get(session, ()))
    return [pid for pid in lost if pid not in inside and found[pid].uid == login.uid]


def _fill_ends(sessions: list[Session], proc: str) -> str:
    """Note which connection each session has come by; return a remark."""
    inodes = {one.login.pid: socket_inodes(f"{proc}/{one.login.pid}/fd") for one in sessions}
    known, remark = sockets.connections(inodes, proc)
    for one in sessions:
        one.connection = known.get(one.login.pid)
    hidden = os.geteuid() and any(not each for each in inodes.values())
    return "addresses do not show: only root sees what sshd has open" if hidden else remark


def _judge(one: Session, jobs: Jobs) -> None:
    """Say whether a session is where it belongs."""
    place, uid = one.place, one.login.uid
    if not place.job:
        one.outside = NO_JOB if uid else ROOT
        one.why = "" if uid else "root is not adopted"
        if uid and jobs.without_cgroups():
            one.outside = UNKNOWN
            one.why = NO_CGROUPS
        return
    one.job_id = jobs.job_id(place)
    job = f"job {place.job if one.job_id is None else one.job_id}"
    if uid and place.uid is not None and place.uid != uid:
        one.outside, one.why = FOREIGN, f"{job} is {name_of(place.uid)}'s"
    elif jobs.runs(place) is False:
        one.outside, one.why = ENDED, f"{job} has ended and has left it"
    elif place.missing:
        one.outside = IN_PART
        one.why = f"in {job}, but not in its {', '.join(place.missing)}"
    elif one.elsewhere:
        shown = " ".join(map(str, one.elsewhere[:SHOWN]))
        more = " …" if one.elsewhere[SHOWN:] else ""
        one.outside, one.why = IN_PART, f"not wholly in {job}: process {shown}{more}"


def _ask(sessions: list[Session], found: dict[int, Process], proc: str) -> str:
    """Note CPU time, and what shows why a session is in no job; return a remark."""
    shells = {}
    for one in sessions:
        if one.outside == NO_JOB:
            own = [pid for pid in one.pids if found[pid].parent == one.login.inner]
            shells[one.login.pid] = own[:1]
    timed = [pid for one in sessions for pid in one.pids]
    asked = processes.ask(timed, [pid for pids in shells.values() for pid in pids], proc)
    for one in sessions:
        if asked:
            one.cpu = sum(asked.seconds.get(pid, 0.0) for pid in one.pids)
        if one.outside == NO_JOB:
            said = asked and "".join(asked.said_jobs.get(pid, "") for pid in shells[one.login.pid])
            one.why = _why_outside(one.place, said or "")
    return "" if asked else "CPU time does not show: a process blocks its readers"


def _why_outside(place: Place, said_job: str) -> str:
    """Say why a user's session may be in no job; what its environment says is a hint, no proof."""
    where = f"in {place.outside}" if place.outside != "/" else "in no cgroup"
    if said_job:
        return f"moved away, if it was in job {said_job} as its SLURM_JOB_ID says: {where}"
    return f"let in by an option or another PAM module: {where}"
