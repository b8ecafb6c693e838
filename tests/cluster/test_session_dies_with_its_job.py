"""A session, and all that it started, ends when its job does; the kernel says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.scenarios import basic

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster


def test_scancel(cluster: Cluster) -> None:
    """The end of the job is the end of the session and of all it started."""
    basic.scancel(cluster, job_gone=20, session_gone=15)
