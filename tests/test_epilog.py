"""The program for Slurm's Epilog: whose processes it ends, and that it never drains a node."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt import epilog, log, runtime_dir
from slurm_adopt.slurm import cgroup, remains
from slurm_adopt.slurm.cgroup import UNIFIED, Mount
from slurm_adopt.slurm.deadline import Deadline
from tests.cluster.test_runtime_dir import EPILOG
from tests.standin import Stepd
from tests.test_cgroup import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

UID = pwd.getpwnam("nobody").pw_uid
SOURCE = Path(__file__).parents[1] / "src"
SLUID = "s0123456789ABC"
BOUND = 30.0  # seconds that nothing here may take

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
    mounts = cgroup.mounted(str(tree.mnt), str(tree.proc))
    step = remains.find(mounts, "n1", 5001, 7, SLUID, str(tree.proc))
    assert (step.path if step else "") == found


def test_a_stepd_beside_it_on_v2(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.mount("", "cgroup2")
    tree.make(f"{V2}/job_7/step_extern/user", f"{V2}/job_7/step_extern/slurm")
    tree.process(1, "0::/init.scope")
    mounts = cgroup.mounted(str(tree.mnt), str(tree.proc))
    procs = tree.mnt / V2 / "job_7/step_extern/slurm/cgroup.procs"
    for text, there in (("", True), ("41\n", False)):
        procs.write_text(text)
        step = remains.find(mounts, "n1", 5001, 7, "", str(tree.proc))
        assert (step is not None) == there


def test_the_cgroup_in_a_container(tmp_path: Path) -> None:
    """The cgroup of PID 1 is the root that Slurm goes by."""
    tree = Tree(tmp_path)
    tree.mount("", "cgroup2")
    tree.make(f"box/{V2}/job_7/step_extern/user")
    tree.process(1, "0::/box/init.scope")
    mounts = cgroup.mounted(str(tree.mnt), str(tree.proc))
    step = remains.find(mounts, "n1", 5001, 7, "", str(tree.proc))
    assert step
    assert step.path == f"/box/{V2}/job_7/step_extern/user"


def test_the_freezer_before_all_others(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for controller in ("memory", "freezer"):
        tree.mount(controller)
        tree.make(V1.replace("freezer", controller))
    tree.process(8, "1:freezer:/slurm_n1/uid_5001/job_7/step_extern", "2:memory:/")
    step = remains.find(
        cgroup.mounted(str(tree.mnt), str(tree.proc)), "n1", 5001, 7, "", str(tree.proc)
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
    step = remains.Step("freezer", mount, HELD[0][0], str(tree.proc))
    assert step.holds(8) == inside
    assert not step.holds(9)


def test_what_the_kernel_calls_0_is_left_alone(tmp_path: Path) -> None:
    """A process of another PID namespace; kill(2) takes 0 for the whole process group."""
    tree = Tree(tmp_path)
    tree.mount("freezer")
    tree.make(V1, f"{V1}/task_0")
    (tree.mnt / V1 / "cgroup.procs").write_text("0\n12\n")
    (tree.mnt / V1 / "task_0/cgroup.procs").write_text("0\n13\n")
    step = remains.Step(
        "freezer", Mount(str(tree.mnt / "freezer"), "/"), HELD[0][0], str(tree.proc)
    )
    assert step.pids(Deadline(BOUND)) == [12, 13]


# Real processes in real cgroups

MOUNTS = cgroup.mounted("/sys/fs/cgroup")


class Real:
    """A cgroup of this machine that has the place of an extern step's, by a mount's root."""

    def __init__(self, controller: str) -> None:
        self.controller = controller
        mount = MOUNTS[controller]
        here = cgroup.of_process(os.getpid())[self.controller].rstrip("/")
        top = f"{here}/slurm_adopt-epilog-{os.getpid()}"
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
            directory.mkdir(parents=True)

    def remove(self) -> None:
        for place, _, _ in os.walk(self.top, topdown=False):
            os.rmdir(place)


@pytest.fixture(params=[name for name in ("freezer", UNIFIED) if name in MOUNTS])
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    place = Real(request.param)
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
            process.kill()


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
    assert said.startswith(f"job 7 of uid {UID} has ended, and its extern stepd before it")
    assert said.endswith("2 processes ended now")
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
    assert "which are left alone: cannot read" in said


def test_nothing_left(real: Real, tmp_path: Path) -> None:
    """Then no file of Slurm's is read."""
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


def found(real: Real) -> remains.Step:
    step = remains.find(real.mounts, "n1", UID, 7)
    assert step
    return step


def test_one_that_is_moved_out_meanwhile(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at once more right before it is ended."""
    step = found(real)
    with sleeping(real.step) as one, sleeping(real.step) as two:
        pids = step.pids(Deadline(BOUND))
        assert pids == sorted([one.pid, two.pid])
        (real.other / "cgroup.procs").write_text(str(one.pid))
        listed = iter([pids, []])
        monkeypatch.setattr(remains.Step, "pids", lambda *_: next(listed))
        assert step.end(Deadline(BOUND), nobody) == (1, 0)
        assert two.wait(BOUND) == -signal.SIGKILL
        assert one.poll() is None


def test_one_that_has_ended_meanwhile(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    step = found(real)
    with sleeping(real.step) as one:
        pass
    listed = iter([[one.pid], []])
    monkeypatch.setattr(remains.Step, "pids", lambda *_: next(listed))
    assert step.end(Deadline(BOUND), nobody) == (0, 0)


@pytest.mark.parametrize("what", ["python", "kernel"])
def test_without_descriptors_of_processes(
    real: Real, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before Python 3.9, before Linux 5.3."""

    def refuse(_: int) -> int:
        raise OSError(remains.ENOSYS, "x")

    if what == "python":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    else:
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    with sleeping(real.step) as one:
        assert found(real).end(Deadline(BOUND), nobody) == (1, 0)
        assert one.wait(BOUND) == -signal.SIGKILL


def test_one_that_cannot_be_ended(real: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a wait for a dead file system: the time is over some day."""
    monkeypatch.setattr(remains.Step, "_kill", lambda *_: True)
    monkeypatch.setattr(epilog, "ENDING", 0.1)
    with sleeping(real.step):
        assert found(real).end(Deadline(0.1), nobody) == (0, 1)


# Forks on and on, and each process ends soon: some hundreds at most, and none after 9 s.
FORKS = """\
import os, time
end = time.monotonic() + 9
while time.monotonic() < end:
    time.sleep(0.02)
    if os.fork():
        time.sleep(1)
        break
"""


def test_one_that_starts_others_all_the_time(real: Real) -> None:
    """Until nobody is left."""
    step = found(real)
    ready = f"open({str(real.step / 'cgroup.procs')!r}, 'w').write('0')\nprint(flush=True)\n"
    argv = [sys.executable, "-c", ready + FORKS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        ended, left = step.end(Deadline(BOUND), nobody)
        assert ended >= 1
        assert left == 0
        assert step.pids(Deadline(BOUND)) == []


def test_a_stepd_that_comes_meanwhile(real: Real) -> None:
    """Of the same job, requeued: what it has now is not touched."""
    step = found(real)
    with sleeping(real.step) as one:
        assert step.end(Deadline(BOUND), lambda: True) == (0, 1)
        assert one.poll() is None


def test_many_cgroups_below(real: Real) -> None:
    """As users may make them in a directory of theirs; deeper than Python calls itself."""
    if not real.controller:
        return  # the kernel allows few levels of v2
    here = os.open(real.step, os.O_RDONLY)
    depth = 1200
    try:
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        with sleeping(real.step) as one:
            file = os.open("cgroup.procs", os.O_WRONLY, dir_fd=here)
            os.write(file, b"%d" % one.pid)
            os.close(file)
            assert found(real).end(Deadline(BOUND), nobody) == (1, 0)
            assert one.wait(BOUND) == -signal.SIGKILL
    finally:
        for _ in range(depth):
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            with contextlib.suppress(OSError):
                os.rmdir("d", dir_fd=above)
            os.close(here)
            here = above
        with contextlib.suppress(OSError):
            os.rmdir("d", dir_fd=here)
        os.close(here)


def test_no_time_for_all(real: Real) -> None:
    with sleeping(real.step):
        assert found(real).pids(Deadline(0)) == []


def test_stepds_are_not_ended_where_they_are_among_the_others(tmp_path: Path) -> None:
    """In v1's other hierarchies a stepd is in the cgroup of its own step."""
    program = tmp_path / "slurmstepd"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    tree = Tree(tmp_path)
    tree.mount("memory")
    tree.make(V1.replace("freezer", "memory"))
    procs = tree.mnt / V1.replace("freezer", "memory") / "cgroup.procs"
    step = remains.Step("memory", Mount(str(tree.mnt / "memory"), "/"), HELD[0][0], "/proc")
    with subprocess.Popen([program, "999"]) as stepd, subprocess.Popen(["sleep", "999"]) as other:
        procs.write_text(f"{stepd.pid}\n{other.pid}\n")
        found = step.pids(Deadline(BOUND))
        stepd.kill()
        other.kill()
    assert found == [other.pid]


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
        'mount -t tmpfs x /run && "$0" -c "from slurm_adopt import runtime_dir as r; '
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
    guide = (SOURCE.parent / "docs/administrators.md").read_text()
    assert "".join(f"    {line}\n" for line in EPILOG.splitlines()) in guide
