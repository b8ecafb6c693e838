"""`slurm-adopt explain` beside the module: it changes nothing, and where sessions are.

That both agree on every row of the decision table is shown in test_decisions.py.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.cluster.harness import cgroups, cli, config, guide, pam
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.login import Session

ALICE = config.USERS["alice"]
LOGIN = "10.78.0.4"
DENIED = "Access denied by pam_slurm_adopt: "


def explain(cluster: Cluster, *arguments: str, user: str | None = None) -> Any:
    return cli.run_json(cluster.n1, "explain", *arguments, user=user)


def printed(cluster: Cluster, *arguments: str, user: str | None = None) -> tuple[int, str]:
    done = cli.run(cluster.n1, "explain", *arguments, user=user)
    assert not done.stderr, done
    return done.returncode, done.stdout


# Nothing is changed

# The processes of all stepds and in all cgroups, the files of /run and Slurm's, all but times that
# reading changes.
EVERYTHING = r"""
cd /
find /sys/fs/cgroup -name cgroup.procs 2>/dev/null | sort | while read -r file
do echo "$file $(tr '\n' ' ' <"$file" 2>/dev/null)"; done | grep -e step_ -e task_
find /run /var/spool/slurmd /etc/slurm /etc/pam.d /tmp -printf '%p %y %m %U %s %T@ %C@\n' | sort
"""


def everything(cluster: Cluster) -> list[str]:
    return cluster.n1.run(["sh", "-c", EVERYTHING]).stdout.splitlines()


def test_nothing_is_changed(cluster: Cluster) -> None:
    """After every way to ask, by root and by a user, all is as it was before."""
    cluster.pam(pam.both(*pam.PRODUCTION, "runtime_dir=job", "job_env=all", "job_limits=1"))
    cluster.submit("alice", script="sleep 600")
    cluster.submit("alice")
    cluster.submit("bob")
    with cluster.session("alice") as session:
        before = everything(cluster)
        assert any("/step_extern" in line for line in before)
        assert any("/run/slurm_adopt/runtime" in line for line in before)
        for user in (None, "alice"):
            for more in (
                ["alice"],
                ["bob"],
                ["root"],
                ["root", "ignore_root=0"],
                ["carol", "wait_for_job=30"],
                ["alice", "--from", LOGIN],
                ["alice", "--from", f"{LOGIN}:1"],
                ["--pid", str(session.pid)],
            ):
                cli.run(cluster.n1, "explain", *more, user=user)
        assert everything(cluster) == before
        assert session.alive()


# What it says


def test_in_words(cluster: Cluster) -> None:
    status, text = printed(cluster, "alice")
    first, *rest = text.splitlines()
    refused = f"alice would be refused: {DENIED}you have no active jobs on this node"
    assert (status, first) == (1, refused)
    assert "  decided by  action_no_jobs=deny (its default)" in rest
    other = "  action_no_jobs=ignore: alice would be left to the other modules of the stack"
    assert other in rest
    job = cluster.submit("alice")
    status, text = printed(cluster, "alice")
    said = f"alice would be let in to job {job} (the only job)"
    assert (status, text.splitlines()[0]) == (0, said)
    assert f"  variable    SLURM_JOB_ID={job}" in text.splitlines()


def test_where_the_option_is_set(cluster: Cluster) -> None:
    """The deciding option is found in an included file, too; one given here is in its place."""
    lines = pam.stack("@include adopting")
    cluster.n1.pam("adopting", ["# ours", "", f"{pam.OURS} action_no_jobs=ignore log_level=1"])
    cluster.n1.pam("sshd", lines)
    try:
        found = explain(cluster, "alice")
        where = "/etc/pam.d/adopting:3"
        assert found["option"] == {"name": "action_no_jobs", "value": "ignore", "where": where}
        assert found["verdict"]["outcome"] == "ignored"
        found = explain(cluster, "alice", "action_no_jobs=deny")
        assert found["option"]["where"] == "the command line"
        assert found["verdict"]["outcome"] == "refused"
    finally:
        (cluster.n1.root / "etc/pam.d/adopting").unlink()


def test_without_a_line_of_ours(cluster: Cluster) -> None:
    cluster.n1.pam("sshd", pam.stack())
    status, text = printed(cluster, "alice")
    assert status == 1
    assert "sshd's PAM stack has no line of this module: it is not asked" in text


def test_which_phase_adopts(cluster: Cluster) -> None:
    cluster.submit("alice")
    assert explain(cluster, "alice")["session"]["phase"] == "account"
    cluster.pam(pam.both())
    assert explain(cluster, "alice")["session"]["phase"] == "session"
    account, (guard, line) = pam.both_lines()[0], pam.session_lines()
    cluster.pam([*pam.stack(*account), guard, f"{line} callerid=0"])
    found = explain(cluster, "alice")["session"]
    assert (found["phase"], found["why_not_session"]) == (
        "account",
        "the session line has other options: callerid",
    )


def test_what_the_session_gets(cluster: Cluster) -> None:
    """It says before a login what the login then has."""
    options = ("job_env=all", "runtime_dir=job", "job_limits=1")
    cluster.pam(pam.both(*options))
    job = cluster.submit("alice", script="sleep 600")
    said = explain(cluster, "alice")["session"]
    assert said["limits_of"]
    with cluster.session("alice") as session:
        found = session.run("env").splitlines()
        assert {f"{name}={value}" for name, value in said["environment"].items()} <= {*found}
        assert said["environment"]["XDG_RUNTIME_DIR"].endswith(f"n1_{ALICE}_{job}")
        assert said["environment"]["SLURM_JOB_NAME"] == "job"


def test_a_job_that_is_suspended(cluster: Cluster) -> None:
    job = cluster.submit("alice")
    with frozen(cluster, job):
        found = explain(cluster, "alice")
        assert found["verdict"]["situation"] == "job suspended"
        assert found["option"]["name"] == "action_suspended"
        assert "is frozen: the job is suspended" in found["jobs"][0]["trouble"]
        assert {one["option"]: one["outcome"] for one in found["would"]} == {
            "action_suspended=allow": "allowed"
        }


@contextlib.contextmanager
def frozen(cluster: Cluster, job: int) -> Iterator[None]:
    path = cgroups.folder("freezer", cgroups.of_extern_step("n1", ALICE, job))
    state = cluster.n1.root / path / "freezer.state"
    state.write_text("FROZEN")
    try:
        wait_for("frozen", lambda: state.read_text().strip() == "FROZEN", 30)
        yield
    finally:
        state.write_text("THAWED")


# What other lines, and sshd, make of it


class Instead(NamedTuple):
    """A set-up, and what becomes of alice, who has a job, and of bob, who has none."""

    stack: list[str]
    alice: str  # "" for what the verdict says
    bob: str
    do: str = ""
    undo: str = ""


ACCOUNT, SESSION = pam.both_lines(*pam.PRODUCTION)
LOCAL = "account sufficient pam_localuser.so"
OF_BOB = "[success=2 default=ignore] pam_succeed_if.so quiet user ingroup bob"
SETTINGS = "/etc/ssh/sshd_config"
RELOAD = "kill -HUP $(cat /run/sshd.daemon)"


def both_with(*account: str, session: Sequence[str] = ()) -> list[str]:
    return [*pam.stack(*account, *ACCOUNT), *session, *SESSION]


PATH = "/opt/slurm_adopt/pam/pam_slurm_adopt_exec"
EXEC_LINE = "account required pam_exec.so quiet stdout"
EXEC = f"{EXEC_LINE} {PATH} {' '.join(pam.PRODUCTION)}"
SUFFICIENT = EXEC.replace("required", "sufficient")
BY_EXEC = pam.by_pam_exec(*pam.PRODUCTION)


def exec_with(*account: str) -> list[str]:
    """Return a stack whose account line alone is pam_exec's."""
    return pam.stack(pam.ROOT_GUARD, *account)


def sshd_with(line: str) -> tuple[str, str]:
    """Return what puts a line in front of all others of sshd's, and what takes it out."""
    return (
        f"cp -p {SETTINGS} {SETTINGS}.kept; sed -i '1i {line}' {SETTINGS}; {RELOAD}",
        f"mv {SETTINGS}.kept {SETTINGS}; {RELOAD}",
    )


INSTEAD = {
    "all is left to this module": Instead(both_with(), "", ""),
    "a module is not there": Instead(both_with("account required pam_nowhere.so"), "refused", ""),
    "a file is not there": Instead(both_with("account include nowhere"), "refused", ""),
    "libpam takes no line": Instead(both_with("@include nowhere"), "refused", ""),
    "only local users need no job": Instead(pam.stack(LOCAL, *ACCOUNT), "let in", "let in"),
    "the session line decides about local users": Instead(both_with(LOCAL), "", ""),
    "a refusal does not count": Instead(
        pam.stack(ACCOUNT[0], ACCOUNT[1].replace("required", "optional")), "", "let in"
    ),
    "a group needs no job": Instead(
        both_with(f"account {OF_BOB}", session=[f"session {OF_BOB}"]), "", "let in"
    ),
    "a group needs no job, but a session line": Instead(both_with(f"account {OF_BOB}"), "", ""),
    "a second line refuses": Instead(
        pam.stack(ACCOUNT[0], f"{ACCOUNT[1]} action_no_jobs=ignore", ACCOUNT[1]), "", "refused"
    ),
    "there is no script": Instead(
        pam.stack(ACCOUNT[0], ACCOUNT[1].replace("/opt/", "/opt/no/")), "refused", ""
    ),
    "by pam_exec": Instead(BY_EXEC, "", ""),
    "by pam_exec there is no script": Instead(
        exec_with(EXEC.replace("/opt/", "/opt/no/")), "refused", ""
    ),
    "by pam_exec others decide about users without a job": Instead(
        exec_with(f"{EXEC} action_no_jobs=ignore"), "", ""
    ),
    "and it refuses these": Instead(
        exec_with(f"{EXEC} action_no_jobs=ignore ignore_passes=0"), "", "refused"
    ),
    "and it lets these in": Instead(
        exec_with(f"{SUFFICIENT} action_no_jobs=ignore", "account required pam_deny.so"),
        "",
        "let in",
    ),
    "and the next line refuses these": Instead(
        exec_with(
            f"{SUFFICIENT} action_no_jobs=ignore ignore_passes=0", "account required pam_deny.so"
        ),
        "",
        "refused",
    ),
    "nologin": Instead(both_with(), "refused", "", "echo no >/etc/nologin", "rm /etc/nologin"),
    "UsePAM no": Instead(both_with(), "let in", "let in", *sshd_with("UsePAM no")),
    "DenyUsers": Instead(both_with(), "refused", "", *sshd_with("DenyUsers al*")),
    "AllowGroups": Instead(both_with(), "refused", "", *sshd_with("AllowGroups root bob")),
}


@pytest.mark.parametrize("case", INSTEAD.values(), ids=INSTEAD)
def test_what_others_make_of_it(cluster: Cluster, case: Instead) -> None:
    """What it says becomes of a user is what becomes of a login."""
    job = cluster.submit("alice")
    cluster.n1.pam("sshd", case.stack)
    if case.do:
        cluster.n1.run(["sh", "-ec", case.do])
        wait_for("sshd", lambda: 22 in cluster.n1.listening())
    try:
        for user, expected in (("alice", case.alice), ("bob", case.bob)):
            found = explain(cluster, user)
            said = found["instead"] or {"outcome": ""}
            assert said["outcome"] == expected, found
            status, text = printed(cluster, user)
            assert ("  but  " in text) == bool(expected)
            login = cluster.ssh(user, command="cat /proc/self/cgroup")
            assert (login.rc == 0) == (status == 0), (found, login)
            if login.rc == 0:
                in_job = found["verdict"]["job"] if not expected else None
                assert in_job in (None, job)
                assert cluster.job_of(login.out) == in_job
    finally:
        if case.undo:
            cluster.n1.run(["sh", "-ec", case.undo])
            wait_for("sshd", lambda: 22 in cluster.n1.listening())


def test_a_line_that_may_let_in(cluster: Cluster) -> None:
    """Whom a list of another module names is not known here."""
    line = "account sufficient pam_listfile.so item=user sense=allow file=/etc/none onerr=fail"
    cluster.n1.pam("sshd", pam.stack(line, *ACCOUNT))
    found = explain(cluster, "bob")["instead"]
    assert (found["outcome"], found["where"]["line"]) == ("perhaps let in", 3)
    assert printed(cluster, "bob")[0] == 1


# Where the login comes from


def test_source_by_address(cluster: Cluster) -> None:
    """One session from an address is the connection; of two the port has to be given."""
    cluster.submit("alice")
    cluster.submit("alice")
    none = explain(cluster, "alice", "--from", LOGIN)
    assert none["source"]["connection"] is None
    assert none["source"]["ask"] == [{"address": LOGIN, "port": 6818}]
    with cluster.session("alice") as session:
        ends = session.run("echo $SSH_CONNECTION").strip()
        one = explain(cluster, "alice", "--from", LOGIN)["source"]
        assert (one["connection"], one["there"]) == (ends, True)
        monitor = parent(cluster, parent(cluster, session.pid))
        assert one["sshd"] == monitor
        assert explain(cluster, "alice", "--from", LOGIN, user="alice")["source"]["sshd"] is None
        with cluster.session("alice") as second:
            two = explain(cluster, "alice", "--from", LOGIN)["source"]
            assert two["connection"] is None
            assert "several connections are here: " in two["remark"]
            ends = second.run("echo $SSH_CONNECTION").strip()
            by_port = explain(cluster, "alice", "--from", f"{LOGIN}:{ends.split()[1]}")
            assert by_port["source"]["connection"] == ends


def test_source_is_asked(cluster: Cluster) -> None:
    """The job that the source's slurmd names is told, also where nothing depends on it."""
    job = cluster.submit("alice", "n1,n2")
    cluster.submit("alice")
    with in_job(cluster, job) as port:
        found = explain(cluster, "alice", "--from", f"10.78.0.3:{port}")
        assert found["source"]["job"] == found["verdict"]["job"] == job
        assert found["option"] == {"name": "callerid", "value": "1", "where": "default"}
        by_user = explain(cluster, "alice", "--from", f"10.78.0.3:{port}", user="alice")
        assert by_user["verdict"]["job"] == job
        without = explain(cluster, "alice", "callerid=0", "--from", f"10.78.0.3:{port}")
        assert without["verdict"]["job"] != job
        assert {one["option"]: one["job"] for one in without["would"]}["callerid=1"] == job


@contextlib.contextmanager
def in_job(cluster: Cluster, job: int) -> Iterator[int]:
    """Have a login to n1 from inside of a job on n2; return the port that it comes from."""
    hold = "sh -c 'echo \"$SSH_CONNECTION\" >/tmp/ends; sleep 600'"
    argv = ["ssh", "-o", "StrictHostKeyChecking=no", "n1", hold]
    step = ["srun", f"--jobid={job}", "--overlap", "--nodelist=n2", "-N1", "-n1", *argv]
    ends = cluster.n1.root / "tmp/ends"
    process = cluster.login.popen(step, "alice")
    try:
        wait_for("the login", lambda: ends.exists() and ends.read_text().strip(), 30)
        yield int(ends.read_text().split()[1])
    finally:
        process.terminate()
        process.wait(30)
        ends.unlink(missing_ok=True)


def test_stepds_are_asked_once(cluster: Cluster) -> None:
    """All the other values of the options cost no other question."""
    cluster.submit("alice")
    cluster.submit("alice")
    log = cluster.n1.root / "var/log/slurmd.log"
    before = log.read_text().count("Handling REQUEST_STEP_UID")
    assert explain(cluster, "alice")["would"]
    assert log.read_text().count("Handling REQUEST_STEP_UID") == before + 2


# A session that is there


def parent(cluster: Cluster, pid: int) -> int:
    lines = cluster.n1.read(f"proc/{pid}/status").splitlines()
    return int(next(line for line in lines if line.startswith("PPid:")).split()[1])


def test_a_session_in_its_job(cluster: Cluster) -> None:
    """Whichever process of it is named, and whoever asks."""
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        monitor = parent(cluster, parent(cluster, session.pid))
        for pid in (session.pid, parent(cluster, session.pid), monitor):
            found = explain(cluster, "--pid", str(pid))
            assert (found["where"], found["job"], found["user"]) == ("in its job", job, "alice")
            assert (found["sshd"], found["as_it_should"]) == (monitor, True)
        assert explain(cluster, "--pid", str(session.pid), user="alice")["where"] == "in its job"
        said = f"process {session.pid} (sh) of alice is in job {job}, in every hierarchy"
        assert printed(cluster, "--pid", str(session.pid))[1].startswith(said)
        listener = cluster.n1.pid("sshd")
        assert explain(cluster, "--pid", str(listener))["sshd"] is None


SCOPE = f"user.slice/user-{ALICE}.slice/session-7.scope"


MOVE = """
pid=$1; shift
for folder
do
    mkdir -p "$folder"
    for part in "${folder%/*/*}" "${folder%/*}" "$folder"
    do
        for file in cpuset.cpus cpuset.mems
        do [ ! -e "$part/$file" ] || cat "$part/../$file" >"$part/$file"
        done
    done
    echo "$pid" >"$folder/cgroup.procs"
done
"""


@contextlib.contextmanager
def moved(cluster: Cluster, session: Session, *controllers: str) -> Iterator[None]:
    """Do to a session what pam_systemd does, in some hierarchies."""
    paths = ["/" + cgroups.folder(one, f"/{SCOPE}") for one in controllers]
    cluster.n1.run(["sh", "-ec", MOVE, "sh", str(session.pid), *paths])
    try:
        yield
    finally:
        session.close()
        session.wait_gone()
        wait_for("scopes removed", lambda: all(removed(cluster, path) for path in paths), 30)


def removed(cluster: Cluster, scope: str) -> bool:
    """Remove the cgroup of a scope and its slices; say whether they are gone."""
    top = scope.removesuffix(f"/{SCOPE}")
    script = 'cd "$1"; [ ! -d user.slice ] || rmdir -p "$2"'
    done = cluster.n1.run(["sh", "-c", script, "sh", top, SCOPE], check=False)
    return done.returncode == 0


@pytest.mark.parametrize(
    ("controllers", "where"),
    [
        (("freezer", "memory", "cpuset", "devices", "cpuacct"), "outside"),
        (("memory",), "half in its job"),
    ],
    ids=["wholly", "in one hierarchy"],
)
def test_a_session_that_was_moved(
    cluster: Cluster, controllers: tuple[str, ...], where: str
) -> None:
    job = cluster.submit("alice")
    with cluster.session("alice") as session, moved(cluster, session, *controllers):
        found = explain(cluster, "--pid", str(session.pid))
        assert (found["where"], found["as_it_should"]) == (where, False)
        assert found["job"] == (None if where == "outside" else job)
        moved_by = {row["controller"]: row["who"] for row in found["hierarchies"]}
        assert "pam_systemd moved it" in moved_by["memory"]
        status, text = printed(cluster, "--pid", str(session.pid))
        assert status == 1
        assert "so          it should be in a job, and is not" in text


def test_a_session_that_an_option_let_in(cluster: Cluster) -> None:
    """It need not be in a job; of root's neither."""
    cluster.pam(pam.stack(f"{pam.OURS} action_no_jobs=ignore"))
    for user in ("alice", "root"):
        with cluster.session(user) as session:
            found = explain(cluster, "--pid", str(session.pid))
            assert (found["where"], found["as_it_should"], found["user"]) == ("outside", True, user)
            assert found["sshd"]
            assert printed(cluster, "--pid", str(session.pid))[0] == 0
    with cluster.session("alice") as session:
        cluster.pam(pam.with_module())
        assert printed(cluster, "--pid", str(session.pid))[0] == 1


def test_a_step_of_slurm_s(cluster: Cluster) -> None:
    job = cluster.submit("alice", script="sleep 600")
    path = cgroups.folder("freezer", f"{cgroups.of_job('n1', ALICE, job)}/step_batch")
    members = f"find /{path} -name cgroup.procs | xargs cat"

    def sleeping() -> list[str]:
        pids = cluster.n1.run(["sh", "-c", members]).stdout.split()
        return [pid for pid in pids if cluster.n1.read(f"proc/{pid}/comm").strip() == "sleep"]

    named = wait_for("the script runs its command", sleeping)
    found = explain(cluster, "--pid", named[0])
    assert (found["where"], found["job"], found["sshd"]) == ("in a step of its job", job, None)


# The page

PAGE = guide.page("why-was-i-refused")
COMMANDS = [
    line.split()[1:] for line in PAGE.splitlines() if line.startswith("    slurm-adopt explain ")
]


def test_the_commands_of_the_page(cluster: Cluster) -> None:
    """Each answers, for this cluster's addresses and processes."""
    cluster.submit("alice")
    cluster.submit("alice")
    *commands, (*of_reference, _) = COMMANDS
    assert len(commands) == 5
    assert of_reference == ["explain", "--ref"]
    with cluster.session("alice") as session:
        port = session.run("echo $SSH_CONNECTION").split()[1]
        here = {"10.0.0.5": LOGIN, "10.0.0.5:40022": f"{LOGIN}:{port}", "4711": str(session.pid)}
        said = [cli.run(cluster.n1, *(here.get(w, w) for w in words)) for words in commands]
    assert [(done.returncode, done.stderr) for done in said] == [
        (0, ""), (0, ""), (0, ""), (1, ""), (0, "")
    ]  # fmt: skip
    assert "connection refused" in said[1].stdout


def test_the_page_s_words(cluster: Cluster) -> None:
    """What the page shows of the output is what is printed."""
    cluster.pam(pam.stack(f"{pam.OURS} action_unknown=deny"))
    jobs = [cluster.submit("alice"), cluster.submit("alice")]
    shown = [line[4:] for line in PAGE.splitlines() if line.startswith("    ")]
    shown = [line for line in shown if not line.startswith("slurm-adopt")]
    text = printed(cluster, "alice")[1]
    for line in shown:
        wanted = line.replace("12 13", " ".join(map(str, jobs))).replace("job 13", f"job {jobs[1]}")
        wanted = wanted.replace("sshd:7", "sshd:3")
        parts = [re.escape(part) for part in wanted.split("…")]
        assert re.search(".*".join(parts), text), line


# What the log has

AUTH_LOG = "/var/log/auth.log"


@contextlib.contextmanager
def logged(cluster: Cluster, mark: int) -> Iterator[None]:
    """Have what n1 has logged where a syslog daemon would have put it."""
    lines = [line.split(" ", 2)[2] for line in cluster.n1.log(mark) if " authpriv." in line]
    now = time.strftime("%Y-%m-%dT%H:%M:%S.123456+00:00", time.gmtime())
    cluster.n1.write(AUTH_LOG, "".join(f"{now} n1 {line}\n" for line in lines))
    try:
        yield
    finally:
        cluster.n1.run(["rm", AUTH_LOG])


TOLD = "chosen by the account phase"  # which another process was


@pytest.mark.parametrize(
    ("stack", "method", "how"),
    [
        (pam.both, "publickey", "the only job"),
        (pam.both, "keyboard-interactive", TOLD),
        (pam.by_pam_exec, "publickey", TOLD),
    ],
)
def test_what_was_decided(cluster: Cluster, stack: pam.Stack, method: str, how: str) -> None:
    """Of a session that is there the log has the decision."""
    cluster.pam(stack())
    job = cluster.submit("alice")
    mark = cluster.n1.mark()
    with cluster.session("alice", method=method) as session, logged(cluster, mark):
        pid = str(session.pid)
        login = explain(cluster, "--pid", pid)["decided"]["login"]
        assert (login["outcome"], login["job"], login["how"]) == ("adopted", job, how)
        said = printed(cluster, "--pid", pid)[1]
        assert f": adopted into job {job} ({how})\n" in said
    with cluster.session("alice") as session:
        found = explain(cluster, "--pid", str(session.pid))["decided"]
        assert found == {"login": None, "remark": "the log has no decision about it"}
    assert explain(cluster, "--pid", "1")["decided"] is None


def test_a_reference(cluster: Cluster) -> None:
    """The reference that a refused user is shown leads to what was logged."""
    cluster.pam(pam.with_module("reference=1"))
    mark = cluster.n1.mark()
    result = cluster.ssh("alice")
    ref = re.search(r"\(ref (\w{4})\)", result.err)
    assert ref, result
    with logged(cluster, mark):
        status, text = printed(cluster, "--ref", ref[1].lower())
        assert (status, "was refused by action_no_jobs=deny" in text) == (0, True)
        assert explain(cluster, "--ref", ref[1])["login"]["situation"] == "no jobs"


# Bad input


USER = "say which user: slurm-adopt explain USER [option=value ...]"
ADDRESS = "give a numeric address, as ADDRESS or ADDRESS:PORT, for IPv6 [ADDRESS]:PORT"
UNKNWON = "unrecognized option 'action_unknwon=deny'; did you mean action_unknown=?"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", USER),
        ("action_unknown=deny", USER),
        ("alice action_unknwon=deny", f"{UNKNWON}; options are OPTION=VALUE"),
        ("alice deny", "unrecognized option 'deny'; options are OPTION=VALUE"),
        ("alice service=", "unrecognized service=: service takes a word"),
        (
            "alice callerid_timeout=x",
            "unrecognized callerid_timeout=x: callerid_timeout takes seconds from 0.1 to 30",
        ),
        ("alice --from login", f"--from login: {ADDRESS}"),
        ("alice --from ::1:x", f"--from ::1:x: {ADDRESS}"),
        (
            "alice --from 10.78.0.4:70000",
            "--from 10.78.0.4:70000: the port is a number from 1 to 65535",
        ),
        ("--pid x", "--pid x: a process id is a number"),
        ("--pid 4194304", "there is no process 4194304, or /proc does not show it"),
    ],
)
def test_bad_input(cluster: Cluster, arguments: str, said: str) -> None:
    done = cli.run(cluster.n1, "explain", *arguments.split())
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"slurm-adopt: {said}\n")


def test_a_value_of_an_early_release(cluster: Cluster) -> None:
    assert explain(cluster, "alice", "action_unknown=any")["tried"] == ["action_unknown=any"]


def test_garbage_in_slurm_conf(cluster: Cluster) -> None:
    conf = "etc/slurm/slurm.conf"
    text = cluster.n1.read(conf)
    cluster.n1.write(conf, "\0")
    try:
        status, said = printed(cluster, "alice")
        assert status == 1
        assert "slurm.conf is not a text file" in said
        with cluster.session("root") as session:
            found = explain(cluster, "--pid", str(session.pid))
            assert (found["where"], found["as_it_should"]) == ("not known", True)
        cluster.n1.write(conf, text)
        cluster.submit("alice")
        with cluster.session("alice") as session:
            cluster.n1.write(conf, "\0")
            status, said = printed(cluster, "--pid", str(session.pid))
            assert status == 3
            assert said.startswith(f"process {session.pid} (sh) of alice: its job is not known\n")
    finally:
        cluster.n1.write(conf, text)
