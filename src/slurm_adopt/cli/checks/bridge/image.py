"""The login image of a copy of this module: where it is, what makes it, why no login uses it.

Whether a login uses it bridge_probe.py tells: the interpreter of the login decides that.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAKER = "login_image.py"
WRITERS = stat.S_IWGRP | stat.S_IWOTH


def path_of(package: str, tag: str) -> str:
    """Return where the image for a release of Python is."""
    return f"{package}/__pycache__/login.{tag}.image"


def maker(package: str) -> str:
    """Return the program of a package that makes it; "" where it is of a release without."""
    path = f"{package}/{MAKER}"
    return path if os.path.isfile(path) else ""


def interpreter(told: dict[str, Any]) -> str:
    """Return the program for the Python that a trial has told of."""
    major, minor = told["version"][:2]
    return str(told.get("interpreter") or f"{told['prefix']}/bin/python{major}.{minor}")


def command(package: str, told: dict[str, Any]) -> list[str]:
    """Return the command that makes it."""
    return [interpreter(told), "-I", maker(package)]


def why_unused(package: str, tag: str, sources: Iterable[str]) -> tuple[str, bool]:
    """Return why no login uses the image: its own entry, or one that it depends on.

    And whether it will be used when it is made again.
    """
    path = path_of(package, tag)
    if not os.path.lexists(path):
        return f"there is no {path}", True
    of_files = {each for source in sources for each in (source, os.path.dirname(source))}
    for each in (path, *_above(path), *sorted(of_files)):
        if why := _unfit(each):
            return f"{path} is there, but {each} {why}", each == path
    return f"{path} is of other sources, or is not whole", True


def why_in_part(sources: Sequence[str]) -> tuple[str, bool]:
    """Return the same of the image's parts, for the sources that some logins import instead."""
    for each in sources:
        if why := _unfit(each):
            return f"{each} {why}", False
    others = f", nor are {len(sources) - 1} others" if sources[1:] else ""
    return f"{sources[0]} is not as the login image has it{others}", True


def _above(path: str) -> Iterable[str]:
    """Yield the directories above a path."""
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _unfit(path: str) -> str:
    """Say what of a file or directory keeps a login from using the image."""
    entry = os.lstat(path)
    if stat.S_ISLNK(entry.st_mode):
        return "is a link"
    if entry.st_uid:
        return f"belongs to uid {entry.st_uid}"
    mode = stat.S_IMODE(entry.st_mode)
    return f"has mode {mode:04o}, where others may write" if mode & WRITERS else ""
