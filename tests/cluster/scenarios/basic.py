"""What must hold in every cell of the matrix; each scenario is a function of a cluster.

A scenario ends in facts of the kernel. Nodes are called by name; users and logins as ever.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from tests.cluster.harness import cgroups, config, pam
from tests.cluster.harness.host import FRONT
from tests.cluster.harness.scancel import end as end_jobs
from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host

NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
IT = "(the job it comes from)"
LOOK = "echo job $SLURM_JOB_ID; cat /proc/self/cgroup"
SLUID = re.compile("/s[0-9A-HJKMNP-TV-Z]{13}/")  # a job's cgroup v2 from 26.05 on


def landed(said: str, node: str, user: str = "alice") -> int | None:
    """Return the job in which LOOK was run on a node, None for none.

    Environment and all confined hierarchies must agree.
    """
    uid = config.USERS[user]
    lines = [line for line in said.splitlines() if line.startswith("job") or ":" in line]
    assert lines, "it said nothing"
    first, *rows = lines
    fields = (row.split(":", 2) for row in rows)
    found = {name: path for _, names, path in fields for name in names.split(",")}
    number = first.removeprefix("job").strip()
    if not (number or pam.sets_variables()):
        number = "".join({*re.findall(r"/job_(\d+)/step_extern", said)})
    if not number:
        assert not any("/step_extern" in path for path in found.values()), said
        return None
    where = cgroups.adopted(node, uid, int(number), "jobacct_gather/cgroup")
    for controller, path in where.items():
        there = found[""] if cgroups.unified() else found[controller]
        assert _any_task(SLUID.sub(f"/job_{number}/", there)) == _any_task(path), said
    return int(number)


def _any_task(path: str) -> str:
    """Return a cgroup without the number of its node in the job."""
    return re.sub(r"/task_\d+$", "/task_N", path)


def host_of(cluster: Cluster, node: str) -> Host:
    """Return the host of a node."""
    return cluster.hosts[dict(cluster.settings.nodes)[node]]


def from_job(
    cluster: Cluster, job: int, path: Sequence[str], target: str = "", look: str = LOOK
) -> int | None:
    """Log in from inside alice's job, `path` being the nodes on the way; return where it lands.

    `target`: how the last one is called, if not by its host's name.
    """
    hops = [host_of(cluster, node).name for node in path[1:]]
    hops[-1] = target or hops[-1]
    command = look
    for hop in reversed(hops):
        command = shlex.join(["ssh", hop, command])
    done = cluster.in_job(job, "alice", path[0], shlex.split(command), timeout=60, check=False)
    assert done.rc == 0, done
    return landed(done.out, path[-1])


def says(cluster: Cluster, node: str, mark: int, text: str) -> None:
    """Assert that the module's last line on a node has a text."""
    lines = [line for line in host_of(cluster, node).log(mark) if "pam_slurm_adopt(" in line]
    assert lines, "the module has logged nothing"
    assert text in lines[-1], lines


def comes_from(cluster: Cluster, job: int, path: Sequence[str], target: str = "") -> None:
    """Assert that a login from inside a job lands in it, because the source host says so."""
    mark = host_of(cluster, path[-1]).mark()
    assert from_job(cluster, job, path, target) == job
    says(cluster, path[-1], mark, IT)


def one_job(cluster: Cluster) -> None:
    """Adopt a login in every confined hierarchy, and give it the job's number."""
    job = cluster.submit("alice")
    for method in ("publickey", "password"):
        result = cluster.ssh("alice", "n1", LOOK, method=method, timeout=60)
        assert landed(result.out, "n1") == job, result


def several_jobs(cluster: Cluster) -> None:
    """Let the source host say which, in both directions."""
    cluster.pam(pam.with_module("action_unknown=deny"))
    for job in [cluster.submit("alice", "n1,n2") for _ in range(2)]:
        comes_from(cluster, job, ("n2", "n1"))
        comes_from(cluster, job, ("n1", "n2"))


def second_hop(cluster: Cluster) -> None:
    """Keep the job over two logins, and on one's own node."""
    cluster.pam(pam.with_module("action_unknown=deny"))
    jobs = [cluster.submit("alice", "n1,n2") for _ in range(2)]
    comes_from(cluster, jobs[0], ("n2", "n1", "n2"))
    comes_from(cluster, jobs[0], ("n1", "n1"))


def newest(cluster: Cluster) -> None:
    """Take the newest job where no source host can tell."""
    older, newer = (cluster.submit("alice") for _ in range(2))
    for job in (newer, older):
        mark = cluster.n1.mark()
        assert landed(cluster.ssh("alice", "n1", LOOK, timeout=60).out, "n1") == job
        end_jobs(cluster, newer)
        says(cluster, "n1", mark, "the newest of 2" if job == newer else "the only job")


def none(cluster: Cluster) -> None:
    """Refuse who has no job here, before anything of the user runs."""
    cluster.submit("bob")
    cluster.submit("alice", "n2")
    result = cluster.ssh("alice", command="touch /tmp/ran", timeout=60)
    assert result.rc == 255
    assert NO_JOBS in result.err
    assert not (cluster.n1.root / "tmp/ran").exists()


def scancel(cluster: Cluster, *, job_gone: float = 60, session_gone: float = 30) -> None:
    """End the session and a child with a session of its own at the end of the job.

    In seconds: until the job has left the queue, then until its session has ended.
    """
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        orphan = int(session.run("setsid sleep 888 >&- 2>&- <&- & echo $!"))
        assert cluster.n1.alive(orphan)
        end_jobs(cluster, job, timeout=job_gone)
        session.wait_gone(session_gone)
        assert not cluster.n1.alive(orphan)


def scancel_after_logout(cluster: Cluster) -> None:
    """End what a login that has ended has left behind; the job counts no more.

    The extern stepd of 24.11.5 may end by SIGSEGV here, and leave its socket; with the C module,
    too, which is played where Slurm and sshd are of one suite.
    """
    leave = "setsid sleep 889 >&- 2>&- <&- & echo $!"
    of_c = [] if cluster.roots["n1"].sshd else [pam.stack(pam.C_MODULE)]
    for stack in (pam.with_module(), pam.both(), *of_c):
        cluster.pam(stack)
        job = cluster.submit("alice")
        left = int(cluster.ssh("alice", command=leave, timeout=60).out)
        assert cluster.n1.alive(left)
        end_jobs(cluster, job, timeout=60)
        wait_for("what the login has left gone", lambda: not cluster.n1.alive(left))  # noqa: B023
        assert NO_JOBS in cluster.ssh("alice", timeout=60).err
        later = cluster.submit("alice")
        assert landed(cluster.ssh("alice", "n1", LOOK, timeout=60).out, "n1") == later
        cluster.cancel_all()


def releases(cluster: Cluster) -> None:
    """Make sure that the cell is what it says: Slurm's release, and the Python inside sshd."""
    for node in cluster.nodes:
        roots = cluster.roots[node.name]
        assert roots.slurm.slurm in node.run(["slurmd", "-V"]).stdout
        front = roots.sshd or roots.slurm
        cluster.submit("alice", node.name)
        with cluster.session("alice", node.name) as session:
            monitor = int(session.run(PRIVILEGED))
            maps = node.read(f"proc/{monitor}/maps")
        assert f"libpython{front.python}" in maps, maps
        assert (f"{FRONT}/" in maps) == bool(roots.sshd)


# The nearest process above the shell that belongs to root.
PRIVILEGED = (
    "pid=$$; while [ $(stat -c %u /proc/$pid) != 0 ]; "
    "do pid=$(awk '/^PPid/{print $2}' /proc/$pid/status); done; echo $pid"
)

EVERYWHERE: tuple[Callable[[Cluster], None], ...] = (
    releases, one_job, several_jobs, second_hop, newest, none, scancel,
    scancel_after_logout,
)  # fmt: skip
