"""`slurm-adopt install` and `uninstall` on a node: what they write, and who then gets in."""

from __future__ import annotations

import calendar
import contextlib
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import guide, pam
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import COMMAND, job_of
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import stock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

PROGRAM = "/opt/slurm_adopt/bin/slurm-adopt"
SCRIPT = "/opt/slurm_adopt/pam/pam_slurm_adopt.py"
FILE = "/etc/pam.d/sshd"
STATE = "/var/lib/slurm_adopt"
GUARD = "[success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"


class Node:
    """n1 with the stock file of its sshd, and the command beside the module."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.host = cluster.n1

    def run(
        self, *arguments: str, status: int = 0, user: str | None = None, under: Sequence[str] = ()
    ) -> str:
        """Run the command; return what it has printed, with the status that is expected."""
        done = self.host.run([*under, PROGRAM, *arguments], user, check=False, timeout=60)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert done.returncode == status, said
        if status:
            assert len(done.stderr.splitlines()) == 1, done.stderr
        return said

    @property
    def text(self) -> str:
        return self.host.read(FILE)

    def is_clean(self, usual: str) -> bool:
        """Say whether the node is as it was before all."""
        left = self.host.run(["ls", "-A", "/etc/pam.d"]).stdout.split()
        there = (self.host.root / STATE.lstrip("/")).exists()
        return self.text == usual and not there and not any("slurm_adopt" in one for one in left)

    def lands(self, user: str) -> tuple[int, int | None]:
        """Return ssh's status, and the job that the session was in."""
        result = self.cluster.ssh(user, command=COMMAND)
        return result.rc, job_of(self.host, result.out)


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    host = cluster.n1
    host.run(["cp", "-r", "/checkout/bin", "/opt/slurm_adopt"])
    host.run(["chown", "-R", "root:root", "/opt/slurm_adopt"])
    host.pam("sshd", stock.debian(stock.suite_of(cluster)))
    yield Node(cluster)
    host.run(["sh", "-c", f"rm -rf {STATE} /opt/slurm_adopt/bin /etc/pam.d/.sshd.*"])
    host.pam("sshd", pam.stack())


def lines_of(text: str) -> list[str]:
    """Return what is written of ours and of the guards, without comments."""
    return [line for line in text.splitlines()
            if ("pam_slurm_adopt" in line or "pam_succeed_if" in line)
            and not line.startswith("#")]  # fmt: skip


# There and back


def test_install_and_uninstall(node: Node) -> None:
    usual = node.text
    shown = node.run("install", "--dry-run")
    assert f"+account required pam_python.so {SCRIPT}" in shown
    assert node.is_clean(usual)

    said = node.run("install")
    assert shown in said
    account, session = pam.both_lines(*pam.PRODUCTION)
    assert lines_of(node.text) == [*account, *session]
    job = node.cluster.submit("alice")
    assert node.lands("alice") == (0, job)
    assert node.lands("bob") == (255, None)
    assert node.lands("root") == (0, None)

    find = guide.command("lockout-rescue", "grep -L")
    assert node.host.run(["sh", "-ec", f"cat $({find})"]).stdout == usual

    written = node.text
    assert "nothing is changed" in node.run("install")
    assert "nothing is changed" in node.run("install", "--front=pam_python")
    assert node.text == written

    assert f"-account required pam_python.so {SCRIPT}" in node.run("uninstall", "--dry-run")
    assert node.text == written
    node.run("uninstall")
    assert node.is_clean(usual)
    assert node.lands("bob") == (0, None)
    assert node.run("uninstall", "--dry-run") == ""
    assert "nothing is changed" in node.run("uninstall")


def test_other_options(node: Node) -> None:
    usual = node.text
    node.run("install", "action_no_jobs=ignore")
    node.run("install", "action_no_jobs=deny", "action_unknown=newest")
    options = " ".join((*pam.PRODUCTION, "action_no_jobs=deny", "action_unknown=newest"))
    for phase, lines in zip(
        ("account", "session"), (lines_of(node.text)[:2], lines_of(node.text)[2:])
    ):
        assert lines[0] == f"{phase} {GUARD}"
        assert lines[1].startswith(f"{phase} required pam_python.so {SCRIPT} ")
        assert set(lines[1].split()[4:]) == set(options.split())
    node.run("uninstall")
    assert node.is_clean(usual)


def test_what_an_administrator_has_written_since_stays(node: Node) -> None:
    usual = node.text
    node.run("install")
    node.host.pam("sshd", f"# by hand\n{node.text}")
    assert "has been edited since" in node.run("uninstall")
    assert node.text == f"# by hand\n{usual}"
    assert lines_of(node.text) == []
    node.host.pam("sshd", usual)
    assert node.is_clean(usual)


def test_rhel_s_stack(node: Node) -> None:
    stock.write_rhel_s(node.host)
    node.host.pam("sshd", stock.fitted(node.host, stock.rhel()))
    usual = node.text
    node.run("install")
    job = node.cluster.submit("alice")
    assert node.lands("alice") == (0, job)
    assert node.lands("bob") == (255, None)
    assert node.lands("root") == (0, None)
    node.run("uninstall")
    assert node.is_clean(usual)


EXEC = "/opt/slurm_adopt/pam/pam_slurm_adopt_exec"


def test_by_pam_exec(node: Node) -> None:
    """On RHEL's stack, and then by pam_python in the same places; lines keep their front."""
    stock.write_rhel_s(node.host)
    node.host.pam("sshd", stock.fitted(node.host, stock.rhel()))
    usual = node.text
    node.run("install", "--front=pam_exec")
    account, session = pam.both_by_pam_exec(*pam.PRODUCTION)
    assert lines_of(node.text) == [*account, *session]
    job = node.cluster.submit("alice")
    assert node.lands("alice") == (0, job)
    assert node.lands("bob") == (255, None)
    assert node.lands("root") == (0, None)
    assert "nothing is changed" in node.run("install")
    node.run("install", "--front=pam_python")
    account, session = pam.both_lines(*pam.PRODUCTION)
    assert lines_of(node.text) == [*account, *session]
    node.run("uninstall")
    assert node.is_clean(usual)


def test_without_pam_python(node: Node) -> None:
    """Then pam_exec it is, unless users could run programs as root by it."""
    line = "user_readenv=1"
    node.host.pam("sshd", node.text.replace(line, f" {line} "))
    usual = node.text
    node.host.run(["mv", "/lib/security/pam_python.so", "/root/pam_python.so"])
    try:
        assert line in usual
        assert "users could run programs as root" in node.run("install", status=2)
        assert node.is_clean(usual)
        usual = usual.replace(line, "")
        node.host.pam("sshd", usual)
        usual = node.text
        assert "the front is pam_exec, since pam_python.so is not" in node.run("install")
        assert node.lands("root") == (0, None)
        assert node.lands("bob") == (255, None)
        node.run("uninstall")
        assert node.is_clean(usual)
    finally:
        node.host.run(["mv", "/root/pam_python.so", "/lib/security/pam_python.so"])


def test_a_script_of_pam_exec_s_that_does_not_work(node: Node) -> None:
    stock.write_rhel_s(node.host)
    node.host.pam("sshd", stock.fitted(node.host, stock.rhel()))
    usual, part = node.text, "/opt/slurm_adopt/src/slurm_adopt/front/pam_exec.py"
    node.host.run(["mv", part, "/root/part"])
    try:
        assert f"{EXEC} does not work" in node.run("install", "--front=pam_exec", status=2)
        assert node.is_clean(usual)
    finally:
        node.host.run(["mv", "/root/part", part])


def test_the_c_module_s_line_is_replaced(node: Node) -> None:
    line = f"{pam.C_MODULE} action_unknown=newest"
    usual = node.text.rstrip("\n") + f"\n{line}\n"
    node.host.pam("sshd", usual)
    assert "--replace" in node.run("install", status=2)
    assert node.is_clean(usual)
    node.run("install", "--replace")
    assert pam.C_MODULE not in node.text
    assert all("action_unknown=newest" in line for line in lines_of(node.text)[1::2])
    job = node.cluster.submit("alice")
    assert node.lands("alice") == (0, job)
    node.run("uninstall")
    assert node.is_clean(usual)


@pytest.mark.parametrize("service", ["cron", "atd"])
def test_other_services(node: Node, service: str) -> None:
    """Those of the guide on at and cron, which have their own guard and options."""
    file, usual = f"/etc/pam.d/{service}", node.text
    stock_file = node.host.read(file)
    name, *arguments = guide.command("at-and-cron", f"install --service {service}").split()
    assert name == "slurm-adopt"
    said = node.run(*arguments)
    assert f"slurm-adopt uninstall --service {service}" in said
    account, session = pam.at_or_cron(service)
    assert lines_of(node.host.read(file)) == [*account, *session]
    assert node.text == usual
    node.run("install")
    node.run("uninstall", f"--service={service}")
    assert node.host.read(file) == stock_file
    assert len(lines_of(node.text)) == 4
    node.run("uninstall")
    assert node.is_clean(usual)


# What is refused


REFUSED = [
    (("install", "action_no_jobs=perhaps"), 3, "action_no_jobs"),
    (("install", "nonsense=1"), 3, "nonsense"),
    (("install", "--trial=soon"), 3, "is no time"),
    (("install", "--trial=5s"), 3, "from 1m to 7d"),
    (("install", "--trial=10m"), 2, "neither systemd nor atd"),
    (("install", "--confirm", "--trial=10m"), 3, "--confirm"),
    (("install", "--confirm"), 2, "no trial is running"),
    (("install", "--service=nothing"), 2, "nothing"),
    (("install", "--service=../x"), 3, "no name of a PAM service"),
    (("uninstall", "--service=../x"), 3, "no name of a PAM service"),
    (("uninstall", "--service=nothing"), 2, "nothing"),
    (("uninstall", "--dry-run", "--trial-over=abcd"), 3, "--trial-over"),
    (("install", "--service=common-account"), 2, "is a part of sshd"),
]


@pytest.mark.parametrize(("arguments", "status", "said"), REFUSED)
def test_what_is_refused(node: Node, arguments: tuple[str, ...], status: int, said: str) -> None:
    usual = node.text
    assert said in node.run(*arguments, status=status)
    assert node.is_clean(usual)


def test_only_root_changes_something(node: Node) -> None:
    usual = node.text
    for command in ("install", "uninstall"):
        assert "only root" in node.run(command, status=3, user="alice")
    assert f"+account required pam_python.so {SCRIPT}" in node.run(
        "install", "--dry-run", user="alice"
    )
    assert node.is_clean(usual)


# (what is mounted over /etc/pam.d, what is said)
FULL = """\
cp -r /etc/pam.d /run/pam.d; mount -t tmpfs -o size=256k none /etc/pam.d
cp -r /run/pam.d/. /etc/pam.d; rm -r /run/pam.d; cat /dev/zero >/etc/pam.d/big || true"""
DISKS = {
    "read-only": ("mount -o bind,ro /etc/pam.d /etc/pam.d", "Read-only file system"),
    "full": (FULL, "No space left on device: /etc/pam.d/.sshd.slurm_adopt."),
    "no /var": ("mount -o bind,ro /var /var", "Read-only file system"),
}


@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_that_takes_nothing(node: Node, disk: str) -> None:
    """In a mount namespace of its own, where the PAM files are looked at as well."""
    usual = node.text
    prepare, said = DISKS[disk]
    node.host.write("run/before", usual)
    script = f"{prepare}; {PROGRAM} install; s=$?; cmp /etc/pam.d/sshd /run/before && exit $s"
    done = node.host.run(
        ["unshare", "--mount", "sh", "-ec", script.replace("; s=$?", " || s=$?")], check=False
    )
    assert done.returncode == 2, done
    assert said in done.stderr.splitlines()[-1]
    assert node.is_clean(usual)


def test_a_module_that_does_not_run_is_not_installed(node: Node) -> None:
    """With pam_python gone and no other front asked for, the command looks for one that works."""
    usual = node.text
    node.host.run(["mv", "/lib/security/pam_python.so", "/root/pam_python.so"])
    try:
        assert "is not installed" in node.run("install", "--front=pam_python", status=2)
        assert node.is_clean(usual)
    finally:
        node.host.run(["mv", "/root/pam_python.so", "/lib/security/pam_python.so"])


def test_lines_of_a_front_that_is_gone(node: Node) -> None:
    """They are not as they should be: users are refused. The other front, or none, mends it."""
    node.host.pam("sshd", node.text.replace("user_readenv=1", ""))
    usual = node.text
    node.run("install")
    written = node.text
    node.host.run(["mv", "/lib/security/pam_python.so", "/root/pam_python.so"])
    try:
        said = node.run("install", status=2)
        assert "pam_python.so is not installed, and lines that are there name it" in said
        assert node.text == written
        node.run("install", "--front=pam_exec")
        assert node.text.count(EXEC) == 2
        node.run("uninstall")
        assert node.is_clean(usual)
    finally:
        node.host.run(["mv", "/root/pam_python.so", "/lib/security/pam_python.so"])


def test_what_keeps_everybody_out_is_taken_back(node: Node) -> None:
    """The package is not whole, which shows only when the lines are there."""
    usual = node.text
    part, away = "/opt/slurm_adopt/src/slurm_adopt/front/welcome.py", "/root/welcome.py"
    node.host.run(["mv", part, away])
    try:
        said = node.run("install", "--front=pam_python", status=2)
        assert "taken back, since it would have kept everybody out: SA203" in said
        assert node.is_clean(usual)
        assert "taken back" in node.run("install", "--front=pam_python", status=2)
    finally:
        node.host.run(["mv", away, part])
    node.run("install")
    node.run("uninstall")
    assert node.is_clean(usual)


# A trial


@contextlib.contextmanager
def atd(host: Host) -> Iterator[None]:
    """Have at's daemon run."""
    process = host.popen(["/usr/sbin/atd", "-f", "-l", "99"], stdin=subprocess.DEVNULL)
    try:
        wait_for("atd is there", lambda: host.run(["pidof", "atd"], check=False).returncode == 0)
        yield
    finally:
        end(process)
        host.run(["sh", "-c", "rm -f /var/spool/cron/atjobs/[a-z=]*"])


def jobs_of_at(host: Host) -> list[str]:
    return host.run(["sh", "-c", "atq | cut -f1"]).stdout.split()


def test_a_trial_is_taken_back_by_at(node: Node) -> None:
    """At itself runs the job, as it does when the time has come."""
    usual = node.text
    with atd(node.host):
        said = node.run("install", "--trial=10m")
        assert "the trial ends at" in said
        (number,) = jobs_of_at(node.host)
        assert node.lands("bob") == (255, None)
        written = node.text
        assert "a trial runs until" in node.run("install", "action_no_jobs=ignore", status=2)
        assert "a trial runs until" in node.run("install", "--trial=10m", status=2)
        assert node.text == written
        job = node.host.run(["at", "-c", number]).stdout
        node.host.run(["at", "now"], input=job)
        wait_for("the trial is taken back", lambda: node.is_clean(usual))
        wait_for("at has forgotten it", lambda: not jobs_of_at(node.host))
    assert node.lands("bob") == (0, None)


@pytest.mark.parametrize("zone", ["EST5", "JST-9"])
def test_a_trial_ends_in_time_in_every_time_zone(node: Node, zone: str) -> None:
    """The shell's is another one than the host's, which at's daemon has."""
    with atd(node.host):
        before = time.time()
        node.run("install", "--trial=10m", under=("env", f"TZ={zone}"))
        due = node.host.run(["sh", "-c", "TZ=UTC0 atq | cut -f2"]).stdout
        ends = calendar.timegm(time.strptime(" ".join(due.split()[:5])))
        assert 600 <= ends - before < 3600
        node.run("uninstall")


def test_a_trial_is_confirmed(node: Node) -> None:
    usual = node.text
    with atd(node.host):
        node.run("install", "--trial=10m")
        (number,) = jobs_of_at(node.host)
        job = node.host.run(["at", "-c", number]).stdout
        written = node.text
        assert "confirmed" in node.run("install", "--confirm")
        assert jobs_of_at(node.host) == []
        assert "no trial" in node.run("install", "--confirm", status=2)
        assert "no trial begins" in node.run("install", "--trial=10m")
        assert jobs_of_at(node.host) == []
        command = next(line for line in job.splitlines() if "--trial-over" in line)
        assert "has ended before" in node.host.run(["sh", "-ec", command]).stdout
        assert node.text == written
    node.run("uninstall")
    assert node.is_clean(usual)


def test_the_commands_of_the_pages(node: Node) -> None:
    """Those on installing and removing, one after the other, and what they leave."""
    usual = node.text
    host, name = node.host, "slurm-adopt install"
    with atd(host):
        first, trial, confirm, again = guide.commands("install", "The PAM lines")
        for command, then, logins in (
            (first, usual, (0, 0)),
            (trial, None, (255, 0)),
            (confirm, None, (255, 0)),
            (again, None, (255, 0)),
        ):
            assert command.startswith(name)
            host.run(["sh", "-ec", f"PATH=/opt/slurm_adopt/bin:$PATH; {command}"])
            assert then is None or node.text == then
            assert (node.cluster.ssh("bob").rc, node.cluster.ssh("root").rc) == logins
        remove = guide.command("uninstall", "slurm-adopt uninstall")
        host.run(["sh", "-ec", f"PATH=/opt/slurm_adopt/bin:$PATH; {remove}"])
    assert node.is_clean(usual)


def test_a_trial_is_ended_by_hand(node: Node) -> None:
    usual = node.text
    with atd(node.host):
        node.run("install", "--trial=10m")
        node.run("uninstall")
        assert jobs_of_at(node.host) == []
    assert node.is_clean(usual)


def test_the_epilog_s_line(node: Node) -> None:
    """It is printed, and slurm.conf stays as it is."""
    usual, conf = node.text, node.host.read("etc/slurm/slurm.conf")
    said = node.run("install", "--epilog")
    lines = [line for line in said.splitlines() if not line.startswith("#")]
    assert lines == ["Epilog=/etc/slurm/epilog.slurm_adopt"]
    assert re.search("^# .*mode 755", said, re.MULTILINE)
    assert node.host.read("etc/slurm/slurm.conf") == conf
    assert node.is_clean(usual)
