"""Nothing of a cluster stays on the machine, however its driver ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.harness import cgroups
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.state import STATE_DIR, sweep
from tests.cluster.harness.wait import PATIENCE

DRIVER = """
import sys, time
from tests.dev.__main__ import on_signals_leave
from tests.cluster.harness.cluster import Cluster
on_signals_leave()
with Cluster(sys.argv[1], report=print) as cluster:
    job = cluster.submit("alice")
    with cluster.session("alice") as session:
        session.run("setsid sleep 999 >&- 2>&- <&- &")
        print("up", cluster.n1.init.pid, flush=True)
        time.sleep(60)
"""


def left_behind(name: str) -> list[str]:
    """Return what the machine shows of a cluster: processes, mounts, cgroups, state."""
    mounts = [m for m in Path("/proc/mounts").read_text().splitlines() if f"/{name} " in m]
    places = [*cgroups.places(f"slurm_adopt-{name}"), STATE_DIR / name]
    return mounts + [str(place) for place in places if place.exists()]


STAGES = ("four hosts", "users", "munged", "up")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
ENDS = [*((when, signum) for when in STAGES for signum in SIGNALS), ("up", signal.SIGHUP)]

# As a shell starts a background job.
IN_THE_BACKGROUND = ("env", "--ignore-signal=INT", "--default-signal=HUP,TERM")


@pytest.mark.cluster
@pytest.mark.parametrize(("when", "signum"), ENDS)
def test_nothing_stays(when: str, signum: signal.Signals) -> None:
    """Kill a driver at each stage: its cluster goes, at the latest when the next one starts."""
    name = f"cleanup-{os.getpid()}"
    argv = [*IN_THE_BACKGROUND, sys.executable, "-u", "-c", DRIVER, name]
    with subprocess.Popen(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        line = next(line for line in driver.stdout if line.startswith(when))
        driver.send_signal(signum)
        driver.wait(20 * PATIENCE)
    if signum == signal.SIGKILL:
        sweep()
    assert left_behind(name) == []
    if when == "up":
        assert not psutil.pid_exists(int(line.split()[1]))
