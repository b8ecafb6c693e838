"""Jobs with namespaces of their own: where a login's processes are, and what /tmp they see."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.cluster.harness import pam
from tests.cluster.harness.landing import job_of
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.login_methods import KBDINT, ONE_PROMPT, PUBLIC_KEY, STRICT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.cluster.harness.login import Machine
    from tests.cluster.harness.site import Site
    from tests.cluster.scenarios.login_methods import Way

KINDS = ("mnt", "pid", "user")
BASE = "/var/jobs"
JOB_CONTAINER = {"job_container.conf": f"AutoBasePath=true\nBasePath={BASE}\n"}


def _linux(*flags: str) -> dict[str, str]:
    """Return the configuration of namespace/linux."""
    text = f"defaults:\n  auto_base_path: true\n  base_path: {BASE}\n"
    return {"namespace.yaml": text + f'  clone_ns_flags: "{",".join(("CLONE_NEWNS", *flags))}"\n'}


@dataclass(frozen=True)
class Plugin:
    """A plugin that gives jobs namespaces, and which of KINDS."""

    line: str
    files: dict[str, str]
    kinds: tuple[str, ...] = ("mnt",)


TMPFS = Plugin("JobContainerType=job_container/tmpfs", JOB_CONTAINER)
_LINUX = "NamespaceType=namespace/linux"
PLUGINS = {
    "22.05": (TMPFS,),
    "24.11": (TMPFS,),
    "26.05": (
        Plugin("NamespaceType=namespace/tmpfs", JOB_CONTAINER),
        Plugin(_LINUX, _linux()),
        Plugin(_LINUX, _linux("CLONE_NEWPID"), ("mnt", "pid")),
        Plugin(_LINUX, _linux("CLONE_NEWPID", "CLONE_NEWUSER"), KINDS),
    ),
}

# (stack, how to log in, whether the session is to be in the job's namespaces; else refused)
ROWS = [
    (pam.with_module(*STRICT), PUBLIC_KEY, True),
    (pam.with_module(*STRICT), ONE_PROMPT, False),
    (pam.both(*STRICT), PUBLIC_KEY, True),
    (pam.both(*STRICT), ONE_PROMPT, True),
    ([*pam.stack(), *pam.session_lines(*STRICT)], ONE_PROMPT, True),
]


MAY_END = "session sufficient pam_succeed_if.so quiet user = nobody"


@contextlib.contextmanager
def plugin_in_use(site: Site, plugin: Plugin) -> Iterator[None]:
    """Have Slurm give jobs namespaces of their own."""
    before = site.settings
    for host in site.hosts.values():
        for name, text in plugin.files.items():
            host.write(f"etc/slurm/{name}", text, 0o755 if text.startswith("#!") else 0o644)
    site.reconfigure(replace(before, slurm_conf=f"{before.slurm_conf}{plugin.line}\n"))
    for node in site.nodes:
        _let_bind(node)
    try:
        yield
    finally:
        site.reconfigure(before)
        site.n1.run(["sh", "-c", f"umount {BASE}/*/* {BASE}/* {BASE}; rm -rf {BASE}"], check=False)


# Linux 6.18 numbers namespaces CPU by CPU, and a mount namespace can be bound to a file only from
# one with a lower number (mnt_ns_loop): on some CPUs of some hosts a plugin's namespaces fail.
BINDS = """\
mount -t tmpfs binds /mnt && mount --make-private /mnt && touch /mnt/file
taskset -c "$1" unshare --mount=/mnt/file --propagation unchanged true
found=$?
umount /mnt/file
umount /mnt
exit $found
"""


ALLOWED = "import os; print(*sorted(os.sched_getaffinity(0)))"


def _let_bind(host: Machine) -> None:
    """Keep slurmd, and so the stepds, on a CPU whose mount namespaces can be bound here."""
    for cpu in host.run(["python3", "-c", ALLOWED]).stdout.split():
        if host.run(["sh", "-c", BINDS, "sh", cpu], check=False).returncode == 0:
            slurmd = host.run(["pgrep", "-ox", "slurmd"]).stdout.strip()
            host.run(["taskset", "-a", "-c", "-p", cpu, slurmd])
            return
    raise RuntimeError("no mount namespace can be bound to a file")


def private_namespaces(cluster: Cluster) -> None:
    """Each plugin of the release, each way to log in."""
    for plugin in PLUGINS[cluster.roots["n1"].slurm.slurm]:
        with plugin_in_use(cluster, plugin):
            for stack, way, inside in ROWS:
                play(cluster, plugin, stack, way, inside)
            outside(cluster)
            behind_an_end(cluster, plugin)
            beside_a_thread(cluster, plugin)


def play(cluster: Cluster, plugin: Plugin, stack: list[str], way: Way, inside: bool) -> None:
    """Log in to a job: it is in all of the job's namespaces, or it is refused; scancel ends it."""
    cluster.n1.pam("sshd", stack)
    job, links = started(cluster)
    own = namespaces_of(cluster.n1, "1")
    assert {kind for kind in KINDS if links[kind] != own[kind]} == set(plugin.kinds)
    if not inside:
        assert way.method == KBDINT
        refused(
            cluster, way, "which becomes the session, can enter the job's namespaces: add a session"
        )
    else:
        with way.session(cluster) as session:
            assert session.run("ls /tmp").split() == ["of-the-job"]
            assert session.run("readlink " + _links("self")).split() == [*links.values()]
            for pid in processes(cluster.n1):
                assert namespaces_of(cluster.n1, pid) == links
            assert job_of(cluster.n1, session.run("cat /proc/self/cgroup")) == job
            session.run("echo hello >/tmp/of-the-session")
            said = cluster.in_job(job, "alice", "n1", ["cat", "/tmp/of-the-session"]).out
            assert said == "hello\n"
            if stack != ROWS[0][0]:  # all that stands in front of the session line has worked
                assert session.run("cat /proc/self/loginuid").strip() == "5001"
            cluster.cancel(job)
            wait_for("all that was alice's gone", lambda: not processes(cluster.n1))
    cluster.cancel_all()


def refused(cluster: Cluster, way: Way, reason: str) -> None:
    """Log in where that is an adoption failure."""
    mark = cluster.n1.mark()
    result = cluster.ssh(way.user, command="true", method=way.method, options=way.options)
    assert result.rc != 0
    decided = [line for line in cluster.n1.log(mark) if "adopt failure" in line]
    assert len(decided) == 1
    assert reason in decided[0]
    assert "authpriv.err" in decided[0]


def behind_an_end(cluster: Cluster, plugin: Plugin) -> None:
    """Where something may end the stack in front of the session line, the account phase enters.

    If the session line is reached all the same, there is nothing left to enter; in a PID namespace
    it cannot tell where its process is any more.
    """
    stack = pam.both(*STRICT)
    stack.insert(stack.index(pam.SESSION_GUARD), MAY_END)
    if "pid" not in plugin.kinds:
        play(cluster, plugin, stack, PUBLIC_KEY, inside=True)
        return
    cluster.n1.pam("sshd", stack)
    started(cluster)
    refused(cluster, PUBLIC_KEY, "whose /proc does not show it: is there a second session line")
    cluster.cancel_all()


# A module that starts a thread in the process that opens the session; it never ends.
THREAD = """\
import _thread, os

def pam_sm_open_session(pamh, flags, argv):
    lock = _thread.allocate_lock()
    lock.acquire()
    _thread.start_new_thread(lock.acquire, ())
    while len(os.listdir("/proc/self/task")) < 2:
        pass
    return pamh.PAM_SUCCESS
"""
STARTS = "session required pam_python.so /etc/security/thread.py"


def beside_a_thread(cluster: Cluster, plugin: Plugin) -> None:
    """Where another module has a thread in sshd, all can be entered but a user namespace."""
    for root in ("", *cluster.n1.front[1:]):
        cluster.n1.write(f"{root}/etc/security/thread.py", THREAD)
    stack = pam.both(*STRICT)
    stack.insert(stack.index(pam.SESSION_GUARD), STARTS)
    if "user" not in plugin.kinds:
        play(cluster, plugin, stack, PUBLIC_KEY, inside=True)
        play(cluster, plugin, stack, ONE_PROMPT, inside=True)
        return
    cluster.n1.pam("sshd", stack)
    started(cluster)
    refused(cluster, PUBLIC_KEY, "user namespace: this process has 2 threads, and only a process")
    cluster.cancel_all()


def outside(cluster: Cluster) -> None:
    """With join_container=false the session is in the job, and sees the node's /tmp."""
    cluster.n1.pam("sshd", pam.both(*STRICT, "join_container=false"))
    job, links = started(cluster)
    with cluster.session("alice", method=KBDINT) as session:
        assert "of-the-node" in session.run("ls /tmp").split()
        assert "of-the-job" not in session.run("ls /tmp").split()
        found = namespaces_of(cluster.n1, str(session.pid))
        assert found == namespaces_of(cluster.n1, "1")
        assert found != links
        assert job_of(cluster.n1, session.run("cat /proc/self/cgroup")) == job
    cluster.cancel_all()


def started(cluster: Cluster) -> tuple[int, dict[str, str]]:
    """Start alice's job; return it and the namespaces of a process of its own."""
    job = cluster.submit("alice")
    cluster.n1.write("tmp/of-the-node", "")
    script = f"touch /tmp/of-the-job; readlink {_links('self')}"
    links = cluster.in_job(job, "alice", "n1", ["sh", "-c", script]).out.split()
    return job, dict(zip(KINDS, links))


def processes(host: Host, user: str = "alice") -> list[str]:
    """Return the pids of a user's processes, as the host has them."""
    return host.run(["pgrep", "-u", user], check=False).stdout.split()


def namespaces_of(host: Host, pid: str) -> dict[str, str]:
    """Return the namespaces of a process, as the host's /proc shows them."""
    return dict(zip(KINDS, host.run(["sh", "-c", f"readlink {_links(pid)}"]).stdout.split()))


def _links(pid: str) -> str:
    return " ".join(f"/proc/{pid}/ns/{kind}" for kind in KINDS)
