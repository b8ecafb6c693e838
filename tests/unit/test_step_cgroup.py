"""cgroup layouts over trees of files: what counts as in the step, where a process is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.slurm.cgroup import hierarchy, step_cgroup
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from tests.fakes.tree import ALL, Tree, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping

PID, STEPD = 42, 41
STEP = "/slurm_n1/uid_5001/job_7/step_extern"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def step(pid: int = STEPD) -> StepSocket:
    found = StepSocket("/s/n1_7.4294967292", 7)
    found.pid = pid
    return found


# (slurm.conf, cgroup.conf, controllers that are confined)
CONFINING = [
    ("", "", "freezer"),
    ("ProctrackType=proctrack/linuxproc", "", ""),
    ("ProctrackType=proctrack/pgid\n" + ALL, "ConstrainCores=yes", "cpuset"),
    ("ProctrackType=Proctrack/CGroup", "", "freezer"),
    ("TaskPlugin=task/affinity", "ConstrainCores=yes", "freezer"),
    (ALL, "", "freezer"),
    (ALL, "ConstrainCores=YES", "cpuset freezer"),
    (ALL, "ConstrainCores=no", "freezer"),
    (ALL, "ConstrainRAMSpace=yes", "freezer memory"),
    (ALL, "ConstrainSwapSpace=yes", "freezer memory"),
    (ALL, "ConstrainDevices=yes", "devices freezer"),
    ("TaskPlugin=task/cgroup\nSelectTypeParameters=CR_Core", "ConstrainRAMSpace=yes", "freezer"),
    ("TaskPlugin=affinity,cgroup", "ConstrainCores=yes", "cpuset freezer"),
    ("JobAcctGatherType=jobacct_gather/cgroup", "", "cpuacct freezer memory"),
    ("JobAcctGatherType=jobacct_gather/linux", "", "freezer"),
]


@pytest.mark.parametrize(("slurm_conf", "cgroup_conf", "controllers"), CONFINING)
def test_confining(tmp_path: Path, slurm_conf: str, cgroup_conf: str, controllers: str) -> None:
    found = step_cgroup.confining(
        parsed(tmp_path, "slurm.conf", slurm_conf), parsed(tmp_path, "cgroup.conf", cgroup_conf)
    )
    assert " ".join(sorted(found)) == controllers


def test_nothing_confined_has_no_layout(tmp_path: Path) -> None:
    slurm_conf = parsed(tmp_path, "slurm.conf", "ProctrackType=proctrack/linuxproc")
    cgroup_conf = parsed(tmp_path, "cgroup.conf", "")
    assert step_cgroup.layout(slurm_conf, cgroup_conf, "n1") is None
    disabled = parsed(tmp_path, "cgroup.conf", "CgroupPlugin=disabled")
    assert step_cgroup.layout(parsed(tmp_path, "slurm.conf", ""), disabled, "n1") is None


# (title, line of /proc/PID/cgroup, whether the process counts as in the step)
INSIDE = [
    ("in the step", f"6:freezer:{STEP}", True),
    ("in a task of it", f"6:freezer:{STEP}/task_0", True),
    ("two controllers in one hierarchy", f"6:freezer,net_cls:{STEP}", True),
    ("at the top", "6:freezer:/", False),
    ("another job", "6:freezer:/slurm_n1/uid_5001/job_77/step_extern", False),
    ("another user's job of this number", "6:freezer:/slurm_n1/uid_5/job_7/step_extern", False),
    ("another step", "6:freezer:/slurm_n1/uid_5001/job_7/step_0", False),
    ("a name that begins alike", f"6:freezer:{STEP}x", False),
    ("above", "6:freezer:/slurm_n1/uid_5001/job_7", False),
    ("below a user's own directory", f"6:freezer:/user{STEP}", False),
    ("removed", f"6:freezer:{STEP} (deleted)", False),
    ("not in that hierarchy", "4:memory:/", False),
    ("no line at all", "", False),
    ("garbage", "freezer", False),
]


@pytest.mark.parametrize(
    ("line", "inside"), [row[1:] for row in INSIDE], ids=[row[0] for row in INSIDE]
)
def test_v1_inside(tree: Tree, line: str, inside: bool) -> None:
    tree.mount("freezer")
    tree.make("freezer" + STEP)
    tree.process(PID, line)
    outside = tree.layout("").missing(PID, step(), 5001)
    assert outside == ({} if inside else {"freezer": STEP})


def test_v1_top_without_the_node_name(tree: Tree) -> None:
    tree.mount("freezer")
    tree.make("freezer/slurm/uid_5001/job_7/step_extern")
    tree.process(PID, "6:freezer:/slurm/uid_5001/job_7/step_extern")
    assert tree.layout("").missing(PID, step(), 5001) == {}


def test_v1_below_a_container_s_root(tree: Tree) -> None:
    tree.mount("freezer", root="/docker/abc")
    tree.make("freezer" + STEP)
    tree.process(PID, "6:freezer:/docker/abc")
    layout = tree.layout("")
    assert layout.missing(PID, step(), 5001) == {"freezer": "/docker/abc" + STEP}
    layout.enter(PID, "freezer", "/docker/abc" + STEP)
    assert (tree.mnt / ("freezer" + STEP) / "cgroup.procs").read_text() == "42"


def test_v1_hierarchies_that_count(tree: Tree) -> None:
    for controller in ("freezer", "memory", "cpuset", "pids"):
        tree.mount(controller)
    tree.make("freezer" + STEP, "cpuset" + STEP)
    tree.process(PID, "1:pids:/", "2:memory:/", "3:cpuset:/", f"4:freezer:{STEP}")
    # memory is configured but has no cgroup of this step; cpuset is not configured but has one
    layout = tree.layout("JobAcctGatherType=jobacct_gather/cgroup")
    assert layout.missing(PID, step(), 5001) == {"cpuacct": None, "cpuset": STEP, "memory": None}


def test_v1_owner(tree: Tree) -> None:
    tree.mount("freezer")
    tree.make("freezer" + STEP, "freezer/slurm_n1/uid_x/job_8/step_extern")
    layout = tree.layout("")
    other = StepSocket("/s/n1_8.4294967292", 8)
    assert (layout.owner(step()), layout.owner(other)) == (5001, None)


def test_v1_owner_by_another_hierarchy(tree: Tree) -> None:
    """Where processes are not tracked by cgroups, but confined."""
    tree.mount("freezer")
    tree.mount("cpuset")
    tree.make("cpuset" + STEP)
    cores = "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/cgroup"
    assert tree.layout(cores, "ConstrainCores=yes").owner(step()) == 5001
    assert tree.layout("").owner(step()) is None  # cpuset confines nothing


# A component of a heterogeneous job of 19.05 or 20.02: job 7, its cgroups under the leader's id
LEADERS: list[tuple[str, list[str], list[str], int]] = [
    # (title, directories, freezer cgroups of the processes that the stepd lists, job id of cgroups)
    ("leader's", ["uid_5001/job_6"], ["/slurm_n1/uid_5001/job_6/step_extern"], 6),
    ("leader's task", ["uid_5001/job_6"], ["/slurm_n1/uid_5001/job_6/step_extern/task_0"], 6),
    ("no multiple-slurmd", ["uid_5001/job_6"], ["/slurm/uid_5001/job_6/step_extern"], 6),
    ("own", ["uid_5001/job_7", "uid_5001/job_6"], ["/slurm_n1/uid_5001/job_6/step_extern"], 7),
    ("another uid's", ["uid_5/job_6"], ["/slurm_n1/uid_5/job_6/step_extern"], 7),
    ("another node's", ["uid_5001/job_6"], ["/slurm_n2/uid_5001/job_6/step_extern"], 7),
    ("another step", ["uid_5001/job_6"], ["/slurm_n1/uid_5001/job_6/step_0"], 7),
    ("outside", ["uid_5001/job_6"], ["/"], 7),
    ("a user's own", ["uid_5001/job_6"], ["/x/slurm_n1/uid_5001/job_6/step_extern"], 7),
    ("no number", ["uid_5001/job_6"], ["/slurm_n1/uid_5001/job_x/step_extern"], 7),
    ("the job itself", ["uid_5001/job_6"], ["/slurm_n1/uid_5001/job_6"], 7),
    ("none", ["uid_5001/job_6"], [], 7),
    (
        "two",
        ["uid_5001/job_6"],
        ["/slurm_n1/uid_5001/job_6/step_extern", "/slurm_n1/uid_5001/job_5/step_extern"],
        7,
    ),
    ("one and outside", ["uid_5001/job_6"], ["/", "/slurm_n1/uid_5001/job_6/step_extern"], 6),
]


@pytest.mark.parametrize(
    ("directories", "cgroups", "expected"),
    [row[1:] for row in LEADERS],
    ids=[row[0] for row in LEADERS],
)
def test_v1_leader(tree: Tree, directories: list[str], cgroups: list[str], expected: int) -> None:
    tree.mount("freezer")
    tree.make(*(f"freezer/slurm_n1/{name}/step_extern" for name in directories))
    for pid, path in enumerate(cgroups, 100):
        tree.process(pid, f"6:freezer:{path}")
    layout, one = tree.layout(""), step()
    layout.follow_leader(one, 5001, [99, *range(100, 100 + len(cgroups))])  # 99 has ended
    assert one.cgroup_job == expected
    tree.process(PID, "6:freezer:/")
    there = f"uid_5001/job_{expected}" in directories
    steps = f"/slurm_n1/uid_5001/job_{expected}/step_extern"
    assert layout.missing(PID, one, 5001) == {"freezer": steps if there else None}


def test_v1_leader_below_a_container_s_root(tree: Tree) -> None:
    tree.mount("freezer", root="/docker/abc")
    tree.process(100, "6:freezer:/docker/abc/slurm_n1/uid_5001/job_6/step_extern")
    one = step()
    tree.layout("").follow_leader(one, 5001, [100])
    assert one.cgroup_job == 6


def test_write_that_fails_says_where(tree: Tree) -> None:
    tree.mount("freezer")
    with pytest.raises(PeerError, match=r"cannot write process 42 into .*/freezer/x/cgroup.procs"):
        tree.layout("").enter(PID, "freezer", "/x")
    assert not (tree.mnt / "freezer/x").exists()


SCOPE = "/system.slice/n1_slurmstepd.scope"
JOBS = [
    f"{SCOPE}/job_7",
    f"{SCOPE}/sB2HM7Y16Z1H00",  # 26.05
    "/slurmstepd.scope/job_7",
    "/system.slice/slurmstepd.scope/job_7",  # one slurmd a host
    "/batch.slice/n1_slurmstepd.scope/job_7",  # CgroupSlice, 25.11
    "/lxc/c1/system.slice/slurmstepd.scope/sB2HM7Y16Z1H00",  # in a container
]
# (where the process is below the step, leaves that exist, what is missing: None for nothing)
V2 = [
    ("user/task_special", ["task_special"], None),
    ("user/task_0", ["task_0"], None),
    ("user/task_0/below", ["task_0"], None),
    ("slurm", ["task_special"], "task_special"),
    ("../../elsewhere", ["task_special"], "task_special"),
    ("../../elsewhere", ["task_special", "task_0"], "task_0"),
    ("../../elsewhere", ["task_x", "other", "task_special"], "task_special"),
    ("../../elsewhere", [], ""),
]


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(("where", "leaves", "leaf"), V2)
def test_v2(tree: Tree, job: str, where: str, leaves: list[str], leaf: str | None) -> None:
    tree.mount("nsdelegate", "cgroup2")
    extern = f"{job}/step_extern"
    tree.make(f"{extern}/slurm", *(f"{extern}/user/{name}" for name in leaves))
    tree.process(STEPD, f"0::{extern}/slurm")
    tree.process(PID, "0::" + os.path.normpath(f"{extern}/{where}"))
    layout = tree.layout("")
    expected = {} if leaf is None else {"": f"{extern}/user/{leaf}" if leaf else None}
    assert layout.missing(PID, step(), 5001) == expected


@pytest.mark.parametrize(
    "line", ["0::/init.scope", "0::/user.slice/step_extern", "0::/a/step_extern/slurm/x", ""]
)
def test_v2_stepd_elsewhere(tree: Tree, line: str) -> None:
    tree.mount("nsdelegate", "cgroup2")
    tree.process(STEPD, line)
    tree.process(PID, "0::/")
    assert tree.layout("").missing(PID, step(), 5001) == {"": None}
    assert tree.layout("").missing(PID, step(0), 5001) == {"": None}
    assert tree.layout("").missing(PID, step(43), 5001) == {"": None}


def test_v2_owner_is_that_of_a_process_in_the_job(tree: Tree) -> None:
    tree.mount("nsdelegate", "cgroup2")
    job = f"{SCOPE}/job_7"
    tree.make(f"{job}/step_extern/slurm", f"{job}/step_0/user/task_0")
    tree.process(STEPD, f"0::{job}/step_extern/slurm")
    layout = tree.layout("")
    assert layout.owner(step()) is None
    (tree.mnt / f"{job}/step_0/user/task_0/cgroup.procs".lstrip("/")).write_text("50\n51\n52\n")
    tree.process(51, "0::/")
    assert layout.owner(step()) is None  # root's
    tree.process(52, "0::/")
    os.chown(tree.proc / "52", 5001, 5001)
    assert layout.owner(step()) == 5001
    assert layout.owner(step(0)) is None
    tree.process(50, "0::/")
    os.chown(tree.proc / "50", 5002, 5002)
    assert layout.owner(step()) is None  # they do not agree
    assert layout.uids(step()) == {5001, 5002}


@pytest.mark.parametrize("leaf", ["task_special", "task_0"])
def test_v2_leaves_made_by_the_first_adoption(tree: Tree, leaf: str) -> None:
    """An idle extern step has none (25.05+): the stepd makes it, the module never does."""
    tree.mount("nsdelegate", "cgroup2")
    extern = f"{SCOPE}/job_7/step_extern"
    tree.make(f"{extern}/slurm", f"{extern}/user")
    tree.process(STEPD, f"0::{extern}/slurm")
    tree.process(PID, "0::/system.slice/ssh.service")
    layout = tree.layout("")
    assert layout.missing(PID, step(), 5001) == {"": None}
    assert os.listdir(tree.mnt / extern.lstrip("/") / "user") == ["cgroup.procs"]
    tree.make(f"{extern}/user/{leaf}")  # by the stepd, which then failed to move the process
    assert layout.missing(PID, step(), 5001) == {"": f"{extern}/user/{leaf}"}


def test_v2_another_job_s_directory_is_never_taken(tree: Tree) -> None:
    """The number of a stepd that has ended may be another's by now."""
    tree.mount("nsdelegate", "cgroup2")
    tree.make(f"{SCOPE}/job_8/step_extern/slurm", f"{SCOPE}/job_8/step_extern/user/task_special")
    tree.process(STEPD, f"0::{SCOPE}/job_8/step_extern/slurm")
    tree.process(PID, f"0::{SCOPE}/job_8/step_extern/user/task_special")
    assert tree.layout("").missing(PID, step(), 5001) == {"": None}


@pytest.mark.parametrize("name", [b"x\xffy", b"x\x0cy", "x\u2028y".encode(), b"x\x85y"])
def test_mounts_of_any_name(tree: Tree, name: bytes) -> None:
    """Users mount things under names that are no text; the other lines still count."""
    tree.mount("freezer")
    info = tree.proc / "self/mountinfo"
    info.write_bytes(
        b"40 25 0:50 / /home/" + name + b" rw - fuse " + name + b" rw\n" + info.read_bytes()
    )
    tree.make("freezer" + STEP)
    tree.process(PID, f"6:freezer:{STEP}")
    assert tree.layout("").missing(PID, step(), 5001) == {}


def test_v2_without_a_hierarchy(tree: Tree) -> None:
    tree.mount("freezer")
    with pytest.raises(SetupError, match="no cgroup v2 hierarchy is mounted"):
        tree.layout("", "CgroupPlugin=cgroup/v2")


def test_mountpoint_with_a_slash_at_its_end(tree: Tree) -> None:
    tree.mount("nsdelegate", "cgroup2")
    assert type(tree.layout("", f"CgroupMountpoint={tree.mnt}/")) is step_cgroup.V2


# (CgroupPlugin, unified mounted at CgroupMountpoint, layout)
PLUGINS = [
    ("", True, step_cgroup.V2),
    ("", False, step_cgroup.V1),
    ("CgroupPlugin=autodetect", True, step_cgroup.V2),
    ("CgroupPlugin=cgroup/v1", True, step_cgroup.V1),
]


@pytest.mark.parametrize(("plugin", "unified", "kind"), PLUGINS)
def test_layout(tree: Tree, plugin: str, unified: bool, kind: type) -> None:
    tree.mount("freezer")
    if unified:
        tree.mount("nsdelegate", "cgroup2")
    assert type(tree.layout("", plugin)) is kind


# What may be put into a step: frozen, or with a cgroup of the user's

USER = 5001
Files = tuple["Mapping[str, str | int]", str]
# What is written below a hierarchy, or who owns it -> part of the reason
V1_FILES: dict[str, Files] = {
    "nothing": ({}, ""),
    "thawed": ({f"freezer{STEP}/freezer.state": "THAWED\n"}, ""),
    "frozen": ({f"freezer{STEP}/freezer.state": "FROZEN\n"}, "step_extern is frozen: the job is"),
    "freezing": ({f"freezer{STEP}/freezer.state": "FREEZING\n"}, "step_extern is freezing: "),
    "a task's is frozen": (
        {f"freezer{STEP}/freezer.state": "THAWED", f"freezer{STEP}/task_0/freezer.state": "FROZEN"},
        "step_extern/task_0 is frozen",
    ),
    "another's is frozen": (
        {f"freezer{STEP}/freezer.state": "THAWED", f"freezer{STEP}/mine/freezer.state": "FROZEN"},
        "",
    ),
    "a task's is the user's": ({f"memory{STEP}/task_0/cgroup.procs": USER}, "uid 5001 has made"),
    "a task_special is the user's": (
        {f"memory{STEP}/task_special/cgroup.procs": USER}, "task_special is a cgroup that uid 5001",
    ),
    "the step is the user's": ({f"memory{STEP}/cgroup.procs": USER}, "uid 5001 has made"),
    "in no hierarchy that confines": ({f"blkio{STEP}/task_0/cgroup.procs": USER}, "uid 5001 has"),
    "of the user's, and not in the way": ({f"memory{STEP}/mine/cgroup.procs": USER}, ""),
}  # fmt: skip


def written(tree: Tree, files: Mapping[str, str | int]) -> None:
    """Write these, or give them to a user; each with the cgroups on its way."""
    for name, what in files.items():
        path = tree.mnt / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(what))
        if isinstance(what, int):
            os.chown(path, what, what)


@pytest.mark.parametrize("case", V1_FILES)
def test_obstacle_v1(tree: Tree, case: str) -> None:
    files, says = V1_FILES[case]
    for controller in ("freezer", "memory", "blkio"):
        tree.mount(controller)
        tree.make(f"{controller}{STEP}")
    written(tree, files)
    found = tree.layout("").obstacle(step(), USER)
    assert (says in found) if says else (found == "")


def test_a_process_may_not_stay_in_a_cgroup_of_the_user_s(tree: Tree) -> None:
    """Wherever it is below the step, by whatever name."""
    tree.mount("memory")
    tree.make(f"memory{STEP}/mine/deeper")
    tree.process(PID, f"6:memory:{STEP}/mine/deeper")
    layout = tree.layout("")

    def found() -> str:
        return layout.obstacle(step(), USER, hierarchy.of_process(PID, layout.proc))

    assert found() == ""
    written(tree, {f"memory{STEP}/mine/cgroup.procs": USER})
    assert f"{STEP}/mine is a cgroup that uid {USER} has made" in found()
    tree.process(PID, "6:memory:/elsewhere")
    assert found() == ""


V2_JOB = "/system.slice/n1_slurmstepd.scope/job_7"
V2_FILES: dict[str, Files] = {
    "nothing": ({}, ""),
    "not frozen": ({f"{V2_JOB}/step_extern/user/cgroup.freeze": "0\n"}, ""),
    "frozen": ({f"{V2_JOB}/step_extern/user/cgroup.freeze": "1\n"}, "user is frozen: the job is"),
    "the job is": ({f"{V2_JOB}/cgroup.freeze": "1\n"}, "step_extern/user is frozen"),
    "a slice above is": ({"/system.slice/cgroup.freeze": "1\n"}, "step_extern/user is frozen"),
    "a task's is": ({f"{V2_JOB}/step_extern/user/task_0/cgroup.freeze": "1"}, "task_0 is frozen"),
    "the stepd's is": ({f"{V2_JOB}/step_extern/slurm/cgroup.freeze": "1"}, ""),
    "a task's is the user's": (
        {f"{V2_JOB}/step_extern/user/task_0/cgroup.procs": USER}, "uid 5001 has made",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", V2_FILES)
def test_obstacle_v2(tree: Tree, case: str) -> None:
    files, says = V2_FILES[case]
    tree.mount("", "cgroup2")
    tree.make(f"{V2_JOB}/step_extern/user/task_0", f"{V2_JOB}/step_extern/slurm")
    tree.process(STEPD, f"0::{V2_JOB}/step_extern/slurm")
    written(tree, {name.lstrip("/"): what for name, what in files.items()})
    found = tree.layout("").obstacle(step(), USER)
    assert (says in found) if says else (found == "")


def test_frozen_is_what_a_process_is_in(tree: Tree) -> None:
    tree.mount("freezer")
    tree.make(f"freezer{STEP}", "freezer/elsewhere")
    written(tree, {f"freezer{STEP}/freezer.state": "FROZEN"})
    layout = tree.layout("")
    tree.process(PID, f"6:freezer:{STEP}", "3:pids:/x")
    assert layout.frozen(hierarchy.of_process(PID, layout.proc)).endswith("step_extern is frozen")
    tree.process(PID, "6:freezer:/elsewhere", "3:pids:/x")
    assert layout.frozen(hierarchy.of_process(PID, layout.proc)) == ""


def test_restore(tree: Tree) -> None:
    """A process is written where it was, but for what it is in already, or is not mounted."""
    for controller in ("freezer", "memory"):
        tree.mount(controller)
        tree.make(f"{controller}/before", f"{controller}{STEP}")
    tree.process(PID, f"6:freezer:{STEP}", "7:memory:/before", "8:pids:/x")
    layout = tree.layout("")
    before = {"freezer": "/before", "memory": "/before", "pids": "/y"}
    assert layout.restore(PID, before) == []
    assert (tree.mnt / "freezer/before/cgroup.procs").read_text() == str(PID)
    assert (tree.mnt / "memory/before/cgroup.procs").read_text() == ""
    (remark,) = layout.restore(PID, {"freezer": "/gone"})
    assert "gone/cgroup.procs: No such file" in remark
    assert layout.restore(1 << 22, before) == []  # it has ended


def test_what_is_confined_by_and_not_mounted() -> None:
    """Known before a stepd is asked: nothing that it does there could be undone."""
    mounts = {"freezer": hierarchy.Mount("/sys/fs/cgroup/freezer", "/")}
    layout = step_cgroup.V1(frozenset({"freezer", "memory", "cpuset"}), mounts, "n1")
    assert layout.unmounted() == ["cpuset", "memory"]
    assert step_cgroup.V1(frozenset({"freezer"}), mounts, "n1").unmounted() == []
    assert step_cgroup.V2(frozenset({"", "memory"}), {}, "/proc").unmounted() == []
