"""What a module could leave behind in sshd."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster


def traces(cluster: Cluster, shell: int, user: str = "") -> dict[str, object]:
    """Return what a module could leave behind in the session's privileged sshd.

    Between that and the shell is the user's own sshd; root has none.
    """

    def status(pid: int) -> dict[str, str]:
        lines = cluster.n1.read(f"proc/{pid}/status").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    monitor = int(status(shell)["PPid"])
    if user != "root":
        monitor = int(status(monitor)["PPid"])
    found = status(monitor)
    kinds = cluster.n1.run(["sh", "-c", f"ls -l /proc/{monitor}/fd"]).stdout.splitlines()[1:]
    children = cluster.n1.read(f"proc/{monitor}/task/{monitor}/children").split()
    return {
        "name": found["Name"],
        "threads": found["Threads"],
        "umask": found["Umask"],
        "signals": [found[key] for key in ("SigBlk", "SigIgn", "SigCgt")],
        "descriptors": sorted(line.rpartition(" -> ")[2].partition(":")[0] for line in kinds),
        "children": len(children),
    }


def odd(lines: list[str]) -> list[str]:
    """Return the lines of a log that are worse than informative."""
    return [line for line in lines if line.split()[1].partition(".")[2] not in ("info", "debug")]


def processes(cluster: Cluster) -> set[str]:
    """Return the processes of n1, zombies as well, by pid and name."""
    said = cluster.n1.run(["ps", "-eo", "pid=,comm="]).stdout.splitlines()
    return {line for line in said if line.split()[1] not in ("ps", "sh", "sleep")}
