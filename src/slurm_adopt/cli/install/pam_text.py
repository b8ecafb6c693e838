"""A PAM file as text that is edited: what is not edited stays to the byte.

Format of pam.conf(5). node/pam_files.py reads the same files as libpam does, for what they mean;
here is where each line stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_WORD = re.compile(r"\[(?:\\\]|[^\]])*\]?|[^ \t\n]+")
INCLUDES = ("include", "substack")


class Entry(NamedTuple):
    """What pam.conf(5) calls a line; with backslashes it takes several lines of the text.

    `start` and `end` are indexes of the text's lines, the latter behind its last. `kind` is a
    module type or `@include`; `words` are as they are written, controls with their brackets.
    """

    start: int
    end: int
    kind: str
    words: tuple[str, ...]

    @property
    def control(self) -> str:
        """Return the control; "" where there is none."""
        return self.words[1].lower() if len(self.words) > 1 and self.kind != "@include" else ""

    @property
    def module(self) -> str:
        """Return the module's name without a path; "" for includes."""
        named = len(self.words) > 2 and self.control not in INCLUDES and self.control
        return self.words[2].rpartition("/")[2] if named else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the words behind the module."""
        return self.words[3:]

    @property
    def included(self) -> str:
        """Return the name of the file that this line includes; "" for other lines."""
        if self.kind == "@include":
            return self.words[1] if len(self.words) > 1 else ""
        return self.words[2] if self.control in INCLUDES and len(self.words) > 2 else ""

    @property
    def number(self) -> int:
        """Return the number of its first line, as people count."""
        return self.start + 1

    def __str__(self) -> str:
        """Return it on one line."""
        return " ".join(self.words)


class PamText:
    """A PAM file: its lines and entries, and edits, which `edited` carries out."""

    def __init__(self, data: bytes) -> None:
        """Take a file's bytes; each is one character here."""
        self.data = data
        text = data.decode("latin-1")
        self._open_end = bool(text) and not text.endswith("\n")
        self.lines: list[str] = _LINE.findall(f"{text}\n" if self._open_end else text)
        self.entries = _entries(self.lines)
        self._removed: set[int] = set()
        self._inserted: dict[int, list[str]] = {}

    def remove(self, start: int, end: int) -> None:
        """Take lines out."""
        self._removed.update(range(start, end))

    def insert(self, index: int, lines: Iterable[str]) -> None:
        """Put lines, given without their ends, in front of a line."""
        self._inserted.setdefault(index, []).extend(f"{line}\n" for line in lines)

    def is_blank(self, index: int) -> bool:
        """Say whether a line is there and empty."""
        return 0 <= index < len(self.lines) and not self.lines[index].strip(" \t\n")

    def is_comment(self, index: int) -> bool:
        """Say whether a line is there and is nothing but a comment."""
        return 0 <= index < len(self.lines) and self.lines[index].lstrip(" \t").startswith("#")

    def edited(self) -> Edited:
        """Return the text with the edits."""
        lines: list[str] = []
        new: set[int] = set()
        for index in range(len(self.lines) + 1):
            for line in self._inserted.get(index, ()):
                lines.append(line)
                new.add(len(lines))
            if index < len(self.lines) and index not in self._removed:
                lines.append(self.lines[index])
        text = "".join(lines)
        data = (text[:-1] if self._open_end else text).encode("latin-1")
        return Edited(data, frozenset(new), frozenset(index + 1 for index in self._removed))


class Edited(NamedTuple):
    """An edited text; `new` and `removed`: numbers of lines, of the new text and of the old."""

    data: bytes
    new: frozenset[int]
    removed: frozenset[int]


def _entries(lines: Sequence[str]) -> list[Entry]:
    entries: list[Entry] = []
    begun, start = "", 0
    for index, raw in enumerate(lines):
        start = start if begun else index
        line, comment, _ = raw.rstrip("\n").partition("#")
        line = line.strip(" \t")
        if line.endswith("\\") and not comment:
            begun += line[:-1] + " "
            continue
        words = _WORD.findall(begun + line)
        if words:
            kind = words[0].lower()
            entries.append(Entry(start, index + 1, kind.removeprefix("-"), tuple(words)))
        begun = ""
    return entries
