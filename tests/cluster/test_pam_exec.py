"""Real logins by the other front: adopted, refused, watched, told; and nothing is left of them.

`./dev fronts` plays more by this front: all uses of ssh, and what each client shows.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import job_of
from tests.cluster.harness.login import asking, ssh_argv
from tests.cluster.harness.traces import odd, processes, traces
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import basic, login_methods, of_job, uses
from tests.cluster.scenarios.basic import NO_JOBS
from tests.cluster.scenarios.login_methods import (
    ONE_PROMPT,
    PUBLIC_KEY,
    WAYS,
    Taken,
    Way,
    job_with,
)
from tests.cluster.scenarios.standin_step import CONF, Standin, standin
from tests.cluster.scenarios.welcome import BEGINS, shell
from tests.cluster.standins.slurmd import StandinSlurmd
from tests.cluster.tools import lockout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

__all__ = ["standin"]  # pytest finds it here

TWICE = pytest.mark.parametrize("way", [PUBLIC_KEY, ONE_PROMPT], ids=lambda way: way.name)
LINES = pytest.mark.parametrize("lines", ["account", "both", "session"])


@pytest.fixture(autouse=True)
def _by_pam_exec() -> Iterator[None]:
    with pam.front("pam_exec"):
        yield


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with n1 prepared for the stacks of login_methods."""
    with login_methods.prepared(cluster.n1):
        yield cluster


# Where the shell is


@pytest.mark.parametrize(
    ("lines", "mover"), [("account", ""), ("both", "before"), ("session", "before")]
)
def test_every_method(cluster: Cluster, lines: str, mover: str) -> None:
    login_methods.play(cluster, lines, mover, in_job=True)


PLAYED = (basic.one_job, basic.several_jobs, basic.second_hop, basic.newest, basic.none,
          basic.scancel)  # fmt: skip


@pytest.mark.parametrize("scenario", PLAYED, ids=lambda one: one.__name__)
def test_scenario(cluster: Cluster, scenario: Callable[[Cluster], None]) -> None:
    cluster.pam(pam.with_module())
    scenario(cluster)


def test_copies(cluster: Cluster) -> None:
    uses.copies(cluster)


@LINES
def test_root(node: Cluster, lines: str) -> None:
    """Also with a job of root's, and where the script is not there."""
    node.submit("root")
    node.pam(login_methods.stack(lines))
    script = "/opt/slurm_adopt/pam/pam_slurm_adopt_exec"
    for change in ("true", f"mv {script} {script}.away"):
        node.n1.run(["sh", "-c", change])
        try:
            mark = node.n1.mark()
            done = node.ssh("root", command="cat /proc/self/cgroup")
            assert (done.rc, "step_extern" in done.out) == (0, False), done
            assert not [line for line in node.n1.log(mark) if "pam_slurm_adopt(" in line]
        finally:
            node.n1.run(["sh", "-c", f"mv {script}.away {script} 2>/dev/null || true"])


# What is left


def test_logout_leaves_nothing(node: Cluster) -> None:
    """No process, no zombie, no note; and nothing in the log that is worse than informative."""
    node.pam(login_methods.stack("both", "", "log_level=debug"))
    for user in ("alice", "bob"):
        node.submit(user)
    before = processes(node)
    mark = node.n1.mark()
    for way in WAYS:
        assert node.ssh(way.user, method=way.method, options=way.options, timeout=60).rc == 0
    wait_for("no more processes", lambda: processes(node) <= before)
    lines = node.n1.log(mark)
    assert sum("sshd:session): user" in x and "adopted into job" in x for x in lines) == len(WAYS)
    assert odd(lines) == []
    assert login_methods.notes(node.n1) == []


@TWICE
@pytest.mark.parametrize("lines", ["account", "both"])
def test_nothing_is_left_in_sshd(node: Cluster, way: Way, lines: str) -> None:
    """Not even the interpreter: the privileged sshd has what it has without us."""
    node.submit("alice")
    found, maps = [], ""
    for stack in (pam.stack(), login_methods.stack(lines, "", "log_level=debug5")):
        node.pam([line for line in stack if line != login_methods.ASK])
        with way.session(node) as session:
            found.append(traces(node, session.pid))
            maps = node.n1.read(f"proc/{login_methods.privileged(session)}/maps")
    assert found[0] == found[1]
    assert "libpython" not in maps
    assert "pam_exec.so" in maps


# The user's own job, stopped


def test_a_user_who_freezes_the_job_locks_nobody_out(cluster: Cluster) -> None:
    """With the account line alone; the watching process ends the login that is stopped."""
    site = lockout.Namespaces(cluster, penalties=False)
    cell = lockout.CELLS["v1-22.05/account-exec/publickey/stopped"]
    with site.prepared():
        found = lockout.Play(site, cell, 12, 4, 3).play()
    assert not found.missed, found.told()


def test_the_watching_process_does_not_hold_pam_exec_up(node: Cluster) -> None:
    """It has nothing of the script's open: pam_exec waits for the end of the script's output.

    The login, which it watches until it is done, would wait for it.
    """
    node.pam(login_methods.stack("account", "", "log_level=debug"))
    job = node.submit("alice")
    for way in (PUBLIC_KEY, ONE_PROMPT):
        mark = node.n1.mark()
        with way.session(node) as session:
            assert job_with(node.n1, session.pid) == job
        assert "not watched" not in "\n".join(node.n1.log(mark))


# The script is kept from its answer


SECOND = 2022
STUCK = ("action_unknown=deny", "callerid_timeout=8")


@contextlib.contextmanager
def waits_for_a_slurmd(
    node: Cluster,
    grace: int,
    lines: str = "account",
    options: tuple[str, ...] = STUCK,
    way: Way = PUBLIC_KEY,
) -> Iterator[int]:
    """Have a login of alice's whose script asks a slurmd that is silent; yield the script's pid."""
    sshd = node.n1.popen(["/usr/sbin/sshd", "-D", "-p", str(SECOND), "-o", "PidFile=none",
                          "-o", f"LoginGraceTime={grace}"])  # fmt: skip
    try:
        wait_for("the second sshd", lambda: SECOND in node.n1.listening())
        node.pam(login_methods.stack(lines, "", *options))
        for _ in range(2):
            node.submit("alice")
        with StandinSlurmd(node.login, "never") as slurmd:
            argv = ssh_argv("n1", "alice", ["-p", str(SECOND)], way.method)
            asked = asking(node.login, "alice", way.method)
            process = node.login.popen([*asked, *argv, "true"], "alice")
            wait_for("the script's question", lambda: slurmd.asked)
            (pid,) = scripts(node.n1)
            yield pid
            process.wait(60)
            assert process.returncode == 255
            wait_for("all of it gone", lambda: not scripts(node.n1), 60)
    finally:
        end(sshd)


def scripts(node: Host) -> list[int]:
    """Return the processes that run the script."""
    said = node.run(["pgrep", "-f", "/pam_slurm_adopt_exec"], check=False).stdout
    return [int(word) for word in said.split()]


def test_login_grace_time_ends_it(node: Cluster) -> None:
    """Sshd ends the login; the script ends by its own limits, and brings nobody anywhere."""
    taken = Taken(node.n1)
    with waits_for_a_slurmd(node, grace=2) as pid:
        sshd = parent(node.n1, pid)
        wait_for("sshd gave up", lambda: not node.n1.alive(sshd))
        assert scripts(node.n1) == [pid]
    assert not taken.pids()


@pytest.mark.parametrize("signal", ["KILL", "TERM", "INT", "SEGV"])
def test_the_script_is_killed(node: Cluster, signal: str) -> None:
    """Whatever ends it is a failure: refused."""
    with waits_for_a_slurmd(node, grace=60) as pid:
        node.n1.run(["kill", f"-{signal}", str(pid)])


def test_the_script_is_stopped(node: Cluster) -> None:
    """Root alone can do it; LoginGraceTime ends the login, and others get in meanwhile."""
    with waits_for_a_slurmd(node, grace=3) as pid:
        node.n1.run(["kill", "-STOP", str(pid)])
        sshd = parent(node.n1, pid)
        assert node.ssh("root").rc == 0
        wait_for("sshd gave up", lambda: not node.n1.alive(sshd), 30)
        node.n1.run(["kill", "-KILL", str(pid)])


# As root, another process gets a pid that has become free.
GIVEN_TO_ANOTHER = """
import os, sys
for _ in range(1000):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(int(sys.argv[1]) - 1))
    pid = os.fork()
    if pid == int(sys.argv[1]):
        print("there", flush=True)
    elif not pid and os.getpid() == int(sys.argv[1]):
        os.execv("/bin/sleep", ["sleep", "60"])
    elif not pid:
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize(
    ("lines", "way"),
    [("account", PUBLIC_KEY), ("account", ONE_PROMPT), ("session", PUBLIC_KEY)],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_pid_of_an_sshd_that_has_ended(node: Cluster, lines: str, way: Way) -> None:
    """Another process of root's has it when the script is done: that is not brought into a job."""
    taken = Taken(node.n1)
    with waits_for_a_slurmd(node, 60, lines, ("callerid_timeout=4",), way) as pid:
        sshd = parent(node.n1, pid)
        node.n1.run(["kill", "-KILL", str(sshd)])
        wait_for("sshd gone", lambda: not node.n1.alive(sshd))
        mark = node.n1.mark()
        other = node.n1.popen(
            ["/usr/bin/python3", "-I", "-c", GIVEN_TO_ANOTHER, str(sshd)], stdout=subprocess.PIPE
        )
        assert other.stdout
        assert other.stdout.readline() == "there\n"
        wait_for("the script gone", lambda: not scripts(node.n1), 60)
        assert node.n1.read(f"proc/{sshd}/comm") == "sleep\n"
        assert set(node.n1.cgroups(sshd).values()) == {"/"}
        end(other)
    assert not taken.pids()
    assert f"process {sshd}, which was to become the session, has ended" in "".join(
        node.n1.log(mark)
    )


@pytest.mark.parametrize("phase", ["account", "session"])
@pytest.mark.parametrize("option", ["", " seteuid"])
def test_what_users_start_themselves(node: Cluster, phase: str, option: str) -> None:
    """Su is root's by its effective uid alone; it is adopted as sshd is."""
    job = node.submit("alice")
    ours = pam.EXEC.replace("account", phase).replace(" stdout", f" stdout{option}")
    others = [f"{other} required pam_permit.so" for other in ("auth", "account", "session")]
    usual = node.n1.read("etc/pam.d/su")
    node.n1.pam("su", [*others, f"{ours} service=su action_adopt_failure=deny"])
    try:
        for user in (None, "bob"):
            done = node.n1.run(["su", "alice", "-c", "cat /proc/self/cgroup"], user)
            assert job_of(node.n1, done.stdout) == job
    finally:
        node.n1.write("etc/pam.d/su", usual)


def parent(node: Host, pid: int) -> int:
    """Return the parent of a process."""
    return int(node.run(["ps", "-o", "ppid=", "-p", str(pid)]).stdout)


# A stepd that refuses


@TWICE
def test_what_the_stepd_refused_is_in_no_job(node: Cluster, standin: Standin, way: Way) -> None:
    """The account line adopts here, since nothing says for certain that the session line comes.

    It leaves no word of what has failed: the session line would write the login into the job.
    """
    standin.start(-1)
    node.pam(pam.GUIDE["where installed"](f"slurm_conf={CONF}"))
    mark = node.n1.mark()
    with way.session(node) as session:
        assert job_with(node.n1, session.pid) is None
    lines = [line for line in node.n1.log(mark) if "pam_slurm_adopt(sshd:session)" in line]
    assert "adopt failure: " in lines[-1]
    assert login_methods.notes(node.n1) == []


# What users can write


USER_ENV = "session required pam_env.so user_readenv=1"
FORGED = """\
PAM_USER DEFAULT=root
PAM_TYPE DEFAULT=close_session
PAM_SERVICE DEFAULT=login
PAM_RHOST DEFAULT=127.0.0.1
SLURM_CONF DEFAULT=/tmp/evil/slurm.conf
SSH_CONNECTION DEFAULT="10.78.0.3 22 10.78.0.2 22"
PYTHONPATH DEFAULT=/tmp/evil
PYTHONSTARTUP DEFAULT=/tmp/evil/pwd.py
PYTHONHOME DEFAULT=/tmp/evil
LC_ALL DEFAULT=tr_TR.ISO-8859-9
PATH DEFAULT=/tmp/evil
"""


@pytest.fixture
def forged(node: Cluster) -> Iterator[Cluster]:
    """Let alice write the environment of the session lines."""
    for name in ("pwd", "os", "slurm_adopt"):
        node.n1.write(f"tmp/evil/{name}.py", "open('/tmp/evil/ran', 'w')\n")
    node.n1.run(["chmod", "777", "/tmp/evil"])
    node.n1.write("home/alice/.pam_environment", FORGED)
    yield node
    assert not (node.n1.root / "tmp/evil/ran").exists()
    node.n1.run(["rm", "-rf", "/home/alice/.pam_environment", "/tmp/evil"])


def with_user_env(lines: str) -> list[str]:
    """Return a stack in which a user's variables are in the environment of our session line."""
    stack = login_methods.stack(lines)
    place = stack.index(pam.SESSION_GUARD)
    return [*stack[:place], USER_ENV, *stack[place:]]


@TWICE
def test_no_variable_lets_a_user_in(forged: Cluster, way: Way) -> None:
    forged.submit("bob")
    forged.pam(with_user_env("session"))
    refused = forged.ssh("alice", command="echo it ran", method=way.method)
    assert refused.rc == 254
    assert NO_JOBS in refused.out + refused.err
    assert "it ran" not in refused.out


@TWICE
@pytest.mark.parametrize("lines", ["both", "session"])
def test_variables_choose_among_own_jobs_only(forged: Cluster, lines: str, way: Way) -> None:
    """SLURM_JOB_ID, and of a session line alone; that of another user's job counts nothing."""
    older, newest, bobs = (forged.submit(user) for user in ("alice", "alice", "bob"))
    forged.pam(with_user_env(lines))
    for number, expected in ((older, older if lines == "session" else newest), (bobs, newest)):
        text = f"{FORGED}SLURM_JOB_ID DEFAULT={number}\n"
        forged.n1.write("home/alice/.pam_environment", text)
        done = forged.ssh("alice", command="/bin/cat /proc/self/cgroup", method=way.method)
        assert job_of(forged.n1, done.out) == expected, done


# (a line of limits.conf, whether the script can do its work with it)
LIMITED = [
    ("hard nofile 24", True),
    ("hard nproc 40", True),
    ("hard fsize 1", True),
    ("hard core 0", True),
    ("hard as 9000", False),
    ("hard data 1000", False),
]


@pytest.mark.parametrize(("limit", "works"), LIMITED)
def test_limits_that_come_before(node: Cluster, limit: str, works: bool) -> None:
    """Those of pam_limits are the script's, too: it works, or the login is refused."""
    limits = node.n1.read("etc/security/limits.conf")
    node.n1.write("etc/security/limits.conf", f"alice {limit}\n")
    node.pam(login_methods.stack("both"))
    job = node.submit("alice")
    try:
        done = node.ssh("alice", command="echo $(cat /proc/self/cgroup)", timeout=60)
    finally:
        node.n1.write("etc/security/limits.conf", limits)
    there = f"/job_{job}/step_extern" in done.out
    assert there or "freezer:" not in done.out  # never outside
    assert there == works, done


# What is told


@TWICE
def test_welcome(cluster: Cluster, way: Way) -> None:
    cluster.pam(pam.both("welcome=1"))
    job = cluster.submit("alice")
    said = shell(cluster, "-tt", method=way.method)
    assert said.count(f"{BEGINS}{job} and ends with it.") == 1
    done = cluster.ssh("alice", command="echo out")
    assert (done.rc, done.out, done.err) == (0, "out\n", "")


def references(node: Host, mark: int) -> dict[str, list[str]]:
    """Return the references in the module's lines, by phase."""
    text = "\n".join(node.log(mark))
    return {
        phase: re.findall(rf"\(sshd:{phase}\): user .*, ref (\w{{4}}):", text)
        for phase in ("account", "session")
    }


def test_both_phases_have_one_reference(node: Cluster) -> None:
    """Whatever the method; and no two logins have the same."""
    node.pam(login_methods.stack("both", "", "reference=1"))
    for user in ("alice", "bob"):
        node.submit(user)
    found = []
    for way in WAYS:
        mark = node.n1.mark()
        assert node.ssh(way.user, method=way.method, options=way.options, timeout=60).rc == 0
        of_login = references(node.n1, mark)
        assert of_login["account"] == of_login["session"] != [], way
        found += of_login["account"]
    assert len({*found}) == len(WAYS)


def test_a_refused_user_is_shown_the_reference(node: Cluster) -> None:
    node.pam(login_methods.stack("both", "", "reference=1"))
    mark = node.n1.mark()
    refused = node.ssh("alice")
    (reference,) = references(node.n1, mark)["account"]
    assert f"{NO_JOBS} (ref {reference})" in refused.err


def test_nobody_is_asked(node: Cluster) -> None:
    """action_unknown=ask is newest here, also where pam_python's front would ask."""
    node.pam(login_methods.stack("both", "", "action_unknown=ask"))
    _, newest = node.submit("alice"), node.submit("alice")
    with ONE_PROMPT.session(node) as session:
        assert job_with(node.n1, session.pid) == newest


@TWICE
@LINES
def test_from_a_job(node: Cluster, lines: str, way: Way) -> None:
    """The connection is sshd's, and of the process that called PAM."""
    node.pam(login_methods.stack(lines, "", "action_unknown=deny"))
    key = node.n2.read("home/alice/.ssh/id_ed25519")
    assert key
    for job in [node.submit("alice", "n1,n2") for _ in range(2)]:
        argv = [*asking(node.n2, "alice", way.method), *ssh_argv("n1", "alice", (), way.method)]
        done = node.in_job(job, "alice", "n2", [*argv, "cat /proc/self/cgroup"], timeout=60)
        assert job_of(node.n1, done.out) == job, done


def test_limits_of_the_job(node: Cluster) -> None:
    """They are set on the process that called PAM; variables are not."""
    node.pam(login_methods.stack("both", "", "job_limits=1", "job_env=all", "runtime_dir=job"))
    of_job.job(node, "ulimit -n 300; exec sleep 900")
    done = node.ssh("alice", command="ulimit -n; env", timeout=60)
    number, *variables = done.out.splitlines()
    assert number == "300"
    assert not [one for one in variables if one.startswith(("SLURM", "XDG_RUNTIME_DIR=", "DISP"))]


# What the exit status says: the page's table, by the real libpam

PAGE = Path(__file__).parents[2] / "docs/how-to/pam-exec.md"
COLUMNS = {
    "`required`, with `ignore_passes=1`": ("required", "ignore_passes=1"),
    "`sufficient`, with `ignore_passes=0`": ("sufficient", "ignore_passes=0"),
}
# first column -> (user, options) that lead there; carol has no job, alice has one, bob has two
CASES = {
    "the login is adopted, or an option says `allow`": [
        ("alice", ""), ("bob", "action_unknown=allow"), ("bob", ""),
    ],
    "an option says `ignore`, or the service is another one": [
        ("carol", "action_no_jobs=ignore"), ("alice", "service=login"),
    ],
    "an option says `deny`": [("carol", ""), ("bob", "action_unknown=deny")],
    "root": [("root", ""), ("root", "ignore_root=0")],
    "the script cannot run": [("alice", "")],
}  # fmt: skip
# what the page says -> whether the user is in, where the next line lets in, and where it refuses
NEXT = {
    "goes on to the next line": (True, False),
    "goes on to the next line, which decides": (True, False),
    "the stack ends here: the user is in": (True, True),
    "the stack ends here: root is in": (True, True),
    "refused": (False, False),
    "refused, but for root by the guard": (False, False),
}


def table() -> list[list[str]]:
    """Return the rows of the page's table on exit statuses, its head first."""
    lines = PAGE.read_text().partition("\n| the module decides ")[2].partition("\n\n")[0]
    head, _, *rows = f"| the module decides {lines}".splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]


def is_in(node: Host, line: str, after: str, user: str) -> bool:
    """Say whether PAM's account phase lets a user in, by two lines of a stack."""
    node.pam("controls", [line, f"account required {after}.so"])
    return node.run(["pamtester", "controls", user, "acct_mgmt"], check=False).returncode == 0


def test_control_words(cluster: Cluster) -> None:
    head, *rows = table()
    assert [row[0] for row in rows] == [*CASES]
    cluster.submit("alice")
    for _ in range(2):
        cluster.submit("bob")
    for first, *cells in rows:
        for column, cell in zip(head[1:], cells):
            control, option = COLUMNS[column]
            for user, options in CASES[first]:
                line = pam.EXEC.replace("required", control)
                line += "-not-there" if first == "the script cannot run" else ""
                line = f"{line} service=controls {options} {option}"
                found = tuple(
                    is_in(cluster.n1, line, after, user) for after in ("pam_permit", "pam_deny")
                )
                assert found == NEXT[cell], (first, column, user, options)


def test_the_two_combinations_that_are_wrong(cluster: Cluster) -> None:
    """As the page says: the one refuses whom others would let in, the other asks nobody else."""
    line = f"{pam.EXEC} service=controls action_no_jobs=ignore"
    assert not is_in(cluster.n1, f"{line} ignore_passes=0", "pam_permit", "carol")
    line = line.replace("required", "sufficient")
    assert is_in(cluster.n1, f"{line} ignore_passes=1", "pam_deny", "carol")


def test_a_control_word_that_jumps(cluster: Cluster) -> None:
    """Who is adopted jumps over the line that decides about the others."""
    cluster.submit("alice")
    line = f"{pam.EXEC} service=controls action_no_jobs=ignore ignore_passes=0"
    line = line.replace("required", "[success=1 default=ignore]")
    for user, after in (("alice", (True, True)), ("carol", (True, False))):
        found = []
        for decides in ("pam_permit", "pam_deny"):
            stack = [line, f"account required {decides}.so", "account required pam_permit.so"]
            cluster.n1.pam("controls", stack)
            argv = ["pamtester", "controls", user, "acct_mgmt"]
            found.append(cluster.n1.run(argv, check=False).returncode == 0)
        assert tuple(found) == after, user


# (pam_exec's options, what a refused user is told)
TOLD = [
    ("quiet stdout", (True, False)),
    ("quiet", (False, False)),
    ("stdout", (True, True)),
]


@pytest.mark.parametrize(("options", "told"), TOLD)
def test_options_of_pam_exec(cluster: Cluster, options: str, told: tuple[bool, bool]) -> None:
    """Why, and pam_exec's own words."""
    line = pam.EXEC.replace("quiet stdout", options)
    cluster.n1.pam("controls", f"{line} service=controls")
    done = cluster.n1.run(["pamtester", "controls", "carol", "acct_mgmt"], check=False)
    said = done.stdout + done.stderr
    assert done.returncode
    assert (NO_JOBS in said, "exit code 1" in said) == told, said
