"""What keeps the module from deciding or adopting: the option that governs it, text, log line."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import cgroups, pam
from tests.cluster.harness.cluster import BATCH, Settings
from tests.cluster.harness.login import METHODS
from tests.cluster.harness.stopped import Stopped
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

NO_JOBS = "you have no active jobs on this node"
GENERIC = "No Slurm jobs found on node."
FAILED = "failed to adopt process into cgroup, denying access because action_adopt_failure=deny"
BOUND = 20  # seconds; what must not hang takes a fraction of this

# value of action_generic_failure -> whether the user gets in (after it, common-account allows)
GENERIC_VALUES = {"auto": False, "ignore": True, "allow": True, "deny": False, "dney": False}


def lines(cluster: Cluster, mark: int) -> list[str]:
    """Return the module's lines in n1's syslog."""
    return [line for line in cluster.n1.log(mark) if "pam_slurm_adopt(sshd:account)" in line]


@pytest.fixture
def no_package(cluster: Cluster) -> Iterator[None]:
    """Take the package away from n1."""
    cluster.n1.run(["mv", "/opt/slurm_adopt/src", "/opt/slurm_adopt/away"])
    yield
    cluster.n1.run(["mv", "/opt/slurm_adopt/away", "/opt/slurm_adopt/src"])


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize(("value", "allowed"), GENERIC_VALUES.items())
def test_package_missing(cluster: Cluster, value: str, allowed: bool) -> None:
    cluster.pam(pam.with_module(f"action_generic_failure={value}"))
    mark = cluster.n1.mark()
    assert (cluster.ssh("alice").rc == 0) == allowed
    (line,) = lines(cluster, mark)
    assert "authpriv.err" in line
    assert "No module named 'slurm_adopt'" in line


@pytest.mark.usefixtures("no_package")
def test_package_missing_default(cluster: Cluster) -> None:
    assert cluster.ssh("alice").rc == 255  # slurmd runs here
    cluster.pam(pam.stack(pam.OURS + " service=login action_generic_failure=deny"))
    assert cluster.ssh("alice").rc == 0  # not our service


# (lines added to slurm.conf or None for no file, what the log says)
SETUPS = [
    (None, "cannot read /etc/slurm-test/slurm.conf: No such file or directory"),
    ("SlurmdSpoolDir=/nowhere", "cannot read the spool directory /nowhere: No such file"),
    ("SlurmdSpoolDir=/etc/passwd", "cannot read the spool directory /etc/passwd: Not a directory"),
    ("Include /nowhere.conf", "cannot read /nowhere.conf"),
    ("Include slurm.conf", "includes itself"),
]


@pytest.mark.parametrize(("value", "allowed"), GENERIC_VALUES.items())
@pytest.mark.parametrize(("conf", "said"), SETUPS)
def test_not_set_up(
    cluster: Cluster, conf: str | None, said: str, value: str, allowed: bool
) -> None:
    """A generic failure, not "no jobs", and the log says what to do."""
    cluster.n1.run(["rm", "-rf", "/etc/slurm-test"])
    if conf is not None:
        text = cluster.n1.read("etc/slurm/slurm.conf") + conf + "\n"
        cluster.n1.write("etc/slurm-test/slurm.conf", text)
    options = ("slurm_conf=/etc/slurm-test/slurm.conf", f"action_generic_failure={value}")
    expect_generic_failure(cluster, options, said, allowed)


@pytest.mark.parametrize(("value", "allowed"), GENERIC_VALUES.items())
def test_node_name_unknown(cluster: Cluster, value: str, allowed: bool) -> None:
    text = cluster.n1.read("etc/slurm/slurm.conf").replace("NodeName=n[1-2]", "NodeName=x[1-2]")
    cluster.n1.write("etc/slurm-test/slurm.conf", text)
    options = ("slurm_conf=/etc/slurm-test/slurm.conf", f"action_generic_failure={value}")
    expect_generic_failure(cluster, options, "set nodename=NAME", allowed)
    # one job here: its socket carries the name
    job = cluster.submit("alice")
    assert cluster.ssh("alice", command="echo $SLURM_JOB_ID").out.strip() == str(job)


def expect_generic_failure(
    cluster: Cluster, options: tuple[str, ...], said: str, allowed: bool
) -> None:
    cluster.pam(pam.with_module(*options))
    mark = cluster.n1.mark()
    result = cluster.ssh("alice")
    assert (result.rc == 0) == allowed
    assert (GENERIC in result.err) != allowed
    decision = lines(cluster, mark)[-1]
    assert "generic failure" in decision
    assert said in decision
    assert "authpriv.err" in decision


def test_no_slurm_conf_in_the_usual_places(cluster: Cluster) -> None:
    cluster.n1.run(["mv", "/etc/slurm/slurm.conf", "/etc/slurm/away"])
    try:
        options = ("action_generic_failure=deny",)
        expect_generic_failure(
            cluster, options, "no slurm.conf in any of /etc/slurm/", allowed=False
        )
    finally:
        cluster.n1.run(["mv", "/etc/slurm/away", "/etc/slurm/slurm.conf"])


def test_idle_node_is_no_jobs(cluster: Cluster) -> None:
    """A readable spool directory without any step is not a failure."""
    mark = cluster.n1.mark()
    assert cluster.ssh("alice").rc == 255
    assert "no jobs: no job on this node; action_no_jobs=deny" in lines(cluster, mark)[-1]


# Stepds that do not answer


def stopped(cluster: Cluster, job: int) -> Stopped:
    """Stop the extern stepd of a job."""
    pattern = rf"^slurmstepd: \[{job}\.extern\]"
    return Stopped(cluster.n1, cluster.n1.run(["pgrep", "-f", pattern]).stdout.strip())


MANY = 12  # stepds: asked one after the other, with 2 s for each, they would take longer than BOUND


def test_another_user_s_stepds_are_stopped(cluster: Cluster) -> None:
    """The login goes on after one short bound that all silent stepds share."""
    others = [cluster.submit("bob", mem="10M") for _ in range(MANY)]
    job = cluster.submit("alice")
    with contextlib.ExitStack() as all_of_them:
        for other in others:
            all_of_them.enter_context(stopped(cluster, other))
        mark = cluster.n1.mark()
        result = cluster.ssh("alice", command="echo $SLURM_JOB_ID", timeout=60)
        assert result.out.strip() == str(job)
        assert result.seconds < BOUND
        refused = cluster.ssh("carol", timeout=60)
        assert refused.rc == 255
        assert refused.seconds < BOUND
    for other in others:
        stepd = f"stepd of job {other} (of uid 5002): does not answer"
        assert sum(stepd in line for line in lines(cluster, mark)) == 2


@pytest.mark.parametrize(("value", "allowed"), [("allow", True), ("deny", False)])
def test_own_only_stepd_is_stopped(cluster: Cluster, value: str, allowed: bool) -> None:
    """An adoption failure, not "no jobs"."""
    cluster.pam(pam.with_module(f"action_adopt_failure={value}"))
    job = cluster.submit("alice")
    with stopped(cluster, job):
        mark = cluster.n1.mark()
        result = cluster.ssh("alice", command="echo id=$SLURM_JOB_ID", timeout=60)
        assert (result.rc == 0) == allowed
        assert result.out.strip() == ("id=" if allowed else "")
        assert (FAILED in result.err) != allowed
        assert result.seconds < BOUND
        assert "does not answer" in lines(cluster, mark)[-1]
    assert cluster.ssh("alice").rc == 0


def test_stepd_that_crashed(cluster: Cluster) -> None:
    """A socket that nobody listens on any more is no job, and stays where it is."""
    job = cluster.submit("alice")
    cluster.n1.run(["pkill", "-KILL", "-f", rf"^slurmstepd: \[{job}\.extern\]"])
    result = cluster.ssh("alice")
    assert result.rc == 255
    assert NO_JOBS in result.err
    assert cluster.socket("n1", job).is_socket()
    cluster.socket("n1", job).unlink()


# A site's own words

OWN_WORDS = "Dear %u, on %h: %m (jobs: %j)\n"
PROMPTED = 1000  # characters; sshd cuts off what goes through keyboard-interactive a little later


@pytest.mark.parametrize("method", METHODS)
def test_own_words(cluster: Cluster, method: str) -> None:
    """Shown whole to a user who is refused; by keyboard-interactive not much of a long text."""
    lines_of_text = "".join(f"line {number} of the site's own words\n" for number in range(90))
    cluster.n1.write("etc/refused", OWN_WORDS + lines_of_text)
    cluster.pam(pam.with_module("message=/etc/refused"))
    first = f"Dear alice, on n1: Access denied by pam_slurm_adopt: {NO_JOBS} (jobs: none)\n"
    shown = first + lines_of_text
    result = cluster.ssh("alice", method=method)
    assert result.rc == 255
    if method == "keyboard-interactive":
        assert shown[:PROMPTED] in result.err
        assert shown[: PROMPTED + 100] not in result.err
    else:
        assert shown in result.err
    cluster.n1.write("etc/refused", OWN_WORDS)
    result = cluster.ssh("alice", method=method)
    assert result.rc == 255
    assert result.err.count(first) == 1
    cluster.submit("alice")
    assert "Dear" not in cluster.ssh("alice", method=method).err


# Proctrack without cgroups

# (TaskPlugin, what confines the session, what the log says of it, what it does not say)
WORD = "only the stepd's answer says that this session ends with the job"
NOTHING = "only the stepd's answer says that this session is in the job; nothing confines"
LINUXPROC = [
    ("task/affinity,task/cgroup", ("cpuset", "devices", "memory"), WORD, NOTHING),
    ("task/none", (), NOTHING, WORD),
]


@pytest.mark.parametrize(
    ("task", "confined", "said", "unsaid"), LINUXPROC, ids=[row[0] for row in LINUXPROC]
)
def test_linuxproc(
    cluster: Cluster, task: str, confined: tuple[str, ...], said: str, unsaid: str
) -> None:
    """The stepd's word is the proof of what the kernel does not show, and the log says so."""
    settings = Settings(
        jobacct="jobacct_gather/linux",
        slurm_conf=f"ProctrackType=proctrack/linuxproc\nTaskPlugin={task}\n",
    )
    cluster.reconfigure(settings)
    try:
        cluster.pam(pam.with_module("action_adopt_failure=deny"))
        job = cluster.submit("alice")
        mark = cluster.n1.mark()
        with cluster.session("alice") as session:
            assert session.run("echo $SLURM_JOB_ID").strip() == str(job)
            found = cluster.n1.cgroups(session.pid)
            step = cgroups.of_extern_step("n1", 5001, job)
            inside = {name for name in cgroups.CONFINING if found[name].startswith(step)}
            assert inside == set(confined)
            assert found["freezer"] == "/"
        log = "\n".join(lines(cluster, mark))
        assert log.count(f"ProctrackType does not use cgroups: {said}") == 1
        assert unsaid not in log
    finally:
        cluster.cancel_all()
        cluster.reconfigure(Settings())


def test_no_extern_steps_for_want_of_contain(cluster: Cluster) -> None:
    """Jobs without PrologFlags=contain count as no jobs, and the log says why."""
    cluster.reconfigure(Settings(slurm_conf="PrologFlags=Alloc"))
    try:
        argv = ["sbatch", "--parsable", "--output=/dev/null", "--nodelist=n1", "--chdir=/tmp"]
        job = int(cluster.login.run(argv, "alice", input="#!/bin/sh\nsleep 300\n").stdout)
        wait_for("the batch step", cluster.socket("n1", job, BATCH).is_socket, 20)
        mark = cluster.n1.mark()
        result = cluster.ssh("alice")
        assert result.rc == 255
        assert NO_JOBS in result.err
        said = [line for line in lines(cluster, mark) if "set PrologFlags=contain" in line]
        assert len(said) == 1
        assert "authpriv.err" in said[0]
    finally:
        cluster.reconfigure(Settings())


def test_wrong_nodename(cluster: Cluster) -> None:
    """Jobs of another node name are none, and the log says whose sockets are there."""
    cluster.pam(pam.with_module("nodename=n11"))
    cluster.submit("alice")
    mark = cluster.n1.mark()
    assert cluster.ssh("alice").rc == 255
    said = [
        line for line in lines(cluster, mark) if "belong to node n1, but this host is taken" in line
    ]
    assert len(said) == 1
    assert "authpriv.err" in said[0]
