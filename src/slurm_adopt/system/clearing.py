"""Emptying a directory that a user has filled: in bounded time, whatever is in it.

Each directory is taken from the user before it is emptied, so that nobody goes on making files in
it. No link is followed. What is mounted there is left alone without a look, since a FUSE file
system may never answer. A large file is cut down in steps before it is unlinked, since the kernel
would free all of it at one go.
"""

from __future__ import annotations

import os
import stat
from errno import EBUSY, ENOENT, ENOTEMPTY
from time import monotonic_ns

from .root_dirs import DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from slurm_adopt.slurm.waiting import Deadline

OTHERS = (ENOENT, ENOTEMPTY)  # another login is at it as well
STEP = 64 << 20  # bytes that are freed between two looks at the time: some 20 ms
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_CUT = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def entered(parent: int, name: str) -> int:
    """Open a directory in another one; OSError if it is none, or something is mounted there.

    Opened by O_PATH first, which asks no file system anything.
    """
    place = os.open(name, DIRECTORY | os.O_PATH, dir_fd=parent)
    try:
        if _mount(place) != _mount(parent):
            raise OSError(EBUSY, "something is mounted there")
        return os.open(".", DIRECTORY, dir_fd=place)
    finally:
        os.close(place)


def _mount(descriptor: int) -> bytes:
    """Return the number of the mount that a descriptor is on (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        return file.read().partition(b"mnt_id:")[2].split(b"\n")[0]


def _take(directory: int) -> None:
    """Take a directory from its user: nothing can be made in it any more, nor moved into or out.

    The kernel asks the inode each time. So it is no help to have kept a descriptor, or to be in it;
    nor an ACL, whose mask is among the bits of the mode; nor to be root of a user namespace, where
    our uid has no number. The owner comes first: an owner could change the mode again.
    """
    os.fchown(directory, os.geteuid(), os.getegid())
    os.fchmod(directory, 0)


class Clearing:
    """Empties a directory, however deep it is, with three descriptors.

    What a directory in it has below it is moved up into the top one, and is there the next round.
    """

    __slots__ = ("_deadline", "_owner", "_top", "trouble")

    trouble: OSError | None  # of the last round: what could not be deleted

    def __init__(self, top: int, owner: int, deadline: Deadline) -> None:
        """`owner`: the uid whose files may be cut down."""
        self._top = top
        self._deadline = deadline
        self._owner = owner
        self.trouble = None

    def round(self) -> int:
        """Go through the directory once; return how much was done."""
        self.trouble = None
        _take(self._top)  # in each: a login that has just made it may have given it away again
        return self._each(self._top, self._clear)

    def _clear(self, name: str) -> int:
        """Delete a directory of the top one, but for what there is no time for."""
        directory = entered(self._top, name)
        try:
            _take(directory)
            done = self._each(directory, lambda below: self._move_up(directory, below))
        finally:
            os.close(directory)
        try:
            os.rmdir(name, dir_fd=self._top)
            done += 1
        except OSError:  # something is left in it: no time, or trouble, which is noted
            pass
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
                    if error.errno not in OTHERS:
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
        return ours and _space(descriptor) > STEP

    def _cut(self, file: int) -> bool:
        """Free a file's data from its end on, in steps, until the rest is not large any more.

        Only what it has now, if it grows. Where most of its length has space, that is cut as it is:
        space that was allocated and never written counts as no data.
        """
        end = os.fstat(file).st_size
        dense = end <= 2 * _space(file)
        while _space(file) > STEP:
            if not dense:
                end = _end_of_data(file, end)
            if not end:
                break
            if not self._deadline.left():
                return False
            end = max(0, end - STEP)
            os.ftruncate(file, end)
        return True


def _space(file: int) -> int:
    """Return how many bytes a file takes."""
    return os.fstat(file).st_blocks * 512


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
