"""Many logins at the same moment: all are admitted, and each is wholly in its job.

`./dev storm` has hundreds, beside the C module. Here are fewer, and a stepd that is as slow for
these as it is for hundreds: it gets a small part of a CPU.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.wait import wait_for
from tests.cluster.tools.storm import Storms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.cluster import Cluster

MANY, FEW = 60, 30
LINES = ("both lines", "account line")
SLOW = "/sys/fs/cgroup/cpu/slow"
FREEZER = "/sys/fs/cgroup/freezer"
HANGING = f"{FREEZER}/hanging"
OTHERS = 10.0  # seconds: another user's stepd costs a login 2.6, the own one 30
PERIOD, QUOTA = 100_000, 1_000  # microseconds: an adoption takes some 3 ms of CPU time
SILENCE = 5.0  # seconds that the module waits for one that is silent
BOUND = 40.0  # seconds: all have been told by then that it does not answer
ADOPTED = "adopted into job"
SILENT = "does not answer"


@pytest.fixture
def storms(cluster: Cluster) -> Iterator[Storms]:
    """Have an sshd that takes as many as come."""
    found = Storms(cluster)
    with found.prepared(MANY, 0):
        yield found


class Stepd:
    """The extern stepd of a job, in a cgroup of v1 that gives it little CPU."""

    def __init__(self, cluster: Cluster) -> None:
        self.node = cluster.n1
        self.pid = self.frozen = ""

    def find(self, job: int) -> None:
        """Find it."""
        pattern = rf"^slurmstepd: \[{job}\.extern\]"
        self.pid = self.node.run(["pgrep", "-f", pattern]).stdout.strip()

    def slow(self, job: int) -> None:
        """Slow it down."""
        self.find(job)
        self.node.run(["mkdir", "-p", SLOW])
        for name, value in (("cpu.cfs_period_us", PERIOD), ("cpu.cfs_quota_us", QUOTA)):
            self.node.run(["sh", "-c", f"echo {value} >{SLOW}/{name}"])
        self.node.run(["sh", "-c", f"echo {self.pid} >{SLOW}/cgroup.procs"])

    def hang(self, job: int) -> None:
        """Have it wait in the kernel, as for a file system that is gone: state D, and no answer."""
        self.find(job)
        said = self.node.run(["cat", f"/proc/{self.pid}/cgroup"]).stdout
        self.frozen = FREEZER + said.partition(":freezer:")[2].splitlines()[0]
        for line in (
            f"mkdir {HANGING}",
            f"echo {self.pid} >{HANGING}/cgroup.procs",
            f"echo FROZEN >{HANGING}/freezer.state",
        ):
            self.node.run(["sh", "-c", line])

    def quick(self) -> None:
        """Let it have what it wants, and run."""
        if self.frozen:
            thaw = f"echo THAWED >{HANGING}/freezer.state"
            back = f"echo {self.pid} >{self.frozen}/cgroup.procs"
            self.node.run(["sh", "-ec", f"{thaw}; {back}; rmdir {HANGING}"])
            self.frozen = ""
        if self.pid:
            self.signal("CONT")
            file = f"{SLOW}/cpu.cfs_quota_us"
            self.node.run(["sh", "-c", f"[ ! -e {file} ] || echo -1 >{file}"])

    def signal(self, name: str) -> None:
        """Send it a signal."""
        self.node.run(["kill", f"-{name}", self.pid], check=False)


@pytest.fixture
def stepd(cluster: Cluster) -> Iterator[Stepd]:
    """Have a stepd that can be slowed down."""
    found = Stepd(cluster)
    yield found
    found.quick()
    cluster.cancel_all()
    removed = ["sh", "-c", f"[ ! -d {SLOW} ] || rmdir {SLOW}"]
    wait_for("no cgroup left", lambda: cluster.n1.run(removed, check=False).returncode == 0)


@pytest.mark.parametrize("lines", LINES)
def test_many_at_once(storms: Storms, lines: str) -> None:
    """Sixty, into one job."""
    seen = storms.play("one job", lines, MANY)
    assert (seen.inside, seen.half, seen.refused, seen.left) == (MANY, 0, 0, 0), seen


@pytest.mark.parametrize("lines", LINES)
def test_a_queue_is_not_silence(storms: Storms, stepd: Stepd, lines: str) -> None:
    """The last one waits for longer than a stepd may be silent: it is at work for the others."""
    # Slow, it would take as long to end its job.
    seen = storms.play("one job", lines, FEW, during=stepd.slow, later=lambda _: stepd.quick())
    assert (seen.inside, seen.half, seen.refused) == (FEW, 0, 0), seen
    assert seen.slowest_ms > 1000 * SILENCE, seen


@pytest.mark.parametrize("lines", LINES)
def test_stopped_in_the_middle(storms: Storms, stepd: Stepd, lines: str) -> None:
    """Those it has not taken are told so in a bounded time, and no one is half in; nor later.

    It goes on at the end, and takes those that nobody waits for any more: to the end. Of these it
    takes root's sshd, whose session is outside by then.
    """
    mark = storms.cluster.n1.mark()

    def stop(job: int) -> None:
        stepd.find(job)
        log = storms.cluster.n1.log
        wait_for("adoptions", lambda: "".join(log(mark)).count(ADOPTED) > FEW / 4, 30)
        stepd.signal("STOP")

    def go_on(job: int) -> None:
        assert job
        stepd.signal("CONT")
        time.sleep(5)

    seen = storms.play("one job", lines, FEW, during=stop, later=go_on)
    assert (seen.admitted, seen.half) == (FEW, 0), seen
    assert any(SILENT in text for text in seen.said), seen
    assert seen.seconds < BOUND


def test_another_user_s_is_alive_and_does_not_answer(cluster: Cluster, stepd: Stepd) -> None:
    """Nobody makes the logins of others slow: theirs is not waited for as one's own is."""
    other, job = cluster.submit("bob", mem="10M"), cluster.submit("alice")
    stepd.hang(other)
    mark = cluster.n1.mark()
    result = cluster.ssh("alice", command="echo $SLURM_JOB_ID", timeout=60)
    assert result.out.strip() == str(job)
    refused = cluster.ssh("carol", timeout=60)
    assert refused.rc == 255
    assert max(result.seconds, refused.seconds) < OTHERS
    said = f"stepd of job {other} (of uid 5002): {SILENT}"
    assert sum(said in line for line in cluster.n1.log(mark)) == 2
