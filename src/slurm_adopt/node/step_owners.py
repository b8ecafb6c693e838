"""Whose the extern steps of this node are, as their stepds have said: they need not say it again.

Whose a step is does not change as long as its socket is there. So where a node has many steps, a
login leaves a table, and the next ones ask the stepds of the user and those that are not in it. A
socket is known by path, inode and change time, looked at before its stepd was asked: what
users can change of it only makes it unknown.

The table decides one thing: that the stepds of other users' steps are not asked now. It makes no
job one of the user's: those are asked as ever, and the one that is chosen says whose it is once
more. Nobody is refused by it: where no other step is the user's, all are asked. It is root's, in a
directory with mode 0700. One that is another's, or cannot be read, is none. Of one that is cut off
the whole lines count. Without it all is as it was, and takes longer.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.digits import id_of
from slurm_adopt.system.root_dirs import DIRECTORY, check, contents, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from slurm_adopt.slurm.stepd.step_sockets import StepSocket

FEW = 16  # steps to learn: as many are asked as fast as a table is written
_LIMIT = 1 << 22  # bytes: a step takes about 80
_NAME = "table"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Owners:
    """The steps that there are, and what the table says of them."""

    __slots__ = ("_keys", "_place", "_table")

    def __init__(self, steps: Collection[StepSocket], place: str) -> None:
        """Look at the sockets and read the table; `place`: the directory that has it."""
        self._place = place
        self._keys = _keys(steps)
        self._table = _read(place)

    def others(self, uid: int) -> set[StepSocket]:
        """Return the steps that are known to be other users' than this one."""
        keys: set[str] = set()
        keys.update(*(theirs for owner, theirs in self._table.items() if owner != uid))
        return {step for step, key in self._keys.items() if key in keys}

    def learn(self, said: dict[StepSocket, int]) -> None:
        """Keep whose steps are, as stepds have said now; OSError if it cannot be written.

        If there are more than a few to learn, or the table says otherwise.
        """
        known = {key: uid for uid, keys in self._table.items() for key in keys}
        known_by = ((self._keys.get(step, ""), uid) for step, uid in said.items())
        fresh = {key: uid for key, uid in known_by if key and "\t" not in key and "\n" not in key}
        new = sum(key not in known for key in fresh)
        if new <= FEW and all(known.get(key, uid) == uid for key, uid in fresh.items()):
            return
        there = set(self._keys.values()) - fresh.keys()
        table = {uid: there.intersection(keys) for uid, keys in self._table.items()}
        for key, uid in fresh.items():
            table.setdefault(uid, set()).add(key)
        lines = ["\t".join((str(uid), *sorted(keys))) + "\n" for uid, keys in table.items() if keys]
        _replace(self._place, "".join(lines).encode("utf-8", "surrogateescape"))


def _keys(steps: Collection[StepSocket]) -> dict[StepSocket, str]:
    """Return what sockets are known by; without those that are gone."""
    keys = {}
    for step in steps:
        path = step.path
        try:
            found = os.lstat(path)
        except OSError:
            continue
        keys[step] = f"{path} {found.st_ino} {found.st_ctime_ns}"
    return keys


def _read(place: str) -> dict[int, list[str]]:
    """Return the keys of each user's steps; none where there is no table that counts."""
    try:
        directory = os.open(place, DIRECTORY)
    except OSError:
        return {}
    try:
        check(directory, 0o077)
        data = contents(directory, _NAME, _LIMIT)
    except OSError:
        return {}
    finally:
        os.close(directory)
    table: dict[int, list[str]] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        owner, *keys = line.split("\t")
        uid = id_of(owner)
        if uid is not None:
            table[uid] = keys
    return table


def _replace(place: str, data: bytes) -> None:
    """Write the table in the place of the one that is there; OSError.

    A reader finds none, or whole lines of it. Of two writers one gives up.
    """
    top, _, name = place.rpartition("/")
    directory = opened(name, 0o700, 0o077, top)
    try:
        try:
            os.unlink(_NAME, dir_fd=directory)
        except FileNotFoundError:
            pass
        try:
            file = os.open(_NAME, _WRITE, 0o600, dir_fd=directory)
            try:
                os.write(file, data)
            finally:
                os.close(file)
        except FileExistsError:
            pass
    finally:
        os.close(directory)
