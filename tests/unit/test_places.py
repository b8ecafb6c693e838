"""Which job a process is in by its cgroups; what whoami says of the job, and what it imports."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli.sessions import places
from slurm_adopt.cli.whoami import command as whoami_command
from slurm_adopt.cli.whoami import job_resources
from slurm_adopt.cli.whoami import shell_job as whoami
from slurm_adopt.slurm.cgroup import paths
from slurm_adopt.slurm.cgroup.hierarchy import Mount

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = Path(__file__).parents[2] / "src"
SLUID = "sABCDEFGH12345"
V2 = "/system.slice/slurmstepd.scope"

# (path, job and step)
STEPS = [
    ("/slurm/uid_5/job_7/step_extern", ("/slurm/uid_5/job_7", "step_extern")),
    ("/slurm_n1/uid_5/job_7/step_0/task_0", ("/slurm_n1/uid_5/job_7", "step_0")),
    ("/slurm/uid_5/job_7/step_batch/step_9", ("/slurm/uid_5/job_7", "step_batch")),
    (f"{V2}/job_7/step_extern/user/task_0", (f"{V2}/job_7", "step_extern")),
    (f"/box{V2}/{SLUID}/step_extern/user", (f"/box{V2}/{SLUID}", "step_extern")),
    ("/slurm/uid_5/job_7", None),
    ("/slurm/uid_5/job_x/step_extern", None),
    (f"{V2}/system/step_extern", None),
    ("/step_extern", None),
    ("/", None),
    ("", None),
]


@pytest.mark.parametrize(("path", "expected"), STEPS)
def test_any_step(path: str, expected: tuple[str, str] | None) -> None:
    assert paths.any_step(path) == expected


JOB = "slurm/uid_5/job_7"
STEP = f"/{JOB}/step_extern"

# (cgroups, directories that are there, job, id, uid, missing)
PLACES = [
    ("0::/\n", [], "", None, None, ()),
    ("", [], "", None, None, ()),
    ("garbage\n\n::\n", [], "", None, None, ()),
    (f"6:freezer:{STEP}\n4:memory:{STEP}/task_0\n", [], "job_7", 7, 5, ()),
    (f"6:freezer:{STEP}\n4:memory:/\n", [], "job_7", 7, 5, ()),
    (f"6:freezer:{STEP}\n4:memory:/\n", [f"memory{STEP}"], "job_7", 7, 5, ("memory",)),
    (
        f"6:freezer:/\n4:memory:{STEP}\n3:cpu,cpuset:/x\n",
        [f"freezer{STEP}", f"cpuset{STEP}"],
        "job_7",
        7,
        5,
        ("cpuset", "freezer"),
    ),
    (f"0::{V2}/job_7/step_0/user/task_0\n", [], "job_7", 7, None, ()),
    (f"0::{V2}/{SLUID}/step_extern/user\n", [], SLUID, None, None, ()),
    (
        f"6:freezer:{STEP}\n4:memory:/slurm/uid_5/job_8/step_extern\n3:cpuset:{STEP}\n",
        [f"memory{STEP}"],
        "job_7",
        7,
        5,
        ("memory",),
    ),
]


def mounts(top: Path) -> dict[str, Mount]:
    names = {"freezer": "freezer", "memory": "memory", "cpuset": "cpuset", "": "unified"}
    return {name: Mount(str(top / folder), "/") for name, folder in names.items()}


@pytest.mark.parametrize(("text", "there", "job", "job_id", "uid", "missing"), PLACES)
def test_places(
    tmp_path: Path,
    text: str,
    there: list[str],
    job: str,
    job_id: int | None,
    uid: int | None,
    missing: tuple[str, ...],
) -> None:
    for path in there:
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "9").mkdir()
    (tmp_path / "9/cgroup").write_text(text)
    place = places.Places(mounts(tmp_path), str(tmp_path)).of(9)
    assert (place.job, place.job_id, place.uid, place.missing) == (job, job_id, uid, missing)


@pytest.mark.parametrize("owner", [0, 5001])
def test_a_job_is_root_s(tmp_path: Path, owner: int) -> None:
    """A user's cgroup that is called like a job's is none."""
    path = f"{V2}/job_7/step_extern/user"
    (tmp_path / f"unified/{path}").mkdir(parents=True)
    os.chown(tmp_path / f"unified/{V2}/job_7", owner, owner)
    (tmp_path / "9").mkdir()
    (tmp_path / "9/cgroup").write_text(f"0::{path}\n")
    place = places.Places(mounts(tmp_path), str(tmp_path)).of(9)
    assert place.job == ("" if owner else "job_7")


def test_a_process_that_has_ended(tmp_path: Path) -> None:
    place = places.Places({}, str(tmp_path)).of(9)
    assert (place.job, place.paths, place.outside) == ("", {}, "/")


# (cgroup, files of the job, CPUs, memory)
RESOURCES: list[tuple[str, Mapping[str, str], list[int] | None, int | None]] = [
    (
        f"3:cpuset:{STEP}\n4:memory:{STEP}\n",
        {f"cpuset/{JOB}/cpuset.effective_cpus": "0-2,5\n",
         f"memory/{JOB}/memory.limit_in_bytes": "1048576\n"},
        [0, 1, 2, 5],
        1 << 20,
    ),
    (
        f"3:cpuset:{STEP}\n4:memory:{STEP}\n",
        {f"cpuset/{JOB}/cpuset.cpus": "7\n",
         f"memory/{JOB}/memory.limit_in_bytes": "9223372036854771712\n"},
        [7],
        None,
    ),
    (
        f"0::{V2}/job_7/step_0/user\n",
        {f"unified{V2}/job_7/cpuset.cpus": "1-2", f"unified{V2}/job_7/cpuset.cpus.effective": "1",
         f"unified{V2}/job_7/memory.max": "max\n"},
        [1],
        None,
    ),
    (
        f"0::{V2}/job_7/step_0/user\n",
        {f"unified{V2}/job_7/cpuset.cpus.effective": "0-3",
         f"unified{V2}/job_7/memory.max": "4096\n"},
        None,
        4096,
    ),
    (f"0::{V2}/job_7/step_0/user\n", {}, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "files", "cpus", "memory"), RESOURCES)
def test_resources(
    tmp_path: Path,
    text: str,
    files: Mapping[str, str],
    cpus: list[int] | None,
    memory: int | None,
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "9").mkdir()
    (tmp_path / "9/cgroup").write_text(text)
    found = places.Places(mounts(tmp_path), str(tmp_path))
    resources = job_resources.Resources(found, found.of(9), str(tmp_path / "dev"))
    assert (resources.cpus, resources.memory, resources.gpus) == (cpus, memory, [])


def test_gpus(tmp_path: Path) -> None:
    """NVIDIA's by their numbers, without what controls them; else those of the kernel's DRI."""
    (tmp_path / "dri").mkdir()
    for name in ("dri/renderD129", "dri/renderD128", "dri/card0"):
        (tmp_path / name).touch()
    assert job_resources.usable_gpus(str(tmp_path)) == ["renderD128", "renderD129"]
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia٣"):
        (tmp_path / name).touch()
    assert job_resources.usable_gpus(str(tmp_path)) == ["nvidia2", "nvidia10"]


RANGES = [([], ""), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2,5,7-8")]


@pytest.mark.parametrize(("numbers", "text"), RANGES)
def test_ranges(numbers: list[int], text: str) -> None:
    assert job_resources.ranges(numbers) == text


def test_an_id_that_only_the_environment_translates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """26.05's name of a job: the number is believed from an environment that has that name."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(f"0::{V2}/{SLUID}/step_extern/user\n")
    (tmp_path / "self/mountinfo").write_text("")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.delenv("SLURM_JOB_SLUID", raising=False)
    shell = whoami.Shell(str(tmp_path))
    assert (shell.job_id, shell.name, shell.difference) == (None, None, "")
    assert whoami_command.described(shell)[0] == f"job     {SLUID}"
    monkeypatch.setenv("SLURM_JOB_SLUID", SLUID)
    monkeypatch.setenv("SLURM_JOB_NAME", "fluid")
    shell = whoami.Shell(str(tmp_path))
    assert (shell.job_id, shell.name, shell.difference) == (42, "fluid", "")


# (titles of what is in the stepd's cgroup, the id)
TITLES = [
    (["slurmstepd: [42.extern]"], 42),
    (["sleep\0" + "9", "slurmstepd: [42.extern]\0\0\0"], 42),
    (["/usr/sbin/slurmstepd"], None),
    (["slurmstepd: [x.extern]"], None),
    ([], None),
]


@pytest.mark.parametrize(("titles", "job_id"), TITLES)
def test_an_id_in_the_stepd_s_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, titles: list[str], job_id: int | None
) -> None:
    """26.05's name of a job: the title counts, whatever the environment says."""
    stepd = tmp_path / f"cgroup{V2}/{SLUID}/step_extern/slurm"
    stepd.mkdir(parents=True)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(f"0::{V2}/{SLUID}/step_extern/user/task_0\n")
    (tmp_path / "self/mountinfo").write_text(
        f"30 23 0:26 / {tmp_path}/cgroup rw - cgroup2 cgroup2 rw\n"
    )
    for pid, title in enumerate(titles, 4711):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / f"{pid}/cmdline").write_text(title)
    pids = [f"{pid}\n" for pid in range(4711, 4711 + len(titles))]
    (stepd / "cgroup.procs").write_text("".join(pids))
    monkeypatch.setenv("SLURM_JOB_ID", "43")
    monkeypatch.delenv("SLURM_JOB_SLUID", raising=False)
    assert whoami.Shell(str(tmp_path)).job_id == job_id
    monkeypatch.setenv("SLURM_JOB_SLUID", SLUID)
    assert whoami.Shell(str(tmp_path)).job_id == (job_id or 43)


IMPORTS = """
import sys
before = set(sys.modules)
sys.path.insert(0, {source!r})
from slurm_adopt.cli.main import main
try:
    main(["whoami", "--prompt"])
except SystemExit as end:
    print("status", end.code)
print(*sorted(set(sys.modules) - before))
"""
# Each takes milliseconds, by itself or by what it imports.
HEAVY = {"click", "dataclasses", "enum", "json", "psutil", "pyroute2", "re", "rich", "typing"}


def test_what_the_prompt_imports() -> None:
    """It stands in users' prompts: neither click nor rich, nor what takes milliseconds."""
    code = IMPORTS.format(source=str(SOURCE))
    argv = ["/usr/bin/python3", "-I", "-c", code]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    assert said[-2] == "status 1"  # these tests run in no job
    assert not HEAVY & set(said[-1].split())
    assert "slurm_adopt.cli.whoami.shell_job" in said[-1].split()
