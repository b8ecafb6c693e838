"""Where a key stands in slurm.conf or cgroup.conf: file and line, included files as well."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.slurm import files
from slurm_adopt.slurm.config.conf import BLANKS, DEPTH, FILE_LIMIT, INCLUDES
from slurm_adopt.slurm.config.odd_lines import PAIR
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.slurm.config.conf import Conf

_COMMENT = re.compile(r"(?<!\\)(?:\\\\)*#.*")
# Lines of their own kind: their keys are not those of the whole configuration.
_KINDS = ("nodename", "partitionname", "downnodes", "nodeset", "frontendname", "switchname")


class Line(NamedTuple):
    """One key of a configuration file, and where it stands."""

    key: str  # in lower case
    value: str
    file: str
    number: int


def lines(host: Host, conf: Conf) -> list[Line]:
    """Return all keys of a configuration in the order in which they are read."""
    return host.once(f"lines of {conf.path}", lambda: list(_Reader(conf).read(conf.path, 0)))


def where(host: Host, conf: Conf, key: str) -> tuple[str, int]:
    """Return file and line of the value that counts; the file alone where the key is not there."""
    found = [line for line in lines(host, conf) if line.key == key.lower()]
    return (found[-1].file, found[-1].number) if found else (conf.path, 0)


def read_files(host: Host, conf: Conf) -> list[str]:
    """Return the files that a configuration is made of, as far as they have keys."""
    return list(dict.fromkeys([conf.path, *(line.file for line in lines(host, conf))]))


class _Reader:
    """Reads files as slurm/config/conf.py does, with the lines' numbers."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._left = INCLUDES

    def read(self, path: str, depth: int) -> Iterator[Line]:
        """Yield the keys of a file, and of those that it includes; what cannot be read is empty."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH or not os.path.exists(path):
            return
        try:
            text = files.read(path, FILE_LIMIT).decode("utf-8", "surrogateescape")
        except SetupError:
            return
        before = ""  # what a line that goes on in the next one began with
        for number, raw in enumerate(text.split("\n"), 1):
            line = _COMMENT.sub("", raw).rstrip(BLANKS)
            head = line.split(None, 1)
            if not before and len(head) == 2 and head[0].lower() == "include":
                name = head[1].strip().strip('"')
                name = name.replace("%c", self._conf.get("ClusterName").lower())
                there = os.path.join(os.path.dirname(self._conf.path), name)
                yield from self.read(there, depth + 1)
                continue
            yield from _keys(line.rstrip("\\"), before, path, number)
            before = (before or line) if line.endswith("\\") else ""


def _keys(line: str, before: str, path: str, number: int) -> Iterator[Line]:
    """Yield the keys of a line; of one of another kind the first alone."""
    first = (before or line).partition("=")[0].strip(BLANKS).lower()
    if first in _KINDS:
        if not before:
            yield Line(first, "", path, number)
        return
    for key, quoted, bare in PAIR.findall(line):
        yield Line(key.lower(), quoted or bare, path, number)
