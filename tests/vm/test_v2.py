"""cgroup v2 under systemd: the same situations, and the places that only v2 has."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.config import Settings
from tests.cluster.harness.epilog import EPILOG
from tests.cluster.harness.stopped import Stopped
from tests.cluster.harness.suites import SUITES
from tests.cluster.scenarios import affinity, job_namespaces, of_job, prologs
from tests.vm.node import JOB, SCOPE, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.login import Session

NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
FAILED = "Access denied by pam_slurm_adopt: failed to adopt process into cgroup"
LEAF = {"jobacct_gather/cgroup": "task_0", "jobacct_gather/linux": "task_special"}
COMMAND = 120  # seconds for a command in a session
BOUND = 60  # seconds; what must not hang takes a fraction of this


def say(session: Session, command: str) -> str:
    """Run a command in a session; a slow machine has time."""
    return session.run(command, COMMAND).strip()


@pytest.fixture(params=LEAF)
def gathering(node: Node, request: pytest.FixtureRequest) -> str:
    """Run with each way of gathering accounting data; return the leaf it comes to."""
    node.reconfigure(Settings(jobacct=request.param))
    return LEAF[request.param]


@pytest.mark.parametrize("method", ["publickey", "password"])
def test_one_job(node: Node, gathering: str, method: str) -> None:
    """The shell is in the job's extern step, in a leaf that may not have been there before."""
    job = node.submit("alice")
    suite = node.machine.name
    step = node.step(job)
    assert re.fullmatch(re.escape(SCOPE) + f"/{JOB[suite]}/step_extern".format(job=job), step)
    before = node.leaves(job)
    with node.session("alice", method) as session:
        assert node.machine.cgroup(session.pid) == f"{step}/user/{gathering}"
        assert say(session, "echo $SLURM_JOB_ID") == str(job)
        print(f"{step}/user/{gathering}; leaves before: {before}")


def test_ten_at_once(node: Node, gathering: str) -> None:
    """The first logins into a step are at the same instant: all are adopted, none is elsewhere.

    24.11.5 has a race of its own there: of two adoptions one removes the empty task_special under
    the other, which the stepd refuses, or dies of. Then the login is refused, by the stepd's name.
    """
    node.pam(pam.with_module("action_adopt_failure=deny"))
    job = node.submit("alice")
    step = node.step(job)
    mark = node.mark()
    with ThreadPoolExecutor(10) as pool:
        logins = [pool.submit(node.ssh, "alice", "cat /proc/self/cgroup") for _ in range(10)]
    results = [login.result() for login in logins]
    refused = [result for result in results if result.rc]
    said = [line for line in node.log(mark) if "adopt failure" in line]
    print(f"{len(refused)} of 10 refused: {said}")
    adopted = f"0::{step}/user/{gathering}\n"
    assert {result.out for result in results if result not in refused} == {adopted}
    assert all(FAILED in result.err for result in refused), refused
    assert len(said) == len(refused) == sum(f"stepd of job {job} " in line for line in said)
    assert not refused or node.machine.name == "trixie"


def test_memory(node: Node, gathering: str) -> None:
    """What takes more memory than the job has is killed."""
    assert gathering
    node.submit("alice", mem="100M")
    with node.session("alice") as session:
        assert say(session, "python3 -c 'b\"x\" * (50 << 20)'; echo $?").split()[-1] == "0"
        assert say(session, "python3 -c 'b\"x\" * (300 << 20)'; echo $?").split()[-1] == "137"


def test_device_and_cores(node: Node) -> None:
    """The session has the job's device and core, and no other."""
    node.submit("alice", gres="gpu:1")
    with node.session("alice") as session:
        assert say(session, "head -c1 /dev/fakegpu0 | wc -c") == "1"
        assert "Operation not permitted" in say(session, "head -c1 /dev/fakegpu1")
        assert say(session, "grep Cpus_allowed_list /proc/self/status").split()[1].isdecimal()


BOUND_SSHD = f"taskset -c 0 /usr/sbin/sshd -o Port={affinity.PORT} -o PidFile={affinity.PID}"


def test_cores_where_sshd_is_bound(node: Node) -> None:
    """The session has all of its job's, by either phase, though sshd has one; root has sshd's."""
    node.machine.sh(BOUND_SSHD)
    try:
        for lines in (pam.both, pam.with_module):
            node.pam(lines(*pam.PRODUCTION))
            node.submit("alice", options=["--cpus-per-task=2"])
            for user, cores in (("alice", "0-1"), ("root", "0")):
                with node.session(user, port=affinity.PORT) as session:
                    assert say(session, affinity.LOOK).split()[1] == cores
            node.cancel_all()
    finally:
        node.machine.sh(f"kill $(cat {affinity.PID})")


def test_several_jobs(node: Node) -> None:
    """From outside the newest job; from inside a job that one, as the node's slurmd says."""
    older = node.submit("alice")
    with node.session("alice") as inside:
        newest = node.submit("alice")
        node.submit("bob")
        with node.session("alice") as session:
            assert say(session, "echo $SLURM_JOB_ID") == str(newest)
            assert node.machine.cgroup(session.pid).startswith(f"{node.step(newest)}/user/")
        said = say(inside, "ssh -n n1 'echo $SLURM_JOB_ID; cat /proc/self/cgroup'").splitlines()
        assert said[0] == str(older)
        assert said[1].startswith(f"0::{node.step(older)}/user/")


def test_no_job(node: Node) -> None:
    """Refused with the text; another user's job does not count."""
    node.submit("bob")
    result = node.ssh("alice", "touch /tmp/ran")
    assert result.rc == 255
    assert NO_JOBS in result.err
    assert not node.machine.sh("ls /tmp/ran", check=False)


def test_scancel(node: Node, gathering: str) -> None:
    """The end of the job is the end of the session and of all it started, and its cgroup goes."""
    assert gathering
    job = node.submit("alice")
    step = node.step(job)
    with node.session("alice") as session:
        orphan = int(say(session, "setsid sleep 888 >&- 2>&- <&- & echo $!"))
        assert node.machine.alive(orphan)
        node.cancel(job)
        session.wait_gone(BOUND)
        assert not node.machine.alive(orphan)
        gone = f"test -d /sys/fs/cgroup{step} || echo gone"
        node.machine.wait_for(f"{step} gone", gone, node.tails)


# What the job gives to the session


def test_job_variables(node: Node) -> None:
    """CPUs and memory are the job's cgroup's, all else as in the job's own process."""
    of_job.job_variables(node)


def test_job_limits(node: Node) -> None:
    """Soft and hard limits are those of the job's own process."""
    of_job.job_limits(node)


# A job that is being set up


def test_wait_for_job(node: Node) -> None:
    """A login in the prolog is adopted once the extern step is there."""
    prologs.during_the_prolog(node)


def test_stepd_makes_its_step_ready(node: Node) -> None:
    """A login that meets the stepd before the step's last cgroup is made is adopted then."""
    plugin = prologs.slow_start(SUITES[node.machine.name].slurm)
    with job_namespaces.plugin_in_use(node, plugin):
        prologs.during_the_prolog(node)


# Stepds that do not answer


def stopped(node: Node, job: int) -> Stopped:
    """Stop the extern stepd of a job."""
    return Stopped(node.machine, str(node.stepd(job)))


@pytest.mark.parametrize(("value", "allowed"), [("allow", True), ("deny", False)])
def test_own_only_stepd_is_stopped(node: Node, value: str, allowed: bool) -> None:
    """An adoption failure, told by the processes that Slurm put into the job, not "no jobs"."""
    node.pam(pam.with_module(f"action_adopt_failure={value}"))
    job = node.submit("alice")
    with node.session("alice") as first, stopped(node, job):
        mark = node.mark()
        result = node.ssh("alice", "echo id=$SLURM_JOB_ID")
        assert (result.rc == 0) == allowed
        assert result.out.strip() == ("id=" if allowed else "")
        assert (FAILED in result.err) != allowed
        assert result.seconds < BOUND
        assert any(f"stepd of job {job} (of uid 5001)" in line for line in node.log(mark))
        assert first.alive()
    assert node.ssh("alice").rc == 0


def test_own_only_stepd_is_stopped_and_nobody_is_in(node: Node) -> None:
    """Whose job it is shows nowhere: by v2's paths nobody's."""
    job = node.submit("alice")
    with stopped(node, job):
        mark = node.mark()
        result = node.ssh("alice")
        print(result.rc, result.err, node.log(mark))
        assert any(f"stepd of job {job} (of an unknown user)" in line for line in node.log(mark))


def test_another_user_s_stepd_is_stopped(node: Node) -> None:
    """The login goes on."""
    other = node.submit("bob")
    job = node.submit("alice")
    with stopped(node, other):
        result = node.ssh("alice", "echo $SLURM_JOB_ID")
        assert result.out.strip() == str(job)
        assert result.seconds < BOUND


# The module's own write


class Standin:
    """A real job whose stepd is, for the module, one that answers without doing anything."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.machine = node.machine
        self.job = node.submit("alice")
        self.step = node.step(self.job)

    def start(self, reply: int) -> None:
        """Have it answer so, from the cgroup that the step's stepd is in."""
        spool, conf = "/run/standin", "/etc/slurm-standin"
        path = f"{spool}/{self.node.socket(self.job).rpartition('/')[2]}"
        script = """
            mkdir -p $2
            cp /etc/slurm/*.conf $2
            sed -i "s,^SlurmdSpoolDir=.*,SlurmdSpoolDir=$1," $2/slurm.conf
            echo $$ >/sys/fs/cgroup$3/slurm/cgroup.procs
            cd /checkout
            PYTHONPATH=. setsid python3 -m tests.cluster.standins.stepd $4 5001 $5 \
                >/run/standin.out 2>&1 </dev/null &
        """
        self.machine.sh(script, spool, conf, self.step, path, str(reply))
        self.machine.wait_for(
            "stand-in", f"cat {path}.pid", lambda: self.machine.read("run/standin.out")
        )
        options = (f"slurm_conf={conf}/slurm.conf", "action_adopt_failure=deny")
        self.node.pam(pam.with_module(*options))

    def stop(self) -> None:
        """End it and remove what was its."""
        self.machine.sh("kill $(cat /run/standin/*.pid); rm -r /run/standin", check=False)


@pytest.fixture
def standin(node: Node) -> Iterator[Standin]:
    """Give a real job a stand-in for its stepd."""
    found = Standin(node)
    yield found
    found.stop()


def test_what_the_stepd_left_out_is_written(node: Node, standin: Standin) -> None:
    """A 0 proves nothing: the module writes into a leaf that is there, and reads it back."""
    with node.session("alice"):  # makes the leaf, where no process was in the step before
        leaves = node.leaves(standin.job)
        standin.start(0)
        mark = node.mark()
        with node.session("alice") as session:
            assert node.machine.cgroup(session.pid) == f"{standin.step}/user/{min(leaves)}"
            assert say(session, "echo $SLURM_JOB_ID") == str(standin.job)
        assert any("it is written there" in line for line in node.log(mark))


def test_refused_means_nothing_is_written(node: Node, standin: Standin) -> None:
    """A pid that the stepd refused is written nowhere, and the login is refused."""
    standin.start(-1)
    mark = node.mark()
    result = node.ssh("alice")
    assert result.rc == 255
    assert FAILED in result.err
    assert not any("it is written there" in line for line in node.log(mark))


def test_without_a_leaf_nothing_is_made(node: Node, standin: Standin) -> None:
    """Where the step has no cgroup for processes, none is made: the login is refused."""
    before = node.leaves(standin.job)
    standin.start(0)
    result = node.ssh("alice")
    assert (result.rc == 255) == (not before)
    assert (FAILED in result.err) == (not before)
    assert node.leaves(standin.job) == before


# Paths by job id where SLUIDs are the default


def test_job_id_paths(node: Node) -> None:
    """`CgroupJobIdPaths=yes` of 26.05 brings the job's id back into the path."""
    if node.machine.name == "sid":
        node.reconfigure(Settings(cgroup_conf="CgroupJobIdPaths=yes\n"))
    job = node.submit("alice")
    with node.session("alice") as session:
        expected = f"{SCOPE}/job_{job}/step_extern/user/task_0"
        assert node.machine.cgroup(session.pid) == expected


UNIT = "etc/systemd/system/slurmd.service.d/slice.conf"


@pytest.fixture
def slice_of_jobs(node: Node) -> Iterator[str]:
    """Have Slurm in a slice of its own, where it knows `CgroupSlice` (25.11); return its name."""
    if node.machine.name != "sid":
        yield "system.slice"
        return
    node.cancel_all()
    stop = "systemctl stop slurmd slurmctld; systemctl stop '*slurmstepd.scope'"
    node.machine.sh(stop)
    node.machine.sh(f"mkdir -p /{UNIT.rpartition('/')[0]}")
    node.machine.write(UNIT, "[Service]\nSlice=jobs.slice\n")
    node.machine.sh("systemctl daemon-reload")
    node.reconfigure(Settings(cgroup_conf="CgroupSlice=jobs.slice\n"))
    yield "jobs.slice"
    node.cancel_all()
    node.machine.sh(stop)
    node.machine.sh(f"rm /{UNIT}; systemctl daemon-reload")
    node.reconfigure(Settings())


def test_another_slice(node: Node, slice_of_jobs: str) -> None:
    """The step is where its stepd is; the session is in it, and goes with the job."""
    job = node.submit("alice")
    step = node.step(job)
    assert step.startswith(f"/{slice_of_jobs}/n1_slurmstepd.scope/")
    with node.session("alice") as session:
        assert node.machine.cgroup(session.pid) == f"{step}/user/task_0"
        node.cancel(job)
        session.wait_gone(BOUND)


def test_epilog_ends_what_a_dead_stepd_has_left(node: Node) -> None:
    """The session and what it has started; the job's cgroup has a name of its own on 26.05."""
    machine = node.machine
    machine.write("etc/slurm/epilog", EPILOG)
    machine.sh("chown root:root /etc/slurm/epilog; chmod 755 /etc/slurm/epilog")
    machine.sh('echo "Epilog=/etc/slurm/epilog" >>/etc/slurm/slurm.conf')
    machine.sh("systemctl restart slurmctld slurmd")
    try:
        node.wait_idle()
        job = node.submit("alice")
        step = node.step(job)
        with node.session("alice") as session:
            sleeping = say(session, "setsid sleep 999 >&- 2>&- <&- & echo $!")
            assert machine.cgroup(int(sleeping)).startswith(f"{step}/user/")
            mark = node.mark()
            machine.sh(f"kill -KILL {node.stepd(job)}")
            node.cancel(job)
            gone = f"kill -0 {sleeping} 2>&- || echo gone"
            machine.wait_for("what the session had started gone", gone, node.tails)
        lines = [line for line in node.log(mark) if line.startswith("slurm_adopt.epilog: ")]
        assert len(lines) == 1, lines
        assert f"left something in {step}/user: " in lines[0]
        node.wait_idle()
    finally:
        machine.sh("sed -i /^Epilog/d /etc/slurm/slurm.conf; systemctl restart slurmctld slurmd")
        node.wait_idle()
