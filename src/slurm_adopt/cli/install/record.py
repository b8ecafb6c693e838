"""What `install` has done on this node, kept in root's own folder: one record for each service.

The folder is the lock, too. A record is replaced as a whole. The texts that it names are files of
their own, there before it: root can copy one back by hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from slurm_adopt.cli.deadlines import AGAIN
from slurm_adopt.cli.errors import ERROR, CliError
from slurm_adopt.system import root_dirs

from .writing import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOP = "/var/lib/slurm_adopt"
FOLDER = "install"
SCHEMA = 1
LIMIT = 1 << 20
FAR = 1 << 40  # seconds since 1970
_WORDS = 16  # of a text's hash, in its name
# What reading a record raises where it is not one
_DAMAGES = (
    ValueError, TypeError, KeyError, AttributeError, RecursionError, FileNotFoundError,
)  # fmt: skip


class Kept(NamedTuple):
    """One PAM file; None: it is not there.

    `base`: what uninstall gives back; `before` and `after`: on both sides of the last change.
    """

    path: str
    base: bytes | None
    before: bytes | None
    after: bytes | None


class Trial(NamedTuple):
    """A change that is taken back at a time, and by what."""

    name: str
    ends: float  # seconds since 1970
    by: str
    job: str  # at's number of the job; "" for systemd


class Record(NamedTuple):
    """What is installed, and a change that has not been finished: a trial, or it was killed."""

    installed: tuple[Kept, ...] = ()
    change: tuple[Kept, ...] = ()
    trial: Trial | None = None


class Folder:
    """The folder, held by this process alone."""

    def __init__(self, fd: int, top: str) -> None:
        """`fd` is the folder's."""
        self._fd = fd
        self._top = top
        self.path = f"{top}/{FOLDER}"

    def load(self, service: str) -> Record:
        """Return the record of a service; CliError if it is there and cannot be read."""
        try:
            data = self._read(f"{service}.json")
        except FileNotFoundError:
            self._sweep(service, set())  # of a run that was killed
            return Record()
        try:
            return self._record(service, json.loads(data))
        except _DAMAGES:
            raise CliError(
                f"{self.path}/{service}.json is damaged: look at the PAM files, then remove all "
                f"of {service}.* in there",
                ERROR,
            ) from None

    def save(self, service: str, record: Record) -> None:
        """Write the record of a service; an empty one is removed, with the folder."""
        if record == Record():
            self._remove(service)
            return
        texts = {
            _name(service, text): text
            for kept in (*record.installed, *record.change)
            for text in kept[1:]
            if text is not None
        }
        there = set(os.listdir(self._fd))
        for name, text in texts.items():
            if name not in there:
                self._write(name, text)
        self._write(f"{service}.json", json.dumps(_as_dict(record), indent=1).encode() + b"\n")
        os.fsync(self._fd)
        self._sweep(service, {*texts, f"{service}.json"})

    def place_of(self, service: str, text: bytes) -> str:
        """Return the path of a text that is kept."""
        return f"{self.path}/{_name(service, text)}"

    def close(self) -> None:
        """Remove the folders if they are empty, and let others in."""
        try:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
                os.rmdir(self._top)
        finally:
            os.close(self._fd)

    def _remove(self, service: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{service}.json", dir_fd=self._fd)
        self._sweep(service, set())

    def _sweep(self, service: str, wanted: set[str]) -> None:
        """Remove what no record names; what cannot be removed is no harm."""
        ours = re.compile(rf"{re.escape(service)}\.(json|[0-9a-f]{{{_WORDS}}})(\.new)?")
        for name in os.listdir(self._fd):
            if ours.fullmatch(name) and name not in wanted:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._fd)

    def _write(self, name: str, data: bytes) -> None:
        new = f"{name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=self._fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            named(f"{self.path}/{new}"),
            open(os.open(new, flags, 0o600, dir_fd=self._fd), "wb") as file,
        ):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def _read(self, name: str) -> bytes:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(name, flags, dir_fd=self._fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return b""  # which is no record
            with open(fd, "rb", closefd=False) as file:
                return file.read(LIMIT)
        finally:
            os.close(fd)

    def _record(self, service: str, given: dict[str, Any]) -> Record:
        if given["schema"] != SCHEMA:
            raise ValueError
        return Record(
            tuple(self._kept(service, one) for one in given["installed"]),
            tuple(self._kept(service, one) for one in given["change"]),
            _trial(given["trial"]),
        )

    def _kept(self, service: str, given: dict[str, Any]) -> Kept:
        path, texts = given["path"], (given["base"], given["before"], given["after"])
        if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
            raise ValueError
        base, before, after = (self._text(service, text) for text in texts)
        return Kept(path, base, before, after)

    def _text(self, service: str, given: str | None) -> bytes | None:
        if given is None:
            return None
        data = self._read(f"{service}.{given[:_WORDS]}")
        if _hash(data) != given:
            raise ValueError
        return data


def _trial(given: dict[str, Any] | None) -> Trial | None:
    """Return a trial as it was saved; ValueError, TypeError if it is none."""
    if given is None:
        return None
    trial = Trial(**given)
    texts = all(isinstance(text, str) for text in (trial.name, trial.by, trial.job))
    if not texts or not isinstance(trial.ends, (int, float)) or not 0 <= trial.ends < FAR:
        raise ValueError
    return trial


def exists(service: str, top: str = TOP) -> bool:
    """Say whether there is a record of a service; nothing is locked, and nothing made."""
    return os.path.lexists(f"{top}/{FOLDER}/{service}.json")


@contextlib.contextmanager
def held(seconds: float = 0.0, top: str = TOP) -> Iterator[Folder]:
    """Hold the folder; CliError if another process does for longer than this, or it is not ours."""
    end = time.monotonic() + seconds
    while True:
        fd = _opened(top)
        try:
            if _locked(fd) and _is_still(fd, f"{top}/{FOLDER}"):
                break
        except OSError as error:
            os.close(fd)
            why = f"{top}/{FOLDER} cannot be locked: {error.strerror}"
            raise CliError(f"{why}: nothing is changed", ERROR) from None
        os.close(fd)
        if time.monotonic() >= end:
            raise CliError("another slurm-adopt install or uninstall is running: try again", ERROR)
        time.sleep(AGAIN)
    folder = Folder(fd, top)
    try:
        yield folder
    finally:
        folder.close()


def _opened(top: str) -> int:
    try:
        return root_dirs.opened(FOLDER, 0o700, 0o077, top)
    except OSError as error:
        raise CliError(
            f"{top}/{FOLDER} cannot be used: {error.strerror}. It has to be a directory of root's "
            "with mode 0700, in one that others cannot write to: nothing is changed",
            ERROR,
        ) from None


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(fd: int, path: str) -> bool:
    """Say whether the folder is there: who held it may have removed it."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _as_dict(record: Record) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "installed": _kept_as_dicts(record.installed),
        "change": _kept_as_dicts(record.change),
        "trial": record.trial._asdict() if record.trial else None,
    }


def _kept_as_dicts(files: Iterable[Kept]) -> list[dict[str, object]]:
    return [
        {name: _hash(value) if isinstance(value, bytes) else value
         for name, value in kept._asdict().items()}
        for kept in files
    ]  # fmt: skip


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _name(service: str, text: bytes) -> str:
    return f"{service}.{_hash(text)[:_WORDS]}"
