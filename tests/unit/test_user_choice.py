"""Where a user's choice of a job is kept: what the user can do to it, and what counts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from slurm_adopt.node import user_choice
from slurm_adopt.node.jobs import UNKNOWN, Job
from slurm_adopt.node.user_choice import UserChoice
from slurm_adopt.slurm.errors import PeerError, SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALICE, BOB = 5001, 5002
SECOND = 1_000_000_000


@pytest.fixture
def top() -> Iterator[str]:
    """Return the place of /run/slurm_adopt: in a tmpfs, below directories that all may enter."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        os.chmod(directory, 0o711)
        yield f"{directory}/top"


def place(top: str, uid: int = ALICE) -> str:
    return f"{top}/{user_choice.NAME}/{uid}"


def as_user(uid: int, function: Callable[[], object]) -> str:
    """Return what comes of something that a user does: "" or the error's name."""
    pid = os.fork()
    if not pid:
        code = 0
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            function()
        except OSError as error:
            code = error.errno or 255
        except BaseException:  # noqa: BLE001 - a child of pytest ends here
            code = 254
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return os.strerror(code) if code else ""


def choose(top: str, job_id: int, uid: int = ALICE) -> None:
    assert as_user(uid, lambda: user_choice.choose(uid, job_id, top)) == ""


def test_a_choice(top: str) -> None:
    user_choice.have_place(ALICE, top)
    assert user_choice.chosen(ALICE, top) is None
    before = time.time()
    choose(top, 42)
    found = user_choice.chosen(ALICE, top)
    assert found
    assert found.job_id == 42
    assert before - 0.1 <= found.made <= time.time() + 0.1
    user_choice.have_place(ALICE, top)  # of the next login
    again = user_choice.chosen(ALICE, top)
    assert again
    assert (again.job_id, again.made) == (42, found.made)
    choose(top, user_choice.LARGEST)
    largest = user_choice.chosen(ALICE, top)
    assert largest
    assert largest.job_id == user_choice.LARGEST
    choose(top, 0)
    assert user_choice.chosen(ALICE, top) is None


def test_each_has_one(top: str) -> None:
    for uid in (ALICE, BOB):
        user_choice.have_place(uid, top)
    choose(top, 42)
    assert user_choice.chosen(BOB, top) is None
    refused = as_user(BOB, lambda: user_choice.choose(ALICE, 43, top))
    assert refused == "Operation not permitted"
    found = user_choice.chosen(ALICE, top)
    assert found
    assert found.job_id == 42


def test_a_user_reads_it(top: str) -> None:
    user_choice.have_place(ALICE, top)
    choose(top, 42)

    def look() -> None:
        found = user_choice.chosen(ALICE, top)
        assert found
        assert found.job_id == 42

    assert as_user(ALICE, look) == ""


def test_modes(top: str) -> None:
    user_choice.have_place(ALICE, top)
    for path in (top, f"{top}/{user_choice.NAME}"):
        found = os.stat(path)
        assert (found.st_uid, found.st_mode & 0o7777) == (0, 0o711)
    assert os.lstat(place(top)).st_uid == ALICE


# What the user, or another one, would put in its place: nothing of this is possible

WRONG: dict[str, Callable[[str], object]] = {
    "removed": os.unlink,
    "moved away": lambda path: os.rename(path, f"{path}.away"),
    "another link": lambda path: os.symlink("/etc/shadow", path),
    "another link beside it": lambda path: os.symlink("/etc/shadow", f"{path}.new"),
    "a hard link of another": lambda path: os.link("/etc/passwd", f"{path}.new"),
    "a FIFO": lambda path: os.mkfifo(f"{path}.fifo"),
    "a directory": lambda path: os.mkdir(f"{path}.directory"),
    "a file": lambda path: os.close(os.open(f"{path}.file", os.O_CREAT | os.O_WRONLY)),
    "read as a file": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "written as a file": lambda path: os.close(os.open(path, os.O_WRONLY)),
    "made as a file": lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
    "cut as a file": lambda path: os.truncate(path, 1 << 30),
    "given away": lambda path: os.lchown(path, BOB, -1),
    "an attribute": lambda path: os.setxattr(path, "user.x", b"x" * 99, follow_symlinks=False),
    "listed": lambda path: os.listdir(os.path.dirname(path)),
    "another's place": lambda path: os.symlink("x", f"{os.path.dirname(path)}/{BOB}"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("who", [ALICE, BOB])
def test_nothing_else_can_be_done_to_it(top: str, what: str, who: int) -> None:
    user_choice.have_place(ALICE, top)
    choose(top, 42)
    before = os.lstat(place(top))
    assert as_user(who, lambda: WRONG[what](place(top)))
    after = os.lstat(place(top))
    assert (before.st_ino, before.st_uid, before.st_size) == (
        after.st_ino,
        after.st_uid,
        after.st_size,
    )
    assert os.listdir(f"{top}/{user_choice.NAME}") == [str(ALICE)]
    found = user_choice.chosen(ALICE, top)
    assert found
    assert found.job_id == 42


# Any time that the user can set is a job id or no choice
TIMES = [
    (42 * SECOND, 42),
    (42 * SECOND + 1, None),
    (43 * SECOND - 1, None),
    (0, None),
    (1, None),
    (-SECOND, None),
    (-42 * SECOND, None),
    (user_choice.LARGEST * SECOND, user_choice.LARGEST),
    ((user_choice.LARGEST + 1) * SECOND, None),
    ((1 << 33) * SECOND, None),
]


@pytest.mark.parametrize(("nanoseconds", "job_id"), TIMES)
def test_times(top: str, nanoseconds: int, job_id: int | None) -> None:
    user_choice.have_place(ALICE, top)
    times = (0, nanoseconds)
    set_to = lambda: os.utime(place(top), ns=times, follow_symlinks=False)  # noqa: E731
    assert as_user(ALICE, set_to) == ""
    assert os.lstat(place(top)).st_mtime_ns == nanoseconds  # the file system keeps it
    found = user_choice.chosen(ALICE, top)
    assert (found and found.job_id) == job_id


def test_no_place(top: str) -> None:
    with pytest.raises(FileNotFoundError):
        user_choice.chosen(ALICE, top)
    user_choice.have_place(BOB, top)
    with pytest.raises(FileNotFoundError):
        user_choice.chosen(ALICE, top)
    refused = as_user(ALICE, lambda: user_choice.choose(ALICE, 42, top))
    assert refused == "No such file or directory"


# Not made by us: root has put it there, or somebody before root had the directory


def link(path: str, uid: int) -> None:
    os.symlink("x", path)
    os.lchown(path, uid, -1)


def file(path: str, uid: int) -> None:
    os.close(os.open(path, os.O_CREAT))
    os.chown(path, uid, -1)


FOREIGN: dict[str, Callable[[str], object]] = {
    "a file": lambda path: file(path, 0),
    "a directory": os.mkdir,
    "a FIFO": os.mkfifo,
    "root's link": lambda path: link(path, 0),
    "another's link": lambda path: link(path, BOB),
    "a file of the user's": lambda path: file(path, ALICE),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_not_the_user_s_link_does_not_count(top: str, what: str) -> None:
    user_choice.have_place(BOB, top)
    FOREIGN[what](place(top))
    os.utime(place(top), ns=(0, 42 * SECOND), follow_symlinks=False)
    with pytest.raises(SetupError, match="is not a link of the user's: remove it"):
        user_choice.chosen(ALICE, top)


@pytest.mark.parametrize("which", ["", f"/{user_choice.NAME}"])
@pytest.mark.parametrize("how", ["another's", "writable", "a link"])
def test_a_directory_that_is_not_root_s_alone(top: str, which: str, how: str) -> None:
    """Nothing in it is believed, and nothing is put there."""
    user_choice.have_place(ALICE, top)
    choose(top, 42)
    if how == "another's":
        os.chown(top + which, BOB, -1)
    elif how == "writable":
        os.chmod(top + which, 0o777)
    else:
        os.rename(top + which, f"{top}.away")
        os.symlink(f"{top}.away", top + which)
    with pytest.raises(SetupError, match="cannot look at "):
        user_choice.chosen(ALICE, top)
    with pytest.raises(SetupError, match="cannot make "):
        user_choice.have_place(ALICE, top)


def test_made_by_two_logins_at_once(top: str) -> None:
    """One has made the link and not given it away yet; the choice is not lost by it."""
    user_choice.have_place(BOB, top)
    os.symlink("x", place(top))
    user_choice.have_place(ALICE, top)
    choose(top, 42)
    user_choice.have_place(ALICE, top)
    found = user_choice.chosen(ALICE, top)
    assert found
    assert found.job_id == 42


def test_by_the_prolog_s_lines(top: str) -> None:
    """A link that another program of root's has made: the present time is no choice."""
    user_choice.have_place(BOB, top)
    subprocess.run(
        ["sh", "-ec", 'ln -s x "$0"; chown -h "$1" "$0"', place(top), str(ALICE)], check=True
    )
    assert user_choice.chosen(ALICE, top) is None
    choose(top, 42)
    assert user_choice.chosen(ALICE, top)


# As long as the job runs


def job(started: int) -> Job:
    return cast("Job", SimpleNamespace(job_id=42, started=started))


def test_a_job_that_was_started_later_is_another_one() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * ticks)
    UserChoice(42, time.time()).check(job(now - 1))
    UserChoice(42, time.time() - 5).check(job(now - 6 * ticks))
    UserChoice(42, time.time() - 5).check(job(UNKNOWN))  # its stepd answers nobody
    with pytest.raises(PeerError, match="before it was started here"):
        UserChoice(42, time.time() - 5).check(job(now - 4 * ticks))


def test_when_a_job_was_started() -> None:
    pid = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        from slurm_adopt.slurm.proc import start_time

        started = user_choice.started_at(cast("Any", job(start_time(pid.pid))))
        assert time.time() - 60 < started <= time.time()
    finally:
        pid.kill()
        pid.communicate()
