"""The grammar of cgroup paths: each release's and kind's, composed and taken apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_adopt.node import affinity
from slurm_adopt.slurm.cgroup import hierarchy, orphaned_step, paths
from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups
from slurm_adopt.slurm.config.conf import Conf
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from tests.fakes.tree import ALL, Tree

UID, JOB, LEADER = 5001, 7, 6
PID, STEPD = 42, 41
SLUID = "sB2HM7Y16Z1H00"

# v1: (releases and builds, ROOT, TOP, job id in the names, path of the step)
V1 = [
    ("all", "", 1, JOB, "/slurm/uid_5001/job_7/step_extern"),
    ("all, multiple-slurmd", "", 0, JOB, "/slurm_n1/uid_5001/job_7/step_extern"),
    ("19.05, 20.02: a component", "", 1, LEADER, "/slurm/uid_5001/job_6/step_extern"),
    ("19.05, multiple-slurmd", "", 0, LEADER, "/slurm_n1/uid_5001/job_6/step_extern"),
    ("in a container", "/docker/abc", 1, JOB, "/docker/abc/slurm/uid_5001/job_7/step_extern"),
    (
        "in a job of another Slurm's",
        "/slurm/uid_1/job_2/step_extern/task_0",
        0,
        JOB,
        "/slurm/uid_1/job_2/step_extern/task_0/slurm_n1/uid_5001/job_7/step_extern",
    ),
]
# v2: (releases and builds, BASE, SLICE, SCOPE, SLUID, path of the step)
V2 = [
    ("22.05", "", "system.slice", 1, "", "/system.slice/slurmstepd.scope/job_7/step_extern"),
    (
        "22.05, multiple-slurmd",
        "",
        "system.slice",
        0,
        "",
        "/system.slice/n1_slurmstepd.scope/job_7/step_extern",
    ),
    (
        "23.02, in a container",
        "/lxc/c1",
        "system.slice",
        1,
        "",
        "/lxc/c1/system.slice/slurmstepd.scope/job_7/step_extern",
    ),
    (
        "25.11, CgroupSlice",
        "",
        "jobs.slice",
        0,
        "",
        "/jobs.slice/n1_slurmstepd.scope/job_7/step_extern",
    ),
    (
        "26.05",
        "",
        "system.slice",
        1,
        SLUID,
        "/system.slice/slurmstepd.scope/sB2HM7Y16Z1H00/step_extern",
    ),
    (
        "26.05, CgroupSlice, multiple-slurmd",
        "/lxc/c1",
        "a.slice/b.slice",
        0,
        SLUID,
        "/lxc/c1/a.slice/b.slice/n1_slurmstepd.scope/sB2HM7Y16Z1H00/step_extern",
    ),
    (
        "26.05.2, CgroupJobIdPaths",
        "",
        "system.slice",
        1,
        "",
        "/system.slice/slurmstepd.scope/job_7/step_extern",
    ),
]
BELOW = ["", "task_0", "task_special", "task_3/mine/step_extern", "mine"]


@pytest.mark.parametrize(
    ("root", "top", "job", "path"), [row[1:] for row in V1], ids=[r[0] for r in V1]
)
def test_v1(root: str, top: int, job: int, path: str) -> None:
    assert paths.v1_step(root, paths.tops("n1")[top], UID, job) == path
    for below in BELOW:
        place = paths.parse_v1(f"{path}/{below}".rstrip("/"), root)
        assert place
        assert (place.above, place.top, place.uid) == (root, paths.tops("n1")[top], UID)
        assert (place.job_id, place.job, place.step) == (job, os.path.dirname(path), path)
        assert place.below == below


@pytest.mark.parametrize(
    ("base", "slice_", "scope", "sluid", "path"), [row[1:] for row in V2], ids=[r[0] for r in V2]
)
def test_v2(base: str, slice_: str, scope: int, sluid: str, path: str) -> None:
    there = f"{base}/{slice_}/{paths.scopes('n1')[scope]}"
    assert paths.v2_step(there, paths.jobs(JOB, sluid)[-1]) == path
    for below in ("", "user", "user/task_0", "user/task_special", "slurm"):
        place = paths.parse_v2(f"{path}/{below}".rstrip("/"), base)
        assert place
        assert (place.above, place.job, place.step) == (there, os.path.dirname(path), path)
        assert place.below == below
        assert place.job_id == (None if sluid else JOB)
        assert place.may_be_of(JOB)
        assert place.may_be_of(JOB + 1) == bool(sluid)  # it says nothing of whose it is
    assert paths.user(path) == f"{path}/user"
    stepd = paths.parse_stepd(paths.stepd(path))
    assert stepd
    assert (stepd.step, stepd.above) == (path, there)


@pytest.mark.parametrize("path", [row[-1] for row in V1])
def test_v1_is_not_v2_s_stepd(path: str) -> None:
    assert paths.parse_stepd(path) is None
    assert paths.parse_v1(path.replace("step_extern", "step_0")) is None


# What is no extern step's, on either
FOREIGN = [
    "",
    "/",
    "/init.scope",
    "/step_extern",
    "/user.slice/user-5001.slice/session-7.scope",
    "/slurm/uid_5001/job_7",
    "/slurm/uid_5001/job_7/step_0",
    "/slurm/uid_5001/job_7/step_batch/task_0",
    "/slurm/uid_5001/job_7/step_external",
    "/system.slice/slurmstepd.scope/system",
    "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
]
# What is none on v1
FOREIGN_V1 = [
    "/slurmd/uid_5001/job_7/step_extern",
    "/slurm/uid_x/job_7/step_extern",
    "/slurm/uid_٣/job_7/step_extern",
    "/slurm/uid_5001/job_/step_extern",
    "/slurm/uid_5001/job_7x/step_extern",
    "/slurm/uid_" + "9" * 5000 + "/job_7/step_extern",
    "/slurm/job_7/step_extern",
]


@pytest.mark.parametrize("path", FOREIGN + FOREIGN_V1)
def test_no_step_of_v1(path: str) -> None:
    assert paths.parse_v1(path) is None


@pytest.mark.parametrize("path", FOREIGN)
def test_no_step_of_v2(path: str) -> None:
    assert paths.parse_v2(path) is None
    assert paths.parse_stepd(path) is None


def test_a_user_s_directory_is_not_above() -> None:
    """What users of 22.05 make in their step changes nothing about what it is."""
    mine = "/slurm/uid_5001/job_7/step_extern/slurm/uid_0/job_8/step_extern"
    place = paths.parse_v1(mine)
    assert place
    assert (place.uid, place.job_id) == (UID, JOB)
    other = paths.parse_v1(f"/x{mine}")
    assert other
    assert other.above == "/x"


def test_a_stepd_in_another_slurm_s_job() -> None:
    """What is above is another cluster's; the root that is mounted tells where ours begins."""
    root = "/system.slice/slurmstepd.scope/job_1/step_0/user/task_0"
    outer = root.replace("step_0", "step_extern")
    step = "/system.slice/n1_slurmstepd.scope/job_7/step_extern"
    stepd = paths.parse_stepd(f"{outer}{step}/slurm")
    inner = paths.parse_v2(f"{outer}{step}/user/task_0", outer)
    assert stepd
    assert inner
    assert stepd.job_id == inner.job_id == JOB


# (text, whether it may be the id of a job's directory)
SLUIDS = [
    (SLUID, True),
    ("s0123456789ABC", True),
    ("", False),
    ("s0123456789AB", False),
    ("s0123456789ABCD", False),
    ("x0123456789ABC", False),
    ("s0123456789AB/", False),
    ("s/../../../../x", False),
    ("s0123456789ABé", False),
]


@pytest.mark.parametrize(("text", "fits"), SLUIDS)
def test_sluid(text: str, fits: bool) -> None:
    assert paths.is_sluid(text) is fits
    assert paths.jobs(JOB, text) == (("job_7", text) if fits else ("job_7",))


# (name, whether Slurm puts processes there)
TASKS = [
    ("task_0", True),
    ("task_12", True),
    ("task_special", True),
    ("task_", False),
    ("task_x", False),
    ("tasks", False),
    ("user", False),
]


@pytest.mark.parametrize(("name", "fits"), TASKS)
def test_task(name: str, fits: bool) -> None:
    assert paths.is_task(name) is fits


def conf(**values: str) -> Conf:
    found = Conf("cgroup.conf")
    found.values = {key.lower(): value for key, value in values.items()}
    return found


def test_cgroup_conf() -> None:
    assert paths.mountpoint(conf()) == "/sys/fs/cgroup"
    assert paths.mountpoint(conf(CgroupMountpoint="/cgroup/")) == "/cgroup"
    assert paths.slice_of(conf()) == "system.slice"
    assert paths.slice_of(conf(CgroupSlice="jobs.slice")) == "jobs.slice"


# A hierarchy that is mounted twice: adoption, variables, CPUs and Epilog take CgroupMountpoint's

STEP_V1 = V1[1][-1]
STEP_V2 = V2[1][-1]


class Twice(Tree):
    """Two trees with the same hierarchy; the one whose mount point is configured is whole."""

    def __init__(self, top: Path, unified: bool) -> None:
        super().__init__(top)
        self.unified = unified
        self.elsewhere = Tree(top / "elsewhere")
        kind = "cgroup2" if unified else "cgroup"
        for controller in ("",) if unified else ("freezer", "cpuset"):
            self.elsewhere.mount(controller, kind)
            self.mount(controller, kind)
        (self.proc / "self/mountinfo").write_text("".join([*self.elsewhere.mounts, *self.mounts]))
        job = os.path.dirname(STEP_V2 if unified else STEP_V1)
        if unified:
            self.make(f"{job}/step_extern/user/task_0", f"{job}/step_extern/slurm")
            self.process(STEPD, f"0::{job}/step_extern/slurm")
            self.process(PID, f"0::{job}/step_extern/user/task_0")
            names = ["cpuset.cpus", "cpuset.cpus.effective"]
            where = self.mnt / job[1:]
        else:
            self.make(*(f"{name}{job}/step_extern" for name in ("freezer", "cpuset")))
            self.process(PID, *(f"1:{name}:{job}/step_extern" for name in ("freezer", "cpuset")))
            names = ["cpuset.effective_cpus"]
            where = self.mnt / "cpuset" / job[1:]
        for directory in (where, where / "step_extern"):
            for name in names:
                (directory / name).write_text("0-3,8\n")
        self.process(1, "0::/init.scope")


@pytest.fixture(params=[False, True], ids=["v1", "v2"])
def twice(request: pytest.FixtureRequest, tmp_path: Path) -> Twice:
    return Twice(tmp_path, request.param)


def test_adoption_goes_by_the_configured_mount_point(twice: Twice) -> None:
    layout = twice.layout(ALL, "ConstrainCores=yes")
    assert layout.controllers == {"cpuset", "freezer"}
    step = StepSocket("/s/n1_7.4294967292", JOB)
    step.pid = STEPD
    assert layout.missing(PID, step, UID) == {}
    assert affinity.of_cpuset(PID, layout) == {0, 1, 2, 3, 8}


def test_variables_go_by_the_configured_mount_point(twice: Twice) -> None:
    found = JobCgroups.of(PID, str(twice.mnt), str(twice.proc))
    assert found.cpus() == 5
    assert JobCgroups.of(PID, str(twice.elsewhere.mnt), str(twice.proc)).cpus() is None


def test_the_epilog_goes_by_the_configured_mount_point(twice: Twice) -> None:
    job = orphaned_step.Job("n1", UID, JOB)
    mounts = hierarchy.mounted(str(twice.mnt), str(twice.proc))
    step = orphaned_step.find(mounts, job, str(twice.proc))
    assert step
    assert step.path == (f"{STEP_V2}/user" if twice.unified else STEP_V1)
    other = hierarchy.mounted(str(twice.elsewhere.mnt), str(twice.proc))
    assert orphaned_step.find(other, job, str(twice.proc)) is None


# (CgroupSlice now, where the scope is, whether the step is found)
SLICES = [
    ("system.slice", "system.slice", True),
    ("jobs.slice", "jobs.slice", True),
    ("system.slice", "jobs.slice", True),  # as it was when the job began
    ("jobs", "jobs", True),  # with IgnoreSystemd any name will do
    ("a.slice/b.slice", "a.slice/b.slice", True),
    ("system.slice", "a.slice/b.slice", False),
]


@pytest.mark.parametrize(("configured", "there", "found"), SLICES)
def test_the_epilog_and_slices(tmp_path: Path, configured: str, there: str, found: bool) -> None:
    tree = Tree(tmp_path)
    tree.mount("", "cgroup2")
    tree.make(f"{there}/n1_slurmstepd.scope/job_7/step_extern/user")
    tree.process(1, "0::/init.scope")
    mounts = hierarchy.mounted(str(tree.mnt), str(tree.proc))
    job = orphaned_step.Job("n1", UID, JOB, slice_=configured)
    assert (orphaned_step.find(mounts, job, str(tree.proc)) is not None) is found


def test_the_configured_slice_counts_first(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.mount("", "cgroup2")
    for slice_ in ("a.slice", "jobs.slice"):
        tree.make(f"{slice_}/n1_slurmstepd.scope/job_7/step_extern/user")
    tree.process(1, "0::/init.scope")
    mounts = hierarchy.mounted(str(tree.mnt), str(tree.proc))
    job = orphaned_step.Job("n1", UID, JOB, slice_="jobs.slice")
    step = orphaned_step.find(mounts, job, str(tree.proc))
    assert step
    assert step.path.startswith("/jobs.slice/")
