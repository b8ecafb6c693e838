"""A job whose extern stepd has died: what becomes of its sessions, without and with the Epilog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import cgroups, scancel
from tests.cluster.harness.cluster import EXTERN, Settings
from tests.cluster.harness.epilog import EPILOG, NAME
from tests.cluster.harness.login import METHODS
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.login import Session

OURS = "slurm_adopt.epilog: "
GUIDE = Path(__file__).parents[2] / "docs/how-to/epilog.md"


@pytest.fixture(scope="module")
def with_epilog(running_cluster: Cluster) -> Iterator[Cluster]:
    """Have slurm.conf name the guide's Epilog."""
    for host in running_cluster.nodes:
        host.write("etc/slurm/epilog", EPILOG, 0o755)
    running_cluster.reconfigure(Settings(slurm_conf="Epilog=/etc/slurm/epilog\n"))
    yield running_cluster
    running_cluster.reconfigure(Settings())
    for host in running_cluster.nodes:
        host.run(["rm", "/etc/slurm/epilog"])


@pytest.fixture(autouse=True)
def no_socket_left(cluster: Cluster) -> Iterator[None]:
    """Take the sockets of killed stepds away: the tests after these would take them for steps."""
    yield
    cluster.cancel_all()
    cluster.n1.run(["sh", "-c", f"rm -f {cluster.settings.spool}/n1_*.{EXTERN}"])


def left_running(session: Session, command: str = "sleep 999") -> int:
    """Start what does not go with its session; return its pid."""
    return int(session.run(f"setsid {command} >&- 2>&- <&- & echo $!"))


def kill_extern_stepd(cluster: Cluster, job: int) -> None:
    """End it as the kernel does when memory is short, or as too many connections do."""
    cluster.n1.run(["pkill", "-KILL", "-f", rf"^slurmstepd: \[{job}\.extern\]"])


def test_without_it_sessions_outlive_their_job(cluster: Cluster) -> None:
    """The reason for the program: nothing of Slurm's ends what a dead stepd has left."""
    job = cluster.submit("alice", mem="10M")
    with cluster.session("alice") as session:
        sleeping = left_running(session)
        kill_extern_stepd(cluster, job)
        scancel.end(cluster, job)
        cluster.wait_idle()
        step = cgroups.of_extern_step("n1", 5001, job)
        assert cluster.n1.cgroups(sleeping)["freezer"].startswith(step)
        assert session.run("echo here").strip() == "here"
        cluster.n1.run(["kill", "-KILL", str(sleeping)])


@pytest.mark.parametrize("method", METHODS)
def test_with_it_they_end(cluster: Cluster, with_epilog: Cluster, method: str) -> None:
    """All of that job and nothing else; what is Slurm's stays."""
    assert with_epilog is cluster
    other, bobs = cluster.submit("alice", mem="10M"), cluster.submit("bob", mem="10M")
    with cluster.session("alice") as of_other, cluster.session("bob") as of_bob:
        assert of_other.run("echo $SLURM_JOB_ID").strip() == str(other)
        job = cluster.submit("alice", mem="10M")
        with cluster.session("alice", method=method) as session:
            assert session.run("echo $SLURM_JOB_ID").strip() == str(job)
            sleeping = left_running(session)
            kill_extern_stepd(cluster, job)
            mark = cluster.n1.mark()
            cluster.cancel(job)
            session.wait_gone()
            gone = lambda: not cluster.n1.alive(sleeping)  # noqa: E731
            wait_for("what the session had started gone", gone, 20)
            cluster.wait_gone(job)
        (line,) = (line for line in cluster.n1.log(mark) if OURS in line)
        step = cgroups.of_extern_step("n1", 5001, job)
        assert f"job {job} of uid 5001 has ended, but its extern stepd ended first" in line
        assert f"left something in {step}: " in line
        assert line.endswith(" processes ended")
        assert (cluster.n1.root / cgroups.folder("freezer", step)).is_dir()
        assert cluster.socket("n1", job).is_socket()
        assert of_other.run("echo here").strip() == "here"
        assert of_bob.run("echo here").strip() == "here"
    cluster.cancel(other, bobs)
    cluster.wait_idle()  # and not drained


def test_a_job_whose_stepd_ends_it(cluster: Cluster, with_epilog: Cluster) -> None:
    """As nearly always: there is nothing left to do, and nothing to say."""
    assert with_epilog is cluster
    job = cluster.submit("alice", mem="10M")
    with cluster.session("alice") as session:
        left_running(session)
        mark = cluster.n1.mark()
        cluster.cancel(job)
        session.wait_gone()
        cluster.wait_gone(job)
    cluster.wait_idle()
    assert not [line for line in cluster.n1.log(mark) if OURS in line]


def test_one_that_starts_processes_all_the_time(cluster: Cluster, with_epilog: Cluster) -> None:
    """It is ended, too, with all that it has started."""
    assert with_epilog is cluster
    job = cluster.submit("alice", mem="50M")
    step = cgroups.of_extern_step("n1", 5001, job)
    procs = cluster.n1.root / cgroups.folder("freezer", step) / "cgroup.procs"
    with cluster.session("alice") as session:
        cluster.n1.write(
            "tmp/fork", "#!/bin/sh\nsleep 0.05\nsetsid $0 &\nsetsid sleep 999 &\n", 0o755
        )
        left_running(session, "/tmp/fork")
        kill_extern_stepd(cluster, job)
        cluster.cancel(job)
        wait_for("an empty cgroup", lambda: not procs.read_text(), 30)
        cluster.wait_gone(job)
    cluster.wait_idle()
    assert not procs.read_text()


def frozen(cluster: Cluster, path: str) -> bool:
    """Say whether a cgroup on n1 is frozen itself."""
    name = "cgroup.freeze" if cgroups.unified() else "freezer.self_freezing"
    return cluster.n1.read(f"{cgroups.folder('freezer', path)}/{name}").strip() == "1"


def thaw(cluster: Cluster, path: str) -> None:
    """Thaw a cgroup on n1, if it is there."""
    file, text = ("cgroup.freeze", "0") if cgroups.unified() else ("freezer.state", "THAWED")
    place = f"/{cgroups.folder('freezer', path)}"
    cluster.n1.run(["sh", "-c", f"[ ! -d {place} ] || echo {text} >{place}/{file}"])


def the_line(cluster: Cluster, mark: int) -> str:
    """Return what the program has said."""
    wait_for("its line", lambda: any(OURS in line for line in cluster.n1.log(mark)), 30)
    (line,) = (line for line in cluster.n1.log(mark) if OURS in line)
    return line


def test_a_frozen_job(cluster: Cluster, with_epilog: Cluster) -> None:
    """Its user has frozen it: what a dead stepd has left there ends all the same."""
    assert with_epilog is cluster
    job = cluster.submit("alice", mem="10M")
    step = cgroups.of_extern_step("n1", 5001, job)
    with cluster.session("alice") as session:
        sleeping = left_running(session)
        scancel.send(cluster.login, "STOP", job)
        try:
            wait_for("a frozen step", lambda: frozen(cluster, step), 10)
            kill_extern_stepd(cluster, job)
            mark = cluster.n1.mark()
            cluster.cancel(job)
            wait_for("a process gone", lambda: not cluster.n1.alive(sleeping), 20)
            session.wait_gone()
            cluster.wait_gone(job)
            assert not frozen(cluster, step)
        finally:
            thaw(cluster, step)
    assert the_line(cluster, mark).endswith(" processes ended; 1 frozen cgroup thawed")
    cluster.wait_idle()


def test_a_frozen_job_whose_stepd_ends_it(cluster: Cluster, with_epilog: Cluster) -> None:
    """Slurm thaws it itself: nothing is left."""
    assert with_epilog is cluster
    job = cluster.submit("alice", mem="10M")
    step = cgroups.of_extern_step("n1", 5001, job)
    with cluster.session("alice") as session:
        left_running(session)
        scancel.send(cluster.login, "STOP", job)
        wait_for("a frozen step", lambda: frozen(cluster, step), 10)
        mark = cluster.n1.mark()
        cluster.cancel(job)
        session.wait_gone()
        cluster.wait_gone(job)
    cluster.wait_idle()
    assert not [line for line in cluster.n1.log(mark) if OURS in line]


# Cgroups one in another, with a path longer than PATH_MAX; a process in the last, which is frozen.
HIDE = """\
import os, subprocess, sys
os.chdir(sys.argv[1])
for _ in range(17):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
process = subprocess.Popen(["sleep", "999"], stdin=-3, stdout=-3, stderr=-3, start_new_session=True)
for file, text in ("cgroup.procs", str(process.pid)), ("freezer.state", "FROZEN"):
    with open(file, "w") as opened:
        opened.write(text)
print(process.pid)
"""
# Whatever has been left of it is thawed, killed and removed: the cluster could not go otherwise.
REMOVE = """\
import os, sys, time
def clear():
    with open("freezer.state", "w") as state:
        state.write("THAWED")
    with open("cgroup.procs") as procs:
        for pid in procs:
            os.kill(int(pid), 9)
os.chdir(sys.argv[1])
clear()
for _ in range(17):
    os.chdir("d" * 250)
    clear()
time.sleep(0.5)
for _ in range(17):
    os.chdir("..")
    os.rmdir("d" * 250)
"""


def test_a_hidden_process(cluster: Cluster, with_epilog: Cluster) -> None:
    """On v1 of 22.05 the directory of the step is the user's."""
    assert with_epilog is cluster
    if cgroups.unified():
        return
    job = cluster.submit("alice", mem="10M")
    step = cgroups.of_extern_step("n1", 5001, job)
    place = f"/{cgroups.folder('freezer', step)}"
    cluster.n1.write("tmp/hide", HIDE)
    with cluster.session("alice") as session:
        hidden = int(session.run(f"python3 /tmp/hide {place}"))
        kill_extern_stepd(cluster, job)
        mark = cluster.n1.mark()
        cluster.cancel(job)
        try:
            wait_for("the process gone", lambda: not cluster.n1.alive(hidden), 20)
            session.wait_gone()
            cluster.wait_gone(job)
        finally:
            cluster.n1.run(["python3", "-c", REMOVE, place])
    assert the_line(cluster, mark).endswith(" processes ended; 1 frozen cgroup thawed")
    cluster.wait_idle()


def recipe() -> tuple[str, str, str]:
    """Return the guide's recipe: a command, the line of slurm.conf, the line for another script."""
    blocks = re.findall(r"(?:^    .*\n)+", GUIDE.read_text(), re.MULTILINE)
    command, setting, then, line = (block.replace("    ", "", 1) for block in blocks[:4])
    assert then == "scontrol reconfigure\n"
    return command, setting, line


DIRECTORY = "/etc/slurm/epilog.d"
OF_SITE = "/etc/slurm/epilog.site"  # a script that is there already; it ends where anything fails
CHECKOUT_S, INSTALLED = "/opt/slurm_adopt", "/usr/libexec/slurm-adopt"
BEFORE, AFTER = "95-site", "10-site"
RECORD = "#!/bin/sh\necho $0 >>/run/of-site\n"


def dead_stepd_s_line(cluster: Cluster) -> str:
    """End a job whose stepd is dead; return what the program says of what was left."""
    job = cluster.submit("alice", mem="10M")
    with cluster.session("alice") as session:
        left_running(session)
        kill_extern_stepd(cluster, job)
        mark = cluster.n1.mark()
        cluster.cancel(job)
        session.wait_gone()
        cluster.wait_gone(job)
    return the_line(cluster, mark)


@pytest.fixture
def with_contrib(cluster: Cluster) -> Iterator[Cluster]:
    """Have the checkout of the guide with its contrib, and no script; slurm.conf as before."""
    before = cluster.settings
    for host in cluster.nodes:
        host.run(["cp", "-r", "/checkout/contrib", CHECKOUT_S])
    try:
        yield cluster
    finally:
        cluster.cancel_all()
        cluster.reconfigure(before)
        cluster.ctl.run(["scontrol", "update", "NodeName=n1", "State=RESUME"], check=False)
        for host in cluster.nodes:
            host.run(["rm", "-rf", f"{CHECKOUT_S}/contrib", DIRECTORY, OF_SITE, "/run/of-site"])


@pytest.mark.parametrize("own", [False, True], ids=["alone", "by the site's own"])
def test_the_guide_s_recipe(with_contrib: Cluster, own: bool) -> None:
    """Done as it says: the program runs, and the node is not drained."""
    cluster = with_contrib
    command, setting, line = recipe()
    for host in cluster.nodes:
        host.run(["sh", "-ec", command])
        host.write(OF_SITE, f"#!/bin/sh -e\n{line}echo done >>/run/of-site\nexit 0\n", 0o755)
    cluster.reconfigure(Settings(slurm_conf=f"Epilog={OF_SITE}\n" if own else setting))
    assert dead_stepd_s_line(cluster).endswith(" processes ended")
    cluster.wait_idle()  # and not drained
    if own:
        cluster.n1.run(["rm", f"{DIRECTORY}/{NAME}"])
        job = cluster.submit("alice", mem="10M")
        scancel.end(cluster, job)
        cluster.wait_idle()
        assert cluster.n1.read("run/of-site") == "done\n" * 2


def test_in_a_directory_of_scripts(with_contrib: Cluster) -> None:
    """Run from where the module is, between others, in the order that the guide says.

    Where the module is missing or broken, the log says so; those after it run, and no node is
    drained.
    """
    cluster = with_contrib
    node = cluster.n1
    for host in cluster.nodes:
        host.write(f"{DIRECTORY}/{NAME}", EPILOG, 0o755)
        for name in (BEFORE, AFTER):
            host.write(f"{DIRECTORY}/{name}", RECORD, 0o755)
    cluster.reconfigure(Settings(slurm_conf=f"Epilog={DIRECTORY}/*\n"))
    program, away = f"{CHECKOUT_S}/src/slurm_adopt/epilog.py", "/run/epilog.py"
    node.run(["mv", program, away])  # logins do without it
    try:
        mark = node.mark()
        scancel.end(cluster, cluster.submit("alice", mem="10M"))
        cluster.wait_idle()
        line = the_line(cluster, mark)
        assert "slurm_adopt is not installed: nothing is done for job " in line
        assert line.endswith(f". Remove {DIRECTORY}/{NAME}")

        node.run(["mkdir", "-p", INSTALLED])
        node.run(["cp", "-r", f"{CHECKOUT_S}/src", INSTALLED])
        node.run(["cp", away, f"{INSTALLED}/src/slurm_adopt/epilog.py"])
        assert dead_stepd_s_line(cluster).endswith(" processes ended")

        node.run(["rm", "-r", f"{INSTALLED}/src/slurm_adopt/slurm"])
        mark = node.mark()
        scancel.end(cluster, cluster.submit("alice", mem="10M"))
        cluster.wait_idle()
        _, _, command = the_line(cluster, mark).partition(f"{OURS}status 1: as root, run: ")
        done = node.run(["sh", "-c", command], check=False)
        assert "No module named 'slurm_adopt.slurm'" in done.stderr

        node.run(["rm", "-r", INSTALLED, f"{DIRECTORY}/{NAME}"])
        node.run(["mv", away, program])
        node.run(["ln", "-s", f"{CHECKOUT_S}/contrib/epilog.d/{NAME}", DIRECTORY])
        assert dead_stepd_s_line(cluster).endswith(" processes ended")
        cluster.wait_idle()  # and not drained
    finally:
        node.run(["sh", "-c", f"rm -rf {INSTALLED}; [ ! -f {away} ] || mv {away} {program}"])
    assert node.read("run/of-site").split() == [f"{DIRECTORY}/{BEFORE}", f"{DIRECTORY}/{AFTER}"] * 4
