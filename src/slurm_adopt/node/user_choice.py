"""The job that a user has chosen for logins to this node: the modification time of a link.

/run/slurm_adopt/choices/UID is a symbolic link. Root makes it, in a directory that nobody else can
write, and gives it to the user. The owner of a link can set its times, and has no other use of it:
it has no content to write, takes no space, cannot be opened, and is not the user's to remove or to
replace. So reading it is one lstat(2), and there is nothing else that a user could have put there.

- Its modification time in whole seconds is the job id; 0, or a fraction of a second, is no choice.
- Its change time says when that was set, by the kernel: a job that was started here later is
  another one, which has the same id once it has been requeued.

Both count for jobs that are the user's by their stepds, and for no others.
"""

from __future__ import annotations

import os
import stat
from time import time

from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.proc import age
from slurm_adopt.system.root_dirs import TOP, opened

from .jobs import UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .jobs import Job

NAME = "choices"
LEADS_TO = "the-choice-is-its-mtime"  # nowhere: for who looks at it
SECOND = 1_000_000_000  # nanoseconds
LARGEST = (1 << 32) - 1  # job id; a federation's have its cluster in the upper bits
COARSE = 0.02  # seconds: a clock tick, and as much again for file systems' times
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UserChoice:
    """A choice that a user has made: of which job, and when."""

    __slots__ = ("job_id", "made")

    def __init__(self, job_id: int, made: float) -> None:
        """`made`: seconds since the epoch."""
        self.job_id = job_id
        self.made = made

    def check(self, job: Job) -> None:
        """Raise PeerError where it was made before this job was started here."""
        if job.started != UNKNOWN and self.made + COARSE < started_at(job):
            raise PeerError(
                f"the user has chosen job {self.job_id} before it was started here: that one has "
                "ended, and has been requeued"
            )


def started_at(job: Job) -> float:
    """Return when a job's extern step was started: seconds since the epoch."""
    return time() - age(job.started)


def have_place(uid: int, top: str = TOP) -> None:
    """Make the place of a user's choice where it is missing; SetupError if that fails."""
    try:
        directory = opened(NAME, 0o711, 0o022, top)
        try:
            _have_link(str(uid), uid, directory)
        finally:
            os.close(directory)
    except OSError as error:
        path = f"{top}/{NAME}/{uid}"
        raise SetupError(f"cannot make {path}: {error.strerror}") from None


def _have_link(name: str, uid: int, directory: int) -> None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        try:
            os.symlink(LEADS_TO, name, dir_fd=directory)
        except FileExistsError:  # another login's, which may not have given it away yet
            pass
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() != uid:
        os.chown(name, uid, -1, dir_fd=directory, follow_symlinks=False)


def chosen(uid: int, top: str = TOP) -> UserChoice | None:
    """Return a user's choice, None for none; FileNotFoundError, SetupError if it has no place."""
    path = f"{top}/{NAME}/{uid}"
    try:
        directory = _opened(top)
        try:
            found = os.stat(str(uid), dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SetupError(f"cannot look at {path}: {error.strerror}") from None
    if not stat.S_ISLNK(found.st_mode) or found.st_uid != uid:
        raise SetupError(f"{path} is not a link of the user's: remove it")
    job_id, fraction = divmod(found.st_mtime_ns, SECOND)
    if fraction or not 0 < job_id <= LARGEST:
        return None
    return UserChoice(job_id, found.st_ctime_ns / SECOND)


def _opened(top: str) -> int:
    """Open the directory of all choices, as a user can as well; OSError if it is not root's."""
    outer = os.open(top, _PLACE)
    try:
        _check_root_s(outer)
        inner = os.open(NAME, _PLACE, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        _check_root_s(inner)
    except OSError:
        os.close(inner)
        raise
    return inner


def _check_root_s(directory: int) -> None:
    found = os.fstat(directory)
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o022:
        from errno import EPERM

        raise PermissionError(EPERM, "it does not belong to root, or others may write to it")


def choose(uid: int, job_id: int, top: str = TOP) -> None:
    """Make a choice, as the user; 0 for none. OSError if that fails: the old one stays."""
    directory = _opened(top)
    try:
        times = (job_id * SECOND, job_id * SECOND)
        os.utime(str(uid), ns=times, dir_fd=directory, follow_symlinks=False)
    finally:
        os.close(directory)
