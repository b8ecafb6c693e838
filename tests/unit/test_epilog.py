"""The program for Slurm's Epilog: whose processes it ends, and that it never drains a node."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import pwd
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurm_adopt import epilog
from slurm_adopt.session import runtime_dir
from slurm_adopt.slurm.cgroup import hierarchy, orphaned_step
from slurm_adopt.slurm.cgroup import walk as cgroup_walk
from slurm_adopt.slurm.cgroup.hierarchy import UNIFIED, Mount
from slurm_adopt.slurm.config import conf
from slurm_adopt.slurm.config.conf import Conf
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.system import log
from tests.cluster.harness.epilog import EPILOG, NAME
from tests.fakes.stepd import Stepd
from tests.fakes.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UID = pwd.getpwnam("nobody").pw_uid
SOURCE = Path(__file__).parents[2] / "src"
SLUID = "s0123456789ABC"
TOP = "slurm_adopt-epilog-"
BOUND = 30.0  # seconds that nothing here may take
SYS_EXIT = 60 if platform.machine() == "x86_64" else 93  # that of one thread

ENVIRONMENT = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": str(UID), "SLURMD_NODENAME": "n1"}


# Which cgroup: (what is mounted, and its root; what is there; whose it is taken for)

V1 = "freezer/slurm_n1/uid_5001/job_7/step_extern"
V2 = "system.slice/n1_slurmstepd.scope"
PLACES: list[tuple[str, list[str], str]] = [
    ("freezer", [V1], "/slurm_n1/uid_5001/job_7/step_extern"),
    ("freezer", [V1.replace("_n1", "")], "/slurm/uid_5001/job_7/step_extern"),
    ("freezer", [V1, V1.replace("_n1", "")], "/slurm_n1/uid_5001/job_7/step_extern"),
    ("freezer", ["freezer/slurm_n1", V1.replace("_n1", "")], ""),  # another cluster's
    ("freezer", [V1.replace("_n1", "_n2")], ""),
    ("freezer", [V1.replace("job_7", "job_77")], ""),
    ("freezer", [V1.replace("5001", "5002")], ""),
    ("freezer", [V1.replace("extern", "batch")], ""),
    ("memory", [V1.replace("freezer", "memory")], "/slurm_n1/uid_5001/job_7/step_extern"),
    ("pids", [V1.replace("freezer", "pids")], ""),
    (UNIFIED, [f"{V2}/job_7/step_extern/user"], f"/{V2}/job_7/step_extern/user"),
    (UNIFIED, [f"{V2}/{SLUID}/step_extern/user"], f"/{V2}/{SLUID}/step_extern/user"),
    (
        UNIFIED,
        ["system.slice/slurmstepd.scope/job_7/step_extern/user"],
        "/system.slice/slurmstepd.scope/job_7/step_extern/user",
    ),
    (UNIFIED, [V2, "system.slice/slurmstepd.scope/job_7/step_extern/user"], ""),
    (UNIFIED, [f"{V2}/job_7/step_extern/slurm"], ""),
    (UNIFIED, [f"{V2}/job_7/step_0/user"], ""),
    (UNIFIED, ["system.slice/n2_slurmstepd.scope/job_7/step_extern/user"], ""),
    (UNIFIED, ["user.slice/x/n1_slurmstepd.scope/job_7/step_extern/user"], ""),
]


@pytest.mark.parametrize(("mounted", "there", "found"), PLACES)
def test_the_cgroup(tmp_path: Path, mounted: str, there: list[str], found: str) -> None:
    tree = Tree(tmp_path)
    tree.mount(mounted, "cgroup" if mounted else "cgroup2")
    tree.make(*there)
    tree.process(1, "0::/init.scope")
    mounts = hierarchy.mounted(str(tree.mnt), str(tree.proc))
    step = orphaned_step.find(mounts, orphaned_step.Job("n1", 5001, 7, SLUID), str(tree.proc))
    assert (step.path if step else "") == found


def test_a_stepd_beside_it_on_v2(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.mount("", "cgroup2")
    tree.make(f"{V2}/job_7/step_extern/user", f"{V2}/job_7/step_extern/slurm")
    tree.process(1, "0::/init.scope")
    mounts = hierarchy.mounted(str(tree.mnt), str(tree.proc))
    procs = tree.mnt / V2 / "job_7/step_extern/slurm/cgroup.procs"
    for text, there in (("", True), ("41\n", False)):
        procs.write_text(text)
        step = orphaned_step.find(mounts, orphaned_step.Job("n1", 5001, 7), str(tree.proc))
        assert (step is not None) == there


def test_the_cgroup_in_a_container(tmp_path: Path) -> None:
    """The cgroup of PID 1 is the root that Slurm goes by."""
    tree = Tree(tmp_path)
    tree.mount("", "cgroup2")
    tree.make(f"box/{V2}/job_7/step_extern/user")
    tree.process(1, "0::/box/init.scope")
    mounts = hierarchy.mounted(str(tree.mnt), str(tree.proc))
    step = orphaned_step.find(mounts, orphaned_step.Job("n1", 5001, 7), str(tree.proc))
    assert step
    assert step.path == f"/box/{V2}/job_7/step_extern/user"


def test_slurm_in_a_step_of_another_slurm(tmp_path: Path) -> None:
    """What is frozen of the outer job is not this one's to thaw."""
    tree = Tree(tmp_path)
    tree.mount("", "cgroup2")
    outer = "system.slice/slurmstepd.scope/job_1"
    tree.make(f"{outer}/step_extern/user/task_0/{V2}/job_7/step_extern/user")
    for path in (outer, f"{outer}/step_extern"):
        (tree.mnt / path / "cgroup.freeze").write_text("1\n")
    tree.process(1, f"0::/{outer}/step_extern/user/task_0/init.scope")
    mounts = hierarchy.mounted(str(tree.mnt), str(tree.proc))
    step = orphaned_step.find(mounts, orphaned_step.Job("n1", 5001, 7), str(tree.proc))
    assert step
    assert not step.look(Deadline(BOUND))


# (cgroup.conf beside the slurm.conf of the job; what is gone by: mount point, slice)
CGROUP_CONFS = [
    (None, "/sys/fs/cgroup", "system.slice"),
    ("CgroupMountpoint=/cgroup/\nCgroupSlice=jobs.slice\n", "/cgroup", "jobs.slice"),
    ("Include cgroup.conf\n", "/sys/fs/cgroup", "system.slice"),  # it cannot be read
]


@pytest.mark.parametrize(("text", "mountpoint", "slice_"), CGROUP_CONFS)
def test_what_cgroup_conf_says(
    tmp_path: Path, text: str | None, mountpoint: str, slice_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def mounted(point: str) -> dict[str, Mount]:
        asked.append(point)
        return {}

    monkeypatch.setattr(epilog, "mounted", mounted)
    monkeypatch.setattr(orphaned_step, "find", lambda _, job: asked.append(job.slice))
    if text is not None:
        (tmp_path / "cgroup.conf").write_text(text)
    job = epilog.Job({**ENVIRONMENT, "SLURM_CONF": f"{tmp_path}/slurm.conf"})
    assert epilog.end_sessions(job, log.Log("x", 0, str(tmp_path / "none"))) == []
    assert asked == [mountpoint, slice_]


def test_a_cgroup_conf_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """As on a dead NFS: the runtime directory is removed all the same."""
    there = tmp_path / "there"

    def hang(*_: object) -> Conf:
        there.touch()
        time.sleep(2 * BOUND)
        return Conf("")

    monkeypatch.setattr(conf, "load_beside", hang)
    monkeypatch.setattr(epilog, "READING", 1.0)
    monkeypatch.setattr(epilog, "mounted", lambda _: {})
    monkeypatch.setattr(runtime_dir, "remove", lambda *_: ["removed"])
    monkeypatch.setenv("SLURM_CONF", f"{tmp_path}/slurm.conf")
    begun = time.monotonic()
    assert epilog.main() == 0
    assert time.monotonic() - begun < BOUND
    assert there.exists()
    late, removed = said
    assert re.fullmatch(r"cannot read cgroup.conf: timed out after [01]\.\d s", late)
    assert removed == "removed"


def test_the_freezer_before_all_others(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for controller in ("memory", "freezer"):
        tree.mount(controller)
        tree.make(V1.replace("freezer", controller))
    tree.process(8, "1:freezer:/slurm_n1/uid_5001/job_7/step_extern", "2:memory:/")
    step = orphaned_step.find(
        hierarchy.mounted(str(tree.mnt), str(tree.proc)),
        orphaned_step.Job("n1", 5001, 7),
        str(tree.proc),
    )
    assert step
    assert step.holds(8)


# (cgroup of a process, whether it is in the step)
HELD = [
    ("/slurm_n1/uid_5001/job_7/step_extern", True),
    ("/slurm_n1/uid_5001/job_7/step_extern/task_0", True),
    ("/slurm_n1/uid_5001/job_7/step_extern2", False),
    ("/slurm_n1/uid_5001/job_7", False),
    ("/slurm_n1/uid_5001/job_7/step_0", False),
    ("/", False),
]


@pytest.mark.parametrize(("path", "inside"), HELD)
def test_who_is_in_it(tmp_path: Path, path: str, inside: bool) -> None:
    tree = Tree(tmp_path)
    tree.mount("freezer")
    tree.process(8, f"1:freezer:{path}")
    mount = Mount(str(tree.mnt / "freezer"), "/")
    step = orphaned_step.Step("freezer", mount, HELD[0][0], str(tree.proc))
    assert step.holds(8) == inside
    assert not step.holds(9)


def test_what_the_kernel_calls_0_is_left_alone(tmp_path: Path) -> None:
    """A process of another PID namespace; kill(2) takes 0 for the whole process group."""
    tree = Tree(tmp_path)
    tree.mount("freezer")
    tree.make(V1, f"{V1}/task_0")
    (tree.mnt / V1 / "cgroup.procs").write_text("0\n12\n")
    (tree.mnt / V1 / "task_0/cgroup.procs").write_text("0\n13\n")
    step = orphaned_step.Step(
        "freezer", Mount(str(tree.mnt / "freezer"), "/"), HELD[0][0], str(tree.proc)
    )
    found = step.look(Deadline(BOUND))
    assert (found.pids, found.foreign) == ({12, 13}, 2)


# Real processes in real cgroups

MOUNTS = hierarchy.mounted("/sys/fs/cgroup")


class Real:
    """A cgroup of this machine that has the place of an extern step's, by a mount's root."""

    def __init__(self, controller: str, maker: int) -> None:
        """`maker`: the process that has made it, or is about to."""
        self.controller = controller
        mount = MOUNTS[controller]
        here = hierarchy.of_process(os.getpid())[self.controller].rstrip("/")
        top = f"{here}/{TOP}{maker}"
        self.top = Path(mount.directory(top))
        self.mounts = {self.controller: Mount(str(self.top), top)}
        user = "" if self.controller else "/user"
        tail = "slurm_n1" if self.controller else V2
        owner = f"uid_{UID}/" if self.controller else ""
        self.job = self.top / tail / f"{owner}job_7"
        self.step = self.job / f"step_extern{user}"
        self.other = self.job / "step_0"
        self.task = self.step / "task_0"
        for directory in (self.task, self.other):
            directory.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        for place, _, _ in os.walk(self.top, topdown=False):
            os.rmdir(place)


@pytest.fixture(params=[name for name in ("freezer", UNIFIED) if name in MOUNTS])
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    place = Real(request.param, os.getpid())
    try:
        yield place
    finally:
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                place.remove()
                break
            time.sleep(0.01)
        assert not place.top.exists()


@contextlib.contextmanager
def sleeping(place: Path, uid: int = UID) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process in a cgroup."""
    with subprocess.Popen(["sleep", "999"], user=uid) as process:
        try:
            (place / "cgroup.procs").write_text(str(process.pid))
            yield process
        finally:
            end_anyway(process, place)


def end_anyway(process: subprocess.Popen[Any], place: Path) -> None:
    """End it where nothing is frozen, whatever a test has left of the cgroup."""
    process.kill()
    (top,) = (path for path in place.parents if path.name.startswith(TOP))
    with contextlib.suppress(OSError):  # it has ended
        (top.parent / "cgroup.procs").write_text(str(process.pid))


def end(real: Real, spool: Path, **environment: str) -> list[str]:
    """Run what the Epilog of job 7 runs."""
    (spool / "slurm.conf").write_text(f"NodeName=n1\nSlurmdSpoolDir={spool}\n")
    variables = {**ENVIRONMENT, "SLURM_CONF": f"{spool}/slurm.conf", **environment}
    quiet = log.Log("x", 0, str(spool / "none"))
    return epilog.end_sessions(epilog.Job(variables), quiet, real.mounts)


def test_what_a_dead_stepd_has_left(real: Real, tmp_path: Path) -> None:
    """The user's, and root's: the sshd of a session; nobody else's; the cgroup stays."""
    with Stepd(tmp_path / "n1_7.4294967292"):
        pass  # its socket stays
    with (
        sleeping(real.step) as one,
        sleeping(real.task, uid=0) as two,
        sleeping(real.other) as other,
        Stepd(tmp_path / "n1_8.4294967292"),
    ):
        (said,) = end(real, tmp_path)
        assert one.wait(BOUND) == two.wait(BOUND) == -signal.SIGKILL
        assert other.poll() is None
    assert said.startswith(f"job 7 of uid {UID} has ended, but its extern stepd ended first")
    assert said.endswith(": 2 processes ended")
    assert real.task.is_dir()


def test_a_stepd_that_is_there(real: Real, tmp_path: Path) -> None:
    """It ends its step's processes itself."""
    with sleeping(real.step) as one, Stepd(tmp_path / "n1_7.4294967292"):
        assert end(real, tmp_path) == []
        assert one.poll() is None


def test_no_telling_whether_a_stepd_is_there(real: Real, tmp_path: Path) -> None:
    with sleeping(real.step) as one:
        (said,) = end(real, tmp_path, SLURM_CONF=f"{tmp_path}/none")
        assert one.poll() is None
    assert said.startswith("cannot end what job 7 has left in /")
    assert ": cannot read" in said


def test_nothing_left(real: Real, tmp_path: Path) -> None:
    """Then no slurm.conf is read."""
    assert end(real, tmp_path, SLURM_CONF=f"{tmp_path}/none") == []


def test_an_epilog_inside_the_step(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's RunInJob: it would end itself."""
    with sleeping(real.step) as one:
        monkeypatch.setattr(os, "getpid", lambda: one.pid)
        assert end(real, tmp_path) == []
        assert one.poll() is None


def nobody() -> bool:
    """Say that no stepd has come."""
    return False


def found(real: Real) -> orphaned_step.Step:
    step = orphaned_step.find(real.mounts, orphaned_step.Job("n1", UID, 7))
    assert step
    return step


def ended(real: Real, seconds: float = BOUND) -> tuple[int, set[int], str]:
    """End all that is there; return how many have ended, which are left, why there may be more."""
    done = found(real).end(Deadline(seconds), nobody)
    return done.count, done.left.pids, done.left.missed


@pytest.fixture
def by_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have v2 without cgroup.kill, as before Linux 5.14."""
    monkeypatch.setattr(orphaned_step.Step, "_kill_at_once", lambda *_: None)


def before_each_is_opened(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], object]) -> None:
    """Have something happen between the list of processes and the look at each."""
    opened = orphaned_step._process

    def acting(pid: int) -> int | None:
        act(pid)
        return opened(pid)

    monkeypatch.setattr(orphaned_step, "_process", acting)


@pytest.mark.usefixtures("by_pid")
def test_one_that_is_moved_out_meanwhile(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at once more right before it is ended."""
    with sleeping(real.step) as one, sleeping(real.step) as two:
        procs = real.other / "cgroup.procs"
        before_each_is_opened(monkeypatch, lambda _: procs.write_text(str(one.pid)))
        assert ended(real) == (1, set(), "")
        assert two.wait(BOUND) == -signal.SIGKILL
        assert one.poll() is None


@pytest.mark.usefixtures("by_pid")
def test_one_that_has_ended_meanwhile(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    with sleeping(real.step) as one:

        def gone(_: int) -> None:
            thaw(real.controller, real.step)
            one.kill()
            one.wait(BOUND)

        before_each_is_opened(monkeypatch, gone)
        assert ended(real) == (0, set(), "")


@pytest.mark.parametrize("what", ["python", "kernel"])
@pytest.mark.usefixtures("by_pid")
def test_without_descriptors_of_processes(
    real: Real, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before Python 3.9, before Linux 5.3."""

    def refuse(_: int) -> int:
        raise OSError(errno.ENOSYS, "x")

    if what == "python":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    else:
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    with sleeping(real.step) as one:
        assert ended(real) == (1, set(), "")
        assert one.wait(BOUND) == -signal.SIGKILL


@pytest.mark.usefixtures("by_pid")
def test_one_that_cannot_be_ended(
    real: Real, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a wait for a dead file system: the time is over some day. It is not left frozen."""
    monkeypatch.setattr(orphaned_step.Step, "_kill", lambda *_: True)
    monkeypatch.setattr(epilog, "ENDING", 3.0)
    with sleeping(real.step) as one:
        (said,) = end(real, tmp_path)
        assert said.endswith(f": 0 processes ended, 1 could not be ended: PIDs {one.pid}")
        assert not is_frozen(real.controller, real.step)


# So many chains, each of which goes on in a child, again and again, so that a pid is soon out of
# date, for as long as a file is there.
CHAINS = 50
FORKS = """\
import os, sys
with open(sys.argv[1], "w") as procs:
    procs.write("0")
chains = int(sys.argv[2])
while chains > 1 and os.fork():
    chains -= 1
print(flush=True)
while os.path.exists(sys.argv[3]):
    if os.fork():
        os._exit(0)
"""


@pytest.mark.parametrize("kill", ["at once", "by pid"])
def test_those_that_start_others_all_the_time(
    real: Real,
    kill: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """What is frozen forks no more, however long it takes to kill all of them one by one."""
    if kill == "by pid":
        request.getfixturevalue("by_pid")
    before_each_is_opened(monkeypatch, lambda _: time.sleep(0.01))
    going = tmp_path / "going"
    going.touch()
    argv = [sys.executable, "-c", FORKS, str(real.step / "cgroup.procs"), str(CHAINS), str(going)]
    try:
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout
            for _ in range(CHAINS):
                process.stdout.readline()
            process.stdout.close()
            count, left, missed = ended(real, 200)  # also on a busy machine
            assert (left, missed) == (set(), "")
            assert count >= CHAINS
            assert not found(real).look(Deadline(BOUND))
    finally:
        going.unlink()


def test_a_stepd_that_comes_meanwhile(real: Real) -> None:
    """Of the same job, requeued: what it has now is not touched."""
    with sleeping(real.step) as one:
        done = found(real).end(Deadline(BOUND), lambda: True)
        assert (done.count, done.left.pids) == (0, {one.pid})
        assert one.poll() is None


@pytest.mark.parametrize("was", [True, False])
@pytest.mark.usefixtures("by_pid")
def test_a_stepd_that_comes_while_it_is_frozen(real: Real, was: bool) -> None:
    """It is as it was before."""
    if was:
        freeze(real.controller, real.step)
    answers = iter([False, True, True])
    with sleeping(real.task) as one:
        done = found(real).end(Deadline(BOUND), lambda: next(answers))
        assert (done.count, done.left.pids) == (0, {one.pid})
        assert is_frozen(real.controller, real.step) == was
        thaw(real.controller, real.step)
        assert one.poll() is None


# What is frozen

FILES = {"freezer": ("freezer.state", "FROZEN", "THAWED"), UNIFIED: ("cgroup.freeze", "1", "0")}


def freeze(controller: str, place: Path) -> None:
    (place / FILES[controller][0]).write_text(FILES[controller][1])


def thaw(controller: str, place: Path) -> None:
    (place / FILES[controller][0]).write_text(FILES[controller][2])


def is_frozen(controller: str, place: Path) -> bool:
    """Say whether it is frozen, itself or by one above it."""
    if controller:
        return (place / "freezer.state").read_text() != "THAWED\n"
    told = (place / "cgroup.freeze").read_text() == "1\n"  # its processes may not be there yet
    return told or "frozen 1" in (place / "cgroup.events").read_text()


@pytest.mark.parametrize("kill", ["at once", "by pid"])
def test_what_is_frozen(
    real: Real, tmp_path: Path, kill: str, request: pytest.FixtureRequest
) -> None:
    """By `scancel -s STOP`, or by the user, who may own cgroups in there; no other job's."""
    if kill == "by pid":
        request.getfixturevalue("by_pid")
    (real.job.parent / "job_8").mkdir()
    others = real.job.parent / "job_8"
    frozen = [real.task, real.step, real.job]
    with sleeping(real.task) as one, sleeping(real.step) as two, sleeping(others) as other:
        for place in (*frozen, others):
            freeze(real.controller, place)
        (said,) = end(real, tmp_path)
        assert one.wait(BOUND) == two.wait(BOUND) == -signal.SIGKILL
        assert other.poll() is None
        assert is_frozen(real.controller, others)
        thaw(real.controller, others)
    assert said.endswith(": 2 processes ended; 3 frozen cgroups thawed")
    assert not [place for place in frozen if is_frozen(real.controller, place)]


def test_what_is_frozen_above_the_job(real: Real, tmp_path: Path) -> None:
    """That is other jobs', too: it stays as it is, and the log has what cannot end on v1."""
    with sleeping(real.step) as one:
        freeze(real.controller, real.job.parent)
        epilog_ending = epilog.ENDING
        epilog.ENDING = 1.0
        try:
            (said,) = end(real, tmp_path)
        finally:
            epilog.ENDING = epilog_ending
        assert is_frozen(real.controller, real.job.parent)
        left = f"0 processes ended, 1 could not be ended: PIDs {one.pid}"
        assert said.endswith(f": {left if real.controller else '1 process ended'}")
        thaw(real.controller, real.job.parent)
        assert one.wait(BOUND) == -signal.SIGKILL
    assert not is_frozen(real.controller, real.step)


def test_nobody_is_left_in_what_is_frozen(real: Real, tmp_path: Path) -> None:
    """The job's next run would find it so."""
    freeze(real.controller, real.task)
    with Stepd(tmp_path / "n1_7.4294967292"):
        assert end(real, tmp_path) == []
        assert is_frozen(real.controller, real.task)
    (said,) = end(real, tmp_path)
    assert said.endswith(": 0 processes ended; 1 frozen cgroup thawed")
    assert not is_frozen(real.controller, real.task)
    assert end(real, tmp_path) == []


@pytest.mark.parametrize("what", ["an error", "a signal"])
@pytest.mark.usefixtures("by_pid")
def test_the_program_is_broken_off(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, said: list[str]
) -> None:
    """While it is frozen by us: it does not stay so."""

    def stop(*_: object) -> bool:
        assert is_frozen(real.controller, real.step)
        if what == "a signal":
            os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("x")

    monkeypatch.setattr(orphaned_step.Step, "_kill_each", stop)
    monkeypatch.setattr(epilog, "mounted", lambda _: real.mounts)
    (tmp_path / "slurm.conf").write_text(f"NodeName=n1\nSlurmdSpoolDir={tmp_path}\n")
    monkeypatch.setenv("SLURM_CONF", f"{tmp_path}/slurm.conf")
    before = signal.getsignal(signal.SIGTERM)
    with sleeping(real.task) as one:
        if what == "a signal":
            with pytest.raises(SystemExit) as exit_:
                epilog.main()
            assert exit_.value.code == 0
        else:
            assert epilog.main() == 0
            assert said == ["unexpected ValueError('x') (please report this)"]
        assert not is_frozen(real.controller, real.task)
        assert one.poll() is None
    assert signal.getsignal(signal.SIGTERM) == before


# What is hidden


@contextlib.contextmanager
def nested(place: Path, names: list[bytes]) -> Iterator[int]:
    """Make cgroups one in another; yield a descriptor of the innermost, and remove them again."""
    here = os.open(place, os.O_RDONLY)
    made: list[bytes] = []
    try:
        for name in names:
            os.mkdir(name, dir_fd=here)
            made.append(name)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        while made:
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            with contextlib.suppress(OSError):
                os.rmdir(made.pop(), dir_fd=above)
            os.close(here)
            here = above
        os.close(here)


def put(place: int, pid: int, file: str = "cgroup.procs") -> None:
    descriptor = os.open(file, os.O_WRONLY, dir_fd=place)
    os.write(descriptor, b"%d" % pid)
    os.close(descriptor)


LONG = [b"d" * 250] * 17  # longer than PATH_MAX
DEPTH = 1500  # deeper than Python calls itself
HIDDEN = {
    "long": LONG,
    "deep": [b"d"] * DEPTH,
    "names": [b"\xff\xfe", b"a b", b"a:b", "\u00e9".encode()],
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("names", HIDDEN.values(), ids=HIDDEN)
def test_cgroups_below(
    real: Real,
    tmp_path: Path,
    names: list[bytes],
    frozen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As users may make them in a directory of theirs; with few descriptors, and no recursion."""
    monkeypatch.setattr(orphaned_step, "LOOK", BOUND)  # a busy machine takes long for the deep ones
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with nested(real.step, names) as innermost, sleeping(real.other) as one:
        put(innermost, one.pid)
        if frozen:
            file, word, _ = FILES[real.controller]
            descriptor = os.open(file, os.O_WRONLY, dir_fd=innermost)
            os.write(descriptor, word.encode())
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
        try:
            (said,) = end(real, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert one.wait(BOUND) == -signal.SIGKILL
        thawed = "; 1 frozen cgroup thawed" if frozen else ""
        assert said.endswith(f": 1 process ended{thawed}")


@pytest.mark.usefixtures("by_pid")
def test_the_kernel_does_not_tell_its_cgroup(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some do where the path is longer than PATH_MAX: the cgroup itself lists it."""
    told = hierarchy.of_process

    def refuse(pid: int, proc: str) -> dict[str, str]:
        if pid == one.pid:
            raise SetupError("cannot read: File name too long")
        return told(pid, proc)

    monkeypatch.setattr(orphaned_step, "of_process", refuse)
    with sleeping(real.task) as one:
        with pytest.raises(SetupError):
            found(real).holds(one.pid)
        assert ended(real) == (1, set(), "")
        assert one.wait(BOUND) == -signal.SIGKILL
        assert not found(real).holds(one.pid)


def test_no_telling_whether_the_epilog_is_in_it(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would freeze itself."""

    def refuse(_: int, __: str) -> dict[str, str]:
        raise SetupError("cannot read: File name too long")

    step = found(real)
    monkeypatch.setattr(orphaned_step, "find", lambda *_: step)
    monkeypatch.setattr(orphaned_step, "of_process", refuse)
    with sleeping(real.task) as one:
        (said,) = end(real, tmp_path)
        assert said.endswith("cannot read: File name too long")
        assert one.poll() is None


def test_no_time_for_all_cgroups(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes are found by what they say themselves, and it is said that there may be more.

    They end also where nobody has found what is frozen. On v2 the kernel says that there are none.
    """
    monkeypatch.setattr(orphaned_step, "LOOK", 0.0)
    monkeypatch.setattr(epilog, "ENDING", 1.0)
    with sleeping(real.task) as one:
        freeze(real.controller, real.task)
        (said,) = end(real, tmp_path)
        assert one.wait(BOUND) == -signal.SIGKILL
    maybe = "; more may be left: no time was left to look into all of it"
    assert said.endswith(f": 1 process ended{maybe if real.controller else ''}")


def test_no_time_for_all_cgroups_and_one_that_cannot_be_ended(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not said to have ended because nobody has seen it again."""
    monkeypatch.setattr(orphaned_step, "LOOK", 0.0)
    monkeypatch.setattr(epilog, "ENDING", 1.0)
    if not real.controller:
        return  # there the kernel ends it, and tells
    with sleeping(real.task) as one:
        freeze(real.controller, real.job.parent)
        (said,) = end(real, tmp_path)
        thaw(real.controller, real.job.parent)
        assert one.wait(BOUND) == -signal.SIGKILL
    told = f": 0 processes ended, 1 could not be ended: PIDs {one.pid}; more may be left: "
    assert f"{told}no time was left" in said


def test_a_directory_that_cannot_be_read(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for empty."""
    listed = os.scandir

    def refuse(place: int) -> object:
        if os.path.samefile(f"/proc/self/fd/{place}", real.step):
            raise OSError(24, "Too many open files")
        return listed(place)

    monkeypatch.setattr(epilog, "ENDING", 0.5)
    with sleeping(real.other) as other:
        monkeypatch.setattr(os, "scandir", refuse)
        remarks = end(real, tmp_path)
        monkeypatch.undo()
        assert other.poll() is None
    told = "0 processes ended; more may be left: cannot look into all of it: Too many open files"
    assert [remark.rpartition(": 0")[0] != "" for remark in remarks] == [True] * bool(
        real.controller
    )
    assert all(remark.endswith(told) for remark in remarks)


def test_processes_that_cannot_be_listed(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not taken for none; those that say themselves where they are end all the same."""
    reading = cgroup_walk.read

    def refuse(place: int, name: str) -> bytes:
        if name == "cgroup.procs":
            raise OSError(13, "Permission denied")
        return reading(place, name)

    monkeypatch.setattr(orphaned_step, "read", refuse)
    monkeypatch.setattr(epilog, "ENDING", 1.0)
    with sleeping(real.task) as one:
        (said,) = end(real, tmp_path)
        assert one.wait(BOUND) == -signal.SIGKILL
    maybe = "; more may be left: cannot read all of it: Permission denied"
    assert said.endswith(f": 1 process ended{maybe if real.controller else ''}")


def test_directories_that_are_renamed_and_removed_meanwhile(tmp_path: Path) -> None:
    """A descriptor goes with its directory; a name that is gone is told of, and looked at again."""
    for name in ("a", "b", "b/c"):
        (tmp_path / name).mkdir()
    names = {(tmp_path / name).stat().st_ino: name for name in ("", "a", "b", "b/c")}
    walk = cgroup_walk.Walk(str(tmp_path), Deadline(BOUND))
    seen = []
    for place in walk:
        seen.append(names[os.fstat(place).st_ino])
        if seen[-1] == "b":
            (tmp_path / "b").rename(tmp_path / "B")
        elif seen[-1] == "b/c":
            (tmp_path / "B/c").rmdir()
        elif seen[-1] == "a":
            (tmp_path / "a").rmdir()
    assert sorted(seen) == ["", "a", "b", "b/c"]
    assert not walk.missed
    (tmp_path / "a").mkdir()
    walk = cgroup_walk.Walk(str(tmp_path), Deadline(BOUND))
    for _ in walk:
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "B").rename(tmp_path / f"B{len(os.listdir(tmp_path))}")
            (tmp_path / "a").rename(tmp_path / "A")
    assert not walk.missed  # renamed before its directory was listed


def test_a_name_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renamed or removed between the list and the look: which of both is not known."""
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(cgroup_walk.Walk, "_below", lambda _: ["gone"])
    walk = cgroup_walk.Walk(str(tmp_path), Deadline(BOUND))
    assert len(list(walk)) == 1
    assert walk.missed == "cannot look into all of it: No such file or directory"


def test_a_directory_that_is_moved_elsewhere(tmp_path: Path) -> None:
    """No kernel does that with cgroups; the way up from there is not gone."""
    for name in ("top/a/b", "other/x"):
        (tmp_path / name).mkdir(parents=True)
    (other,) = (path.stat().st_ino for path in [tmp_path / "other/x"])
    walk = cgroup_walk.Walk(str(tmp_path / "top"), Deadline(BOUND))
    seen = []
    for place in walk:
        seen.append(os.fstat(place).st_ino)
        if len(seen) == 3:
            (tmp_path / "top/a/b").rename(tmp_path / "other/b")
    assert other not in seen
    assert walk.missed == "cannot look into all of it: it has been moved"


# Two threads; the first ends when there is nothing more to read.
THREAD = f"""\
import ctypes, sys, threading, time
def run():
    print(threading.get_native_id(), flush=True)
    time.sleep(999)
threading.Thread(target=run).start()
sys.stdin.read()
ctypes.CDLL(None).syscall({SYS_EXIT}, 0)
"""


@contextlib.contextmanager
def with_thread(place: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Have a process with two threads in a cgroup; yield it, and the second thread's id."""
    argv = [sys.executable, "-c", THREAD]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, user=UID) as process:
        try:
            assert process.stdout
            thread = int(process.stdout.readline())
            (place / "cgroup.procs").write_text(str(process.pid))
            yield process, thread
        finally:
            end_anyway(process, place)


@pytest.mark.usefixtures("by_pid")
def test_a_process_in_two_cgroups(real: Real) -> None:
    """By its threads: v1 lets its owner split it, v2 in threaded cgroups."""
    with with_thread(real.task) as (process, thread):
        if real.controller:  # /proc/PID/cgroup tells of the first thread alone
            (real.other / "tasks").write_text(str(process.pid))
            assert not found(real).holds(process.pid)
        else:
            below = real.task / "below"
            below.mkdir()
            (below / "cgroup.type").write_text("threaded")
            (below / "cgroup.threads").write_text(str(thread))
            with pytest.raises(OSError, match="not supported"):
                (below / "cgroup.procs").read_text()
        assert not found(real).look(Deadline(BOUND)).missed
        assert ended(real) == (1, set(), "")
        assert process.wait(BOUND) == -signal.SIGKILL


def test_zombies(real: Real, tmp_path: Path) -> None:
    """They have ended, whether or not their parent has asked."""
    with sleeping(real.step) as one:
        one.kill()
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        assert end(real, tmp_path) == []


def test_a_process_whose_first_thread_has_ended(real: Real) -> None:
    """It looks like a zombie, and is none; cgroup.kill of v2 passes it over."""
    with with_thread(real.step) as (process, _):
        assert process.stdin
        process.stdin.close()
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.read_text().rpartition(") ")[2][0] != "Z":
            time.sleep(0.01)
        assert ended(real) == (1, set(), "")


def test_processes_of_another_pid_namespace(real: Real, tmp_path: Path) -> None:
    """v2 ends them; v1 does not even list them."""
    if real.controller:
        return
    script = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from pathlib import Path\n"
        "from tests.unit.test_epilog import Real, end\n"
        "print(*end(Real(sys.argv[1], int(sys.argv[2])), Path('.')))\n"
    )
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script]
    with sleeping(real.task) as one:
        done = subprocess.run(
            [*unshare, real.controller, str(os.getpid()), *sys.path], cwd=tmp_path, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        assert one.wait(BOUND) == -signal.SIGKILL
    assert done.stdout.endswith(": 1 process ended\n"), done


def test_stepds_are_not_ended_where_they_are_among_the_others(tmp_path: Path) -> None:
    """In v1's other hierarchies a stepd is in the cgroup of its own step."""
    program = tmp_path / "slurmstepd"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    tree = Tree(tmp_path)
    tree.mount("memory")
    tree.make(V1.replace("freezer", "memory"))
    procs = tree.mnt / V1.replace("freezer", "memory") / "cgroup.procs"
    step = orphaned_step.Step("memory", Mount(str(tree.mnt / "memory"), "/"), HELD[0][0], "/proc")
    with subprocess.Popen([program, "999"]) as stepd, subprocess.Popen(["sleep", "999"]) as other:
        procs.write_text(f"{stepd.pid}\n{other.pid}\n")
        found = step.look(Deadline(BOUND))
        stepd.kill()
        other.kill()
    assert found.pids == {other.pid}


# The program


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is logged; the environment is that of an Epilog."""
    lines: list[str] = []
    monkeypatch.setattr(log.Log, "error", lambda _, text: lines.append(text))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return lines


@pytest.mark.parametrize("job", ["", "x", "../../etc", "7", "9" * 5000, "\u0667", "-7"])
def test_no_epilog(monkeypatch: pytest.MonkeyPatch, said: list[str], job: str) -> None:
    """Whatever is told: no status but 0, which would drain the node."""
    monkeypatch.setattr(runtime_dir, "remove", lambda *_: ["it is mounted"])
    monkeypatch.setenv("SLURM_JOB_ID", job)
    assert epilog.main() == 0
    assert ("it is mounted" in said) == (job == "7")
    assert len(said) == 1


def test_one_thing_that_fails(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """The other is done all the same."""

    def fail(*_: object) -> list[str]:
        raise ValueError("x")

    monkeypatch.setattr(epilog, "end_sessions", fail)
    monkeypatch.setattr(runtime_dir, "remove", lambda *_: ["it is mounted"])
    assert epilog.main() == 0
    assert said == ["unexpected ValueError('x') (please report this)", "it is mounted"]


@pytest.mark.parametrize("program", ["epilog", "runtime_dir"])
@pytest.mark.parametrize("job", [7, 9])
def test_the_runtime_directory(tmp_path: Path, program: str, job: int) -> None:
    """By either name of the program, in a /run of its own; that of this job alone goes."""
    script = (
        'mount -t tmpfs x /run && "$0" -c "from slurm_adopt.session import runtime_dir as r; '
        f"r.make('n1', {UID}, 7); r.make('n1', {UID}, 8); r.make('n2', {UID}, 7)\" "
        f'&& "$0" -m slurm_adopt.{program} && ls /run/slurm_adopt/runtime'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, sys.executable],
        env={**os.environ, "PYTHONPATH": str(SOURCE), **ENVIRONMENT, "SLURM_JOB_ID": str(job)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    there = {f"n1_{UID}_7", f"n1_{UID}_8", f"n2_{UID}_7"} - {f"n1_{UID}_{job}"}
    assert set(done.stdout.split()) == there
    assert not done.stderr


def test_no_runtime_directory_is_made(tmp_path: Path) -> None:
    """Where no job has one."""
    assert runtime_dir.remove("n1", UID, 7, str(tmp_path / "run")) == []
    assert not (tmp_path / "run").exists()


def test_the_guide_s_epilog_is_the_one_that_is_tested() -> None:
    guide = (SOURCE.parent / "docs/how-to/epilog.md").read_text()
    assert f"/contrib/epilog.d/{NAME}\n" in guide
    assert EPILOG.startswith("#!/bin/sh\n")
