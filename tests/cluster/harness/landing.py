"""Where a login lands: by the kernel's cgroups, by the module's line in the log, by its clock."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.cluster.harness import cgroups, pam
from tests.cluster.harness.login import METHODS, Result, Session, ssh_argv
from tests.cluster.harness.wait import NotInTimeError, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.cluster.harness.site import LoggedMachine, Site

COMMAND = "cat /proc/self/cgroup"
CONFINED = ("cpuset", "devices", "freezer", "memory")
COUNTED = "cpuacct"
OURS = "pam_slurm_adopt(sshd:account): "
BOUND = 20.0  # seconds of the module; what must not hang takes a fraction of this

PATIENT = ("callerid_timeout=20",)  # where an answer is expected
SILENCE = "within the time limit"
WRITTEN = 10.0  # seconds that syslogd may take to write what the module sent

UNKNOWN = ("newest", "allow", "deny")  # values of action_unknown
REFUSED = "Access denied by pam_slurm_adopt: unable to determine source job"

_STEP = re.compile(
    r"/(slurm_(?P<node>\w+)/uid_\d+|system\.slice/(?P<node2>\w+)_slurmstepd\.scope)"
    r"/job_(?P<job>\d+)/step_extern(/|$)"
)
_TOOK = re.compile(r" in (?P<ms>[0-9.]+) ms$")


@dataclass(frozen=True)
class Landing:
    """How one login went."""

    rc: int
    job: int | None  # whose extern step holds it in every confined hierarchy; None for none
    said: str  # by sshd and ssh
    lines: list[str]  # the module's, in the target's syslog

    @property
    def line(self) -> str:
        """The module's only line about it."""
        assert len(self.lines) == 1, self
        return self.lines[0]

    @property
    def seconds(self) -> float:
        """How long the module took, as it says itself."""
        found = _TOOK.search("".join(self.lines[-1:]))
        assert found, self
        return float(found["ms"]) / 1000


def ours(host: LoggedMachine, mark: Any) -> list[str]:
    """Return the module's lines in a host's log."""
    return [line for line in host.log(mark) if OURS in line]


def land(target: Host, login: Callable[[], Result], *, asked: bool = True) -> Landing:
    """Log in by a function whose command is COMMAND; look at what became of it.

    `asked`: whether our module is in the stack, so that a line of it is waited for.
    """
    return _land(target, login, lambda cgroup: job_of(target, cgroup), asked=asked)


def _land(
    target: LoggedMachine,
    login: Callable[[], Result],
    find: Callable[[str], int | None],
    *,
    asked: bool = True,
) -> Landing:
    mark = target.mark()
    result = login()
    with contextlib.suppress(NotInTimeError):  # whoever wants the line will miss it
        if asked:
            wait_for("the module's decision", lambda: _decided(ours(target, mark)), WRITTEN)
    return Landing(result.rc, find(result.out), result.out + result.err, ours(target, mark))


def _decided(lines: list[str]) -> bool:
    """Say whether the line that ends a decision is there."""
    return any(_TOOK.search(line) for line in lines)


def job_of(node: Host, cgroup: str) -> int | None:
    """Return the job that all confined hierarchies of a /proc/PID/cgroup show."""
    rows = (line.split(":", 2) for line in cgroup.splitlines() if line.count(":") >= 2)
    paths = {name: path for _, names, path in rows for name in names.split(",")}
    names = [name for name in CONFINED if name in paths] or [*paths]  # cgroup v2 has one, ""
    names += _counted(node, paths)
    jobs = {_job(node.name, paths[name]) for name in names}
    assert len(jobs) <= 1, f"in several jobs: {cgroup}"
    return jobs.pop() if jobs else None


def _counted(node: Host, paths: Mapping[str, str]) -> list[str]:
    """Return what is confined for jobacct_gather/cgroup: cpuacct, but not by every release.

    It is where the step that holds the process has a cgroup in it.
    """
    if COUNTED not in paths:
        return []
    found = _STEP.match(paths[CONFINED[0]])
    there = found and (node.root / cgroups.folder(COUNTED, found.group().rstrip("/"))).is_dir()
    return [COUNTED] if there or _STEP.match(paths[COUNTED]) else []


def _job(node: str, path: str) -> int | None:
    found = _STEP.match(path)
    return int(found["job"]) if found and node in found.group("node", "node2") else None


# From where


def from_login(site: Site, user: str = "alice") -> Landing:
    """Log in to n1 from the login node."""
    return _land(site.n1, lambda: site.ssh(user, command=COMMAND, timeout=60), site.job_of)


def from_node(cluster: Cluster, source: str, user: str = "alice") -> Landing:
    """Log in to n1 from a host, in no job there."""
    return land(cluster.n1, lambda: cluster.ssh(user, "n1", COMMAND, source=source, timeout=60))


def from_job(
    cluster: Cluster,
    job: int,
    path: Sequence[str] = ("n2", "n1"),
    target: str = "",
    *,
    asked: bool = True,
) -> Landing:
    """Log in from inside alice's job: `path` is the node where it starts, then each hop.

    `target`: how the last one is called, if not by its name. `asked`: see `land`.
    """
    hops = [*path[1:-1], target or path[-1]]
    command = [word for hop in hops for word in ("ssh", hop)]

    def login() -> Result:
        return cluster.in_job(job, "alice", path[0], [*command, COMMAND], timeout=60, check=False)

    return land(cluster.hosts[path[-1]], login, asked=asked)


def from_session(
    cluster: Cluster, session: Session, target: str = "n1", method: str = METHODS[0]
) -> Landing:
    """Log in from inside a session of alice's."""
    answer = "" if method == METHODS[0] else f"{ASKPASS} "
    argv = " ".join(ssh_argv(target, "alice", ["-n"], method))

    def login() -> Result:
        said = session.run(f"{answer}{argv} '{COMMAND}'; echo $?", timeout=90)
        out, _, rc = said.rstrip("\n").rpartition("\n")
        return Result(int(rc), out, "", 0)

    return land(cluster.hosts[target], login)


ASKPASS = "SSH_ASKPASS=/tmp/askpass SSH_ASKPASS_REQUIRE=force"


def write_askpass(host: Host) -> None:
    """Write what answers alice's ssh on a host when it asks for the password."""
    host.write("tmp/askpass", '#!/bin/sh\necho "password of alice"\n', 0o755)


# A user with several jobs


@dataclass(frozen=True)
class Scene:
    """Alice has several jobs; her session on n2 is inside the older of the two that are on n1."""

    cluster: Cluster
    inside: Session
    older: int  # on n1 and n2
    newest: int  # on n1: the newest of hers
    bobs: int  # on n1 and n2, started last of all
    elsewhere: int  # hers, on n2 only

    def options(self, *options: str) -> None:
        """Give the module on n1 these options, and time for an answer on a slow machine."""
        patient = [default for default in PATIENT if not given(default, options)]
        self.cluster.n1.pam("sshd", pam.with_module(*patient, *options))

    def from_inside(self) -> Landing:
        """Log in to n1 from the older job."""
        return from_session(self.cluster, self.inside)

    def from_login(self) -> Landing:
        """Log in to n1 from the login node."""
        return from_login(self.cluster)

    def expect(
        self, value: str, login: Callable[[], Landing], reason: str, *options: str, lines: int = 1
    ) -> Landing:
        """Log in under a value of action_unknown: it decides, soon, and the log says why."""
        self.options(f"action_unknown={value}", *options)
        landing = login()
        assert landing.job == (self.newest if value == "newest" else None), landing
        assert landing.rc == (255 if value == "deny" else 0), landing
        assert (REFUSED in landing.said) == (value == "deny"), landing
        assert len(landing.lines) == lines, landing
        assert reason in landing.lines[-1], landing
        assert value == "newest" or f"; action_unknown={value} -> " in landing.lines[-1], landing
        assert landing.seconds < BOUND, landing
        return landing

    def expect_unknown(
        self,
        login: Callable[[], Landing],
        reason: str,
        *options: str,
        lines: int = 1,
        values: Sequence[str] = UNKNOWN,
    ) -> float:
        """Log in under each value of action_unknown; return the module's longest time."""
        landings = [self.expect(value, login, reason, *options, lines=lines) for value in values]
        return max(landing.seconds for landing in landings)


def given(default: str, options: Sequence[str]) -> bool:
    """Say whether the option that a default is for is among the options."""
    name = default.partition("=")[0]
    return any(option.startswith(f"{name}=") for option in options)


def limit(reason: str) -> str:
    """Return a short time limit where silence is expected, a long one where an answer is."""
    return "callerid_timeout=1" if SILENCE in reason else PATIENT[0]


@contextlib.contextmanager
def several_jobs(cluster: Cluster) -> Iterator[Scene]:
    """Set the scene."""
    older = cluster.submit("alice", "n1,n2")
    with cluster.session("alice", "n2") as inside:
        newest = cluster.submit("alice", "n1")
        elsewhere = cluster.submit("alice", "n2")
        bobs = cluster.submit("bob", "n1,n2")
        scene = Scene(cluster, inside, older, newest, bobs, elsewhere)
        scene.options()
        yield scene
