"""What the how-to pages tell to run does what it says; lines it explains are seen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import guide, pam
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.config import Settings
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.landing import COMMAND, job_of
from tests.cluster.harness.login import asking, ssh_argv
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_image, stock
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.harness.host import Host

KBDINT = "keyboard-interactive"
SCRIPT = "/opt/slurm_adopt/pam/pam_slurm_adopt.py"
PACKAGE = "/opt/slurm_adopt/src/slurm_adopt"
OF_EXEC = "/opt/slurm_adopt/pam/pam_slurm_adopt_exec"
BRIDGE = "/lib/security/pam_python.so"


def sh(host: Host, script: str) -> str:
    return host.run(["sh", "-ec", script]).stdout


# When something is wrong

NO_SCRIPT = rf"authpriv\.err {SCRIPT}\[\d+\]: Can not open module: No such file or directory"
NO_BRIDGE = (
    r"authpriv\.err sshd\[\d+\]: PAM unable to dlopen\(pam_python\.so\): /lib/security/pam_python"
    r"\.so: cannot open shared object file: No such file or directory"
)
FAULTY = r"PAM adding faulty module: pam_python\.so"
NOT_RUN = (
    rf"authpriv\.err sshd\[\d+\]: pam_exec\(sshd:%s\): execve\({OF_EXEC},\.\.\.\) failed: "
    "No such file or directory"
)
EXPIRED = r"sshd\[\d+\]: error: PAM: User account has expired for alice"

# (what is missing, whether the account line is there, method, status of ssh, lines in the log)
LOCKED_OUT = [
    (SCRIPT, True, "publickey", 255, (NO_SCRIPT,)),
    (SCRIPT, True, KBDINT, 255, (NO_SCRIPT, EXPIRED)),
    (SCRIPT, False, "publickey", 254, (NO_SCRIPT, r"pam_open_session\(\): Failed to load module")),
    (BRIDGE, True, "publickey", 255, (NO_BRIDGE, FAULTY)),
    (BRIDGE, True, KBDINT, 255, (NO_BRIDGE, FAULTY, EXPIRED)),
    (BRIDGE, False, "publickey", 254, (NO_BRIDGE, r"pam_open_session\(\): Module is unknown")),
    (OF_EXEC, True, "publickey", 255, (NOT_RUN % "account", rf"{OF_EXEC} failed: exit code \d")),
    (OF_EXEC, True, KBDINT, 255, (NOT_RUN % "account", EXPIRED)),
    (OF_EXEC, False, "publickey", 254, (NOT_RUN % "session", r"open_session\(\): System error")),
]


@pytest.fixture
def missing(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Take a file away from n1."""
    sh(cluster.n1, f"mv {request.param} /var/spool/away")
    yield request.param
    sh(cluster.n1, f"mv /var/spool/away {request.param}")


@pytest.mark.parametrize(
    ("missing", "account", "method", "status", "lines"), LOCKED_OUT, indirect=["missing"]
)
def test_everybody_but_root_is_locked_out(
    cluster: Cluster, missing: str, account: bool, method: str, status: int, lines: tuple[str, ...]
) -> None:
    assert missing
    cluster.submit("alice")
    front = pam.both_by_pam_exec if missing == OF_EXEC else pam.both_lines
    lines_of_account, of_session = front(*pam.PRODUCTION)
    head = pam.stack(*lines_of_account) if account else pam.stack()
    cluster.n1.pam("sshd", [*head, *of_session])
    mark = cluster.n1.mark()
    assert cluster.ssh("alice", method=method).rc == status
    log = "\n".join(cluster.n1.log(mark))
    assert [line for line in lines if not re.search(line, log)] == [], log
    assert cluster.ssh("root").rc == 0


# (how often the client tries, the line that sshd writes last)
TRIES = [
    (3, "fatal: monitor_read: unpermitted request 104"),
    (1, "Connection closed by authenticating user alice"),
]


@pytest.mark.parametrize(("tries", "said"), TRIES)
def test_request_104(cluster: Cluster, tries: int, said: str) -> None:
    """It is in the log of a refusal if the client asks again on the same connection."""
    argv = [f"NumberOfPasswordPrompts={tries}" if "Prompts" in word else word
            for word in ssh_argv("n1", "alice", (), KBDINT)]  # fmt: skip
    mark = cluster.n1.mark()
    ssh = [*asking(cluster.login, "alice", KBDINT), *argv, "true"]
    assert cluster.login.run(ssh, "alice", check=False).returncode == 255
    wait_for(f"its last line: {said}", lambda: said in cluster.n1.log(mark)[-1])
    assert any("no jobs: " in line for line in cluster.n1.log(mark))


def samples(beginning: str) -> list[str]:
    """Return the guide's samples of log lines that begin so, as patterns for any numbers."""
    shown = guide.commands("migrate")
    lines = [line for line in shown if line.startswith(beginning)]
    return [rf" {re.sub('[0-9]+', '[0-9]+', re.escape(line))}$" for line in lines]


# (stack, how its samples begin, how many there are)
SAMPLES = [
    (pam.both(*pam.PRODUCTION), "sshd[", 2),
    (pam.with_module(line=pam.C_MODULE), "pam_slurm_adopt[", 1),
]


@pytest.mark.parametrize(("stack", "beginning", "count"), SAMPLES, ids=["ours", "C module"])
def test_samples_of_the_log(cluster: Cluster, stack: list[str], beginning: str, count: int) -> None:
    expected = samples(beginning)
    assert len(expected) == count
    cluster.submit("alice")
    cluster.n1.pam("sshd", stack)
    mark = cluster.n1.mark()
    assert cluster.ssh("alice").rc == 0
    log = cluster.n1.log(mark)
    found = [any(re.search(line, said) for said in log) for line in expected]
    assert all(found), log


# sshd without pam_systemd

ASKED = "/run/logind-was-asked"
PAM_SYSTEMD = "/usr/local/sbin/pam_systemd"  # stands in its place; the roots have none
LOGIND = f"session optional pam_exec.so quiet {PAM_SYSTEMD}\n"
OF_DEBIAN = (stock.EXAMPLE_OF["bookworm"], "common-session")
OF_RHEL = (stock.RHEL, "password-auth")


@pytest.mark.parametrize(("example", "included"), [OF_DEBIAN, OF_RHEL], ids=["Debian", "RHEL"])
def test_sshd_without_pam_systemd(cluster: Cluster, example: str, included: str) -> None:
    """The copy is without it, the file that others include is as it was."""
    node = cluster.n1
    job = cluster.submit("alice")
    text = (stock.EXAMPLES / example).read_text()
    stock.use(cluster, stock.fitted(node, text).splitlines())
    usual = node.read(f"etc/pam.d/{included}")
    node.pam(included, usual + LOGIND)
    node.write(PAM_SYSTEMD, f"#!/bin/sh\ntouch {ASKED}\n", 0o755)

    def is_asked() -> bool:
        sh(node, f"rm -f {ASKED}")
        assert job_of(node, cluster.ssh("alice", command=COMMAND).out) == job
        return (node.root / ASKED.lstrip("/")).exists()

    try:
        assert is_asked()
        for command in guide.commands("pam-systemd", "sshd without pam_systemd"):
            if f"{included}-sshd" in command:
                sh(node, command)
        assert not is_asked()
        assert node.read(f"etc/pam.d/{included}") == usual + LOGIND
    finally:
        node.pam(included, usual)


# Upgrade, rollback, uninstall

STALE = """\
import importlib.util, pathlib, sys
for source in pathlib.Path(sys.argv[1]).rglob("*.py"):
    code = pathlib.Path(importlib.util.cache_from_source(source))
    if not code.exists() or int.from_bytes(code.read_bytes()[8:12], "little") != int(
        source.stat().st_mtime
    ):
        print(source)
"""


def stale(node: Host) -> str:
    """Return the sources that Python would compile at each login."""
    return node.run(["python3", "-c", STALE, "/opt/slurm_adopt/src"]).stdout


def reads_its_image(node: Host) -> bool:
    """Return whether a login reads the login image, and no other file of the package."""
    image = login_image.path(PACKAGE, "python3.11")
    return login_image.opened(node, "python3.11", SCRIPT) == [image]


def test_upgrade(cluster: Cluster) -> None:
    """Sources that are new need compileall and an image; logins work without, and leave none."""
    node = cluster.n1
    job = cluster.submit("alice")
    assert stale(node) == ""
    assert reads_its_image(node)
    source = f"{PACKAGE}/front/answer.py"
    sh(node, f"echo '#' >>{source}; find {PACKAGE} -name '*.py' -exec touch -d '1 hour' {{}} +")
    before = stale(node)
    assert job_of(node, cluster.ssh("alice", command=COMMAND).out) == job
    assert stale(node) == before != ""
    assert not reads_its_image(node)
    make = [guide.command("upgrade", words) for words in ("compileall", "login_image")]
    for command in make:
        sh(node, command)
    assert stale(node) == ""
    assert reads_its_image(node)
    assert job_of(node, cluster.ssh("alice", command=COMMAND).out) == job
    sh(node, "; ".join([f"sed -i '$d' {source}", *make]))  # as it was


GIT = ("git", "-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "commit.gpgsign=false")


def test_upgrade_rollback_upgrade(tmp_path: Path) -> None:
    """The commands of git, one after the other, as often as one likes."""
    source, checkout = tmp_path / "source", tmp_path / "checkout"

    def git(*words: str) -> str:
        done = subprocess.run([*GIT, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit() -> str:
        git("-C", str(source), "commit", "-q", "--allow-empty", "-m", "x")
        return git("-C", str(source), "rev-parse", "HEAD")

    def do(commands: list[str], to: str) -> str:
        script = "\n".join(line for line in commands if line.startswith("git "))
        script = script.replace("/opt/slurm_adopt", str(checkout)).replace("COMMIT", to)
        done = subprocess.run(["sh", "-ec", script], check=True, capture_output=True, text=True)
        assert git("-C", str(checkout), "rev-parse", "HEAD") == to
        return done.stdout.strip()

    upgrade = guide.commands_between("upgrade", "rev-parse HEAD", "compileall")
    back = [line for line in guide.commands("upgrade") if "checkout" in line][-1:]
    git("init", "-q", str(source))
    commits = [commit()]
    git("clone", "-q", str(source), str(checkout))
    for _ in range(2):
        commits.append(commit())
        assert do(upgrade, commits[-1]) == commits[-2]  # noted
        do(back, commits[-2])
        assert do(upgrade, commits[-1]) == commits[-2]


# Install, rescue, images


def test_install(tmp_path: Path) -> None:
    """The commands give a checkout of the commit that was tried, with byte code for all of it."""
    source, checkout = tmp_path / "source", tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "src", source / "src")

    def git(*words: str) -> str:
        argv = [*GIT, "-C", str(source), *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "src")
    git("commit", "-qm", "x")
    commands = guide.commands_between("install", "git clone", "login_image")
    assert len(commands) == 4
    words = (("<this repository>", str(source)), ("/opt/slurm_adopt", str(checkout)),
             ("COMMIT", git("rev-parse", "HEAD")))  # fmt: skip
    script = "\n".join(commands)
    for word, meant in words:
        assert word in script
        script = script.replace(word, meant)
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True)
    argv = ["/usr/bin/python3", "-c", STALE, str(checkout / "src")]
    assert len([*(checkout / "src").rglob("*.py")]) > 20
    assert subprocess.run(argv, check=True, capture_output=True).stdout == b""
    assert len([*(checkout / "src/slurm_adopt/__pycache__").glob("login.*.image")]) == 1


def test_rescue(cluster: Cluster) -> None:
    """The copy from before the installation lets users in where the script is missing."""
    node = cluster.n1
    stock.use(cluster, pam.stack())
    copy = guide.command("install", "cp -p")
    sh(node, copy)
    node.pam("sshd", pam.both(*pam.PRODUCTION))
    sh(node, f"mv {SCRIPT} /var/spool/away")
    try:
        assert [cluster.ssh(user).rc for user in ("alice", "root")] == [255, 0]
        back = guide.command("lockout-rescue", "cp -p")
        assert back.split()[2:] == copy.split()[:1:-1]
        sh(node, back)
        assert [cluster.ssh(user).rc for user in ("alice", "root")] == [0, 0]
    finally:
        sh(node, f"mv /var/spool/away {SCRIPT}; rm -f /root/pam.d-sshd.before")


def test_a_copy_of_the_checkout(cluster: Cluster) -> None:
    """Nodes without internet: what was lost comes back, what is too much goes, all is root's."""
    target, job = cluster.n2, cluster.submit("alice", "n2")
    command = guide.command("images", "rsync").replace("NODE", target.name)
    target.pam("sshd", pam.both(*pam.PRODUCTION))
    target.run(["sh", "-ec", f"rm {SCRIPT}; touch /opt/slurm_adopt/src/too_much.py"])
    assert cluster.ssh("alice", target=target.name).rc == 255
    command = command.replace("rsync ", "rsync -e 'ssh -o StrictHostKeyChecking=no' ", 1)
    sh(cluster.n1, f"cd /opt; {command}")
    sh(target, guide.command("images", "compileall"))
    assert stale(target) == ""
    sh(target, guide.command("images", "login_image"))
    assert reads_its_image(target)
    assert target.run(["find", "/opt/slurm_adopt", "-name", "too_much.py"]).stdout == ""
    assert target.run(["find", "/opt/slurm_adopt", "!", "-user", "root"]).stdout == ""
    found = cluster.ssh("alice", target=target.name, command=COMMAND)
    assert job_of(target, found.out) == job


# Lines of a site's own that look like ours
ITS_OWN = {
    "auth": ["auth sufficient pam_succeed_if.so quiet uid eq 0"],
    "account": [
        "account required pam_succeed_if.so quiet user ingroup hpcusers",
        "account [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0",
        "account required pam_access.so",
        "account sufficient pam_succeed_if.so quiet user ingroup hpcusers debug",
    ],
    "session": [
        "session [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0",
        "session optional pam_exec.so quiet /usr/local/sbin/hello",
    ],
}
FILE = "/etc/pam.d/sshd"


@pytest.mark.parametrize("lines", pam.PRINTED.values(), ids=pam.PRINTED)
@pytest.mark.parametrize("example", [*stock.EXAMPLE_OF.values(), stock.RHEL])
def test_only_our_lines_go(tmp_path: Path, example: str, lines: pam.Printed) -> None:
    """From each file with lines of a site's own, on either side of each set of ours."""
    usual = stock.without_ours((stock.EXAMPLES / example).read_text())
    account, session = lines(*pam.PRODUCTION)
    front, behind = ITS_OWN["account"], ITS_OWN["session"]
    account, session = [*front, *account, *front], [*behind, *session, *behind]
    listed = [line for line in account if line == pam.DENIED]  # another module's, and stays
    before = [*ITS_OWN["auth"], *stock.with_lines(usual, (account, session))]
    after = [
        *ITS_OWN["auth"],
        *stock.with_lines(usual, ([*front, *listed, *front], [*behind, *behind])),
    ]
    file = tmp_path / "sshd"
    file.write_text("".join(f"{line}\n" for line in before))
    script = "\n".join(removal()[0]).replace(FILE, str(file))
    subprocess.run(["sh", "-ec", script], check=True)
    assert file.read_text().splitlines() == after


EPILOG = "#!/bin/sh\ncd /opt/slurm_adopt/src && /usr/bin/python3 -sBEm slurm_adopt.epilog\nexit 0\n"
OF_SITE = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def to_remove(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Bring up a cluster that nobody else uses, with everything that the guide has."""
    settings = Settings(slurm_conf="Epilog=/etc/slurm/epilog.slurm_adopt\n")
    with Cluster(f"remove-{os.getpid()}", settings) as cluster:
        show_logs_of(request.config, cluster)
        example = (stock.EXAMPLES / stock.EXAMPLE_OF["bookworm"]).read_text()
        for node in cluster.nodes:
            node.write("etc/slurm/epilog.slurm_adopt", EPILOG, 0o755)
            node.write("etc/slurm/epilog", OF_SITE, 0o755)
            node.pam("sshd", example)
        yield cluster


@pytest.mark.cluster
def test_uninstall(to_remove: Cluster) -> None:
    """After each step users and root log in, no node drains, and a session goes on to its end."""
    cluster, node = to_remove, to_remove.n1
    lines, epilog, reconfigure, files, package = map("\n".join, removal())
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        assert cluster.ssh("bob").rc == 255

        def still_good() -> None:
            assert [cluster.ssh(user).rc for user in ("bob", "root")] == [0, 0]
            assert job_of(node, session.run(COMMAND)) == job
            other = cluster.submit("carol", "n1,n2")
            cluster.cancel(other)
            cluster.wait_gone(other)
            cluster.wait_idle()

        steps: list[Callable[[], object]] = [
            lambda: [sh(one, lines) for one in cluster.nodes],
            lambda: [sh(one, epilog) for one in (cluster.ctl, *cluster.nodes)],
            lambda: sh(cluster.ctl, reconfigure),
            lambda: [sh(one, files) for one in cluster.nodes],
            lambda: [sh(one, package) for one in cluster.nodes],
        ]
        for step in steps:
            step()
            still_good()
        assert node.read("etc/pam.d/sshd") == stripped(stock.debian(stock.suite_of(cluster)))
        assert node.read("etc/slurm/epilog") == OF_SITE
        mark = node.mark()
        session.send("exit\n")
        session.wait_gone()
    log = [line for line in node.log(mark) if ".err " in line or ".crit " in line]
    assert log == []


def removal() -> list[list[str]]:
    """Return the five steps of the guide that remove everything, in its order."""
    words = ("front=", "sed -i '/^Epilog", "scontrol reconfigure", "rm -rf", "libpam-python")
    found = guide.commands("uninstall")
    places = [next(n for n, line in enumerate(found) if word in line) for word in words]
    assert places == sorted(places)
    lines = guide.commands_between("uninstall", "front=", "sed -i -Ez")
    return [lines, *([found[place]] for place in places[1:])]


BY_EXEC = (
    ("pam_python.so", "pam_exec.so quiet stdout"),
    ("pam_slurm_adopt.py", "pam_slurm_adopt_exec"),
)


@pytest.mark.parametrize("words", [(), BY_EXEC], ids=["pam_python", "pam_exec"])
@pytest.mark.parametrize("service", ["cron", "atd"])
def test_uninstall_leaves_nothing_with_at_and_cron(
    tmp_path: Path, service: str, words: tuple[tuple[str, str], ...]
) -> None:
    """A guard that stayed behind would jump over the line that has come behind it."""
    account, session = pam.at_or_cron(service)
    for old, new in words:
        account, session = ([line.replace(old, new) for line in of] for of in (account, session))
    theirs = ["@include common-auth", "@include common-account", "@include common-session"]
    with_ours = [theirs[0], *account, *theirs[1:], *session]
    file = tmp_path / service
    file.write_text("".join(f"{line}\n" for line in with_ours))
    script = "\n".join(removal()[0]).replace("/etc/pam.d/sshd", str(file))
    subprocess.run(["sh", "-ec", script], check=True)
    assert file.read_text().splitlines() == theirs
    look = guide.command("uninstall", "grep -nE").replace("/etc/pam.d/sshd", str(file))
    assert subprocess.run(["sh", "-c", look], check=False, capture_output=True).stdout == b""


def stripped(text: str) -> str:
    """Return what is left of docs/examples: the stock file, with our comments."""
    example = (stock.EXAMPLES / stock.EXAMPLE_OF["bookworm"]).read_text()
    assert stock.without_ours(example) == text
    ours = ("pam_succeed_if.so quiet uid eq 0", "pam_slurm_adopt.py")
    lines = example.splitlines(keepends=True)
    return "".join(line for line in lines if not any(word in line for word in ours))
