"""What a login changes in sshd: what is documented, and nothing else.

A module for pam_python records what sshd's process is like right before our line and right after it
(inside/recorder.py), in both phases and by both fronts.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import cgroups, config, pam
from tests.cluster.inside import recorder
from tests.cluster.scenarios import affinity, job_namespaces, of_job, x11
from tests.cluster.scenarios.login_methods import KBDINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

    Site = contextlib.AbstractContextManager[tuple[str, ...]]  # yields what ssh is told
    Records = list[tuple[str, dict[str, str], dict[str, str]]]  # phase, before, after

RECORDER = "optional pam_python.so /checkout/tests/cluster/inside/recorder.py"
CPUS = os.cpu_count() or 0
PHASES = {"account": ["account"], "both": ["account", "session"], "session": ["session"]}

# What a login may change in sshd, and which page says so; all else stays as it is.
DOCUMENTED = {
    "cgroup": "the job's: docs/explanation/design.md, 6. Adoption",
    "Cpus_allowed_list": "the job's: docs/explanation/design.md, 6. Adoption",
    "PAM environment": "variables: docs/how-to/environment-and-limits.md; not by pam_exec",
    "limits": "job_limits=1: docs/how-to/environment-and-limits.md; by a session line",
    "namespace mnt": "join_container: docs/how-to/namespaces.md; not by pam_exec",
    "mountinfo": "the same",
    "shared objects": "job_limits=1: Python's `resource` stays mapped; not by pam_exec",
}
NOT_BY_PAM_EXEC = {name for name, why in DOCUMENTED.items() if why.endswith("not by pam_exec")}
NOT_BY_PAM_EXEC.add("mountinfo")


@dataclass(frozen=True)
class Case:
    """A login, and what changes in sshd: names of DOCUMENTED."""

    name: str
    site: Callable[[Cluster], Site]
    options: tuple[str, ...] = pam.PRODUCTION
    user: str = "alice"
    method: str = "publickey"
    source: str = "login"
    admitted: bool = True
    adopted: bool = True
    adoption: frozenset[str] = frozenset({"cgroup"})  # in the phase that adopts
    session: frozenset[str] = frozenset()  # by a session line, beside that

    def changes(self, front: str, lines: str, phase: str) -> set[str]:
        """Return what our line of a phase changes."""
        if not self.adopted:
            return set()
        adopts = phase == PHASES[lines][-1] and (self.method, lines) != (KBDINT, "account")
        found = set(self.adoption) if adopts else set()
        found |= self.session if phase == "session" else set()
        found |= {"PAM environment"} if phase == PHASES[lines][0] else set()  # SLURM_JOB_ID
        return found - NOT_BY_PAM_EXEC if front == "pam_exec" else found


@contextlib.contextmanager
def nothing(_: Cluster) -> Iterator[tuple[str, ...]]:
    yield ()


@contextlib.contextmanager
def job(cluster: Cluster, user: str = "alice") -> Iterator[tuple[str, ...]]:
    """Have a job with all CPUs, so that these stay."""
    cluster.submit(user, cpus=CPUS)
    yield ()


def root_s_job(cluster: Cluster) -> Site:
    return job(cluster, "root")


@contextlib.contextmanager
def two_jobs(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Have two jobs with a CPU each; the slurmd of the source has to be asked."""
    for _ in range(2):
        cluster.submit("alice", mem="50M")
    yield ()


@contextlib.contextmanager
def without_package(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    with job(cluster):
        cluster.n1.run(["mv", "/opt/slurm_adopt/src", "/opt/slurm_adopt/away"])
        try:
            yield ()
        finally:
            cluster.n1.run(["mv", "/opt/slurm_adopt/away", "/opt/slurm_adopt/src"])


@contextlib.contextmanager
def frozen(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    number = cluster.submit("alice", cpus=CPUS)
    step = cgroups.of_extern_step("n1", config.USERS["alice"], number)
    file = f"{cgroups.folder('freezer', step)}/freezer.state"
    cluster.n1.write(file, "FROZEN")
    try:
        yield ()
    finally:
        cluster.n1.write(file, "THAWED")


@contextlib.contextmanager
def with_x11(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    job_of_all_cpus = x11.job(cluster, ("salloc",), "--x11", f"--cpus-per-task={CPUS}")
    with x11.display(cluster), job_of_all_cpus:
        yield ()


@contextlib.contextmanager
def with_limits(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    of_job.job(cluster, "ulimit -n 300; exec sleep 900", cpus=CPUS)
    yield ()


@contextlib.contextmanager
def bound_sshd(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    with job(cluster), affinity.bound_sshd(cluster.n1) as there:
        yield there


@contextlib.contextmanager
def with_namespaces(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    (plugin,) = job_namespaces.PLUGINS["22.05"]
    with job_namespaces.plugin_in_use(cluster, plugin), job(cluster):
        yield ()


CPUS_TOO = frozenset({"cgroup", "Cpus_allowed_list"})
MOUNTS_TOO = frozenset({"cgroup", "namespace mnt", "mountinfo"})
LIMITS_TOO = frozenset({"limits", "shared objects", "PAM environment"})
ALL_ON = ("log_level=debug5", "reference=1", "welcome=1", "user_choice=1", "message=/etc/motd")
OF_JOB = (*pam.PRODUCTION, "job_env=all", "job_limits=1")
ROOT_TOO = ("ignore_root=0",)
LET_IN = ("action_no_jobs=ignore", "action_suspended=allow", "action_generic_failure=allow")
# fmt: off
CASES = (
    Case("adopted", job),
    Case("one prompt", job, method=KBDINT),
    Case("all that can be on", job, (*pam.PRODUCTION, *ALL_ON)),
    Case("two jobs", two_jobs, source="n2", adoption=CPUS_TOO),
    Case("no jobs", nothing, ALL_ON, admitted=False, adopted=False),
    Case("no jobs, one prompt", nothing, method=KBDINT, admitted=False, adopted=False),
    Case("no jobs, let in", nothing, LET_IN, adopted=False),
    Case("job suspended", frozen, admitted=False, adopted=False),
    Case("job suspended, let in", frozen, LET_IN, adopted=False),
    Case("root", nothing, ROOT_TOO, "root", adopted=False),
    Case("root in a job", root_s_job, ROOT_TOO, "root"),
    Case("package missing", without_package, admitted=False, adopted=False),
    Case("package missing, let in", without_package, LET_IN, adopted=False),
    Case("X11", with_x11, session=frozenset({"PAM environment"})),
    Case("variables and limits", with_limits, OF_JOB, session=LIMITS_TOO),
    Case("sshd with some CPUs", bound_sshd, adoption=CPUS_TOO),
    Case("namespaces", with_namespaces, adoption=MOUNTS_TOO),
)
# fmt: on


def recorded(line: str) -> list[str]:
    """Return a line with the recorder before it and after it."""
    phase = line.partition(" ")[0]
    return [f"{phase} {RECORDER} before", line, f"{phase} {RECORDER} after"]


def stack(lines: str, front: str, options: tuple[str, ...]) -> list[str]:
    """Return sshd's stack with our account line, session line or both, without a guard for root."""
    by_exec = front == "pam_exec"  # it enters no namespaces: without this it is an adoption failure
    options = (*options, "join_container=false") if by_exec else options
    line = " ".join((pam.EXEC if by_exec else pam.OURS, *options))
    session = recorded(line.replace("account", "session", 1)) if lines != "account" else []
    return [*pam.stack(*(recorded(line) if lines != "session" else ())), *session]


def records(node: Host) -> Records:
    """Return what was recorded since the last time."""
    file = recorder.FILE
    text = node.run(["sh", "-c", f"touch {file}; cat {file}; rm {file}"]).stdout
    return [ast.literal_eval(line) for line in text.splitlines()]


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    assert before.keys() == after.keys()
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


OWN = re.compile(r"\S+ auth\.\w+ sshd\[\d+\]: ")  # clock, facility.level, ident and pid
BY_SYSLOG = re.compile(rf"\S+ (\S+ \S+) {re.escape(recorder.LINE)}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_login_changes(cluster: Cluster, case: Case) -> None:
    """In sshd's process, by each line of ours and each front."""
    with case.site(cluster) as there:
        for front, (lines, phases) in itertools.product(pam.FRONTS, PHASES.items()):
            cluster.n1.pam("sshd", stack(lines, front, case.options))
            found, log = logged_in(cluster, case, there)
            reached = phases if case.admitted else phases[:1]
            assert [phase for phase, *_ in found] == reached, log
            for phase, before, after in found:
                changes = changed(before, after)
                assert changes.keys() == case.changes(front, lines, phase), (phase, changes)
            check_log(log, len(found))


def logged_in(cluster: Cluster, case: Case, there: tuple[str, ...]) -> tuple[Records, list[str]]:
    """Return what is recorded at a login, and the log.

    On a machine with much to do the module may not be sure that the stack was there before the
    login began: that one adopts in the account phase, and is not looked at.
    """
    log = ["has changed since"]
    found: Records = []
    while any("has changed since" in line for line in log):
        records(cluster.n1)
        mark = cluster.n1.mark()
        result = cluster.ssh(
            case.user, source=case.source, method=case.method, options=there, timeout=60
        )
        assert (result.rc == 0) == case.admitted, result
        found, log = records(cluster.n1), cluster.n1.log(mark)
    return found, log


def check_log(log: list[str], found: int) -> None:
    """See that syslog(3) has the ident, pid and facility that sshd has given it."""
    by_syslog = [line[1] for line in map(BY_SYSLOG.fullmatch, log) if line]
    assert len(by_syslog) == 2 * found
    assert all(re.fullmatch(r"auth\.notice sshd\[\d+\]:", said) for said in by_syslog), by_syslog
    own = [line for line in log if "pam_" not in line and recorder.LINE not in line]
    assert [line for line in own if not OWN.match(line)] == []
    assert log.index(own[-1]) > max(i for i, line in enumerate(log) if recorder.LINE in line)


MOUNT = "mkdir -p /mnt/proc /mnt/run; for at in proc run; do mount --bind /$at /mnt/$at; done"


def test_each_damage_is_seen(cluster: Cluster) -> None:
    """What is done to a process on purpose shows in a record, or in the log."""
    node = cluster.n1
    damages = [recorded(f"account {RECORDER} damage {name}") for name in recorder.DAMAGES]
    lines = [line for three in damages for line in three]
    node.pam("sshd", pam.stack(*lines, "account requisite pam_deny.so"))
    node.run(["sh", "-ec", MOUNT])
    try:
        records(node)
        mark = node.mark()
        assert cluster.ssh("alice").rc == 255
        found, log = records(node), node.log(mark)
    finally:
        node.run(["umount", "/mnt/proc", "/mnt/run"])
    seen = {name for name, (_, *both) in zip(recorder.DAMAGES, found) if name in changed(*both)}
    assert recorder.DAMAGES.keys() - seen == {recorder.IN_LOG}
    first, then, *_ = [line[1] for line in map(BY_SYSLOG.fullmatch, log) if line]
    assert re.fullmatch(r"auth\.notice sshd\[\d+\]:", first)
    assert then == "authpriv.notice left:"
