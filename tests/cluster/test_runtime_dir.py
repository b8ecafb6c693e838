"""runtime_dir=job: a job's XDG_RUNTIME_DIR on real nodes, and how it goes with the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import guide, pam, scancel
from tests.cluster.harness.cluster import Settings
from tests.cluster.harness.epilog import EPILOG
from tests.cluster.harness.landing import ours
from tests.cluster.harness.login import METHODS
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.job_namespaces import PLUGINS, plugin_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster

TOP = "run/slurm_adopt/runtime"


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with the option set; nothing has been made on n1 yet."""
    cluster.n1.run(["rm", "-rf", "/run/slurm_adopt"])
    cluster.n1.pam("sshd", pam.with_module("runtime_dir=job"))
    yield cluster
    cluster.cancel_all()
    cluster.n1.run(["rm", "-rf", "/run/slurm_adopt"])


def there(cluster: Cluster) -> list[str]:
    """Return the names of the directories on n1."""
    return sorted(path.name for path in (cluster.n1.root / TOP).glob("*"))


def said(cluster: Cluster, user: str, command: str, **how: str) -> str:
    result = cluster.ssh(user, command=command, **how)
    assert result.rc == 0, result.err
    return result.out.strip()


LOOK = 'echo "$XDG_RUNTIME_DIR"; stat -c "%U %G %a %F" "$XDG_RUNTIME_DIR"'


@pytest.mark.parametrize("stack", [pam.with_module, pam.both])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_user_s(node: Cluster, method: str, stack: Callable[..., list[str]]) -> None:
    """Each session of the job has the same; nobody else can look into it."""
    node.n1.pam("sshd", stack("runtime_dir=job"))
    job = node.submit("alice")
    path = f"/{TOP}/n1_5001_{job}"
    found = said(node, "alice", f"{LOOK}; echo here >$XDG_RUNTIME_DIR/file", method=method)
    assert found.splitlines() == [path, "alice alice 700 directory"]
    assert said(node, "alice", "cat $XDG_RUNTIME_DIR/file") == "here"
    node.submit("bob")
    tries = (f"ls {path}", f"cat {path}/file", f"touch {path}/new", f"ls /{TOP}", f"mkdir /{TOP}/x")
    refused = node.ssh("bob", command="; ".join(f"{tried} 2>&1" for tried in tries))
    assert refused.out.count("Permission denied") == len(tries), refused
    assert there(node) == sorted([f"n1_5001_{job}", f"n1_5002_{job + 1}"])


def test_it_is_not_made_unasked(node: Cluster) -> None:
    node.n1.pam("sshd", pam.with_module())
    node.submit("alice")
    assert said(node, "alice", 'echo "${XDG_RUNTIME_DIR-none}"') == "none"
    assert there(node) == []


def test_it_goes_with_the_next_login(node: Cluster) -> None:
    """Those of jobs that are gone, nobody else's."""
    first, second = node.submit("alice", mem="10M"), node.submit("bob", mem="10M")
    fill = "cd $XDG_RUNTIME_DIR && mkdir -p a/b && touch a/b/c && ln -s /etc etc && mkfifo p"
    said(node, "alice", fill)
    said(node, "bob", fill)
    scancel.end(node, first)
    assert len(there(node)) == 2
    third = node.submit("carol", mem="10M")
    said(node, "carol", "true")
    assert there(node) == sorted([f"n1_5002_{second}", f"n1_5003_{third}"])
    assert (node.n1.root / TOP / f"n1_5002_{second}/a/b/c").exists()
    assert (node.n1.root / "etc/passwd").exists()


@pytest.mark.parametrize("program", ["epilog", "runtime_dir"])
def test_it_goes_with_slurm_s_epilog(node: Cluster, program: str) -> None:
    """At once; those of the user's other jobs stay. `runtime_dir`: as it was called before."""
    for host in node.nodes:
        host.write("etc/slurm/epilog", EPILOG.replace("adopt.epilog", f"adopt.{program}"), 0o755)
    node.reconfigure(Settings(slurm_conf="Epilog=/etc/slurm/epilog\n"))
    try:
        job = node.submit("alice", mem="10M")
        many = "cd $XDG_RUNTIME_DIR && for d in 1 2 3; do mkdir $d; touch $d/f{1..2000}; done"
        said(node, "alice", f"bash -c '{many}'; sleep 300 >&- 2>&- <&- &")
        other = node.submit("alice", mem="10M")
        node.n1.run(["mkdir", f"/{TOP}/n1_5001_{other}"])  # as a login into that one would
        assert len(there(node)) == 2
        mark = node.n1.mark()
        node.cancel(job)
        gone = lambda: there(node) == [f"n1_5001_{other}"]  # noqa: E731
        wait_for("the directory gone", gone, 20, lambda: f"{there(node)}")
        node.wait_gone(job)
        assert not [line for line in node.n1.log(mark) if "slurm_adopt.epilog" in line]
        node.wait_idle()  # and not drained
    finally:
        node.reconfigure(Settings())


# Whoever runs this keeps descriptors of directories, and makes files in them without end.
ENDLESS = """\
import itertools, os, sys
kept = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
os.fork()
for number in itertools.count():
    for fd in kept:
        os.close(os.open(f"{os.getpid()}-{number}", os.O_CREAT, dir_fd=fd))
"""


def test_a_user_who_goes_on_making_files(node: Cluster) -> None:
    """From another job of his, in the directory of one that ends: its Epilog is done all the same.

    Another user's is, too, though it finds what that has left.
    """
    for host in node.nodes:
        host.write("etc/slurm/epilog", EPILOG, 0o755)
    node.n1.write("tmp/endless.py", ENDLESS)
    node.reconfigure(Settings(slurm_conf="Epilog=/etc/slurm/epilog\n"))
    try:
        job = node.submit("alice", mem="10M")
        said(node, "alice", "mkdir -p $XDG_RUNTIME_DIR/a/b")
        node.submit("alice", mem="100M")
        bobs = node.submit("bob", mem="10M")
        path = f"/{TOP}/n1_5001_{job}"
        endless = f"python3 /tmp/endless.py {path} {path}/a/b"
        said(node, "alice", f"{endless} >&- 2>/tmp/endless.err <&- &")
        making = lambda: len(list((node.n1.root / path.lstrip("/")).iterdir())) > 1000  # noqa: E731
        wait_for("files being made", making, 20)
        mark = node.n1.mark()
        node.cancel(job)
        gone = lambda: not any(f"_5001_{job}" in name for name in there(node))  # noqa: E731
        wait_for("the directory gone", gone, 40, lambda: f"{there(node)}")
        node.wait_gone(job)
        scancel.end(node, bobs)
        assert not [line for line in node.n1.log(mark) if "slurm_adopt.epilog" in line]
        assert node.n1.read("tmp/endless.err").count("Error: [Errno ") == 2
    finally:
        node.reconfigure(Settings())


@pytest.mark.parametrize("squat", ["mkdir -m 777", "touch", "ln -s /tmp"])
def test_what_is_not_root_s_is_not_used(node: Cluster, squat: str) -> None:
    """The session is in its job, and has no XDG_RUNTIME_DIR; the log says why."""
    job = node.submit("alice")
    node.n1.run(["sh", "-c", f"mkdir -m 711 /run/slurm_adopt; {squat} /{TOP}"])
    mark = node.n1.mark()
    assert said(node, "alice", 'echo "$SLURM_JOB_ID ${XDG_RUNTIME_DIR-none}"') == f"{job} none"
    errors = [line for line in ours(node.n1, mark) if "XDG_RUNTIME_DIR is not set: cannot" in line]
    assert len(errors) == 1, errors


def test_a_file_system_of_its_own(node: Cluster) -> None:
    """An administrator may mount one in the place, so that users cannot fill /run."""
    mount = (
        f"mkdir -p -m 711 /run/slurm_adopt /{TOP} && mount -t tmpfs -o mode=711,size=64k x /{TOP}"
    )
    node.n1.run(["sh", "-c", mount])
    try:
        job = node.submit("alice")
        found = said(node, "alice", f"{LOOK}; head -c 100000 /dev/zero >$XDG_RUNTIME_DIR/x; true")
        assert found.splitlines() == [f"/{TOP}/n1_5001_{job}", "alice alice 700 directory"]
        assert (node.n1.root / TOP / f"n1_5001_{job}/x").stat().st_size <= 65536
        scancel.end(node, job)
        node.submit("bob")
        said(node, "bob", "true")
        assert there(node) == [f"n1_5002_{job + 1}"]
    finally:
        node.n1.run(["umount", f"/{TOP}"])


def test_a_job_with_namespaces_of_its_own(node: Cluster) -> None:
    """It has a /tmp of its own, and sees the directory."""
    (plugin,) = PLUGINS["22.05"]
    with plugin_in_use(node, plugin):
        for stack in (pam.with_module, pam.both):
            node.n1.pam("sshd", stack("runtime_dir=job"))
            job = node.submit("alice")
            found = said(node, "alice", f"{LOOK}; touch $XDG_RUNTIME_DIR/here /tmp/private")
            path = f"/{TOP}/n1_5001_{job}"
            assert found.splitlines() == [path, "alice alice 700 directory"]
            assert (node.n1.root / path.lstrip("/") / "here").exists()
            assert not (node.n1.root / "tmp/private").exists()
            node.cancel_all()


def test_the_page_s_line_of_fstab(node: Cluster) -> None:
    """It mounts such a file system, where nothing is yet; directories are made in it."""
    (line,) = (line for line in guide.commands("runtime-directory") if "tmpfs" in line)
    node.n1.write("etc/fstab", f"{line}\n")
    try:
        node.n1.run(["mount", f"/{TOP}"])
        job = node.submit("alice")
        found = said(node, "alice", LOOK)
        assert found.splitlines() == [f"/{TOP}/n1_5001_{job}", "alice alice 700 directory"]
        mounted = node.n1.run(["findmnt", "-no", "FSTYPE,OPTIONS", f"/{TOP}"]).stdout
        assert mounted.startswith("tmpfs")
        assert "nosuid,nodev" in mounted
        node.cancel(job)
        node.wait_gone(job)
    finally:
        node.n1.run(["sh", "-c", f"umount /{TOP}; rm -f /etc/fstab"], check=False)
