"""Where an ssh session is: in its job, half in it, in another's, left by one, or outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from slurm_adopt.cli.explain import session_place
from slurm_adopt.slurm.cgroup import hierarchy
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.stepd.ask_all import Answer
from slurm_adopt.slurm.stepd.step_sockets import StepSocket
from tests.fakes.tree import ALL, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_adopt.cli.verdict.looking_node import LookingNode
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout

UID, OTHER = 5001, 5002
PID, STEPD = 42, 41
CONFIG = "ConstrainCores=yes\nConstrainRAMSpace=yes\nConstrainDevices=yes\n"
CONTROLLERS = ("freezer", "cpuset", "memory", "devices")
EXTERN = "/slurm/uid_5001/job_7/step_extern"
BATCH = "/slurm/uid_5001/job_7/step_batch"
SCOPE = "/user.slice/user-5001.slice/session-3.scope"
SSHD = "/system.slice/ssh.service"
V2_JOB = "/system.slice/slurmstepd.scope/{}"
SLUID = "s9ABCDEFGHIJKL"


class FakeNode:
    """A node whose stepds have answered: of job 7 of UID, of job 8 of OTHER; job 9 is silent."""

    def __init__(self, layout: Layout | None, *jobs: tuple[int, int], pid: int = 0) -> None:
        self.stepds = self
        self.phase = self.site = self
        self.answers = {}
        for job_id, uid in jobs:
            socket = StepSocket(f"/spool/n1_{job_id}.4294967292", job_id)
            socket.pid = pid
            self.answers[socket] = Answer(0, uid, 2)
        self.silent: dict[StepSocket, str] = {}
        self._layout = layout

    def layout(self) -> Layout | None:
        return self._layout

    def jobs(self, uid: int) -> list[Any]:
        assert uid == UID
        return []


def found(tree: Tree, node: FakeNode) -> dict[str, Any]:
    cgroups = hierarchy.of_process(PID, str(tree.proc))
    return session_place.placed(PID, cgroups, UID, cast("LookingNode", node))


def v1(tmp_path: Path, *places: str) -> tuple[Tree, Layout]:
    """Return a machine with jobs 7 and 8, and the process at these places."""
    tree = Tree(tmp_path)
    for controller in CONTROLLERS:
        tree.mount(controller)
        tree.make(f"{controller}{EXTERN}/task_0", f"{controller}/slurm/uid_5002/job_8/step_extern")
    lines = (f"{n}:{name}:{path}" for n, (name, path) in enumerate(zip(CONTROLLERS, places), 2))
    tree.process(PID, *lines, f"1:name=systemd:{SCOPE}")
    return tree, tree.layout(ALL, CONFIG)


@pytest.mark.parametrize(
    ("places", "where", "words"),
    [
        ([EXTERN] * 4, "in its job", "in job 7, in every hierarchy that confines"),
        ([EXTERN, EXTERN, f"{EXTERN}/task_0", EXTERN], "in its job", "in job 7, in every"),
        ([EXTERN, EXTERN, SCOPE, EXTERN], "half in its job", "in job 7, but not in memory"),
        ([SCOPE, EXTERN, SCOPE, SCOPE], "half in its job", "not in devices freezer memory"),
        ([SCOPE] * 4, "outside", "pam_systemd moved it when the session was opened"),
        ([SSHD] * 4, "outside", "it is where sshd is: it was never adopted"),
        (["/"] * 4, "outside", "it is where nothing has moved it"),
        ([BATCH] * 4, "in a step of its job", "in step batch of job 7"),
        (["/slurm/uid_5002/job_8/step_extern"] * 4, "in another user's job", "job 8 of uid 5002"),
        ([EXTERN, "/slurm/uid_5002/job_8/step_extern", EXTERN, EXTERN],
         "in another user's job", "in job 8 of uid 5002"),
        (["/slurm/uid_5001/job_6/step_extern"] * 4, "left by a job", "job 6, which has no stepd"),
    ],
)  # fmt: skip
def test_v1(tmp_path: Path, places: list[str], where: str, words: str) -> None:
    tree, layout = v1(tmp_path, *places)
    place = found(tree, FakeNode(layout, (7, UID), (8, OTHER)))
    assert place["where"] == where
    assert words in place["words"]
    rows = {row["controller"]: row for row in place["hierarchies"]}
    assert [name for name, row in rows.items() if row["confines"]] == sorted(CONTROLLERS)
    assert "pam_systemd" in rows["name=systemd"]["who"]


@pytest.mark.parametrize("name", ["job_7", SLUID])
@pytest.mark.parametrize(
    ("below", "where", "job"),
    [
        ("/step_extern/user/task_special", "in its job", 7),
        ("/step_extern/user", "in its job", 7),
        ("/step_0/user/task_0", "in a step of its job", 7),
    ],
)
def test_v2(tmp_path: Path, name: str, below: str, where: str, job: int | None) -> None:
    """Also where the job is called by an id that only its stepd knows."""
    tree = Tree(tmp_path)
    tree.mount("nsdelegate", "cgroup2")
    path = V2_JOB.format(name)
    tree.make(f"{path}/step_extern/user/task_special")
    tree.process(STEPD, f"0::{path}/step_extern/slurm")
    tree.process(PID, f"0::{path}{below}")
    layout = tree.layout(ALL, f"{CONFIG}CgroupPlugin=cgroup/v2")
    place = found(tree, FakeNode(layout, (7, UID), pid=STEPD))
    assert (place["where"], place["job"]) == (where, job)


def test_v2_outside(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.mount("nsdelegate", "cgroup2")
    tree.process(PID, f"0::{SCOPE}")
    layout = tree.layout(ALL, f"{CONFIG}CgroupPlugin=cgroup/v2")
    place = found(tree, FakeNode(layout))
    assert (place["where"], place["job"]) == ("outside", None)
    assert "pam_systemd moved it" in place["words"]


def test_where_nothing_confines(tmp_path: Path) -> None:
    tree, _ = v1(tmp_path, *["/"] * 4)
    place = found(tree, FakeNode(None))
    assert place["words"] == "this configuration confines nothing by cgroups"
    assert place["where"] == "not known"


def test_where_slurm_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, layout = v1(tmp_path, *["/"] * 4)
    node = FakeNode(layout)

    def jobs(_: int) -> list[Any]:
        raise SetupError("no slurm.conf")

    monkeypatch.setattr(node, "jobs", jobs)
    assert found(tree, node)["words"] == "no slurm.conf"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/user.slice/user-1.slice/user@1.service/app.slice/x.service", "systemd manager's"),
        ("/user.slice/user-1.slice/session-c1.scope", "pam_systemd moved it"),
        ("/user.slice/user-1.slice", "systemd-logind moved it"),
        ("/system.slice/sshd.service", "it is where sshd is"),
        ("/system.slice/ssh@1-2.service", "it is where sshd is"),
        ("/system.slice/system-sshd.slice/sshd@3.service", "it is where sshd is"),
        ("/system.slice/cron.service", "where the service is that has started it"),
        ("/", "nothing has moved it"),
    ],
)
def test_who(path: str, words: str) -> None:
    assert words in session_place.who(path)
