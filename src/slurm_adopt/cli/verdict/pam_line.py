"""This module's lines in a service's PAM stack: which options they set, and where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.errors import CliError
from slurm_adopt.decision.options import Options, parse
from slurm_adopt.node import pam_files, pam_stack

from .fronts import is_exec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slurm_adopt.node.pam_files import Line

SSHD = "sshd"
PHASES = ("account", "session")


def service_of(given: str | None) -> str:
    """Return the PAM service to look at, sshd by default; CliError if one is given in vain."""
    if given is None:
        return SSHD
    paths = [os.path.join(place, given) for place in pam_files.PLACES]
    if "/" in given or not any(map(os.path.isfile, paths)):
        places = " or ".join(pam_files.PLACES)
        raise CliError(f"no PAM service {given}: no file of that name in {places}")
    return given


def where(line: Line) -> str:
    """Return file and line number, as people write them."""
    return f"{line.path}:{line.number}"


def script_of(line: Line) -> str:
    """Return the path of this module's script, as the line gives it."""
    return next(
        word for word in line.arguments if word.rpartition("/")[2] in pam_files.SCRIPTS.values()
    )


def named(words: Iterable[str]) -> set[str]:
    """Return the names of the options that are given."""
    return {word.partition("=")[0].lower() for word in words}


class Lines:
    """The lines of a service's stack that are this module's."""

    def __init__(self, service: str, places: tuple[str, ...] = pam_files.PLACES) -> None:
        """Read both phases."""
        self.service = service
        self._places = places
        self.of: dict[str, Line | None] = {phase: self._first(phase) for phase in PHASES}

    @property
    def first(self) -> Line | None:
        """The line that decides first; None if there is none."""
        return self.of["account"] or self.of["session"]

    def options(self, tried: Sequence[str] = ()) -> tuple[Options, list[str]]:
        """Return what the first line sets, with others in its place; and the line's mistakes."""
        words = self._words()
        names = named(tried)
        kept = [word for word in words if named([word]).isdisjoint(names)]
        return parse([*kept, *tried])[0], parse(words)[1]

    def sets(self, option: str) -> bool:
        """Say whether the first line sets an option."""
        return option in named(self._words())

    def _words(self) -> list[str]:
        return self.first.ours or [] if self.first else []

    def adopting_phase(self) -> tuple[str, str]:
        """Return which phase adopts, and why not the session phase, if it has a line."""
        if self.of["account"] is None:
            return "session", ""
        if self.of["session"] is None:
            return "account", "there is no session line of this module"
        why = pam_stack.why_uncertain(self.service, self._places) or self._differing()
        return ("account", why) if why else ("session", "")

    @property
    def apart(self) -> bool:
        """Whether the line that adopts is pam_exec's: another process than the session's."""
        line = self.of[self.adopting_phase()[0]]
        return line is not None and is_exec(line)

    def _differing(self) -> str:
        account, session = (parse(line.ours or [] if line else [])[0] for line in self.of.values())
        names = account.differing(session)
        return f"the session line has other options: {', '.join(names)}" if names else ""

    def _first(self, phase: str) -> Line | None:
        stack = pam_files.read(phase, self.service, self._places)
        return next((stack.lines[index] for index in stack.ours), None)
