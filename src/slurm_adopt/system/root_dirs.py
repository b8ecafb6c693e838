"""Directories below /run/slurm_adopt: root's own, made where they are missing."""

from __future__ import annotations

import os
import stat

TOP = "/run/slurm_adopt"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(name: str, mode: int, forbidden: int, top: str = TOP) -> int:
    """Open a directory below `top`, made with `mode` where it is missing.

    OSError if one of the two is not root's own, others may write to `top`, or the directory has a
    permission bit that is `forbidden`.
    """
    outer = -1
    try:
        _make(top, 0o711)
        outer = os.open(top, DIRECTORY)
        check(outer, 0o022)
        _make(name, mode, outer)
        inner = os.open(name, DIRECTORY, dir_fd=outer)
    finally:
        if outer >= 0:
            os.close(outer)
    try:
        check(inner, forbidden)
    except OSError:
        os.close(inner)
        raise
    return inner


def check(descriptor: int, forbidden: int) -> None:
    """Refuse what is not the own user's or has one of these permission bits."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & forbidden:
        from errno import EPERM

        raise PermissionError(EPERM, "it does not belong to root, or others may write to it")


def contents(directory: int, name: str, limit: int) -> bytes:
    """Return the beginning of a file in a directory, as one read(2) gives it; OSError.

    It has to be a regular file of root's that others may not write: of what is no file, b"".
    """
    file = os.open(name, _READ, dir_fd=directory)
    try:
        check(file, 0o022)
        return os.read(file, limit) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


def _make(path: str, mode: int, parent: int | None = None) -> None:
    """Make a directory that may be there, with this mode whatever the umask is."""
    try:
        os.mkdir(path, mode, dir_fd=parent)
    except FileExistsError:
        return
    os.chmod(path, mode, dir_fd=parent)
