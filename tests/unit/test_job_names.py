"""What a user's jobs are called, where the extern step has no process: Slurm 26.05's has none."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, cast

import pytest

from slurm_adopt.decision.options import parse
from slurm_adopt.node import job_names, node
from slurm_adopt.node.jobs import Job
from slurm_adopt.node.slurm_site import SlurmSite
from slurm_adopt.slurm.cgroup import hierarchy
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from tests.fakes.log import Lines
from tests.fakes.peers import no_descriptor_left
from tests.fakes.requests import REQUEST_STEP_LIST_PIDS
from tests.fakes.stepd import Stepd, int32
from tests.fakes.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slurm_adopt.system.log import Log

UID = os.geteuid()
V1, V2 = f"/slurm/uid_{UID}/job_7", "/system.slice/slurmstepd.scope/job_7"
SLUID = "/system.slice/slurmstepd.scope/s0123456789ABC"


@pytest.fixture
def running() -> Iterator[int]:
    """Return the pid of a process of the job's batch step."""
    names = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"}
    argv = ["sh", "-c", "echo; read x"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=names, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        process.stdout.readline()  # before that, the program may not have its environment yet
        yield process.pid


# What is mounted, the job's cgroup, where the process is, whose step that is -> the name
ROWS = {
    "v1": ("freezer", V1, f"{V1}/step_batch", UID, "train"),
    "v2": ("", V2, f"{V2}/step_batch/user/task_0", UID, "train"),
    "v2, by another id": ("", SLUID, f"{SLUID}/step_batch/user/task_0", UID, "train"),
    "v1, another job's": ("freezer", V1, f"/slurm/uid_{UID}/job_77/step_batch", UID, ""),
    "v2, another job's": ("", V2, f"{V2}7/step_batch/user/task_0", UID, ""),
    "outside": ("freezer", V1, "/", UID, ""),
    "no cgroups where there should be some": ("freezer", "", f"{V1}/step_batch", UID, ""),
    "another user's step": ("freezer", V1, f"{V1}/step_batch", UID + 1, ""),
}


@pytest.mark.parametrize(("mounted", "job", "where", "uid", "name"), ROWS.values(), ids=ROWS)
def test_a_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    running: int,
    mounted: str,
    job: str,
    where: str,
    uid: int,
    name: str,
) -> None:
    """It is that of a process in another step, if that is in the job."""
    tree = Tree(tmp_path)
    tree.mount(mounted or "nsdelegate", "cgroup" if mounted else "cgroup2")
    if job:
        tree.make(f"{mounted}/{job}/step_extern/slurm")
    # The fake stepds are this very process.
    tree.process(os.getpid(), f"6:{mounted}:" + ("/" if mounted else f"{job}/step_extern/slurm"))
    monkeypatch.setattr(hierarchy, "of_process", lambda *_: {mounted: where})
    monkeypatch.setattr(SlurmSite, "layout", lambda _: tree.layout(""))
    (tmp_path / "slurm.conf").write_text(f"NodeName=n1\nSlurmdSpoolDir={tmp_path}\n")
    options, _ = parse([f"slurm_conf={tmp_path}/slurm.conf"])
    here = node.Node(options, cast("Log", Lines()), "n1")
    none, its = ({REQUEST_STEP_LIST_PIDS: reply} for reply in (int32(0), int32(1) + int32(running)))
    extern = tmp_path / "n1_7.4294967292"
    with (
        Stepd(extern, uid=UID, replies=none),
        Stepd(tmp_path / "n1_7.4294967291", uid=uid, replies=its),
        no_descriptor_left(),
    ):
        jobs = [Job(StepSocket(str(extern), 7), UID, 42 << 8)]
        found = job_names.names(jobs, here.phase, here._stepds)
    assert found == ({7: name} if name else {})
