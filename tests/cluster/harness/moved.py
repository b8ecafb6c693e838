"""Processes that something on a host moves out of their job's cgroups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.harness.wait import wait_for

if TYPE_CHECKING:
    from tests.cluster.harness.host import Host

# What pam_systemd has logind do, by hand: a process goes into a cgroup of its own.
MOVE = """\
for top in /sys/fs/cgroup/$2; do
    mkdir -p $top/elsewhere
    for file in cpuset.cpus cpuset.mems; do
        [ ! -e $top/elsewhere/$file ] || cat $top/$file >$top/elsewhere/$file
    done
    for pid in $1; do echo $pid >$top/elsewhere/cgroup.procs; done
done
"""
UNMOVE = "find /sys/fs/cgroup -name elsewhere -type d -exec rmdir {} +"


def move(node: Host, pids: list[int], hierarchies: str = "*") -> None:
    """Have root move processes out of their job, in some hierarchies or all."""
    node.run(["sh", "-ec", MOVE, "sh", " ".join(map(str, pids)), hierarchies])


def unmove(node: Host) -> None:
    """Take away the cgroups that processes have been moved into, once these have ended."""
    gone = lambda: node.run(["sh", "-c", UNMOVE], check=False).returncode == 0  # noqa: E731
    wait_for("the cgroups removed", gone)


def parent(node: Host, pid: int) -> int:
    """Return the pid of a process's parent."""
    return int(node.read(f"proc/{pid}/stat").rpartition(")")[2].split()[1])
