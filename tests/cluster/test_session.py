"""The session line in real logins: held in the job, adopted there, let through, refused."""

from __future__ import annotations

import contextlib
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.landing import job_of
from tests.cluster.harness.login import ssh_argv
from tests.cluster.harness.traces import odd, processes, traces
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_methods, of_job
from tests.cluster.scenarios.basic import LOOK, NO_JOBS, landed
from tests.cluster.scenarios.login_methods import (
    ONE_PROMPT,
    PUBLIC_KEY,
    WAYS,
    Taken,
    Way,
    job_with,
    where,
)
from tests.cluster.scenarios.standin_step import CONF, Standin, standin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.login import Result

__all__ = ["standin"]  # pytest finds it here

# (our lines, where in the session phase something moves the session, whether it is in the job)
ROWS = [
    ("account", "", True),
    ("account", "after", False),
    ("both", "", True),
    ("both", "before", True),
    ("both", "after", False),
    ("session", "before", True),
    ("session", "after", False),
]
TWICE = pytest.mark.parametrize("way", [PUBLIC_KEY, ONE_PROMPT], ids=lambda way: way.name)


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with n1 prepared for the stacks of `phases`."""
    with login_methods.prepared(cluster.n1):
        yield cluster


def logs_in(cluster: Cluster, way: Way = PUBLIC_KEY, command: str = LOOK) -> Result:
    return cluster.ssh(way.user, command=command, method=way.method, options=way.options)


@pytest.mark.parametrize(("lines", "mover", "in_job"), ROWS)
def test_where_the_shell_is(cluster: Cluster, lines: str, mover: str, in_job: bool) -> None:
    login_methods.play(cluster, lines, mover, in_job, WAYS if in_job else (PUBLIC_KEY, ONE_PROMPT))


# Accounting


BURNED = {"alice": 1, "bob": 2}  # seconds of CPU time, by each session of a user


def test_charged_once(node: Cluster) -> None:
    """What the sessions of every method burn is charged to their jobs, and not twice.

    sstat of 22.05 and 24.11 shows the same where a stepd is asked twice: what tells is its log.
    """
    node.pam(login_methods.stack("both", "before"))
    jobs = {user: node.submit(user, cpus=2) for user in BURNED}
    taken = Taken(node.n1)
    with contextlib.ExitStack() as opened:
        sessions = [opened.enter_context(way.session(node)) for way in WAYS]
        for way, session in zip(WAYS, sessions):
            session.send(f"sh -c 'ulimit -t {BURNED[way.user]}; while :; do :; done'\n")
        for session in sessions:
            session.run("", timeout=60)
        for user, job in jobs.items():
            burned = sum(BURNED[user] for way in WAYS if way.user == user)
            wait_for("enough charged", partial(is_charged, node, job, burned / 2), 20)
            assert charged(node, job) <= burned * 1.3 + 1
        assert [*taken.pids().values()] == [1] * len(WAYS)


def is_charged(cluster: Cluster, job: int, seconds: float) -> bool:
    return charged(cluster, job) >= seconds


def charged(cluster: Cluster, number: int) -> int:
    """Return the CPU seconds that a job's extern step has been charged."""
    argv = ["sstat", "-nP", "-j", f"{number}.extern", "--format=TresUsageInTot%60"]
    usage = cluster.login.run(argv).stdout.strip()
    hours, minutes, seconds = usage.partition("cpu=")[2].partition(",")[0].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


# What users can write

USER_ENV = "session required pam_env.so user_readenv=1"
EVIL = "/tmp/evil"
FORGED = f"""\
SLURM_CONF DEFAULT={EVIL}/slurm.conf
SSH_CONNECTION DEFAULT="10.78.0.3 22 10.78.0.2 22"
LD_PRELOAD DEFAULT={EVIL}/evil.so
PYTHONPATH DEFAULT={EVIL}
PYTHONSTARTUP DEFAULT={EVIL}/psutil.py
"""


def with_user_env(lines: str, *options: str) -> list[str]:
    """Return a stack in which users write the environment that our session line sees."""
    stack = login_methods.stack(lines, "", *options)
    index = stack.index(pam.SESSION_GUARD)
    return [*stack[:index], USER_ENV, *stack[index:]]


def write_user_env(cluster: Cluster, text: str) -> None:
    cluster.n1.write("home/alice/.pam_environment", text + "\n")


@pytest.fixture
def user_env(node: Cluster) -> Iterator[Cluster]:
    """Take away what a test has written for alice."""
    yield node
    node.n1.run(["rm", "-rf", "/home/alice/.pam_environment", EVIL])


def test_the_environment_only_selects_among_own_jobs(user_env: Cluster) -> None:
    """SLURM_JOB_ID of a session line alone selects; else nothing of the environment counts."""
    cluster, node = user_env, user_env.n1
    older, newest = cluster.submit("alice"), cluster.submit("alice")
    bobs, elsewhere = cluster.submit("bob", "n1,n2"), cluster.submit("alice", "n2")
    for name in ("psutil", "pwd", "slurm_adopt"):
        node.write(f"{EVIL}/{name}.py", f"open('{EVIL}/ran', 'w')\n", 0o644)
    node.run(["chmod", "777", EVIL])
    said = {
        str(older): older,
        str(bobs): newest,
        str(elsewhere): newest,
        "0": newest,
        f"-{older}": newest,
        "9" * 4000: newest,
        f"{older}x": newest,
    }
    cluster.pam(with_user_env("session"))
    for word, expected in said.items():
        write_user_env(cluster, f"{FORGED}SLURM_JOB_ID DEFAULT={word}")
        result = logs_in(cluster, command=f"{LOOK}; echo conf=$SLURM_CONF")
        assert landed(result.out, "n1") == expected, (word, result)
        assert f"conf={EVIL}/slurm.conf" in result.out  # it was read
    cluster.pam(with_user_env("both"))
    for way in (PUBLIC_KEY, ONE_PROMPT):
        for number in (older, bobs):
            write_user_env(cluster, f"{FORGED}SLURM_JOB_ID DEFAULT={number}")
            assert landed(logs_in(cluster, way).out, "n1") == newest
    assert not (node.root / f"{EVIL}/ran".lstrip("/")).exists()


@TWICE
@pytest.mark.parametrize("lines", ["both", "session"])
def test_somebody_else_s_job_opens_nothing(user_env: Cluster, lines: str, way: Way) -> None:
    """Without a job of one's own there is no way in, and let in means not adopted."""
    cluster = user_env
    bobs = cluster.submit("bob")
    write_user_env(cluster, f"SLURM_JOB_ID DEFAULT={bobs}")
    cluster.pam(with_user_env(lines))
    refused = logs_in(cluster, way)
    assert refused.rc == (254 if lines == "session" else 255)
    assert not refused.out.startswith("job")
    taken = Taken(cluster.n1)
    cluster.pam(with_user_env(lines, "action_no_jobs=ignore"))
    with way.session(cluster) as session:
        assert job_with(cluster.n1, session.pid) is None
        assert where(cluster.n1, session.pid) == where(cluster.n1, 1)
    assert cluster.ssh("root", command="cat /proc/self/cgroup").out.count("step_extern") == 0
    assert not taken.pids()


# Without adoption


@pytest.mark.parametrize("lines", ["both", "session"])
def test_root_is_in_no_job(node: Cluster, lines: str) -> None:
    """Root gets in, is not adopted, and nothing is asked or left for it."""
    node.submit("alice")
    node.pam(login_methods.stack(lines))
    mark = node.n1.mark()
    result = node.ssh("root", command="cat /proc/self/cgroup")
    assert (result.rc, "step_extern" in result.out) == (0, False)
    assert not [line for line in node.n1.log(mark) if "pam_slurm_adopt(" in line]


def test_root_is_never_refused(node: Cluster) -> None:
    """With ignore_root=0 and no guard: without a job root is spared, with one held in it."""
    options = ("ignore_root=0", "action_no_jobs=deny", *login_methods.STRICT)
    lines = [" ".join((line, *options)) for line in (pam.OURS, pam.SESSION)]
    for stack in (pam.stack(lines[0]), pam.stack()):
        node.pam([*stack, login_methods.MOVE, lines[1]])
        assert node.ssh("root", command="true").rc == 0
    job = node.submit("root")
    for stack in (pam.stack(lines[0]), pam.stack()):
        node.pam([*stack, login_methods.MOVE, lines[1]])
        result = node.ssh("root", command="cat /proc/self/cgroup")
        assert result.out.count(f"/uid_0/job_{job}/step_extern") >= 4, result


def test_adoption_that_failed_is_not_tried_again(node: Cluster, standin: Standin) -> None:
    """action_adopt_failure=allow lets in, and the session line leaves it at that.

    The account line adopts here: nothing says for certain that the session line comes.
    """
    standin.start(-1)
    node.pam(pam.GUIDE["where installed"](f"slurm_conf={CONF}", "log_level=debug"))
    mark = node.n1.mark()
    with PUBLIC_KEY.session(node) as session:
        assert job_with(node.n1, session.pid) is None
    lines = [line for line in node.n1.log(mark) if "pam_slurm_adopt(sshd:session)" in line]
    assert "as in the account phase: adopt failure: " in lines[-1]
    assert len(lines) == 1, lines


@TWICE
def test_what_the_account_phase_leaves_to_the_session_line(node: Cluster, way: Way) -> None:
    """The one decides and looks, and leaves sshd where it is; the other asks the stepd, once."""
    node.pam(login_methods.stack("both", "", "log_level=debug"))
    job = node.submit("alice")
    taken, mark = login_methods.Taken(node.n1), node.n1.mark()
    with way.session(node) as session:
        assert job_with(node.n1, session.pid) == job
        pid = login_methods.privileged(session)
        assert taken.pids() == {(job, pid): 1}
    account, after = (
        [line for line in node.n1.log(mark) if f"pam_slurm_adopt(sshd:{phase})" in line]
        for phase in ("account", "session")
    )
    assert (
        f"the session line will adopt into job {job} (the only job) -> PAM_SUCCESS" in account[-1]
    )
    assert not [line for line in account if " took " in line]
    assert f"adopted into job {job} (" in after[-1]
    assert login_methods.notes(node.n1) == []


LATE = """\
#!/bin/sh
while [ ! -e /tmp/now ]; do sleep 0.1; done
echo "password of alice"
"""


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_a_session_line_that_came_while_the_login_waited(node: Cluster, method: str) -> None:
    """Libpam has read the files before: it has no such line, so the account phase adopts."""
    node.login.write("tmp/late", LATE, 0o755)
    node.login.run(["rm", "-f", "/tmp/now"])
    node.pam(pam.with_module(*login_methods.STRICT))
    job, mark = node.submit("alice"), node.n1.mark()
    ask = ["env", "SSH_ASKPASS=/tmp/late", "SSH_ASKPASS_REQUIRE=force"]
    argv = [*ask, *ssh_argv("n1", "alice", method=method), "cat /proc/self/cgroup"]
    pipe = subprocess.PIPE
    waiting = node.login.popen(argv, "alice", stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    wait_for("the login waits", lambda: ": alice [" in node.n1.run(["ps", "axo", "args"]).stdout)
    time.sleep(0.5)  # it is in PAM by then
    node.pam(pam.both(*login_methods.STRICT))
    node.login.run(["touch", "/tmp/now"])
    out, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, said
    assert landed(f"job {job}\n{out}", "n1") == job
    log = "".join(node.n1.log(mark))
    assert "the account phase adopts: /etc/pam.d/sshd has changed since this login began" in log


def test_refused_in_the_session_phase(node: Cluster) -> None:
    """Who has no job gets no command, no file and no forwarding; the reason is told."""
    node.pam(login_methods.stack("session"))
    refused = logs_in(node, command="touch /tmp/ran")
    assert refused.rc == 254
    assert NO_JOBS in refused.out + refused.err
    sftp = ["sftp", "-b", "-", "n1"]
    assert node.login.run(sftp, "alice", input="ls\n", check=False).returncode
    forward = ["ssh", "-o", "ExitOnForwardFailure=yes", "-W", "localhost:22", "n1"]
    forwarded = node.login.run(forward, "alice", input="", check=False)
    assert "SSH-2.0" not in forwarded.stdout
    assert not (node.n1.root / "tmp/ran").exists()


# What is left


def test_logout_leaves_nothing(node: Cluster) -> None:
    """After logins by every method the log is clean, and no process and no note is there."""
    node.pam(login_methods.stack("both", "", "log_level=debug"))
    for user in ("alice", "bob"):
        node.submit(user)
    before = processes(node)
    mark = node.n1.mark()
    for way in WAYS:
        assert logs_in(node, way).rc == 0
    wait_for("no more processes", lambda: processes(node) <= before)
    lines = node.n1.log(mark)
    assert sum("session closed for user" in line for line in lines) == len(WAYS)
    assert sum("sshd:session): user" in x and "adopted into job" in x for x in lines) == len(WAYS)
    assert odd(lines) == []
    assert login_methods.notes(node.n1) == []


@TWICE
def test_nothing_is_left_in_sshd(node: Cluster, way: Way) -> None:
    """The privileged sshd is as without us: descriptors, threads, signal handlers, children."""
    node.submit("alice")
    found = []
    for stack in (pam.stack(), pam.both("log_level=debug5")):
        node.pam(stack)
        with way.session(node) as session:
            found.append(traces(node, session.pid))
    assert found[0] == found[1]


# A job that ends between the phases

ENDER = """\
scancel $SLURM_JOB_ID
while [ -S /var/spool/slurmd/n1_$SLURM_JOB_ID.4294967292 ]; do sleep 0.05; done
"""


@TWICE
def test_job_ends_between_the_phases(node: Cluster, way: Way) -> None:
    """All is decided anew: into the job that is left, and then there is none."""
    node.n1.write("usr/local/sbin/end-job", login_methods.MOVER + ENDER, 0o755)
    stack = login_methods.stack("both", "before", "log_level=debug")
    node.pam([line.replace("move-session", "end-job") for line in stack])
    left, _ = node.submit("alice"), node.submit("alice")
    mark = node.n1.mark()
    assert landed(logs_in(node, way).out, "n1") == left
    lines = [line for line in node.n1.log(mark) if "pam_slurm_adopt(sshd:session)" in line]
    assert f"adopted into job {left} (the only job)" in "".join(lines), lines
    refused = logs_in(node, way)
    assert refused.rc == 254
    assert NO_JOBS in refused.out + refused.err


BETWEEN = login_methods.MOVE.replace("move-session", "between")


def between(node: Cluster, happens: str, *options: str) -> None:
    """Have something happen between the phases, beside the move."""
    node.n1.write("usr/local/sbin/between", login_methods.MOVER + happens, 0o755)
    node.pam([BETWEEN if line == login_methods.MOVE else line
              for line in login_methods.stack("both", "before", *options)])  # fmt: skip


@TWICE
def test_no_job_is_left_and_the_account_stack_has_let_in(node: Cluster, way: Way) -> None:
    """Where users without a job are others' to decide about: these were not asked."""
    node.n1.write("usr/local/sbin/between", login_methods.MOVER + ENDER, 0o755)
    lines = pam.others_decide(*login_methods.STRICT)
    place = lines.index(pam.SESSION_GUARD)
    node.pam([*lines[:place], BETWEEN, *lines[place:]])
    job = node.submit("alice")
    mark = node.n1.mark()
    refused = logs_in(node, way)
    assert refused.rc != 0
    assert "job " not in refused.out  # the command has not run
    said = [line for line in node.n1.log(mark) if "pam_slurm_adopt(sshd:session)" in line]
    assert f"since the account phase let the user in for job {job} -> " in said[-1], said


VARIABLES = "env; echo; cat /proc/self/cgroup"


def variables(node: Cluster, said: str) -> tuple[dict[str, str], int | None]:
    """Return the environment and the job in which VARIABLES was run on n1."""
    told, _, cgroups = said.partition("\n\n")
    return of_job.env(told), job_of(node.n1, cgroups)


@TWICE
def test_variables_of_the_job_that_is_left(node: Cluster, way: Way) -> None:
    """What only the job that has ended had is not there."""
    between(node, ENDER, "job_env=all", "runtime_dir=job")
    left = node.submit("alice")
    of_job.job(node, "exec sleep 900", gres="gpu:1", options=("--array=5", "--job-name=ended"))
    found, inside = variables(node, logs_in(node, way, VARIABLES).out)
    assert inside == left
    assert found["SLURM_JOB_ID"] == str(left)
    assert found["XDG_RUNTIME_DIR"].endswith(f"_{left}"), found
    assert not {"CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_ARRAY_JOB_ID"} & found.keys()
    assert found.get("SLURM_JOB_NAME") != "ended"


STOPPER = 'kill -STOP $(pgrep -xf "slurmstepd: \\[$SLURM_JOB_ID.extern\\]")\n'
GO_ON = "kill -CONT $(pgrep -f '^slurmstepd: ')"


@pytest.mark.parametrize(
    ("way", "action"),
    [(PUBLIC_KEY, "deny"), (PUBLIC_KEY, "allow"), (ONE_PROMPT, "allow")],
    ids=str,
)
def test_the_stepd_stops_between_the_phases(node: Cluster, way: Way, action: str) -> None:
    """Moved away and not put back: as action_adopt_failure says, and in no job's name."""
    between(node, STOPPER, f"action_adopt_failure={action}", "job_env=all")
    job = node.submit("alice")
    mark = node.n1.mark()
    try:
        result = logs_in(node, way, VARIABLES)
    finally:
        node.n1.run(["sh", "-c", GO_ON])
    said = [line for line in node.n1.log(mark) if "pam_slurm_adopt(sshd:session)" in line]
    assert f"adopt failure: job {job} (" in said[-1], said
    if action == "deny":
        assert (result.rc != 0, "SHELL=" in result.out) == (True, False)
        return
    found, inside = variables(node, result.out)
    assert inside is None
    assert not [name for name in found if name.startswith("SLURM_")]
