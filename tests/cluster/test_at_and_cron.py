"""What at and cron run, with the guide's lines: in the user's job, or not at all."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.host import end
from tests.cluster.harness.landing import job_of
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios import login_methods

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

SERVICES = ("cron", "atd")
SCRIPT = "/opt/slurm_adopt/pam/pam_slurm_adopt.py"
DIRECTORY = "/tmp/at_and_cron"
# Says where it runs. What is in a job stays.
PROBE = f"""\
#!/bin/sh
cat /proc/self/cgroup >{DIRECTORY}/new-$$
mv {DIRECTORY}/new-$$ {DIRECTORY}/$(id -un)
! grep -q step_extern /proc/self/cgroup || exec sleep 777
"""
INCLUDE = "@include common-account"
MOVE = login_methods.MOVE.replace("quiet", "quiet seteuid")  # atd's own uid is daemon's


def with_our_lines(text: str, service: str) -> str:
    """Return a stock PAM file with the lines of the guide where it says that they belong."""
    account, session = pam.at_or_cron(service)
    stock = text.splitlines()
    place = stock.index(INCLUDE)
    return "\n".join([*stock[:place], *account, *stock[place:], *session])


@pytest.fixture(params=SERVICES)
def service(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Have our lines in a service's file on n1."""
    node, name = cluster.n1, str(request.param)
    stock = node.read(f"etc/pam.d/{name}")
    node.pam(name, with_our_lines(stock, name))
    node.write("usr/local/bin/probe", PROBE, 0o755)
    yield name
    node.pam(name, stock)


def ran(node: Host) -> dict[str, str]:
    """Return the cgroups in which the probe ran, by user."""
    return {path.name: path.read_text() for path in (node.root / DIRECTORY.lstrip("/")).iterdir()
            if not path.name.startswith("new-")}  # fmt: skip


@contextlib.contextmanager
def due(node: Host, service: str, users: Sequence[str]) -> Iterator[None]:
    """Have the probe come due for users; where it ran before is forgotten."""
    node.run(["sh", "-ec", f"rm -rf {DIRECTORY}; mkdir -m 1777 {DIRECTORY}"])
    with _cron(node, users) if service == "cron" else _atd(node, users):
        yield


@contextlib.contextmanager
def due_again(node: Host, service: str, users: Sequence[str]) -> Iterator[None]:
    """Do so where the service runs."""
    if service == "cron":
        with due(node, service, users):
            yield
        return
    node.run(["sh", "-ec", f"rm -rf {DIRECTORY}; mkdir -m 1777 {DIRECTORY}"])
    _at_now(node, users)
    yield


@contextlib.contextmanager
def _cron(node: Host, users: Sequence[str]) -> Iterator[None]:
    """Start a cron that takes the node for just booted."""
    system = [user for user in users if user in ("root", "daemon")]
    lines = (f"@reboot {user} /usr/local/bin/probe\n" for user in system)
    node.write("etc/cron.d/of_site", "".join(lines))
    for user in users:
        if user not in system:
            node.run(["crontab", "-"], user, input="@reboot /usr/local/bin/probe\n")
    node.run(["rm", "-f", "/run/crond.reboot", "/run/crond.pid"])
    with _daemon(node, ["/usr/sbin/cron", "-f", "-L", "15"]):
        yield
    node.run(["sh", "-c", "rm -f /etc/cron.d/of_site /var/spool/cron/crontabs/*"])


@contextlib.contextmanager
def _atd(node: Host, users: Sequence[str]) -> Iterator[None]:
    with _daemon(node, ["/usr/sbin/atd", "-f", "-l", "99"]):
        _at_now(node, users)
        yield
    node.run(["sh", "-c", "rm -f /var/spool/cron/atjobs/[a-z=]*"])


def _at_now(node: Host, users: Sequence[str]) -> None:
    for user in users:
        node.run(["at", "now"], user, input="exec /usr/local/bin/probe\n")


@contextlib.contextmanager
def _daemon(node: Host, argv: Sequence[str]) -> Iterator[None]:
    """Have a daemon run; it stays out of all jobs."""
    name = argv[0].rpartition("/")[2]
    process = node.popen(argv, stdin=subprocess.DEVNULL)
    try:
        wait_for(f"{name} is there", lambda: _pid(node, name))
        yield
        assert node.cgroups(int(_pid(node, name))) == node.cgroups(1)
    finally:
        end(process)


def _pid(node: Host, name: str) -> str:
    """Return the pid of a daemon: the first of that name, though a child may be as old in ticks."""
    return min(node.run(["pgrep", "-x", name], check=False).stdout.split(), key=int, default="")


def refusals(node: Host, mark: int, service: str) -> list[str]:
    """Return the users whom this module and, after it, the daemon have refused."""
    log = node.log(mark)
    own = f": pam_slurm_adopt({service}:account): user "
    users = [line.partition(own)[2].split()[0] for line in log if "-> PAM_PERM_DENIED" in line]
    theirs = [line for line in log if line.endswith(": Permission denied")]
    return sorted(users) if len(theirs) == len(users) else []


def test_in_the_job_or_not_at_all(cluster: Cluster, service: str) -> None:
    node = cluster.n1
    outside = ["root", "daemon"] if service == "cron" else ["root"]  # at.deny has system users
    job = cluster.submit("alice")
    mark = node.mark()
    with due(node, service, ["bob", "alice", *outside]):
        wait_for("all but bob's", lambda: {*ran(node)} == {"alice", *outside}, 20)
        wait_for("bob refused", lambda: refusals(node, mark, service) == ["bob"])
        found = {user: job_of(node, cgroup) for user, cgroup in ran(node).items()}
        assert found == {"alice": job} | dict.fromkeys(outside)
        scancel.end(cluster, job)
        wait_for("alice's gone", lambda: not pids(node, "alice"))
    mark = node.mark()
    with due(node, service, ["alice", "root"]):  # with the job gone
        wait_for("root's", lambda: "root" in ran(node), 20)
        wait_for("alice refused", lambda: refusals(node, mark, service) == ["alice"])
        assert [*ran(node)] == ["root"]


def pids(node: Host, user: str) -> list[int]:
    """Return a user's processes."""
    return [int(pid) for pid in node.run(["pgrep", "-u", user], check=False).stdout.split()]


@pytest.mark.parametrize("mover", [False, True], ids=["account line alone", "moved"])
def test_other_stacks(cluster: Cluster, service: str, mover: bool) -> None:
    """The account line alone is enough where nothing moves a session; both where something does."""
    node = cluster.n1
    lines = node.read(f"etc/pam.d/{service}").splitlines()
    *rest, guard, ours = lines
    assert ours.startswith("session ")
    node.pam(service, [*rest, *([MOVE, guard, ours] if mover else [])])
    job = cluster.submit("alice")
    with login_methods.prepared(node):
        mark = node.mark()
        with due(node, service, ["alice"]):
            wait_for("alice's", lambda: "alice" in ran(node), 20)
            assert job_of(node, ran(node)["alice"]) == job
            assert any(f"put back into job {job}" in line for line in node.log(mark)) == mover
            scancel.end(cluster, job)
            wait_for("alice's gone", lambda: not pids(node, "alice"))


def test_a_suspended_job_holds_up_nobody_else(cluster: Cluster, service: str) -> None:
    """With what it has run before; the next is refused."""
    node = cluster.n1
    job, bobs = cluster.submit("alice", mem="10M"), cluster.submit("bob", mem="10M")
    with due(node, service, ["alice"]):
        wait_for("alice's", lambda: "alice" in ran(node), 20)
        scancel.send(cluster.login, "STOP", job)
        freezer = node.root / f"sys/fs/cgroup/freezer/slurm_n1/uid_5001/job_{job}/step_extern"
        wait_for("frozen", lambda: "FROZEN" in (freezer / "freezer.state").read_text())
        mark = node.mark()
        # The same atd, with its child frozen; another cron, since the same would take a minute.
        with due_again(node, service, ["alice", "bob", "root"]):
            wait_for("bob's and root's", lambda: {*ran(node)} == {"bob", "root"}, 20)
            wait_for("alice refused", lambda: refusals(node, mark, service) == ["alice"])
            assert any("job suspended: " in line for line in node.log(mark))
            assert job_of(node, ran(node)["bob"]) == bobs
    scancel.send(cluster.login, "CONT", job)


def test_several_jobs(cluster: Cluster, service: str) -> None:
    """Nothing tells which is meant: action_unknown, so the newest."""
    jobs = [cluster.submit("alice", mem="10M") for _ in range(2)]
    with due(cluster.n1, service, ["alice"]):
        wait_for("alice's", lambda: "alice" in ran(cluster.n1), 20)
        assert job_of(cluster.n1, ran(cluster.n1)["alice"]) == jobs[-1]


def test_the_guard(cluster: Cluster, service: str) -> None:
    """Where our script cannot be run, what root's and system users' lines say still is."""
    node = cluster.n1
    outside = ["root", "daemon"] if service == "cron" else ["root"]
    cluster.submit("alice")
    node.run(["mv", SCRIPT, "/var/spool/away"])
    try:
        mark = node.mark()
        with due(node, service, ["alice", *outside]):
            wait_for("root's", lambda: {*ran(node)} == {*outside}, 20)
            wait_for("alice refused", lambda: "Can not open module" in "".join(node.log(mark)))
            assert {*ran(node)} == {*outside}
    finally:
        node.run(["mv", "/var/spool/away", SCRIPT])


def test_only_root_may(cluster: Cluster) -> None:
    """As the guide has it for nodes without these lines."""
    node = cluster.n1
    for name in ("cron", "at"):
        node.write(f"etc/{name}.allow", "root\n")
    try:
        for argv in (["crontab", "-"], ["at", "now"]):
            assert node.run(argv, "alice", input="", check=False).returncode == 1
        assert node.run(["crontab", "-"], "root", input="", check=False).returncode == 0
    finally:
        node.run(["rm", "-f", "/etc/cron.allow", "/etc/at.allow"])
