"""What ends a command: one line on standard error, and an exit status."""

from __future__ import annotations

OK, WARNING, ERROR, UNKNOWN = 0, 1, 2, 3  # exit status, as plugins of Nagios have it
USAGE = UNKNOWN


class CliError(Exception):
    """A command cannot do what was asked; the text says what to do."""

    def __init__(self, text: str, status: int = UNKNOWN) -> None:
        """`text` becomes one line on standard error."""
        super().__init__(text)
        self.status = status
