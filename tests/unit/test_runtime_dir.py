"""A job's XDG_RUNTIME_DIR: whose it is, who cannot take its place, and that it goes."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.session import runtime_dir
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.system import child, clearing
from tests.fakes.background import Background
from tests.fakes.squatters import a_link, open_to_others
from tests.fakes.stepd import Stepd

if TYPE_CHECKING:
    from collections.abc import Callable

USER = pwd.getpwnam("nobody")
UID, GID = USER.pw_uid, USER.pw_gid
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "run")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a login time, for what is soon done on any machine but one that is busy."""
    monkeypatch.setattr(runtime_dir, "IN_LOGIN", 30.0)


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have done here what else a child does: so that it can be counted."""
    monkeypatch.setattr(child, "run", lambda function, *_: function())


def made(run: str, job: int = 7, node: str = "n1") -> Path:
    return Path(runtime_dir.make(node, UID, job, run))


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o7777


def left(run: str) -> list[str]:
    return sorted(os.listdir(f"{run}/runtime"))


# Making


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_it_is_the_user_s(run: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = made(run)
    finally:
        os.umask(before)
    assert str(path) == f"{run}/runtime/n1_{UID}_7"
    assert owner_and_mode(path) == (UID, GID, 0o700)
    assert owner_and_mode(path.parent) == (0, 0, 0o711)
    assert owner_and_mode(path.parent.parent) == (0, 0, 0o711)


def test_again(run: str) -> None:
    """What is in it stays; what the user has opened to others is shut."""
    path = made(run)
    (path / "socket").touch()
    path.chmod(0o777)
    assert made(run) == path
    assert owner_and_mode(path) == (UID, GID, 0o700)
    assert (path / "socket").exists()


def test_another_login_is_just_making_it(run: str) -> None:
    path = made(run)
    os.chown(path, 0, 0)
    made(run)
    assert owner_and_mode(path) == (UID, GID, 0o700)


def test_unknown_user(run: str) -> None:
    with pytest.raises(SetupError, match="uid 4242424 is not known on this host"):
        runtime_dir.make("n1", 4242424, 7, run)


def test_other_jobs_and_nodes_have_their_own(run: str) -> None:
    assert len({made(run), made(run, 8), made(run, node="n2"), made(run, node="n1_x")}) == 4


def of_another(path: Path) -> None:
    path.mkdir()
    os.chown(path, UID + 1, 0)


# (place below /run, what is there, why it is refused)
SQUATTERS = [
    ("slurm_adopt", of_another, "does not belong to root"),
    ("slurm_adopt", open_to_others, "does not belong to root"),
    ("slurm_adopt", a_link, "Not a directory"),
    ("slurm_adopt/runtime", of_another, "does not belong to root"),
    ("slurm_adopt/runtime", open_to_others, "does not belong to root"),
    ("slurm_adopt/runtime", a_link, "Not a directory"),
    ("slurm_adopt/runtime", Path.touch, "Not a directory"),
    (f"slurm_adopt/runtime/n1_{UID}_7", of_another, f"belongs to uid {UID + 1}"),
    (f"slurm_adopt/runtime/n1_{UID}_7", a_link, "Not a directory"),
    (f"slurm_adopt/runtime/n1_{UID}_7", Path.touch, "Not a directory"),
]


@pytest.mark.parametrize(("place", "squat", "why"), SQUATTERS)
def test_squatters(tmp_path: Path, place: str, squat: object, why: str) -> None:
    assert callable(squat)
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    squat(path)
    before = path.lstat(), path.stat()
    with pytest.raises(SetupError, match=f"cannot make {tmp_path}/slurm_adopt/runtime.*{why}"):
        runtime_dir.make("n1", UID, 7, str(tmp_path / "slurm_adopt"))
    after = path.lstat(), path.stat()
    assert [s[:6] for s in after] == [s[:6] for s in before]  # mode to gid


# What is mounted there

FUSE_THAT_NEVER_ANSWERS = """
import os, subprocess, sys
fuse, place = os.open("/dev/fuse", os.O_RDWR), sys.argv[1]
options = f"fd={fuse},rootmode={sys.argv[5]},user_id=0,group_id=0,allow_other"
mount = ["mount", "-i", "-t", "fuse", "-o", options, "x", place]
subprocess.run(mount, pass_fds=[fuse], check=True)
from slurm_adopt.session import runtime_dir
from slurm_adopt.slurm.errors import SetupError
runtime_dir.IN_LOGIN = 30.0
print(*runtime_dir.sweep("n1", sys.argv[2], sys.argv[3]), sep="\\n")
try:
    print(runtime_dir.make("n1", int(sys.argv[4]), 7, sys.argv[3]))
except SetupError as error:
    print(error)
"""


def with_mount(place: Path, run: str, spool: Path, kind: str = "40000") -> list[str]:
    """Sweep, and make the directory of job 7, while something is mounted; return what is said."""
    script = ["python3", "-c", FUSE_THAT_NEVER_ANSWERS, str(place), str(spool), run, str(UID), kind]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_a_mount_that_hangs_in_its_place(run: str, tmp_path: Path) -> None:
    place = made(run)
    removing, making = with_mount(place, run, tmp_path)
    assert removing.startswith(f"cannot remove {place} (job 7 of uid {UID}): ")
    assert making == f"cannot make {place}: something is mounted there"
    assert left(run) == [place.name]


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(("where", "stays"), [("m", ["m"]), ("a/b", ["a", "b"])])
def test_a_mount_that_hangs_below(run: str, tmp_path: Path, where: str, stays: list[str]) -> None:
    """All around it goes, and it goes once it is not mounted any more."""
    place = made(run)
    for name in ("a/b", "a/c", "d/e", "m"):
        (place / name).mkdir(parents=True)
    (place / "a/file").touch()
    removing, making = with_mount(place / where, run, tmp_path)
    (doomed,) = (name for name in left(run) if name.startswith("."))
    assert removing.startswith(f"cannot remove {run}/runtime/{doomed} (job 7 of uid {UID}): ")
    assert making == str(place)
    assert [path.name for path in Path(run, "runtime", doomed).rglob("*")] == stays
    assert runtime_dir.sweep("n1", str(tmp_path), run) == []
    assert left(run) == []


# Removing


@pytest.mark.usefixtures("unhurried")
def test_sweep(run: str, tmp_path: Path) -> None:
    """Gone are the jobs of this node that no stepd listens for."""
    for job in (1, 2, 3, 4, 14):
        (made(run, job) / "file").touch()
    made(run, 1, "n2")
    Path(run, "runtime/n1_x").mkdir()
    with Stepd(tmp_path / "n1_4.4294967292"):  # left behind
        pass
    (tmp_path / "n1_14.0").touch()  # no socket
    with (
        Stepd(tmp_path / "n1_1.4294967292"),
        Stepd(tmp_path / "n1_2.0"),  # its extern step has died
        Stepd(tmp_path / "n2_3.4294967292"),
    ):
        assert runtime_dir.sweep("n1", str(tmp_path), run) == []
    assert left(run) == sorted([f"n1_{UID}_1", f"n1_{UID}_2", f"n2_{UID}_1", "n1_x"])


@pytest.mark.usefixtures("unhurried")
def test_a_stepd_with_a_full_backlog_is_there(run: str, tmp_path: Path) -> None:
    path = made(run)
    with socket.socket(socket.AF_UNIX) as stepd:
        stepd.bind(str(tmp_path / "n1_7.4294967292"))
        stepd.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(tmp_path / "n1_7.4294967292"))
        assert runtime_dir.sweep("n1", str(tmp_path), run) == []
        for client in waiting:
            client.close()
    assert path.exists()


def test_no_link_is_followed(run: str, tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").touch()
    path = made(run)
    for where in (path, path / "a", path / "a/b"):
        where.mkdir(exist_ok=True)
        (where / "directory").symlink_to(keep)
        (where / "file").symlink_to(keep / "file")
        (where / "up").symlink_to("../../..")
        os.mkfifo(where / "fifo")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(where / "socket"))
    (path / "a").chmod(0)
    assert runtime_dir.remove("n1", UID, 7, run) == []
    assert left(run) == []
    assert (keep / "file").exists()


def test_a_link_in_its_place_is_not_followed(run: str, tmp_path: Path) -> None:
    path = made(run)
    path.rmdir()
    (tmp_path / "keep").mkdir()
    path.symlink_to(tmp_path / "keep")
    (remark,) = runtime_dir.remove("n1", UID, 7, run)
    assert "Not a directory" in remark
    assert (tmp_path / "keep").exists()


def test_deep(run: str) -> None:
    """Deeper than there are descriptors, or than a path may be long."""
    path = made(run)
    here = os.open(path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d" * 50, dir_fd=here)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert runtime_dir.remove("n1", UID, 7, run) == []
    assert left(run) == []


class Ticks:
    """A clock that runs out after some looks at it."""

    renews = False

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def left(self) -> float:
        self.looks -= 1
        return max(0.0, self.looks)

    def last(self) -> float:
        """Return what a child may take: not by this clock."""
        return 60.0

    def within(self, _: float) -> Ticks:
        """No shares: they are of real seconds."""
        return self


def test_many(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login gives it a while; its name is free at once; the next ones go on."""
    path = made(run)
    for number in range(30):
        (path / f"{number}").mkdir()
        for name in range(30):
            (path / f"{number}/{name}").touch()
    monkeypatch.setattr(runtime_dir, "Deadline", lambda _: Ticks(200))
    logins = 0
    while left(run):
        assert runtime_dir.sweep("n1", str(tmp_path), run) == []
        logins += 1
        assert path.name not in left(run)
    assert 5 <= logins <= 20


# A user who goes on

BOUND = 30.0  # seconds that nothing here may take
ANOTHER = UID + 1  # to whom the user has given rights, by an ACL

# What somebody tries who has kept descriptors, is in the first, and has a directory elsewhere.
TRIES = """
import os, sys
*kept, own = map(int, sys.argv[1:])
os.fchdir(kept[0])
number = 0

def tries(fd):
    yield lambda: os.close(os.open(name, os.O_CREAT | os.O_EXCL, dir_fd=fd))
    yield lambda: os.mkdir(name, dir_fd=fd)
    yield lambda: os.symlink("x", name, dir_fd=fd)
    yield lambda: os.link("file", name, src_dir_fd=own, dst_dir_fd=fd)
    yield lambda: os.rename("directory", name, src_dir_fd=own, dst_dir_fd=fd)
    yield lambda: os.rename("down", name, src_dir_fd=fd, dst_dir_fd=own)
    yield lambda: os.chmod(f"/proc/self/fd/{fd}", 0o700)
    yield lambda: os.fchmod(fd, 0o700)
    yield lambda: os.fchown(fd, os.getuid(), -1)
    yield lambda: os.close(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=fd))
    yield lambda: os.close(os.open(".", os.O_RDONLY, dir_fd=fd))
    yield lambda: os.setxattr(fd, "user.x", b"1")

print("ready", flush=True)
for line in sys.stdin:
    done = [0] * len(kept)
    for index, fd in enumerate(kept):
        for one in tries(fd):
            number += 1
            name = f"made{number}"
            try:
                one()
                done[index] += 1
            except OSError:
                pass
    try:
        os.mkdir(f"here{number}")
        done[0] += 1
    except OSError:
        pass
    print(*done, flush=True)
"""


class Trier(Background):
    """A process of the user's, or of another, that tries what it can each time it is told to."""

    def __init__(self, uid: int, prefix: tuple[str, ...], *paths: Path) -> None:
        fds = [os.open(path, os.O_RDONLY) for path in paths]
        command = [*prefix, sys.executable, "-c", TRIES, *map(str, fds)]
        self._process = subprocess.Popen(
            command, stdin=-1, stdout=-1, text=True, pass_fds=fds, user=uid, group=uid
        )
        for fd in fds:
            os.close(fd)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> None:
        self._process.communicate(timeout=BOUND)

    def tries(self) -> list[int]:
        """Have it try; return how many ways work in each directory."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return list(map(int, self._process.stdout.readline().split()))


def acl(*uids: int) -> bytes:
    """Return an ACL by which these may do all (acl(5), system.posix_acl_access)."""
    rows = [(1, 7, -1), *((2, 7, uid) for uid in uids), (4, 0, -1), (16, 7, -1), (32, 0, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *row) for row in rows)


# (of whom it is that goes on, what that is run by)
WHO = [(UID, ()), (ANOTHER, ()), (UID, ("unshare", "--user", "--map-root-user"))]


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("job", [7, 8])
@pytest.mark.parametrize(("uid", "prefix"), WHO)
def test_a_user_who_goes_on(
    run: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    prefix: tuple[str, ...],
    job: int,
) -> None:
    """Whoever has a descriptor of what is being emptied, or is in there, can make nothing there.

    So the job's own Epilog is done some time, and soon that of another one, which has less time.
    """
    path, own = made(run), tmp_path / "own"
    for directory in (path, path / "a", path / "a/b", own):
        directory.mkdir(exist_ok=True)
        (directory / "down").mkdir()
        for name in ("1", "2", "3"):
            (directory / name).touch()
        for kind in ("access", "default"):
            os.setxattr(directory, f"system.posix_acl_{kind}", acl(UID, ANOTHER))
        os.chown(directory, UID, GID)
    (own / "file").touch()
    (own / "directory").mkdir()
    unlink, could = os.unlink, []
    with Trier(uid, prefix, path, path / "a", path / "a/b", own) as trier:
        before = trier.tries()
        if job != 7:
            path.rename(path.with_name(f".{path.name}.1"))

        def and_try(name: str, dir_fd: int) -> None:
            unlink(name, dir_fd=dir_fd)
            could.append(trier.tries())

        monkeypatch.setattr(os, "unlink", and_try)
        monkeypatch.setattr(runtime_dir, "Deadline", lambda _: Ticks(2000 if job == 7 else 500))
        assert runtime_dir.remove("n1", UID, job, run) == []
    assert left(run) == []
    assert min(before) > 5
    assert {top for top, *_ in could} == {0}
    assert could[-1] == [0, 0, 0]


@pytest.mark.usefixtures("no_child")
def test_a_login_that_gives_it_away_meanwhile(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had just opened the directory when that was put away: it is taken once more."""
    path = made(run)
    for name in ("1", "2", "3"):
        (path / name).touch()
    unlink, top = os.unlink, os.open(path, os.O_RDONLY)
    given = False
    with Trier(UID, (), path, tmp_path) as trier:

        def give_away(name: str, dir_fd: int) -> None:
            nonlocal given
            unlink(name, dir_fd=dir_fd)
            if not given:
                os.fchown(top, UID, GID)
                os.fchmod(top, 0o700)
                given = True
            trier.tries()

        monkeypatch.setattr(os, "unlink", give_away)
        monkeypatch.setattr(runtime_dir, "Deadline", lambda _: Ticks(2000))
        assert runtime_dir.remove("n1", UID, 7, run) == []
    os.close(top)
    assert left(run) == []


# The time of others


class Work:
    """A clock that goes on by a millisecond with each look at it: time is work, on any machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("slurm_adopt.slurm.waiting.monotonic", self.look)

    def look(self) -> float:
        self.now += 0.001
        return self.now


def leave(run: str, job: int, files: int) -> Path:
    """Make what an earlier job has left unfinished."""
    path = made(run, job)
    for number in range(files):
        (path / f"{number}").touch()
    return path.rename(path.with_name(f".{path.name}.1"))


@pytest.mark.usefixtures("no_child")
def test_the_times_of_an_epilog(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The long one is for its own job; the log says whose it is that needs more than the short."""
    work = Work(monkeypatch)
    leave(run, 7, 2000)
    own, other = made(run), leave(run, 8, 3000)
    for number in range(2000):
        (own / f"{number}").touch()
    other.with_name(".x").mkdir()
    (remark,) = runtime_dir.remove("n1", UID, 7, run)
    assert left(run) == [other.name]
    assert work.now > 4
    assert remark == (
        f"cannot remove {run}/runtime/{other.name} (job 8 of uid {UID}): timed out after 1 s; the "
        "next Epilog or login goes on"
    )
    before = work.now
    runtime_dir.remove("n1", UID, 9, run)
    assert work.now - before < 2


@pytest.mark.usefixtures("no_child")
def test_each_has_its_share(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some that take long do not keep the others from going, in one Epilog and in one login."""
    Work(monkeypatch)
    large = [leave(run, job, 1500).name for job in range(4)]
    for job in range(10, 14):
        leave(run, job, 3)
    (remark,) = runtime_dir.remove("n1", UID, 99, run)
    assert left(run) == sorted(large)
    assert all(f"{name} (job {job} of uid {UID})" in remark for job, name in enumerate(large))
    for job in range(10, 14):
        leave(run, job, 3)
    while len(left(run)) > 4:
        assert runtime_dir.sweep("n1", str(tmp_path), run) == []
    assert left(run) == sorted(large)


@pytest.mark.usefixtures("no_child")
def test_each_has_its_turn(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that are never done, none is always the one that there is no time for."""
    Work(monkeypatch)
    names = {leave(run, job, 0).name for job in range(200)}
    seen = set()

    def never(_: int, name: str, deadline: Deadline) -> bool:
        seen.add(name)
        while deadline.left():
            pass
        return False

    monkeypatch.setattr(runtime_dir, "_delete", never)
    (remark,) = runtime_dir.remove("n1", UID, 999, run)
    assert len(seen) < 100
    assert remark.count("job ") == runtime_dir.SHOWN
    assert "and 192 more: timed out after 1 s" in remark
    for _ in range(200):
        runtime_dir.remove("n1", UID, 999, run)
    assert seen == names


def test_a_call_that_waits(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the lock of a directory that others read: nobody waits for it."""
    name = leave(run, 7, 1).name
    monkeypatch.setattr(runtime_dir, "_delete", lambda *_: time.sleep(2 * BOUND))
    deadline = Deadline(BOUND)
    said = runtime_dir.sweep("n1", str(tmp_path), run), runtime_dir.remove("n1", UID, 8, run)
    assert deadline.left()
    line = (
        rf"cannot remove {run}/runtime/{re.escape(name)} \(job 7 of uid {UID}\): timed out after "
    )
    assert [len(lines) for lines in said] == [1, 1]
    assert all(re.fullmatch(line + r"\d+\.\d s", lines[0]) for lines in said)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.usefixtures("unhurried")
def test_the_log_is_not_flooded(run: str, tmp_path: Path) -> None:
    for number in range(300):
        path = leave(run, number, 0)
        path.rmdir()
        path.touch()
    lines = runtime_dir.sweep("n1", str(tmp_path), run)
    assert len(lines) == runtime_dir.LINES
    assert all(line.endswith("): Not a directory") for line in lines)


# (name in the directory of all jobs, whose it is)
NAMES = [
    ("n1_5001_7", ("n1", 5001, 7)),
    (".n1_5001_7.123", ("n1", 5001, 7)),
    ("n_1.x_5001_7", ("n_1.x", 5001, 7)),
    (".n_1.x_5001_7.123", ("n_1.x", 5001, 7)),
    (".n1_5001_7", None),
    ("n1_5001", None),
    ("n1_5001_x", None),
    ("n1__7", None),
    ("n1_5001_\u0667", None),
    ("n1_-1_7", None),
    (".", None),
    ("", None),
    (".x", None),
    ("n1_5001_4294967295", ("n1", 5001, 4294967295)),
    ("n1_5001_4294967296", None),
    ("n1_05001_7", None),
    ("n1_5001_" + "9" * 240, None),
]


@pytest.mark.parametrize(("name", "whose"), NAMES)
def test_whose(name: str, whose: tuple[str, int, int] | None) -> None:
    """In the log a name that says nothing stands as it is."""
    assert runtime_dir._whose(name) == whose
    assert (runtime_dir._shown(name) == name) == (whose is None)


# Large files

MIB = 1 << 20


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a step 1 MiB, and give a login time for a few of them."""
    monkeypatch.setattr(clearing, "STEP", MIB)
    monkeypatch.setattr(runtime_dir, "Deadline", lambda _: Ticks(9))


def with_space(path: Path, size: int) -> Path:
    """Make a file of the user's that has space, and no data."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    os.chown(path, UID, GID)
    return path


def with_data(path: Path, size: int, *places: int) -> Path:
    """Make a file of the user's with 1 MiB of data in each place, or else all through."""
    with path.open("wb") as file:
        for place in places or range(0, size, MIB):
            file.seek(place)
            file.write(b"x" * MIB)
        file.truncate(size)
    os.chown(path, UID, GID)
    return path


def logins(run: str, tmp_path: Path) -> list[int]:
    """Have logins until all is gone; return how much was left after each, in MiB."""
    found = []
    while left(run):
        assert runtime_dir.sweep("n1", str(tmp_path), run) == []
        files = (path for path in Path(run).rglob("*") if path.is_file())
        found.append(sum(path.stat().st_blocks for path in files) * 512 // MIB)
        assert len(found) < 100
    return found


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("fill", [with_data, with_space])
@pytest.mark.parametrize("where", ["file", "a/file"])
def test_a_large_file_goes_in_steps(
    run: str, tmp_path: Path, where: str, fill: Callable[[Path, int], Path]
) -> None:
    """Each login frees some of it; what it was called is free at once."""
    path = made(run)
    (path / "a").mkdir()
    fill(path / where, 20 * MIB)
    after = logins(run, tmp_path)
    assert after[0] >= 15
    assert all(0 < before - now <= 5 for before, now in zip(after, after[1:]) if now)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize(
    "places", [(0, MIB), (1 << 41, (1 << 41) + MIB), (0, 1 << 40, 1 << 42), (5, (1 << 43) - MIB)]
)
def test_a_file_that_is_mostly_holes(run: str, tmp_path: Path, places: tuple[int, ...]) -> None:
    """Only its data costs time."""
    with_data(made(run) / "file", 1 << 43, *places)
    assert len(logins(run, tmp_path)) <= 3


@pytest.mark.usefixtures("small_steps", "no_child")
def test_many_lone_pages(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is cut until it is not large any more; not a page at a time to its beginning."""
    path = with_data(made(run) / "file", 1 << 43, (1 << 43) - MIB)
    with path.open("r+b") as file:
        for number in range(100):
            os.pwrite(file.fileno(), b"x", number << 36)
    cut, cuts = os.ftruncate, []

    def counted(file: int, size: int) -> None:
        cuts.append(size)
        cut(file, size)

    monkeypatch.setattr(os, "ftruncate", counted)
    assert len(logins(run, tmp_path)) == 1
    assert len(cuts) == 1


def test_where_the_data_of_a_file_ends(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGESIZE")
    with (tmp_path / "file").open("w+b") as file:
        assert clearing._end_of_data(file.fileno(), 0) == 0
        file.truncate(1 << 40)
        assert clearing._end_of_data(file.fileno(), 1 << 40) == 0
        for place in (0, page, 1 << 30, (1 << 40) - page):
            os.pwrite(file.fileno(), b"x", place)
            assert clearing._end_of_data(file.fileno(), 1 << 40) == place + page
        assert clearing._end_of_data(file.fileno(), 1 << 39) == 1 << 39  # it grows meanwhile


@pytest.mark.usefixtures("small_steps")
def test_what_has_another_name_or_owner_is_not_cut(run: str, tmp_path: Path) -> None:
    """Another user's file, root's, one of the user's own that is elsewhere, too: unlinked only."""
    path, keep = made(run), tmp_path / "keep"
    keep.mkdir()
    kept = [with_data(keep / name, 3 * MIB) for name in ("own", "other", "link")]
    os.chown(keep / "other", UID + 1, 0)
    os.link(keep / "own", path / "own")
    os.link(keep / "other", path / "other")
    (path / "link").symlink_to(keep / "link")
    alone = with_data(path / "alone", 3 * MIB)
    os.chown(alone, UID + 1, 0)
    with alone.open("rb") as still:
        assert logins(run, tmp_path)
        assert os.fstat(still.fileno()).st_size == 3 * MIB
    assert [file.stat().st_size for file in kept] == [3 * MIB] * 3


@pytest.mark.usefixtures("small_steps")
def test_a_name_that_changes_its_meaning(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link, or another's file, put in its place after it was looked at, is not cut."""
    path, keep = made(run), with_data(tmp_path / "keep", 3 * MIB)
    with_data(path / "file", 3 * MIB)
    look = clearing.Clearing._is_large

    def swap(one: clearing.Clearing, descriptor: int) -> bool:
        found = look(one, descriptor)
        (here,) = Path(run, "runtime").glob(".*")
        (here / "file").unlink()
        (here / "file").symlink_to(keep)
        return found

    monkeypatch.setattr(clearing.Clearing, "_is_large", swap)
    assert logins(run, tmp_path)
    assert keep.stat().st_size == 3 * MIB


@pytest.mark.usefixtures("small_steps")
def test_a_lease_does_not_hold_a_login_up(run: str, tmp_path: Path) -> None:
    """Its holder has up to /proc/sys/fs/lease-break-time to let go."""
    path = with_data(made(run) / "file", 3 * MIB)
    with path.open("rb") as leased:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        assert logins(run, tmp_path)
        fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        signal.signal(signal.SIGIO, signal.SIG_DFL)


@pytest.mark.usefixtures("small_steps")
def test_a_file_that_grows_meanwhile(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fast as it is cut: it goes all the same."""
    path = with_data(made(run) / "file", 10 * MIB)
    cut = os.ftruncate
    with path.open("r+b") as writer:

        def and_write(file: int, size: int) -> None:
            cut(file, size)
            os.pwrite(writer.fileno(), b"x" * 2 * MIB, size)

        monkeypatch.setattr(os, "ftruncate", and_write)
        monkeypatch.setattr(runtime_dir, "Deadline", lambda _: Ticks(50))
        assert len(logins(run, tmp_path)) == 1


def test_a_file_system_that_hangs_on_a_file(run: str, tmp_path: Path) -> None:
    """A FUSE file system may be mounted on a file as well; it is not asked for its size."""
    place = made(run)
    with_data(place / "f", MIB)
    removing, making = with_mount(place / "f", run, tmp_path, "100000")
    assert "Device or resource busy" in removing
    assert making == str(place)


def test_logins_at_the_same_time(run: str, tmp_path: Path) -> None:
    """None of them minds that another is quicker; in the end all is gone."""
    for job in range(40):
        path = made(run, job)
        for name in ("a/b/c", "d/e", "f"):
            (path / name).mkdir(parents=True)
            (path / name / "file").touch()
    script = (
        "import sys; from slurm_adopt.session import runtime_dir as r; r.IN_LOGIN = 30.0; "
        "sys.stdin.read(); print(r.sweep('n1', *sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", script, str(tmp_path), run]
    environment = {"PYTHONPATH": str(SOURCE)}
    logins = [
        subprocess.Popen(argv, env=environment, stdin=-1, stdout=-1, text=True) for _ in range(4)
    ]
    for login in logins:  # all have been started
        assert login.stdin
        login.stdin.close()
    for login in logins:
        login.stdin = None
        assert login.communicate(timeout=60)[0] == "[]\n"
    assert runtime_dir.remove("n1", UID, 99, run) == []
    assert left(run) == []


def test_the_times() -> None:
    assert runtime_dir.IN_LOGIN <= 0.5 < runtime_dir.IN_EPILOG
    assert Deadline(runtime_dir.IN_LOGIN).left() > 0
