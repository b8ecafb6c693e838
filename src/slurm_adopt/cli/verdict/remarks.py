"""A log for engine and node that keeps what they say, in place of /dev/log."""

from __future__ import annotations

from typing import NamedTuple

from slurm_adopt.system.log import Log, printable


class Remark(NamedTuple):
    """One line that a login would have logged."""

    level: str  # of SlurmdDebug
    text: str


class Remarks(Log):
    """Keeps all lines, of every level, and sends none."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        super().__init__("", 9)
        self.kept: list[Remark] = []

    def open(self) -> None:
        """Need nothing of the host."""

    def write(self, level: str, text: str, fields: dict[str, str] | None = None) -> None:  # noqa: ARG002
        """Keep one line."""
        self.kept.append(Remark(level, printable(text)))

    def of(self, *levels: str) -> list[str]:
        """Return the lines of some levels."""
        return [remark.text for remark in self.kept if remark.level in levels]
