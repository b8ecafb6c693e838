"""A directory for each job and user, to be XDG_RUNTIME_DIR where there is no pam_systemd.

/run/slurm_adopt/runtime/NODE_UID_JOBID is the user's, mode 0700; the directory above it is root's,
so that nobody else can put anything in its place. It is removed by Slurm's Epilog (epilog.py), or
else by a later login with this option once the job has no stepd any more. It gets another name
first, beginning with a dot: what takes too long or is broken off is gone on with the next time.

What users leave in there is met with care: no link is followed; what is mounted there is left alone
without a look, since a FUSE file system may never answer; a large file is cut down in steps before
it is unlinked, since the kernel would free all of it at one go.
"""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from time import monotonic_ns

from .rundir import DIRECTORY, TOP, opened
from .slurm import spool
from .slurm.deadline import Deadline
from .slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

NAME = "runtime"
IN_LOGIN = 0.2  # seconds that a login gives to what other jobs have left
_OTHERS = (2, 39)  # ENOENT, ENOTEMPTY: another login, or the user, is at it as well
IN_EPILOG = 60.0  # seconds: whoever still writes there may go on as fast as it is removed
STEP = 64 << 20  # bytes that are freed between two looks at the time: some 20 ms
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CUT = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def make(node: str, uid: int, job_id: int, top: str = TOP) -> str:
    """Make a job's directory, which may be there already; return its path. SetupError if not."""
    path = f"{top}/{NAME}/{_name(node, uid, job_id)}"
    try:
        gid = pwd.getpwuid(uid).pw_gid
        directory = _directory(top)
        try:
            _make(directory, _name(node, uid, job_id), uid, gid)
        finally:
            os.close(directory)
    except KeyError:
        raise SetupError(f"cannot make {path}: uid {uid} is not known on this host") from None
    except OSError as error:
        raise SetupError(f"cannot make {path}: {error.strerror}") from None
    return path


def sweep(node: str, spool_directory: str, top: str = TOP) -> list[str]:
    """Remove the directories of a node's jobs that have no stepd, for a while at most.

    Returns what could not be removed, and why, for the log.
    """
    steps: list[spool.StepSocket] | None = None

    def gone(name: str) -> bool:
        nonlocal steps
        job_id = _job_of(node, name)
        if job_id is None:
            return False
        if steps is None:  # listed after the directories: those of a job that starts now are new
            steps = spool.steps(spool_directory, node)
        return not any(spool.listens(step.path) for step in steps if step.job_id == job_id)

    return _remove(gone, Deadline(IN_LOGIN), top)


def remove(node: str, uid: int, job_id: int, top: str = TOP) -> list[str]:
    """Remove a job's directory, and what was left unfinished; return what could not be removed."""
    if not os.path.isdir(f"{top}/{NAME}"):  # nobody has the option set
        return []
    return _remove(lambda name: name == _name(node, uid, job_id), Deadline(IN_EPILOG), top)


def _name(node: str, uid: int, job_id: int) -> str:
    return f"{node}_{uid}_{job_id}"


def _job_of(node: str, name: str) -> int | None:
    """Return the job that a name stands for; None if that is none of this node's."""
    words = name.rsplit("_", 2)
    return int(words[2]) if len(words) == 3 and words[0] == node and words[2].isdecimal() else None


def _directory(top: str) -> int:
    return opened(NAME, 0o711, 0o022, top)


def _make(directory: int, name: str, uid: int, gid: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=directory)
    descriptor = _enter(directory, name)
    try:
        owner = os.fstat(descriptor).st_uid
        if owner not in (uid, os.geteuid()):  # root's: another login is about to give it away
            raise PermissionError(1, f"it is there and belongs to uid {owner}")
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _enter(parent: int, name: str) -> int:
    """Open a directory in another one; OSError if it is none, or something is mounted there.

    Opened by O_PATH first, which asks no file system anything.
    """
    place = os.open(name, DIRECTORY | os.O_PATH, dir_fd=parent)
    try:
        if _mount(place) != _mount(parent):
            raise OSError(16, "something is mounted there")
        return os.open(".", DIRECTORY, dir_fd=place)
    finally:
        os.close(place)


def _mount(descriptor: int) -> bytes:
    """Return the number of the mount that a descriptor is on (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        return file.read().partition(b"mnt_id:")[2].split(b"\n")[0]


# Removing


def _remove(gone: Callable[[str], bool], deadline: Deadline, top: str) -> list[str]:
    """Remove the directories whose names are `gone`, and those that were begun before."""
    try:
        directory = _directory(top)
    except OSError as error:
        return [f"cannot look into {top}/{NAME}: {error.strerror}"]
    try:
        names = [name for name in os.listdir(directory) if name.startswith(".") or gone(name)]
        remarks = (_removed(directory, name, deadline) for name in names)
        return [f"cannot remove {top}/{NAME}/{remark}" for remark in remarks if remark]
    finally:
        os.close(directory)


def _removed(directory: int, name: str, deadline: Deadline) -> str:
    """Remove one; return its name and why that cannot be done, "" if all goes well."""
    try:
        if not name.startswith("."):
            new = f".{name}.{monotonic_ns()}"
            os.rename(name, new, src_dir_fd=directory, dst_dir_fd=directory)
            name = new
        _delete(directory, name, deadline)
    except OSError as error:
        return "" if error.errno in _OTHERS else f"{name}: {error.strerror}"
    return ""


def _delete(parent: int, name: str, deadline: Deadline) -> None:
    """Delete a directory with all that is in it, or as much as there is time for."""
    top = _enter(parent, name)
    try:
        clearing = _Clearing(top, deadline)
        while clearing.round():
            pass
    finally:
        os.close(top)
    if clearing.trouble:
        raise clearing.trouble
    if deadline.left():
        os.rmdir(name, dir_fd=parent)


class _Clearing:
    """Empties a directory, however deep it is, with three descriptors.

    What a directory in it has below it is moved up into the top one, and is there the next round.
    """

    __slots__ = ("_deadline", "_owner", "_top", "trouble")

    trouble: OSError | None  # of the last round: what could not be deleted

    def __init__(self, top: int, deadline: Deadline) -> None:
        self._top = top
        self._deadline = deadline
        self._owner = os.fstat(top).st_uid

    def round(self) -> int:
        """Go through the directory once; return how much was done."""
        self.trouble = None
        return self._each(self._top, self._clear)

    def _clear(self, name: str) -> int:
        """Delete a directory of the top one, but for what there is no time for."""
        directory = _enter(self._top, name)
        try:
            done = self._each(directory, lambda below: self._move_up(directory, below))
        finally:
            os.close(directory)
        with suppress(OSError):  # something is left in it: no time, or trouble, which is noted
            os.rmdir(name, dir_fd=self._top)
            done += 1
        return done

    def _move_up(self, directory: int, name: str) -> int:
        os.rename(name, f".{monotonic_ns()}", src_dir_fd=directory, dst_dir_fd=self._top)
        return 1

    def _each(self, directory: int, treat: Callable[[str], int]) -> int:
        """Delete the files in a directory, and have the directories treated."""
        done = 0
        with os.scandir(directory) as entries:
            for entry in entries:
                if not self._deadline.left():
                    break
                try:
                    if entry.is_dir(follow_symlinks=False):
                        done += treat(entry.name)
                    elif self._shrunk(directory, entry.name):
                        os.unlink(entry.name, dir_fd=directory)
                        done += 1
                except OSError as error:
                    if error.errno not in _OTHERS:
                        self.trouble = error
        return done

    def _shrunk(self, directory: int, name: str) -> bool:
        """Cut a file down if it is large; return False if there was no time for all of it.

        Only a regular file of the user's own that has no other name; all others are as they were.
        """
        place = os.open(name, _PLACE, dir_fd=directory)
        try:
            if _mount(place) != _mount(directory) or not self._is_large(place):
                return True
            try:  # by the descriptor: the name may mean something else by now
                file = os.open(f"/proc/self/fd/{place}", _CUT)
            except OSError:  # it is being executed, or has a lease: in use, so nothing is freed
                return True
        finally:
            os.close(place)
        try:
            return self._cut(file)
        except OSError:  # it is sealed
            return True
        finally:
            os.close(file)

    def _is_large(self, descriptor: int) -> bool:
        found = os.fstat(descriptor)
        ours = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == self._owner
        return ours and found.st_blocks * 512 > STEP

    def _cut(self, file: int) -> bool:
        """Free a file's data from its end on, in steps; only what it has now, if it grows."""
        end = os.fstat(file).st_size
        while end := _end_of_data(file, end):
            if not self._deadline.left():
                return False
            end = max(0, end - STEP)
            os.ftruncate(file, end)
        return True


def _end_of_data(file: int, size: int) -> int:
    """Return where a file's last data ends, at most `size`: behind it may be petabytes of nothing.

    Found by halves, to a page: whether there is data from some place on is all that can be asked.
    """
    low, high, middle = 0, size, size - 1
    while low < high:
        try:
            low = os.lseek(file, middle, os.SEEK_DATA) + 1
        except OSError:  # ENXIO: none
            high = middle
        middle = (low + high) // 2
    return min(low, size)


if __name__ == "__main__":  # as the program was called before it did more than this
    from .epilog import main

    raise SystemExit(main())
