"""The job's variables and limits in the session, as the job's own processes have them."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import cgroups, pam, scancel
from tests.cluster.harness.cluster import BATCH, Settings
from tests.cluster.harness.host import end
from tests.cluster.harness.login import ssh_argv
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_methods, of_job
from tests.cluster.scenarios.of_job import (
    OF_PROCESS,
    OWN,
    STRICT,
    cpus,
    env,
    job,
    limits,
    of_session,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

BOUND = 20  # seconds; what must not hang takes a fraction of this


def known_here(number: int) -> dict[str, str]:
    """Return what a session has where no process of the job shows more."""
    return {"SLURM_JOB_ID": f"{number}", "SLURM_JOB_UID": "5001",
            "SLURM_JOB_USER": "alice", "SLURMD_NODENAME": "n1"}  # fmt: skip


@pytest.fixture(autouse=True)
def everything(cluster: Cluster) -> None:
    """Ask for all variables and the limits, in both phases."""
    cluster.pam(pam.both(*STRICT, "job_env=all,TMPDIR", "job_limits=1"))


def test_batch_job(cluster: Cluster) -> None:
    of_job.job_variables(cluster)


def test_only_what_is_named(cluster: Cluster) -> None:
    """Of a group with all that belongs to it."""
    cluster.pam(pam.both(*STRICT, "job_env=SLURM_JOB_NAME,SLURM_MEM_PER_CPU,SLURM_JOBID"))
    number, _ = job(cluster, "exec sleep 900", mem="123M")
    expected = {"SLURM_JOB_ID": f"{number}", "SLURM_JOB_NAME": "job", "SLURM_MEM_PER_NODE": "123",
                "SLURM_JOBID": f"{number}", "SLURM_NODELIST": "n1", "SLURM_NNODES": "1",
                "SLURM_TASKS_PER_NODE": "1"}  # fmt: skip
    assert of_session(cluster) == expected


def test_default(cluster: Cluster) -> None:
    cluster.pam(pam.both(*STRICT))
    number, _ = job(cluster, "ulimit -n 300; exec sleep 900")
    assert of_session(cluster) == {"SLURM_JOB_ID": f"{number}"}
    assert cluster.ssh("alice", command="ulimit -n").out.strip() != "300"


@pytest.mark.parametrize("lines", ["account", "session", "both"])
def test_either_line(cluster: Cluster, lines: str) -> None:
    options = (*STRICT, "job_env=all")
    account = pam.stack() if lines == "session" else pam.with_module(*options)
    cluster.pam([*account, *(pam.session_lines(*options) if lines != "account" else [])])
    number, _ = job(cluster, "exec sleep 900")
    for method in ("publickey", "keyboard-interactive"):
        found = of_session(cluster, method=method)
        assert (found["SLURM_JOB_ID"], found["SLURM_JOB_NAME"]) == (f"{number}", "job")


# Allocations: at first without a process of the user's on the node


def test_allocation(cluster: Cluster) -> None:
    """Own knowledge; and more as soon as a step runs, the lowest first. Logins are no source."""
    number = cluster.submit("alice", mem="123M")
    expected = known_here(number) | {"SLURM_CPUS_ON_NODE": cpus(cluster, number)}
    login = [*ssh_argv("n1", "alice"), "exec env SLURM_JOB_NAME=login sleep 900"]
    with sleeping(cluster, login):
        assert of_session(cluster) == expected
    with step(cluster, number, "first"), step(cluster, number, "second"):
        found = of_session(cluster)
        assert found["TMPDIR"] == "/first"
        assert found["SLURM_NODELIST"] == "n1"
        assert {name: value for name, value in found.items() if name in expected} == expected


def step(cluster: Cluster, number: int, name: str) -> contextlib.AbstractContextManager[None]:
    """Have a step run in the job, with a TMPDIR of its own name."""
    command = ["srun", f"--jobid={number}", "--overlap", "--mem=10M", "-n1",
               "sh", "-c", f"TMPDIR=/{name} exec sleep 900"]  # fmt: skip
    return sleeping(cluster, command)


@contextlib.contextmanager
def sleeping(cluster: Cluster, command: list[str]) -> Iterator[None]:
    """Run a command of alice's on the login node that makes one more `sleep` of hers on n1."""

    def count() -> str:
        return cluster.n1.run(["pgrep", "-u", "alice", "-xc", "sleep"], check=False).stdout

    before = count()
    running = cluster.login.popen(command, "alice", stdin=subprocess.DEVNULL)
    try:
        wait_for(f"{command} sleeps on n1", lambda: count() != before, details=cluster.tails)
        yield
    finally:
        end(running)


@pytest.fixture
def interactive_step(cluster: Cluster) -> Iterator[None]:
    """Have salloc start its shell as a step on the node."""
    cluster.reconfigure(Settings(slurm_conf="LaunchParameters=use_interactive_step\n"))
    yield
    cluster.reconfigure(Settings())


@pytest.mark.usefixtures("interactive_step")
def test_interactive_step(cluster: Cluster) -> None:
    command = ["script", "-qc", "salloc --nodelist=n1 --mem=123M", "/dev/null"]
    salloc = cluster.login.popen(
        command, "alice", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        find = ["pgrep", "-u", "alice", "-x", "bash"]
        wait_for("its shell runs", lambda: cluster.n1.run(find, check=False).stdout)
        found = of_session(cluster)
    finally:
        end(salloc)
    assert found["SLURM_JOB_NAME"] == "interactive"


def test_allocation_inside_the_job(cluster: Cluster) -> None:
    """A process of the job that has another job's variables is not the one that counts."""
    oldest = "exec env SLURM_JOB_ID=999999 SLURM_JOB_NAME=first sleep 900"
    job(cluster, f"env SLURM_JOB_NAME=own sleep 901 & {oldest}")
    assert of_session(cluster)["SLURM_JOB_NAME"] == "own"


# What a job may have in its environment

HOSTILE = {
    "SLURM_JOB_NAME": "a\nLD_PRELOAD=/tmp/x.so",
    "SLURM_JOB_PARTITION": "() { :; }; touch /tmp/ran",
    "SLURM_SUBMIT_DIR": "/tmp/$(touch /tmp/ran)",
    "SLURM_JOB_NODELIST": "n" * 100_000,
    "SLURM_NNODES": "1;reboot",
    "SLURM_JOB_ACCOUNT": "caf\u00e9",
    "SLURM_JOB_QOS": "\x1b[2J",
    "CUDA_VISIBLE_DEVICES": "`id`",
    "TMPDIR": "relative",
}
NEVER = {
    "LD_PRELOAD": "/tmp/x.so",
    "LD_LIBRARY_PATH": "/tmp",
    "PYTHONPATH": "/tmp",
    "BASH_ENV": "/tmp/evil",
    "ENV": "/tmp/evil",
    "IFS": "x",
    "BASH_FUNC_ls%%": "() { touch /tmp/ran; }",
    "SLURM_JOB_EVIL": "x",
}
FORGED = {
    "SLURM_JOB_ID": "999999",
    "SLURM_JOB_USER": "root",
    "SLURM_JOB_UID": "0",
    "SLURMD_NODENAME": "n2",
    "SLURM_JOBID": "999999",
    "SLURM_CPUS_ON_NODE": "9999",
}
EXEC = """\
exec python3 - <<'END'
import os
os.execve("/bin/sleep", ["sleep", "900"], dict(os.environ) | {added!r})
END
"""


def test_hostile_values(cluster: Cluster) -> None:
    """What does not follow its pattern is left out, and said so; the rest is as in the job."""
    number, pid = job(cluster, EXEC.format(added=HOSTILE | NEVER | FORGED), mem="123M")
    assert "() { touch" in cluster.n1.read(f"proc/{pid}/environ")
    mark = cluster.n1.mark()
    result = cluster.ssh("alice", command="env -0")
    found = env(result.out, "\0")
    assert not found.keys() & (HOSTILE.keys() | NEVER.keys())
    assert {name: found[name] for name in OWN & found.keys()} == known_here(number)
    assert found["SLURM_CPUS_ON_NODE"] == cpus(cluster, number)
    assert found["SLURM_CLUSTER_NAME"] == "adopt"
    said = [line for line in cluster.n1.log(mark) if "left out, since the job has them" in line]
    assert [line.rpartition(": ")[2].split() for line in said] == [sorted(HOSTILE)]  # once
    assert not (cluster.n1.root / "tmp/ran").exists()


def test_environment_beyond_its_bound(cluster: Cluster) -> None:
    """More than a megabyte of it: that process is not a source, the login goes on."""
    added = {f"X{number}": "x" * 100_000 for number in range(12)}
    number, _ = job(cluster, EXEC.format(added=added))
    found = of_session(cluster)
    assert found.keys() & OF_PROCESS == set()
    assert found["SLURM_JOB_ID"] == f"{number}"


# Whose process counts


def enter_batch_step(cluster: Cluster, number: int, pid: int) -> None:
    """Bring a process into the cgroups of the job's batch step."""
    of_step = cgroups.of_job("n1", 5001, number) + "/step_batch"
    script = """
    for file in $(find /sys/fs/cgroup -path "*$0/*" -name cgroup.procs); do
        case $file in */user/cgroup.procs | */slurm/cgroup.procs) ;; *) echo $1 >$file ;; esac
    done
    """
    cluster.n1.run(["sh", "-ec", script, of_step, str(pid)])


# A copy of sleep that runs with other rights than the user's: not a source.
SETUID = "/opt/sleep"


@pytest.fixture
def setuid(cluster: Cluster) -> None:
    cluster.n1.run(["install", "-m", "4755", "/bin/sleep", SETUID])


@pytest.mark.usefixtures("setuid")
def test_setuid_program(cluster: Cluster) -> None:
    number, pid = job(cluster, f"exec {SETUID} 900")
    uids = cluster.n1.run(["grep", "^Uid:", f"/proc/{pid}/status"]).stdout.split()[1:]
    assert uids == ["5001", "0", "0", "0"]
    found = of_session(cluster)
    assert found.keys() & OF_PROCESS == set()
    assert found["SLURM_JOB_ID"] == f"{number}"


@pytest.mark.usefixtures("setuid")
@pytest.mark.parametrize(("program", "name"), [("sleep", "hers"), (SETUID, None)])
def test_process_of_another_user(cluster: Cluster, program: str, name: str | None) -> None:
    """A process of bob's in alice's job is older than hers and names her job: it never counts."""
    before = cluster.submit("alice")
    named = [f"SLURM_JOB_ID={before + 1}", "SLURM_JOB_NAME=of bob"]
    bobs = cluster.n1.popen(["env", *named, "sleep", "800"], "bob", stdin=subprocess.DEVNULL)
    try:
        find = ["pgrep", "-u", "bob", "-xf", "sleep 800"]
        wait_for("bob's process runs", lambda: cluster.n1.run(find, check=False).stdout)
        pid = int(cluster.n1.run(find).stdout)
        number, _ = job(cluster, f"exec {program} 900", name="hers")
        assert number == before + 1
        scancel.end(cluster, before)
        enter_batch_step(cluster, number, pid)
        assert f"job_{number}/step_batch" in cluster.n1.cgroups(pid)["freezer"]
        assert of_session(cluster).get("SLURM_JOB_NAME") == name
    finally:
        end(bobs)


def test_stopped_batch_stepd(cluster: Cluster) -> None:
    """The login takes a bounded time, has what the module knows itself, and the log says why."""
    number, _ = job(cluster, "ulimit -n 300; exec sleep 900", mem="123M")
    find = ["pgrep", "-xf", rf"slurmstepd: \[{number}.batch\]"]
    stepd = cluster.n1.run(find).stdout.strip()
    cluster.n1.run(["kill", "-STOP", stepd])
    try:
        mark = cluster.n1.mark()
        result = cluster.ssh("alice", command="env; ulimit -n")
        said = " ".join(cluster.n1.log(mark))
    finally:
        cluster.n1.run(["kill", "-CONT", stepd])
    assert result.rc == 0, result.err
    assert result.seconds < BOUND
    found = env(result.out)
    assert known_here(number).items() <= found.items()
    assert "SLURM_CPUS_ON_NODE" in found
    assert not found.keys() & OF_PROCESS
    assert result.out.split()[-1] != "300"
    assert f"step n1_{number}.{BATCH}: stepd of job {number} does not answer" in said


# A process that holds up for ever who reads its stat or environ: it is in execve(2), which closes a
# file on a file system that does not answer.
HANGING = """\
ulimit -n 300
exec python3 -c 'import os; os.open("/mnt/file", os.O_CLOEXEC); os.execl("/bin/true", "true")'
"""
STATES = """\
cd /proc; for pid in [0-9]*; do
    read -r name <$pid/comm && state=$(grep -s ^State: $pid/status) && echo $name $state
done 2>/dev/null || true  # the last of them has ended
"""


@pytest.fixture
def hanging(cluster: Cluster) -> Iterator[int]:
    """Return the id of a job of alice's with such a process, its only one."""
    n1 = cluster.n1
    n1.run(["sh", "-c", "test -e /dev/fuse || mknod /dev/fuse c 10 229"])
    argv = ["python3", "/checkout/tests/cluster/standins/fuse.py", "/mnt"]
    server = n1.popen(argv, stdout=subprocess.PIPE)
    try:
        assert server.stdout
        assert server.stdout.readline() == "mounted\n"
        number = cluster.submit("alice", script=HANGING, mem="123M")
        assert server.stdout.readline() == "closing\n"
        reader = n1.popen(["sh", "-c", "exec cat /proc/[0-9]*/environ >/dev/null"])
        wait_for("who reads it waits", lambda: states(cluster, "D") == ["cat"])
        end(reader)
        wait_for("it has gone", lambda: not states(cluster, "D") + states(cluster, "Z"))
        yield number
    finally:
        end(server)
        n1.run(["umount", "--lazy", "/mnt"])


def states(cluster: Cluster, state: str) -> list[str]:
    """Return the names of the processes in a state, without reading what would hold us up."""
    lines = [line.split() for line in cluster.n1.run(["sh", "-c", STATES]).stdout.splitlines()]
    return [line[0] for line in lines if line[2] == state]


@pytest.mark.parametrize("method", ["publickey", "keyboard-interactive"])
def test_process_that_holds_up_who_reads_it(cluster: Cluster, hanging: int, method: str) -> None:
    """The login takes a bounded time, the log says why, and nobody is left behind."""
    mark = cluster.n1.mark()
    result = cluster.ssh("alice", command="env; ulimit -n", method=method)
    assert result.rc == 0, result.err
    assert result.seconds < BOUND
    found = env(result.out)
    assert known_here(hanging).items() <= found.items()
    assert "SLURM_CPUS_ON_NODE" in found
    assert not found.keys() & OF_PROCESS
    said = [line for line in cluster.n1.log(mark) if "cannot read its processes" in line]
    assert len(said) == 1, said  # in the session phase, which adopts
    assert all(f"step n1_{hanging}.{BATCH}: cannot read its processes (" in line for line in said)
    assert all("timed out after" in line for line in said)
    with cluster.session("alice", method=method):
        assert states(cluster, "D") + states(cluster, "Z") == []


def test_limits_of_a_process_that_holds_up_who_reads_it(cluster: Cluster, hanging: int) -> None:
    """They are read without waiting for it, where its variables are not wanted."""
    cluster.pam(pam.both(*STRICT, "job_env=SLURM_CPUS_ON_NODE", "job_limits=1"))
    mark = cluster.n1.mark()
    result = cluster.ssh("alice", command="env; ulimit -n")
    assert env(result.out)["SLURM_JOB_ID"] == f"{hanging}"
    assert result.out.split()[-1] == "300"
    assert "cannot read its processes" not in " ".join(cluster.n1.log(mark))


SIGNALS = "grep -E '^(SigPnd|ShdPnd|SigBlk|SigIgn|SigCgt):' /proc/$0/status"


@pytest.mark.parametrize("method", ["publickey", "keyboard-interactive"])
def test_signals_of_sshd(cluster: Cluster, method: str) -> None:
    """What reads the variables leaves none pending, blocked, ignored or caught that was not."""
    job(cluster, "exec sleep 900")
    seen = []
    for options in (["job_env=SLURM_JOB_ID"], ["job_env=all"]):
        cluster.pam(pam.both(*STRICT, *options))
        with cluster.session("alice", method=method) as session:
            pid = login_methods.privileged(session)
            seen.append(cluster.n1.run(["sh", "-c", SIGNALS, str(pid)]).stdout)
            children = cluster.n1.run(["pgrep", "-c", "-P", str(pid)]).stdout
            assert children == "1\n"
    assert seen[0] == seen[1]


# Limits


def test_more_than_resource_takes(cluster: Cluster) -> None:
    """A limit that is neither a number of 63 bits nor unlimited keeps no other from being set."""
    number, _ = job(cluster, f"ulimit -n 300; exec prlimit --data={1 << 63} sleep 900")
    mark = cluster.n1.mark()
    assert limits(cluster) == ["300", "300"]
    assert limits(cluster, "-d") == ["unlimited"] * 2
    assert of_session(cluster)["SLURM_JOB_ID"] == f"{number}"
    assert "limits are left as they are" not in " ".join(cluster.n1.log(mark))


def test_limits(cluster: Cluster) -> None:
    of_job.job_limits(cluster)


@pytest.fixture
def limits_conf(cluster: Cluster) -> Iterator[None]:
    """Have pam_limits give alice soft and hard limits of her own."""
    before = cluster.n1.read("etc/security/limits.conf")
    cluster.n1.write("etc/security/limits.conf", "alice soft nofile 350\nalice hard nofile 500\n")
    yield
    cluster.n1.write("etc/security/limits.conf", before)


# (limits of the job, limits of the session)
WITH_PAM_LIMITS = [
    (("300", "400"), ["300", "400"]),
    (("450", "1000"), ["450", "500"]),
    (("1000", "1000"), ["500", "500"]),
]


@pytest.mark.usefixtures("limits_conf")
@pytest.mark.parametrize(("of_job", "expected"), WITH_PAM_LIMITS)
def test_never_above(cluster: Cluster, of_job: tuple[str, str], expected: list[str]) -> None:
    """The hard limit that pam_limits has left is not exceeded."""
    job(cluster, f"ulimit -S -n {of_job[0]}; ulimit -H -n {of_job[1]}; exec sleep 900")
    assert limits(cluster) == expected


@pytest.mark.usefixtures("limits_conf")
def test_account_line_alone_sets_no_limits(cluster: Cluster) -> None:
    cluster.pam(pam.with_module(*STRICT, "job_env=all", "job_limits=1"))
    job(cluster, "ulimit -n 300; exec sleep 900")
    assert of_session(cluster)["SLURM_JOB_NAME"] == "job"
    assert limits(cluster) == ["350", "500"]


def test_limits_that_sshd_could_not_live_with(cluster: Cluster) -> None:
    """Where a job has hardly anything, logins still work, and copy a file beyond its file size."""
    job(
        cluster,
        "ulimit -n 9; ulimit -v 30000; ulimit -d 20000; ulimit -s 200; ulimit -t 3; ulimit -f 0; "
        "exec sleep 900",
    )
    assert limits(cluster) == ["256", "256"]
    assert limits(cluster, "-v") == [str(1 << 19)] * 2
    assert "unlimited" in limits(cluster, "-t")
    with cluster.session("alice") as session:
        session.run("head -c 3000000 /dev/zero >/tmp/of-session; sync")
        copied = cluster.login.run(["scp", "-q", "n1:/tmp/of-session", "/tmp/copied"], "alice")
        assert copied.returncode == 0
        assert (cluster.login.root / "tmp/copied").stat().st_size == 3_000_000
