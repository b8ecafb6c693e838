"""What the administrator's guide tells to run does what it says; lines it explains are seen."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster import guide, pam, stock
from tests.cluster.cluster import Cluster
from tests.cluster.config import Settings
from tests.cluster.landing import COMMAND, job_of
from tests.cluster.login import asking, ssh_argv
from tests.conftest import show_logs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.host import Host

KBDINT = "keyboard-interactive"
SCRIPT = "/opt/slurm_adopt/pam/pam_slurm_adopt.py"
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
EXPIRED = r"sshd\[\d+\]: error: PAM: User account has expired for alice"

# (what is missing, whether the account line is there, method, status of ssh, lines in the log)
LOCKED_OUT = [
    (SCRIPT, True, "publickey", 255, (NO_SCRIPT,)),
    (SCRIPT, True, KBDINT, 255, (NO_SCRIPT, EXPIRED)),
    (SCRIPT, False, "publickey", 254, (NO_SCRIPT, r"pam_open_session\(\): Failed to load module")),
    (BRIDGE, True, "publickey", 255, (NO_BRIDGE, FAULTY)),
    (BRIDGE, True, KBDINT, 255, (NO_BRIDGE, FAULTY, EXPIRED)),
    (BRIDGE, False, "publickey", 254, (NO_BRIDGE, r"pam_open_session\(\): Module is unknown")),
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
    head = pam.with_module(*pam.PRODUCTION) if account else pam.stack()
    cluster.n1.pam("sshd", [*head, *pam.session_lines(*pam.PRODUCTION)])
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
    lines = cluster.n1.log(mark)
    assert said in lines[-1], lines
    assert any("no jobs: " in line for line in lines)


PREFIXES = {
    pam.OURS: r"sshd\[\d+\]: pam_slurm_adopt\(sshd:account\): user alice .*: adopted into job",
    pam.C_MODULE: r" pam_slurm_adopt\[\d+\]: Process \d+ adopted into job \d+$",
}


@pytest.mark.parametrize(("line", "expected"), PREFIXES.items(), ids=["ours", "C module"])
def test_prefix_of_the_log(cluster: Cluster, line: str, expected: str) -> None:
    cluster.submit("alice")
    cluster.n1.pam("sshd", pam.with_module(line=line))
    mark = cluster.n1.mark()
    assert cluster.ssh("alice").rc == 0
    assert any(re.search(expected, said) for said in cluster.n1.log(mark)), cluster.n1.log(mark)


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
        for command in guide.commands("sshd without pam_systemd"):
            if f"{included}-sshd" in command:
                sh(node, command)
        assert not is_asked()
        assert node.read(f"etc/pam.d/{included}") == usual + LOGIND
    finally:
        node.pam(included, usual)


# Upgrade, rollback, uninstall

SECTION = "Upgrade, rollback, uninstall"
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


def test_upgrade(cluster: Cluster) -> None:
    """Sources that are new need compileall; logins work without it, and leave no byte code."""
    node = cluster.n1
    job = cluster.submit("alice")
    assert stale(node) == ""
    sh(node, "find /opt/slurm_adopt/src -name '*.py' -exec touch -d '1 hour' {} +")
    before = stale(node)
    assert job_of(node, cluster.ssh("alice", command=COMMAND).out) == job
    assert stale(node) == before != ""
    sh(node, guide.command(SECTION, "compileall"))
    assert stale(node) == ""
    assert job_of(node, cluster.ssh("alice", command=COMMAND).out) == job


EPILOG = "#!/bin/sh\ncd /opt/slurm_adopt/src && /usr/bin/python3 -sBEm slurm_adopt.epilog\nexit 0\n"


@pytest.fixture
def to_remove(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Bring up a cluster that nobody else uses, with everything that the guide has."""
    settings = Settings(slurm_conf="Epilog=/etc/slurm/epilog\n")
    with Cluster(f"remove-{os.getpid()}", settings) as cluster:
        show_logs_of(request.config, cluster)
        example = (stock.EXAMPLES / stock.EXAMPLE_OF["bookworm"]).read_text()
        for node in cluster.nodes:
            node.write("etc/slurm/epilog", EPILOG, 0o755)
            node.pam("sshd", example)
        yield cluster


@pytest.mark.cluster
def test_uninstall(to_remove: Cluster) -> None:
    """After each step users and root log in, no node drains, and a session goes on to its end."""
    cluster, node = to_remove, to_remove.n1
    lines, epilog, reconfigure, files, package = removal()
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
        mark = node.mark()
        session.send("exit\n")
        session.wait_gone()
    log = [line for line in node.log(mark) if ".err " in line or ".crit " in line]
    assert log == []


def removal() -> list[str]:
    """Return the five commands of the guide that remove everything, in its order."""
    words = ("sed -i -e", "sed -i '/^Epilog", "scontrol reconfigure", "rm -rf", "apt-get")
    found = [line for line in guide.commands(SECTION) if any(w in line for w in words)]
    assert [next(w for w in words if w in line) for line in found] == [*words]
    return found


def stripped(text: str) -> str:
    """Return what is left of docs/examples: the stock file, with our comments."""
    example = (stock.EXAMPLES / stock.EXAMPLE_OF["bookworm"]).read_text()
    assert stock.without_ours(example) == text
    ours = ("pam_succeed_if.so quiet uid eq 0", "pam_slurm_adopt.py")
    lines = example.splitlines(keepends=True)
    return "".join(line for line in lines if not any(word in line for word in ours))
