"""Ours beside other account modules, in real logins: administrators, users and root, each way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.driver import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

CONFINED = ("cpuset", "devices", "freezer", "memory")


@pytest.fixture(autouse=True)
def administrators(cluster: Cluster) -> Iterator[None]:
    """Make carol an administrator: she is in the group wheel."""
    with pam.guide_s_files(cluster.n1):
        yield
    cluster.n1.run(["rm", "-f", "/run/nologin"])


REFUSED = (False, 0)


def logs_in(cluster: Cluster, user: str) -> tuple[bool, int]:
    """Return whether a login gets in, and the number of the job that it is adopted into, or 0."""
    result = cluster.ssh(user, command="cat /proc/self/cgroup; echo job=$SLURM_JOB_ID")
    if result.rc:
        return REFUSED
    paths, _, job = result.out.rpartition("job=")
    assert jobs_in(paths) == {job.strip()}
    assert "pam_slurm_adopt" not in result.err
    return True, int(job.strip() or 0)


def jobs_in(paths: str) -> set[str]:
    """Return the jobs in whose extern steps the confined hierarchies have a process; "" for none.

    A process that is in a job in one of them and not in another gives two.
    """
    found = cgroups(paths)
    steps = (re.search(r"/job_(\d+)/step_extern(?:/|$)", found[name]) for name in CONFINED)
    return {step[1] if step else "" for step in steps}


def administrators_alone() -> list[str]:
    """Return the stack of administrators whose account phase has nothing else in it."""
    admins = pam.ADMINS.replace("[success=2 default=ignore]", "sufficient")
    head, *rest = pam.alone()
    return [head, admins, *rest, *pam.administrators()[1]]


STACKS = {
    "required": pam.both,
    "others decide": pam.others_decide,
    "administrators alone": administrators_alone,
    **pam.GUIDE,
}

# (stack, user, whether the user has a job here, whether the login is let in, adopted if so)
ROWS = [
    ("required", "alice", False, False, False),
    ("required", "alice", True, True, True),
    ("required", "carol", False, False, False),
    ("required", "root", False, True, False),
    ("required", "root", True, True, False),
    ("others decide", "alice", False, False, False),
    ("others decide", "alice", True, True, True),
    ("others decide", "carol", False, True, False),
    ("others decide", "carol", True, True, True),
    ("others decide", "root", False, True, False),
    ("others decide", "root", True, True, False),
    ("administrators", "alice", False, False, False),
    ("administrators", "alice", True, True, True),
    ("administrators", "carol", False, True, False),
    ("administrators", "carol", True, True, False),
    ("administrators", "root", False, True, False),
    ("administrators", "root", True, True, False),
    ("administrators alone", "alice", False, False, False),
    ("administrators alone", "alice", True, True, True),
    ("administrators alone", "carol", False, True, False),
    ("administrators alone", "carol", True, True, False),
    ("administrators alone", "root", False, True, False),
    ("listfile", "alice", False, False, False),
    ("listfile", "alice", True, True, True),
    ("listfile", "bob", False, False, False),
    ("listfile", "bob", True, False, False),
    ("listfile", "root", False, True, False),
    ("listfile", "root", True, True, False),
    ("where installed", "alice", False, False, False),
    ("where installed", "alice", True, True, True),
    ("where installed", "root", False, True, False),
    ("where installed", "root", True, True, False),
]


@pytest.mark.parametrize(("stack", "user", "has_job", "let_in", "adopted"), ROWS)
def test_stack(
    cluster: Cluster, stack: str, user: str, has_job: bool, let_in: bool, adopted: bool
) -> None:
    cluster.n1.pam("sshd", STACKS[stack]())
    job = cluster.submit(user) if has_job else 0
    assert logs_in(cluster, user) == (let_in, job if adopted else 0)


def test_a_session_line_decides_where_no_account_line_did(cluster: Cluster) -> None:
    """Whom a jump over our account line lets in, the session line has not heard of."""
    stack = pam.GUIDE["administrators"]()
    cluster.n1.pam("sshd", [line for line in stack if line != pam.SESSION_ADMINS])
    assert cluster.ssh("carol").rc == 254
    job = cluster.submit("carol")
    assert logs_in(cluster, "carol") == (True, job)


# (account line of ours, whether users get in where pam_python.so is not installed)
ABSENT = [
    (pam.OURS, False),
    ("-" + pam.OURS, False),  # the dash alone only keeps PAM from logging it
    (pam.where_installed()[0][-1], True),
]


@pytest.mark.parametrize(("line", "let_in"), ABSENT)
def test_pam_python_is_absent(cluster: Cluster, line: str, let_in: bool) -> None:
    cluster.n1.pam("sshd", pam.stack(pam.ROOT_GUARD, line))
    cluster.n1.run(["mv", "/lib/security/pam_python.so", "/lib/security/away.so"])
    try:
        assert logs_in(cluster, "alice") == (let_in, 0)
        assert logs_in(cluster, "root") == (True, 0)
    finally:
        cluster.n1.run(["mv", "/lib/security/away.so", "/lib/security/pam_python.so"])


@pytest.mark.parametrize("has_job", [False, True])
def test_nologin(cluster: Cluster, has_job: bool) -> None:
    """A node that is closed keeps users out with and without a job, and lets root in."""
    if has_job:
        cluster.submit("alice")
    cluster.n1.write("run/nologin", "closed\n")
    assert logs_in(cluster, "alice") == REFUSED
    assert logs_in(cluster, "root") == (True, 0)


# What the other lines refuse administrators for -> commands that bring it about, and end it
CLOSED = {
    "node closed": ("echo closed >/run/nologin", "rm /run/nologin"),
    "account expired": ("chage -E 1 carol", "chage -E -1 carol"),
}


@pytest.mark.parametrize("reason", CLOSED)
def test_administrators_are_asked_by_other_lines(cluster: Cluster, reason: str) -> None:
    begin, end = CLOSED[reason]
    cluster.n1.pam("sshd", pam.GUIDE["administrators"]())
    cluster.n1.run(["sh", "-ec", begin])
    refused = cluster.ssh("carol").rc
    cluster.n1.run(["sh", "-ec", end])
    assert refused == 255
    assert logs_in(cluster, "carol") == (True, 0)
