"""This module's lines in a service's PAM stack: which options they set, and where."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.decision.options import Options, parse
from slurm_adopt.node import pam_files, pam_stack
from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

PHASES = ("account", "session")


class OurLine(NamedTuple):
    """One line of this module."""

    phase: str
    file: str
    number: int  # 0 where that does not show
    arguments: list[str]

    def __str__(self) -> str:
        """Say where it stands."""
        return f"{self.file}:{self.number}" if self.number else self.file


class Lines:
    """The lines of a service's stack that are this module's."""

    def __init__(self, service: str, places: tuple[str, ...] = pam_files.PLACES) -> None:
        """Read both phases."""
        self.service = service
        self._places = places
        self.of: dict[str, OurLine | None] = {phase: self._first(phase) for phase in PHASES}

    @property
    def first(self) -> OurLine | None:
        """The line that decides first; None if there is none."""
        return self.of["account"] or self.of["session"]

    def options(self, tried: Sequence[str] = ()) -> tuple[Options, list[str]]:
        """Return what the first line sets, with others in its place; and the line's mistakes."""
        given = self.first.arguments if self.first else []
        complaints = parse(given)[1]
        names = {word.partition("=")[0].lower() for word in tried}
        kept = [word for word in given if word.partition("=")[0].lower() not in names]
        return parse([*kept, *tried])[0], complaints

    def sets(self, option: str) -> bool:
        """Say whether the first line sets an option."""
        words = self.first.arguments if self.first else []
        return any(word.partition("=")[0].lower() == option for word in words)

    def adopting_phase(self) -> tuple[str, str]:
        """Return which phase adopts, and why not the session phase, if it has a line."""
        if self.of["account"] is None:
            return "session", ""
        if self.of["session"] is None:
            return "account", "there is no session line of this module"
        why = pam_stack.why_uncertain(self.service, self._places) or self._differing()
        return ("account", why) if why else ("session", "")

    def _differing(self) -> str:
        account, session = (parse(line.arguments if line else [])[0] for line in self.of.values())
        names = account.differing(session)
        return f"the session line has other options: {', '.join(names)}" if names else ""

    def _first(self, phase: str) -> OurLine | None:
        stack = pam_files.read(phase, self.service, self._places)
        for index in stack.ours:
            line = stack.lines[index]
            file = self._file(line.place)
            return OurLine(phase, file, _number(file, phase), line.ours or [])
        return None

    def _file(self, name: str) -> str:
        paths = [name] if name[:1] == "/" else [f"{place}/{name}" for place in self._places]
        return next(filter(os.path.lexists, paths), paths[0])


def _number(path: str, phase: str) -> int:
    """Return the number of the first line of a phase that names our script, 0 if none does."""
    with suppress(SetupError):
        lines = files.read(path, pam_files.LIMIT).decode("latin-1").split("\n")
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            ours = any(word.rpartition("/")[2] == pam_files.SCRIPT for word in words)
            if ours and words[0].lower().lstrip("-") == phase:
                return number
    return 0
