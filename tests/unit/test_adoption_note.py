"""The note of an adoption from one process to another: taken once, by the right one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.decision.adoption import Adoption, Choice
from slurm_adopt.node import adoption_note
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.proc import start_time
from tests.fakes.squatters import a_link, open_to_others

if TYPE_CHECKING:
    from collections.abc import Iterator

PATHS = {"freezer": "/slurm/uid_5001/job_7/step_extern", "": "/a:b\udcff c"}


@pytest.fixture
def process() -> Iterator[int]:
    """Return the pid of a process that stays."""
    with subprocess.Popen(["sleep", "60"]) as running:
        yield running.pid
        running.kill()


def adopted(pid: int) -> Adoption:
    return Adoption(pid, 5001, 7).proven(PATHS, {"SLURM_JOB_ID": "7"}, ("/x",))


def notes(top: Path) -> list[str]:
    return os.listdir(top / "adoptions")


def test_the_names_of_variables_are_told(tmp_path: Path, process: int) -> None:
    names = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0,1"}
    adoption_note.leave(Adoption(process, 5001, 7).proven(PATHS, names), str(tmp_path))
    found = adoption_note.take(process, 5001, str(tmp_path))
    assert isinstance(found, Adoption)
    assert (set(found.environment), found.paths) == (set(names), PATHS)


def test_of_a_process_that_is_gone_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="has ended"):
        adoption_note.leave(adopted(1 << 22), str(tmp_path))
    assert not (tmp_path / "adoptions").exists()


def test_it_is_taken_once(tmp_path: Path, process: int) -> None:
    top = str(tmp_path / "run")
    adoption_note.leave(adopted(process), top)
    (name,) = notes(tmp_path / "run")
    assert name == f"{process}-{start_time(process)}"
    found = adoption_note.take(process, 5001, top)
    assert isinstance(found, Adoption)
    assert (found.pid, found.uid, found.job_id, found.paths) == (process, 5001, 7, PATHS)
    assert notes(tmp_path / "run") == []
    assert adoption_note.take(process, 5001, top) is None


def test_nobody_else_can_look(tmp_path: Path, process: int) -> None:
    before = os.umask(0)
    try:
        adoption_note.leave(adopted(process), str(tmp_path / "run"))
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o7777 == 0o711
    assert (tmp_path / "run/adoptions").stat().st_mode & 0o7777 == 0o700
    (note,) = (tmp_path / "run/adoptions").iterdir()
    assert note.stat().st_mode & 0o7777 == 0o600


def test_a_narrow_umask_is_no_matter(tmp_path: Path, process: int) -> None:
    before = os.umask(0o777)
    try:
        adoption_note.leave(adopted(process), str(tmp_path / "run"))
    finally:
        os.umask(before)
    assert adoption_note.take(process, 5001, str(tmp_path / "run"))


def test_of_another_user_or_process(tmp_path: Path, process: int) -> None:
    adoption_note.leave(adopted(process), str(tmp_path))
    assert adoption_note.take(os.getpid(), 5001, str(tmp_path)) is None
    assert adoption_note.take(process, 5002, str(tmp_path)) is None
    assert adoption_note.take(process, 5001, str(tmp_path)) is None  # it has been taken away


def test_of_an_earlier_process_with_the_same_pid(tmp_path: Path, process: int) -> None:
    adoption_note.leave(adopted(process), str(tmp_path))
    (note,) = (tmp_path / "adoptions").iterdir()
    note.rename(note.with_name(f"{process}-{start_time(process) - 1}"))
    assert adoption_note.take(process, 5001, str(tmp_path)) is None


def test_what_was_left_for_processes_that_are_gone_is_swept(tmp_path: Path, process: int) -> None:
    adoption_note.leave(adopted(process), str(tmp_path))
    for name in (f"{process}-1", f"{1 << 22}-5", "x", "5"):
        (tmp_path / "adoptions" / name).write_text("5001 7")
    adoption_note.leave(adopted(os.getpid()), str(tmp_path))
    expected = {f"{pid}-{start_time(pid)}" for pid in (process, os.getpid())}
    assert set(notes(tmp_path)) == expected


# What a process makes of its uids, and whether it is another's then
UIDS = {
    "pam_keyinit": ("os.setreuid(5001, -1)", False),
    "sshd with GSSAPI": ("os.seteuid(5001)", False),
    "a user's": ("os.setuid(5001)", True),
}


@pytest.mark.parametrize("who", UIDS)
def test_a_process_that_is_a_user_s_for_a_moment_is_not_gone(tmp_path: Path, who: str) -> None:
    """Another login sweeps just then; the session would not know what was decided."""
    becomes, swept = UIDS[who]
    script = f"import os, time; {becomes}; print(flush=True); time.sleep(60)"
    with subprocess.Popen(["/usr/bin/python3", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        adoption_note.leave(adopted(process.pid), str(tmp_path))
        adoption_note.leave(adopted(os.getpid()), str(tmp_path))
        left = f"{process.pid}-{start_time(process.pid)}" in notes(tmp_path)
        process.kill()
    assert left is not swept


def test_a_choice(tmp_path: Path, process: int) -> None:
    """Of a job into which nothing has been adopted yet."""
    adoption_note.leave_choice(Choice(7, 5001, "the newest"), process, str(tmp_path))
    found = adoption_note.take(process, 5001, str(tmp_path))
    assert isinstance(found, Choice)
    assert (found.job_id, found.uid, found.environment) == (7, 5001, {"SLURM_JOB_ID": "7"})
    adoption_note.leave_choice(Choice(7, 5001), process, str(tmp_path))
    assert adoption_note.take(process, 5002, str(tmp_path)) is None
    with pytest.raises(SetupError, match="has ended"):
        adoption_note.leave_choice(Choice(7, 5001), 1 << 22, str(tmp_path))


@pytest.mark.parametrize(
    "data",
    [b"chosen", b"chosen 5001", b"chosen 5001 x", b"chosen 5001 7 8", b"chosen 5001 7\nx:y",
     b"chosen 5001 -7", b"Chosen 5001 7"],
)  # fmt: skip
def test_a_choice_that_is_not_whole_is_nothing(tmp_path: Path, process: int, data: bytes) -> None:
    adoption_note.leave_choice(Choice(7, 5001), process, str(tmp_path))
    (note,) = (tmp_path / "adoptions").iterdir()
    note.write_bytes(data)
    assert adoption_note.take(process, 5001, str(tmp_path)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"5001",
        b"5001 x",
        b"5001 -7",
        b"x 7",
        b"5001 7 8",
        b"\xff",
        b"5001  7",
        b"\n7",
        b"5001 " + b"7" * 5000,
        "5001 \u0667".encode(),
    ],
)
def test_what_is_not_whole_is_nothing(tmp_path: Path, process: int, data: bytes) -> None:
    adoption_note.leave(adopted(process), str(tmp_path))
    (note,) = (tmp_path / "adoptions").iterdir()
    note.write_bytes(data)
    assert adoption_note.take(process, 5001, str(tmp_path)) is None
    assert notes(tmp_path) == []


def of_another(path: Path) -> None:
    path.mkdir()
    os.chown(path, 5001, 5001)


@pytest.mark.parametrize("squat", [of_another, open_to_others, a_link, Path.touch])
@pytest.mark.parametrize("place", ["run", "run/adoptions"])
def test_squatters(tmp_path: Path, process: int, squat: object, place: str) -> None:
    """A place that is not root's own, or that others may write to, is not used."""
    assert callable(squat)
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True, mode=0o711)
    squat(path)
    with pytest.raises(SetupError, match=r"cannot write .*/run/adoptions: "):
        adoption_note.leave(adopted(process), str(tmp_path / "run"))
    assert adoption_note.take(process, 5001, str(tmp_path / "run")) is None


def test_a_link_in_the_place_of_a_note(tmp_path: Path, process: int) -> None:
    adoption_note.leave(adopted(process), str(tmp_path))
    (note,) = (tmp_path / "adoptions").iterdir()
    (tmp_path / "forged").write_bytes(note.read_bytes())
    note.unlink()
    note.symlink_to(tmp_path / "forged")
    assert adoption_note.take(process, 5001, str(tmp_path)) is None
