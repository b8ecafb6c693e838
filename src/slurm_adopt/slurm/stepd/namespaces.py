"""Entering the namespaces of a job: all of them, or none.

The stepd has handed out a descriptor for each (stepd.py). The kernel's word counts: before and
after, a namespace is told by its inode (namespaces(7)). The process must be root's (setns(2)).

Another PAM module may have started a thread in sshd. It stays where it is: what becomes the session
is started by ours. For that ours has to share no root and working directory with it. A user
namespace is entered by processes of one thread only.
"""

from __future__ import annotations

import os
from errno import EINVAL

from slurm_adopt.slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    Namespaces = list[tuple[int, int]]  # CLONE_NEW* flag, descriptor

# fmt: off
# CLONE_NEW* (linux/sched.h) -> the file of /proc/PID/ns that shows, and leads back to, what setns()
# changes. A PID namespace is entered by the children that are started later.
FILES = {
    0x00020000: "mnt",
    0x02000000: "cgroup",
    0x04000000: "uts",
    0x08000000: "ipc",
    0x10000000: "user",
    0x20000000: "pid_for_children",
    0x40000000: "net",
}
# fmt: on
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_FS = 0x00000200

_READ = os.O_RDONLY | os.O_CLOEXEC


def enter(pid: int, namespaces: Namespaces) -> list[str]:
    """Bring this process into namespaces; return the names of those that it was not in before.

    `pid` is the process that shall be in them: SetupError where it is not, and is not our own, for
    nobody can enter for another. SetupError, too, where one of them cannot be entered: the process
    is then where it was. The user namespace is the last, since no way leads back from it, and since
    from outside there is the right to enter those that it owns.
    """
    _check_kinds(namespaces)
    try:
        own = os.open(f"/proc/{pid}/ns", _READ | os.O_DIRECTORY)
    except OSError as error:
        raise SetupError(f"cannot read /proc/{pid}/ns: {error.strerror}") from None
    try:
        wanted = [one for one in namespaces if not _inside(own, *one)]
        wanted.sort(key=lambda one: one[0] == CLONE_NEWUSER)
        if wanted and pid != os.getpid():
            raise SetupError(
                f"only process {pid}, which becomes the session, can enter the job's namespaces: "
                "add a session line of this module, run by pam_python; or set join_container=false"
            )
        if wanted:
            _enter_all(own, wanted)
    finally:
        os.close(own)
    return [FILES[flag] for flag, _ in wanted]


def _check_kinds(namespaces: Namespaces) -> None:
    for flag, _ in namespaces:
        if flag not in FILES:
            raise SetupError(f"the job has a namespace of unknown kind {flag:#x}")


def _inside(own: int, flag: int, descriptor: int) -> bool:
    """Compare a namespace with that of the process whose /proc/PID/ns is open as `own`.

    That directory keeps showing the process where its /proc is out of sight.
    """
    try:
        return os.path.samestat(os.stat(FILES[flag], dir_fd=own), os.fstat(descriptor))
    except OSError as error:
        raise SetupError(f"cannot compare {FILES[flag]} namespaces: {error.strerror}") from None


def _check_inside(own: int, flag: int, descriptor: int) -> None:
    if not _inside(own, flag, descriptor):
        raise SetupError("the kernel shows the process outside")


def _enter_all(own: int, wanted: Namespaces) -> None:
    """Enter each and see that it is so, or go back."""
    setns, unshare = _setns(), _unshare()
    _check_threads(own, wanted)
    back = _Back(setns)
    try:
        for flag, descriptor in wanted:
            back.keep(own, flag)
            try:
                setns(descriptor, flag)
            except OSError as error:
                if flag != CLONE_NEWNS or error.errno != EINVAL:
                    raise
                unshare(CLONE_FS)  # nothing is changed by that where nobody shares
                setns(descriptor, flag)
            back.entered += 1
            _check_inside(own, flag, descriptor)
    except (OSError, SetupError) as error:
        text = f"cannot enter the job's {FILES[flag]} namespace: {error}"
        raise SetupError(text + back.go()) from None
    finally:
        back.close()


def _check_threads(own: int, wanted: Namespaces) -> None:
    """Raise SetupError where a user namespace is wanted and cannot be entered for its threads."""
    if wanted[-1][0] != CLONE_NEWUSER:
        return
    try:
        tasks = os.open("../task", _READ | os.O_DIRECTORY, dir_fd=own)
        try:
            count = len(os.listdir(tasks))
        finally:
            os.close(tasks)
    except OSError as error:
        raise SetupError(f"cannot count this process's threads: {error.strerror}") from None
    if count > 1:
        raise SetupError(
            f"cannot enter the job's user namespace: this process has {count} threads, and only "
            "a process with one thread can; does another PAM module start threads?"
        )


class _Back:
    """The way back: the namespaces left so far, and the root and working directory.

    `entered`: how many have been left for the job's.
    """

    __slots__ = ("_directories", "_left", "_setns", "entered")

    def __init__(self, setns: Callable[[int, int], object]) -> None:
        """Nothing is open before the first namespace."""
        self._setns = setns
        self.entered = 0
        self._left: Namespaces = []
        self._directories: list[int] = []

    def keep(self, own: int, flag: int) -> None:
        """Keep one that is about to be left; OSError if that cannot be done."""
        if not self._directories:
            for path in ("/", "."):  # setns() of a mount namespace changes both
                self._directories.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        self._left.append((flag, os.open(FILES[flag], _READ, dir_fd=own)))

    def go(self) -> str:
        """Go back, last one first; return what is to be added to the message."""
        try:
            for flag, descriptor in reversed(self._left[: self.entered]):
                self._setns(descriptor, flag)
            if self.entered:
                self._turn_to(*self._directories)
        except OSError as error:
            return f"; and cannot go back: {error}"
        return ""

    def _turn_to(self, root: int, directory: int) -> None:
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(directory)

    def close(self) -> None:
        """Close all that was kept."""
        for descriptor in (*self._directories, *(one for _, one in self._left)):
            os.close(descriptor)


def _setns() -> Callable[[int, int], object]:
    """Return setns(2): descriptor, CLONE_NEW* flag; OSError."""
    found: Callable[[int, int], object] | None = getattr(os, "setns", None)  # since Python 3.12
    return found or _of_libc("setns")


def _unshare() -> Callable[[int], object]:
    """Return unshare(2): CLONE_* flag; OSError."""
    found: Callable[[int], object] | None = getattr(os, "unshare", None)  # since Python 3.12
    return found or _of_libc("unshare")


def _of_libc(name: str) -> Callable[..., object]:
    """Return a function of int arguments that returns 0 or sets errno."""
    try:
        from slurm_adopt.slurm import libc

        return libc.function(name)
    except (AttributeError, ImportError, MemoryError, OSError) as error:  # MemoryError: by SELinux
        raise SetupError(f"cannot call {name}(2) from this Python: {error!r}") from None
