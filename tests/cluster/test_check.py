"""`slurm-adopt check` on the real cluster: sound nodes, users, and health checks that run it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.cluster.harness import cli, config, guide, landing, pam, scancel
from tests.cluster.harness.cluster import Settings
from tests.cluster.harness.host import CHECKOUT, end
from tests.cluster.harness.stopped import Stopped
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

EVERYBODY = ("--user", "alice", "--user", "bob", "--user", "root")
LOOKING_ELSEWHERE = ("slurm_conf=/nowhere/slurm.conf",)  # an error of the set-up: SA301


@pytest.fixture
def sound(cluster: Cluster) -> Cluster:
    """Have both nodes as the guide sets them up."""
    cluster.pam(pam.both(*pam.PRODUCTION))
    return cluster


def decided(host: Host, *users: str, user: str | None = None) -> dict[str, dict[str, Any]]:
    """Return what would be decided about users, by name."""
    asked = [word for name in users for word in ("--user", name)]
    said = cli.run_json(host, "check", *asked, user=user)["would_decide"]
    return {each["user"]: each for each in said}


# A sound node


def test_a_sound_node(sound: Cluster) -> None:
    """Nothing is found; it ends with what would be decided now."""
    job = sound.submit("alice")
    done = cli.run(sound.n1, "check", *EVERYBODY)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert lines[0].startswith("slurm_adopt: ok, ")
    assert lines[-4:] == [
        "would be decided now",
        f"  alice \u2192 job {job} (the only one)",
        "  bob \u2192 refused (no job)",
        "  root \u2192 ignored",
    ]


def test_users_who_have_jobs_here(sound: Cluster) -> None:
    """Without --user: these, each once; a job elsewhere does not count."""
    jobs = {name: sound.submit(name) for name in ("bob", "alice")}
    second = sound.submit("bob")
    sound.submit("carol", "n2")
    found = cli.run_json(sound.n1, "check")["would_decide"]
    assert [(each["user"], each["jobs"]) for each in found] == [
        ("alice", [jobs["alice"]]),
        ("bob", [jobs["bob"], second]),
    ]


def test_nodes_that_are_alike_say_the_same(sound: Cluster) -> None:
    """To the byte: sound ones, and what is wrong on both, of which the pids differ."""
    sound.submit("alice", "n1,n2")
    for node in sound.nodes:  # logins to one of them may have made it before
        node.run(["rm", "-rf", "/run/slurm_adopt"])
    alike(sound)
    sound.pam(pam.both(*LOOKING_ELSEWHERE))
    alike(sound)
    sound.pam(pam.both(*pam.PRODUCTION))
    with contextlib.ExitStack() as stack:
        for node in sound.nodes:
            stack.enter_context(moved(node, "etc/slurm/slurm.conf"))
        alike(sound)


def alike(cluster: Cluster) -> None:
    for more in ((), ("--quick", *EVERYBODY)):
        one, other = (cli.run(node, "check", *more) for node in cluster.nodes)
        assert one.stdout == other.stdout
        assert one.returncode == other.returncode
        assert not re.search(r"\bn[12]\b", one.stdout)


def test_reports_of_both_nodes(sound: Cluster) -> None:
    """Saved there, read here: what one has is said of it alone."""
    sound.n2.pam("sshd", pam.both(*LOOKING_ELSEWHERE))
    texts = {node.name: cli.run(node, "check", "--json").stdout for node in sound.nodes}
    saved = "".join(f"{name}: {line}\n" for name, text in texts.items()
                    for line in text.splitlines())  # fmt: skip
    sound.login.write("tmp/saved", saved)
    try:
        done = cli.run(sound.login, "check", "--input", "/tmp/saved")
    finally:
        (sound.login.root / "tmp/saved").unlink()
    assert done.returncode == 2
    assert re.match(r"slurm_adopt: .* on 1 of 2 nodes: (SA\d{3} )*SA301", done.stdout)
    assert re.search(r"error    SA301  .*\[1 of 2 nodes: n2\]", done.stdout)


# What it looks at, and does not

CHANGES = re.compile(
    r"O_WRONLY|O_RDWR|O_CREAT|unlink|mkdir|rmdir|rename|link\(|chmod|chown|truncate"
)
HARMLESS = re.compile(r'"/dev/(null|tty|ptmx)"|ENOENT|EACCES|readlink')
# To somewhere. sshd -T connects datagram sockets to no address, and sends nothing: that is how
# getaddrinfo(3) finds out which of its answers come first.
NETWORK = re.compile(r'(connect|sendto|sendmsg)\(.*AF_INET6?(?!.*(0\.0\.0\.0|"::"))')
FORKED = re.compile(r"^(\d+) .*\b(?:clone3?|v?fork)\b.* = (\d+)$")
APART = re.compile(
    r'^(\d+) +execve\("[^"]*/unshare", \["unshare", "--mount", "--propagation", "private"'
)


def traced(host: Host, calls: str, *arguments: str) -> list[str]:
    """Return the system calls of a run."""
    env = [f"{name}={value}" for name, value in cli.FROM_CHECKOUT.items()]
    argv = ["strace", "-f", "-qq", "-o", "/tmp/trace", "-e", f"trace={calls}", "env", *env]
    try:
        done = host.run([*argv, *cli.PROGRAM, *arguments], check=False, timeout=120)
        assert done.returncode < 3, done.stderr
        return host.read("tmp/trace").splitlines()
    finally:
        (host.root / "tmp/trace").unlink()


def on_this_host(calls: list[str]) -> list[str]:
    """Return the calls but for those of processes in a mount namespace of their own."""
    apart = {found[1] for line in calls if (found := APART.match(line))}
    children = [found.groups() for line in calls if (found := FORKED.match(line))]
    for _ in children:
        apart |= {child for parent, child in children if parent in apart}
    return [line for line in calls if line.split()[0] not in apart]


def test_quick_uses_no_network(sound: Cluster) -> None:
    sound.submit("alice")
    calls = traced(sound.n1, "connect,sendto,sendmsg", "check", "--quick")
    assert [line for line in calls if "AF_UNIX" in line]
    assert [line for line in calls if NETWORK.search(line)] == []


def test_network_is_seen(sound: Cluster) -> None:
    """The pattern above: what ssh does."""
    argv = ["strace", "-f", "-qq", "-o", "/tmp/trace", "-e", "trace=connect", "ssh", "n2", "true"]
    sound.n1.run(argv)
    calls = sound.n1.read("tmp/trace").splitlines()
    (sound.n1.root / "tmp/trace").unlink()
    assert [line for line in calls if NETWORK.search(line)]


@pytest.mark.parametrize("more", [(), ("--quick",)])
def test_it_changes_nothing(sound: Cluster, more: tuple[str, ...]) -> None:
    """No file is written, made, moved or removed, but in a temporary directory of its own."""
    sound.submit("alice")
    calls = traced(sound.n1, "%file,%process,fchmod,fchown,ftruncate", "check", *more)
    changing = [line for line in on_this_host(calls) if CHANGES.search(line.partition(" = ")[0])]
    assert [line for line in changing if not HARMLESS.search(line) and '"/tmp/' not in line] == []


def test_no_stepd_is_asked_to_add_anything(sound: Cluster) -> None:
    """Its extern step has the same processes before and after."""
    job = sound.submit("alice")
    uid = config.USERS["alice"]
    step = f"cat /sys/fs/cgroup/freezer/slurm_n1/uid_{uid}/job_{job}/step_extern/cgroup.procs"
    before = sound.n1.run(["sh", "-c", step]).stdout
    assert cli.run(sound.n1, "check").returncode == 0
    assert sound.n1.run(["sh", "-c", step]).stdout == before


# Who asks, and where


def test_a_plain_user(sound: Cluster) -> None:
    """The same decisions; what only root sees is not found wrong."""
    sound.submit("alice")
    done = cli.run(sound.n1, "check", user="bob")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    roots, theirs = (decided(sound.n1, "alice", "root", user=user) for user in (None, "bob"))
    assert roots == theirs


def test_a_login_host(sound: Cluster) -> None:
    """Without slurmd and without our lines: no traceback, and it says what is not there."""
    done = cli.run(sound.login, "check")
    assert done.returncode in (0, 1, 2)
    assert re.match(r"slurm_adopt: .{1,67}\n", done.stdout)
    assert "sshd has no line of slurm_adopt" in done.stdout.splitlines()[-1]


def test_without_slurm(sound: Cluster) -> None:
    """No slurm.conf at all: an error, and what each user would meet."""
    with moved(sound.login, "etc/slurm/slurm.conf"):
        sound.login.pam("sshd", pam.both(*pam.PRODUCTION))
        try:
            found = decided(sound.login, "alice", "root")
            done = cli.run(sound.login, "check")
        finally:
            sound.login.pam("sshd", pam.stack())
    assert (found["alice"]["decision"], found["root"]["decision"]) == ("refused", "ignored")
    assert "no slurm.conf" in found["alice"]["why"]
    assert done.returncode == 2
    assert "SA301" in done.stdout.splitlines()[0]


@contextlib.contextmanager
def moved(host: Host, path: str) -> Iterator[None]:
    """Have a file of a host away."""
    there, away = host.root / path, host.root / f"{path}.away"
    there.rename(away)
    try:
        yield
    finally:
        away.rename(there)


def test_a_service_of_its_own(sound: Cluster) -> None:
    """Its stack is looked at; one that is not there is wrong usage."""
    sound.n1.pam("backdoor", pam.stack())
    try:
        said = cli.run(sound.n1, "check", "--service", "backdoor").stdout
    finally:
        (sound.n1.root / "etc/pam.d/backdoor").unlink()
    assert "backdoor has no line of slurm_adopt" in said
    gone = cli.run(sound.n1, "check", "--service", "backdoor")
    assert (gone.returncode, gone.stdout) == (3, "")
    assert gone.stderr.startswith("slurm-adopt: no PAM service backdoor")


def test_metrics(sound: Cluster) -> None:
    done = cli.run(sound.n1, "check", "--prometheus", "/tmp/slurm_adopt.prom")
    try:
        assert done.returncode == 0
        said = sound.n1.read("tmp/slurm_adopt.prom")
    finally:
        (sound.n1.root / "tmp/slurm_adopt.prom").unlink()
    assert 'slurm_adopt_check_result{code="SA301",category="slurm.conf"} 0\n' in said
    assert 'slurm_adopt_check_findings{result="error"} 0\n' in said


DEAD = "/mnt/dead"


@contextlib.contextmanager
def dead_file_system(host: Host) -> Iterator[None]:
    """Have a file system there in which closing a file never ends, SIGKILL or not."""
    (host.root / DEAD.lstrip("/")).mkdir()
    host.run(["sh", "-c", "test -e /dev/fuse || mknod /dev/fuse c 10 229"])
    argv = ["python3", "/checkout/tests/cluster/standins/fuse.py", DEAD]
    server = host.popen(argv, stdout=subprocess.PIPE)
    try:
        assert server.stdout
        assert server.stdout.readline() == "mounted\n"
        yield
    finally:
        end(server)
        host.run(["umount", "--lazy", DEAD])
        (host.root / DEAD.lstrip("/")).rmdir()


def test_a_dead_file_system(sound: Cluster) -> None:
    """What waits for it is left behind: the command ends, and says what it could not see."""
    sound.n1.pam("sshd", pam.both(f"slurm_conf={DEAD}/file"))
    with dead_file_system(sound.n1):
        before = pythons(sound.n1)
        done = cli.run(sound.n1, "check", "--quick", "--user", "alice")
        stuck = pythons(sound.n1) - before
    assert done.returncode == 2
    assert "SA301" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[-1].startswith("  alice \u2192 not known (")
    assert stuck, "no thread was kept by the file system: this has shown nothing"
    wait_for("all gone", lambda: not stuck & pythons(sound.n1))


def pythons(host: Host) -> set[str]:
    """Return the pids of all Pythons there, also of those that have ended but for a thread."""
    return set(host.run(["pgrep", "-x", "python3"], check=False).stdout.split())


# What would be decided is what is decided


class Row(NamedTuple):
    """A situation of alice's on n1."""

    options: tuple[str, ...]
    jobs: int
    decision: str
    job: int | None  # which of hers: 0 the first
    says: str = ""
    arrange: Callable[[Cluster, list[int]], Any] = lambda _, __: contextlib.nullcontext()


def suspended(cluster: Cluster, jobs: list[int]) -> contextlib.AbstractContextManager[None]:
    """Suspend all of alice's jobs; they go on in the end, so that they can be cancelled."""
    stack = contextlib.ExitStack()
    scancel.send(cluster.ctl, "STOP", *jobs, user="alice")
    stack.callback(scancel.send, cluster.ctl, "CONT", *jobs, user="alice")
    wait_for("suspended", lambda: decided(cluster.n1, "alice")["alice"]["decision"] != "job")
    return stack  # type: ignore[return-value]


def stopped(cluster: Cluster, jobs: list[int]) -> Stopped:
    """Stop the stepd of the only job."""
    pattern = f"slurmstepd: \\[{jobs[0]}.extern\\]"
    return Stopped(cluster.n1, cluster.n1.run(["pgrep", "-f", pattern]).stdout.split()[0])


SITUATIONS = {
    "no job": Row((), 0, "refused", None, "no job"),
    "no job, ignored": Row(("action_no_jobs=ignore",), 0, "ignored", None, "action_no_jobs=ignore"),
    "one job": Row((), 1, "job", 0, "the only one"),
    "several, the newest": Row((), 3, "job", 2, "action_unknown=newest"),
    "several, deny": Row(("action_unknown=deny",), 2, "refused", None, "action_unknown=deny"),
    "several, allow": Row(("action_unknown=allow",), 2, "let in", None, "action_unknown=allow"),
    "another service": Row(("service=other",), 1, "ignored", None, "service"),
    "suspended": Row((), 1, "refused", None, "action_suspended=deny", suspended),
    "suspended, allow": Row(("action_suspended=allow",), 1, "let in", None,
                            "action_suspended=allow", suspended),
    "its stepd is stopped": Row(("action_adopt_failure=deny",), 1, "refused", None,
                                "action_adopt_failure=deny", stopped),
    "no slurm.conf": Row(LOOKING_ELSEWHERE, 1, "refused", None, "/nowhere/slurm.conf"),
    "no slurm.conf, ignored": Row((*LOOKING_ELSEWHERE, "action_generic_failure=ignore"), 1,
                                  "ignored", None, "action_generic_failure=ignore"),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_would_be_decided_is_decided(cluster: Cluster, name: str) -> None:
    """A real login comes to the same."""
    row = SITUATIONS[name]
    cluster.pam(pam.both(*row.options))
    jobs = [cluster.submit("alice") for _ in range(row.jobs)]
    with row.arrange(cluster, jobs):
        said = decided(cluster.n1, "alice")["alice"]
        login = landing.from_login(cluster)
    job = None if row.job is None else jobs[row.job]
    assert (said["decision"], said["job"]) == (row.decision, job), said
    assert row.says in said["why"], said
    assert login.job == said["job"], login
    assert (login.rc == 0) == (said["decision"] != "refused"), login


# Health checks, as the page has them

PAGE = "health-check"
LINK, HEALTH = "usr/local/bin/slurm-adopt", "etc/slurm/health.slurm_adopt"
NHC_FILE = "etc/nhc/scripts/slurm_adopt.nhc"


def as_told(with_words: str) -> str:
    """Return a command of the page, for the checkout that the hosts have."""
    return guide.command("install" if with_words == "ln -s" else PAGE, with_words).replace(
        "/opt/slurm_adopt", "/checkout"
    )


@pytest.fixture
def in_path(sound: Cluster) -> Iterator[Cluster]:
    """Have the command where the page has it."""
    for node in sound.nodes:
        node.run(["sh", "-ec", as_told("ln -s")])
    yield sound
    for node in sound.nodes:
        (node.root / LINK).unlink()


def test_the_command_of_a_checkout(in_path: Cluster) -> None:
    """By its link, with an environment that would mislead Python; no byte code is written."""
    env = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
    done = in_path.n1.run(["slurm-adopt", "check", "--only", "SA301"], env=env)
    assert done.stdout.startswith("slurm_adopt: ok, 1 check\n")


COMPLETE = """\
. /checkout/contrib/completion/slurm-adopt.bash
COMP_WORDS=($*) COMP_CWORD=$(($# - 1))
_slurm_adopt_completion slurm-adopt
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("slurm-adopt ch", ["check"]),
        ("slurm-adopt check --fail-on w", ["warning"]),
        ("slurm-adopt check --user ali", ["alice"]),
        ("slurm-adopt check --only SA301", ["SA301"]),
        ("slurm-adopt check --qu", ["--quick"]),
        ("slurm-adopt explain ali", ["alice"]),
        (
            "slurm-adopt explain alice action_suspended",
            [f"action_suspended={value}" for value in ("deny", "allow")],
        ),
        ("slurm-adopt logins --user ali", ["alice"]),
        ("slurm-adopt sessions ali", ["alice"]),
    ],
)
def test_completion_of_bash(in_path: Cluster, words: str, offered: list[str]) -> None:
    done = in_path.n1.run(["bash", "-c", COMPLETE, "bash", *words.split()])
    assert done.stdout.split() == offered


def reason(cluster: Cluster, node: str = "n1") -> tuple[bool, str]:
    """Return whether a node is drained, and why, as slurmctld has it."""
    said = cluster.ctl.run(["scontrol", "-o", "show", "node", node]).stdout
    found = re.search(r" Reason=(.*?) \[", said)
    return "DRAIN" in said.partition("State=")[2].split()[0], found[1] if found else ""


@pytest.fixture
def with_health_check(in_path: Cluster) -> Iterator[Cluster]:
    """Have slurmd run the shipped program, each second."""
    lines = guide.commands_between(PAGE, "HealthCheckProgram=", "HealthCheckNodeState=")
    assert lines[1] == "HealthCheckInterval=300"
    lines[1] = "HealthCheckInterval=1"
    for node in in_path.nodes:
        node.run(["sh", "-ec", as_told("install -m 755")])
    in_path.reconfigure(Settings(slurm_conf="".join(f"{line}\n" for line in lines)))
    yield in_path
    in_path.pam(pam.both(*pam.PRODUCTION))
    for node in in_path.nodes:
        # slurmd finds the program no more; one that began before the stack was sound again ends.
        (node.root / HEALTH).rename(node.root / f"{HEALTH}.old")
        node.run(["flock", f"/{HEALTH}.old", "true"])
    for node in in_path.nodes:
        if reason(in_path, node.name) != (False, ""):
            resume = ["scontrol", "update", f"nodename={node.name}", "state=resume"]
            in_path.ctl.run(resume, check=False)  # ours may have resumed it just now
    in_path.reconfigure(Settings())
    for node in in_path.nodes:
        (node.root / f"{HEALTH}.old").unlink()


def test_health_check_program(with_health_check: Cluster) -> None:
    """A node with an error is drained with the first line as the reason, and comes back."""
    cluster = with_health_check
    cluster.n1.pam("sshd", pam.both(*LOOKING_ELSEWHERE))
    said = cli.run(cluster.n1, "check", "--quick", "--fail-on", "error").stdout.splitlines()[0]
    wait_for(
        "n1 drained", lambda: reason(cluster) == (True, said), 60, lambda: str(reason(cluster))
    )
    assert reason(cluster, "n2") == (False, "")
    cluster.n1.pam("sshd", pam.both(*pam.PRODUCTION))
    wait_for("n1 resumed", lambda: reason(cluster) == (False, ""), 60)


def test_a_node_that_is_drained_for_another_reason_stays_so(with_health_check: Cluster) -> None:
    """With an error, and when that is gone."""
    cluster = with_health_check
    drain = ["scontrol", "update", "nodename=n1", "state=drain", "reason=a new fan"]
    cluster.ctl.run(drain)
    for options in (LOOKING_ELSEWHERE, pam.PRODUCTION):
        cluster.n1.pam("sshd", pam.both(*options))
        done = cluster.n1.run([f"/{HEALTH}"], env={"SLURMD_NODENAME": "n1"})
        assert (done.stdout, done.stderr) == ("", "")
        assert reason(cluster) == (True, "a new fan")


def test_one_health_check_runs_at_a_time(with_health_check: Cluster) -> None:
    """While one holds the lock, no other one sees what is wrong."""
    node = with_health_check.n1
    wrong = f"chmod o+w /etc/pam.d/sshd; /{HEALTH}; sleep 3; chmod o-w /etc/pam.d/sshd"
    node.run(["flock", f"/{HEALTH}", "sh", "-ec", wrong], env={"SLURMD_NODENAME": "n1"})
    assert reason(with_health_check) == (False, "")


def test_a_health_check_that_cannot_run_drains_nothing(with_health_check: Cluster) -> None:
    """It is logged."""
    cluster = with_health_check
    mark = cluster.n1.mark()
    (cluster.n1.root / LINK).unlink()
    try:
        # One that is running has the lock; it may still have found the command.
        wait_for("logged", lambda: "health check: status 127: " in str(cluster.n1.log(mark)), 60)
    finally:
        (cluster.n1.root / LINK).symlink_to("/checkout/bin/slurm-adopt")
    assert reason(cluster) == (False, "")


# NHC is not in Debian: what it does with a check is played. By hand it was seen to do the same.
NHC = f"""\
PATH=/sbin:/usr/sbin:/bin:/usr/bin
die() {{ shift; eval echo "'died: $*'"; }}
. /{NHC_FILE}
eval "$1"
echo "status $?"
"""


def test_node_health_check_of_lbnl(in_path: Cluster) -> None:
    """The lines of nhc.conf, with nothing wrong, with an error, and where it cannot be run."""
    plain, strict = (
        line.partition("|| ")[2] for line in guide.commands(PAGE, "NHC") if "||" in line
    )

    def ran(line: str) -> list[str]:
        return in_path.n1.run(["bash", "-c", NHC, "bash", line]).stdout.splitlines()

    in_path.n1.run(["sh", "-ec", as_told("nhc/slurm_adopt.nhc")])
    try:
        assert ran(plain) == ran(strict) == ["status 0"]
        in_path.n1.pam("sshd", pam.both(*LOOKING_ELSEWHERE))
        for line in (plain, strict):
            said, status = ran(line)
            assert re.fullmatch(r"died: check_slurm_adopt:  slurm_adopt: .*SA301.*", said)
            assert status == "status 1"
        said, _ = ran(f"{plain} --only SA999")
        assert said.startswith("died: check_slurm_adopt:  slurm-adopt: --only SA999: no check")
        said, _ = ran(f"{plain} --user \"a'; echo b; 'c\"")
        assert said.startswith("died: check_slurm_adopt:  slurm-adopt: no user a; echo b; c on")
    finally:
        (in_path.n1.root / NHC_FILE).unlink()


def test_nagios_s_command(in_path: Cluster) -> None:
    """Run as a plain user."""
    command = guide.command(PAGE, "command[check").partition("=")[2]
    done = in_path.n1.run(command.split(), "bob", check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("slurm_adopt: ok, ")


def test_all_nodes_read_together(in_path: Cluster) -> None:
    """What clush would have gathered goes into the page's command."""
    command = guide.command(PAGE, "--input -").partition("| ")[2]
    said = "".join(in_path.n1.run(["slurm-adopt", "check", "--json"]).stdout for _ in range(3))
    done = in_path.n1.run(command.split(), input=said)
    assert done.stdout.startswith("slurm_adopt: ok on all 3 nodes, ")


def test_the_cron_job_for_node_exporter(in_path: Cluster) -> None:
    line = guide.command(PAGE, "/usr/local/bin/slurm-adopt check --prometheus")
    *_, command = line.split(" ", 6)
    path = re.search(r"/\S+\.prom", command)
    assert path
    in_path.n1.run(["mkdir", "-p", path[0].rpartition("/")[0]])
    try:
        assert in_path.n1.run(["sh", "-c", command]).stdout == ""
        said = in_path.n1.read(path[0])
    finally:
        in_path.n1.run(["rm", "-r", "/var/lib/prometheus"])
    documented = set(re.findall(r"^\| `(slurm_adopt_\w+)`", guide.page(PAGE), re.MULTILINE))
    assert set(re.findall(r"^(slurm_adopt_\w+)\{", said, re.MULTILINE)) == documented


def test_the_page_has_nhc_s_function_as_it_is_shipped() -> None:
    shipped = (CHECKOUT / "contrib/nhc/slurm_adopt.nhc").read_text()
    function = guide.commands_between("monitoring", "# Say whether", "}")
    stripped = "\n".join(line.strip() for line in shipped.splitlines())
    assert "\n".join(function) in stripped


def test_saved_json_is_what_the_schema_says(sound: Cluster) -> None:
    """Each field that docs/reference/json.md has, and no other."""
    sound.submit("alice")
    said = cli.run_json(sound.n1, "check")
    page = (CHECKOUT / "docs/reference/json.md").read_text()
    part = page.partition("## check\n")[2].partition("\n## ")[0]
    keys = set(re.findall(r"^\| `([\w.]+)` \|", part, re.MULTILINE))
    found = {*said, *(f"findings.{key}" for each in said["findings"] for key in each)}
    found |= {f"would_decide.{key}" for each in said["would_decide"] for key in each}
    found |= {f"findings.where.{key}" for each in said["findings"] for key in each["where"]}
    assert found == keys, json.dumps(sorted(found ^ keys))
