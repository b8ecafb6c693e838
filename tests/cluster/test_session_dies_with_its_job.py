"""A session, and all that it started, ends when its job does; the kernel says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.harness import scancel

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster


def test_scancel(cluster: Cluster) -> None:
    """The end of the job is the end of the session and of all it started."""
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        orphan = int(session.run("setsid sleep 888 >&- 2>&- <&- & echo $!"))
        assert cluster.n1.alive(orphan)
        scancel.end(cluster, job)
        session.wait_gone()
        assert not cluster.n1.alive(orphan)
