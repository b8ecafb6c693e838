"""Who but root may write a file, or put another in its place."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PASSWD, GROUP = "/etc/passwd", "/etc/group"


def others_may_write(path: str, groups: Groups) -> str:
    """Return why somebody else may write a file or exchange it; "" if only root may.

    All directories above it count, by the path as it is given and as it is behind links.
    """
    return next((f"{each} {why}" for each, why in all_others_may_write([path], groups)), "")


def all_others_may_write(paths: Iterable[str], groups: Groups) -> Iterator[tuple[str, str]]:
    """Yield the files and directories of many that others may write, each once, and why."""
    seen: set[str] = set()
    for path in paths:
        for each in _chain(path):
            if each not in seen:
                seen.add(each)
                if why := _why(each, groups):
                    yield each, why


class Groups:
    """Which groups have members, by this host's own files: a group service may never answer."""

    def __init__(self) -> None:
        """Read the files."""
        self._used: dict[int, str] = {}
        for name, *_, gid, members in _rows(GROUP, 4):
            others = [member for member in members.split(",") if member not in ("", "root")]
            if others and gid.isdecimal():
                self._used[int(gid)] = name
        for name, _, uid, gid, *_ in _rows(PASSWD, 7):
            if uid != "0" and gid.isdecimal():
                self._used.setdefault(int(gid), f"of {name}")

    def used(self, gid: int) -> str:
        """Return the name of a group that somebody besides root is in; "" for all others."""
        return self._used.get(gid, "")


def _rows(path: str, fields: int) -> Iterator[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            rows = [line.rstrip("\n").split(":") for line in file]
    except OSError:
        return
    yield from (row for row in rows if len(row) == fields)


def _chain(path: str) -> Iterable[str]:
    """Return a path, what it leads to, and the directories above both."""
    found: dict[str, None] = {}
    for start in (os.path.abspath(path), os.path.realpath(path)):
        each = start
        while each != "/":
            found[each] = None
            each = os.path.dirname(each)
    return found


def _why(path: str, groups: Groups) -> str:
    try:
        entry = os.lstat(path)
    except OSError:
        return ""
    if entry.st_uid != 0:
        return f"belongs to uid {entry.st_uid}"
    is_link, sticky = stat.S_ISLNK(entry.st_mode), entry.st_mode & stat.S_ISVTX
    if is_link or (stat.S_ISDIR(entry.st_mode) and sticky):
        return ""  # of a link the mode says nothing; what is root's below sticky bits stays so
    if entry.st_mode & stat.S_IWOTH:
        return "may be written by everybody"
    return _why_by_group(path, groups.used(entry.st_gid)) if entry.st_mode & stat.S_IWGRP else ""


def _why_by_group(path: str, group: str) -> str:
    if _has_acl(path):  # the bits of the group are then its mask
        return "has an access control list that lets others write (see getfacl)"
    return f"may be written by the group {group}" if group else ""


def _has_acl(path: str) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False
