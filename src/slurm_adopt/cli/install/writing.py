"""PAM files written whole: each is replaced by a rename, and several all or none.

What is to stand there and what stood there are both on the disk before anything is changed. So a
full disk stops it before, and the way back needs no space.
"""

from __future__ import annotations

import contextlib
import os
import stat
from errno import ENODATA, ENOTSUP
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.errors import ERROR, CliError
from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIMIT = 1 << 16  # bytes of a PAM file, as pam_files.py has it
MODE = 0o644  # of a file that was not there
NEW, OLD = "new", "old"


class File(NamedTuple):
    """One file: what stands there, and what is to stand there; None: it is not there."""

    path: str
    before: bytes | None
    after: bytes | None


class EditedError(CliError):
    """A file is not what it was when it was looked at."""


def read(path: str) -> bytes | None:
    """Return a file's bytes; None if it is not there."""
    if not os.path.exists(path):
        return None
    try:
        return files.read(path, LIMIT)
    except SetupError as error:
        raise CliError(f"{error}: that is no PAM file", ERROR) from None


class Writing:
    """Some files on their way from one text to another."""

    def __init__(self, files: Iterable[File]) -> None:
        """Touch nothing yet. A file behind a link is replaced where it is."""
        self._files = [file._replace(path=os.path.realpath(file.path)) for file in files]
        self._put: list[File] = []

    def prepare(self) -> None:
        """Write what is to stand there, and what stood there, beside the files."""
        for file in self._files:
            self._sweep(file)
            for name, text in ((OLD, file.before), (NEW, file.after)):
                if text is not None:
                    _write(_beside(file.path, name), text, like=file.path)

    def put(self) -> None:
        """Have the new texts stand there; EditedError, and nothing changed, if one was edited."""
        for file in self._files:
            _check(file)
        for file in self._files:
            self._put.append(file)
            _stand(file.path, NEW if file.after is not None else "")
        self._sync()

    def back(self) -> None:
        """Have the old texts stand there again."""
        if not self._put:
            return
        for file in self._put:
            if read(file.path) != file.before:
                _stand(file.path, OLD if file.before is not None else "")
        self._sync()

    def tidy(self) -> None:
        """Remove what stands beside the files; what cannot be removed is no harm."""
        for file in self._files:
            with contextlib.suppress(OSError):
                self._sweep(file)

    def _sweep(self, file: File) -> None:
        """Remove what this run, or one that was killed, has left."""
        for name in (NEW, OLD):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_beside(file.path, name))

    def _sync(self) -> None:
        for folder in {os.path.dirname(file.path) for file in self._files}:
            sync(folder)


def sync(folder: str) -> None:
    """Have the names in a directory on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Have errors of a file say which one it is: write(2) and its like do not know."""
    try:
        yield
    except OSError as error:
        if isinstance(error.filename, str):
            raise
        raise OSError(error.errno, error.strerror, path) from None


def _beside(path: str, name: str) -> str:
    folder, own = os.path.split(path)
    return f"{folder}/.{own}.slurm_adopt.{name}"


def _check(file: File) -> None:
    if read(file.path) != file.before:
        raise EditedError(
            f"{file.path} has been edited since it was looked at: nothing is changed; "
            "run the command again",
            ERROR,
        )


def _stand(path: str, name: str) -> None:
    """Put what is beside a file in its place; "": remove the file."""
    if name:
        os.rename(_beside(path, name), path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _write(path: str, text: bytes, like: str) -> None:
    """Write a new file, with owner, mode and attributes (SELinux's label) of another."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with named(path), open(os.open(path, flags, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        _dress(file.fileno(), like)
        os.fsync(file.fileno())


def _dress(fd: int, like: str) -> None:
    try:
        source = os.open(like, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        os.fchmod(fd, MODE)
        return
    try:
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise CliError(
                f"{like} is no file of its own: it is special, or has other names as well (see "
                "stat): nothing is changed",
                ERROR,
            )
        os.fchown(fd, found.st_uid, found.st_gid)
        os.fchmod(fd, stat.S_IMODE(found.st_mode))
        for name in _attributes(source):
            value = os.getxattr(source, name)
            if name not in _attributes(fd) or os.getxattr(fd, name) != value:
                os.setxattr(fd, name, value)  # a container may not set SELinux's label
    finally:
        os.close(source)


def _attributes(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno in (ENOTSUP, ENODATA):
            return []
        raise
