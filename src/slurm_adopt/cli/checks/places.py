"""Where something stands: file and line of what a check has found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.node import pam_files

LIMIT = 1 << 20  # bytes of a file
# Where configuration and units of systemd are, and drop-ins for them: systemd.unit(5).
SYSTEMD = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
         "/usr/lib/systemd/system", "/lib/systemd/system")  # fmt: skip


def lines(path: str, limit: int = LIMIT) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a file without blanks around; none if it cannot be read."""
    try:
        text = files.read(path, limit).decode("utf-8", "replace")
    except SetupError:
        return
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.strip()


def pam_line(line: pam_files.Line) -> tuple[str, int]:
    """Return file and number of a line of a PAM stack."""
    return line.path, line.number


def drop_ins(name: str, roots: tuple[str, ...]) -> list[str]:
    """Return the files that systemd reads for NAME, those that count last at the end.

    The main file comes first, then those of NAME.d by their names; of two of one name the first
    root's counts (systemd.conf(5), systemd.unit(5)).
    """
    main = [f"{root}/{name}" for root in roots if os.path.exists(f"{root}/{name}")]
    more: dict[str, str] = {}
    for root in reversed(roots):
        folder = f"{root}/{name}.d"
        for file in _listing(folder):
            if file.endswith(".conf"):
                more[file] = f"{folder}/{file}"
    return main[:1] + [more[file] for file in sorted(more)]


def settings(paths: list[str], section: str) -> dict[str, tuple[str, str, int]]:
    """Return value, file and line of each key of a section of systemd's files; the last counts."""
    found: dict[str, tuple[str, str, int]] = {}
    for path in paths:
        here = ""
        for number, line in lines(path):
            if line.startswith("["):
                here = line.strip("[]")
            key, equals, value = line.partition("=")
            if equals and here == section and line[:1] not in "#;":
                found[key.strip()] = value.strip(), path, number
    return found


def _listing(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
