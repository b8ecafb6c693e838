"""Over the real cgroups of a real step: a stand-in stepd answers, the module's own write counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.scenarios.standin_step import CONF, CONFINED, DENIED, SPOOL, Standin, standin

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster

__all__ = ["standin"]  # pytest finds it here


@pytest.mark.parametrize("moved", [(), ("freezer",), ("memory", "devices")], ids=" ".join)
def test_what_the_stepd_left_out_is_written(
    cluster: Cluster, standin: Standin, moved: tuple[str, ...]
) -> None:
    """A 0 from the stepd proves nothing: the module completes the adoption and reads it back."""
    standin.start(0, *moved)
    mark = cluster.n1.mark()
    with cluster.session("alice") as session:
        found = cluster.n1.cgroups(session.pid)
        assert {name: found[name] for name in CONFINED} == dict.fromkeys(CONFINED, standin.step)
        assert session.run("echo $SLURM_JOB_ID").strip() == str(standin.job)
    written = [line for line in cluster.n1.log(mark) if "it is written there" in line]
    assert len(written) == len(CONFINED) - len(moved)


def test_a_socket_that_the_user_planted_is_no_job(cluster: Cluster, standin: Standin) -> None:
    """It speaks the protocol, and names a job that is alice's: nobody is let in for it."""
    standin.start(0, user="alice")
    mark = cluster.n1.mark()
    result = cluster.ssh("alice")
    assert result.rc == 255
    assert "you have no active jobs on this node" in result.out + result.err
    planted = f"{SPOOL}/n1_{standin.job}.4294967292 is a socket of uid 5001, not of Slurm: ignored"
    assert planted in "".join(cluster.n1.log(mark))
    standin.stop()
    standin.start(0)
    assert cluster.ssh("alice").rc == 0


def test_below_the_step_s_directory_is_in(cluster: Cluster, standin: Standin) -> None:
    """A process that the stepd put into a task of the step is not moved up."""
    standin.start(0, "memory/task_0", "freezer")
    with cluster.session("alice") as session:
        found = cluster.n1.cgroups(session.pid)
        assert found["memory"] == f"{standin.step}/task_0"
        assert found["freezer"] == found["cpuset"] == standin.step


def test_refused_means_nothing_is_written(cluster: Cluster, standin: Standin) -> None:
    """A pid that the stepd refused is written nowhere, and the login is refused."""
    standin.start(-1)
    result = cluster.ssh("alice")
    assert result.rc == 255
    assert DENIED in result.err
    cluster.pam(pam.with_module(f"slurm_conf={CONF}"))  # action_adopt_failure=allow
    with cluster.session("alice") as session:
        found = cluster.n1.cgroups(session.pid)
        assert all(found[name] == "/" for name in CONFINED)
        assert not session.run("echo $SLURM_JOB_ID").strip()
