"""Settings of slurm.conf that change what a job's extern step is or does."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster.harness import pam, scancel
from tests.cluster.harness.wait import wait_for
from tests.cluster.scenarios.basic import LOOK, landed
from tests.cluster.scenarios.of_job import limits
from tests.cluster.scenarios.prologs import hold, in_prolog, prolog_in_use
from tests.cluster.scenarios.prologs import release as release_prolog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.harness.cluster import Cluster

# PrologFlags that give jobs their extern step, without `contain` beside them. 24.11.5 has RunInJob
# as well, but its extern stepd may crash with a job that a login was in, whichever module has
# adopted it: no Epilog runs then, and the job stays in COMPLETING.
INCLUDES = {
    "20.11": ("X11",),
    "22.05": ("X11",),
    "24.11": ("X11",),
    "26.05": ("X11", "RunInJob"),
}
MEMORY = 120  # MiB
VSIZE = 500  # per cent of that: what sshd has to live with


def release_of(cluster: Cluster) -> str:
    """Return the release of Slurm on the node that is logged in to."""
    return cluster.roots["n1"].slurm.slurm


@contextmanager
def set_in(cluster: Cluster, lines: str) -> Iterator[None]:
    """Have more lines in slurm.conf for the time of the block."""
    before = cluster.settings
    cluster.reconfigure(replace(before, slurm_conf=before.slurm_conf + lines))
    try:
        yield
    finally:
        cluster.cancel_all()
        cluster.reconfigure(before)


def flags_that_include_contain(cluster: Cluster) -> None:
    """Adopt a login where one of them stands alone, and end it with the job."""
    for flag in INCLUDES[release_of(cluster)]:
        with set_in(cluster, f"PrologFlags={flag}\n"):
            cluster.pam(pam.with_module(*pam.PRODUCTION))
            _in_and_gone(cluster, cluster.submit("alice"))


def _in_and_gone(cluster: Cluster, job: int) -> None:
    """Be in a job in one session, which goes with it."""
    with cluster.session("alice") as session:
        assert landed(session.run(LOOK), "n1") == job
        release_prolog(cluster)
        cluster.wait_running(job, ["n1"], batch=False)
        scancel.end(cluster, job, timeout=60)
        session.wait_gone(30)


def prolog_run_in_job(cluster: Cluster) -> None:
    """Adopt a login while the prolog runs: with RunInJob the extern step is up by then."""
    with set_in(cluster, "PrologFlags=RunInJob\n"), prolog_in_use(cluster):
        hold(cluster)
        cluster.pam(pam.with_module(*pam.PRODUCTION))
        with in_prolog(cluster, "alice") as job:
            wait_for("its stepd", lambda: cluster.has_stepd(job), 30)
            _in_and_gone(cluster, job)


def limits_of_the_stepd(cluster: Cluster) -> None:
    """Have the stepd limit the session (RLIMIT_RSS, with VSizeFactor RLIMIT_AS), with either phase.

    `job_limits=1` gives the same: the job's own processes have these limits as well.
    """
    with set_in(cluster, f"LaunchParameters=ulimit_pam_adopt\nVSizeFactor={VSIZE}\n"):
        cluster.submit("alice", mem=f"{MEMORY}M")
        rss, size = [str(MEMORY * 1024)] * 2, [str(MEMORY * 1024 * VSIZE // 100)] * 2
        for lines in (pam.with_module, pam.both):
            for option in ("job_limits=0", "job_limits=1"):
                cluster.pam(lines(*pam.PRODUCTION, option))
                assert (limits(cluster, "-m"), limits(cluster, "-v")) == (rss, size), option


OF_ALL: tuple[Callable[[Cluster], None], ...] = (flags_that_include_contain,)
