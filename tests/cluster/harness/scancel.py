"""scancel as a user and as Slurm's administrator give it, on a cluster or in a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.login import Machine


def send(
    client: Machine, name: str, *jobs: int | str, user: str | None = "alice", how: str = ""
) -> None:
    """Have a user send a signal to all steps of own jobs; slurmctld may not hear of it at once.

    `user`: root if None; `how`: an option of scancel besides.
    """
    for job in jobs:
        client.run(["scancel", *([how] if how else []), "-s", name, str(job)], user)


def end(cluster: Cluster, *jobs: int, timeout: float = 20) -> None:
    """End jobs; return when they have left the queue and their stepds have ended."""
    cluster.cancel(*jobs)
    for job in jobs:
        cluster.wait_gone(job, timeout)
