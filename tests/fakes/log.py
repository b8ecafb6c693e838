"""A log that writes nothing."""

from __future__ import annotations


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def debug(self, text: str) -> None:
        self.lines.append(text)

    info = error = debug

    def open(self) -> None:
        """Nothing is to be opened."""

    def close(self) -> None:
        """Nor closed."""
