"""What keeps `install` and `uninstall` from a stack."""

from __future__ import annotations

from slurm_adopt.cli.errors import ERROR, CliError


class CannotError(CliError):
    """A stack that is not known, or is not for this command to edit; and what to do."""

    def __init__(self, text: str) -> None:
        """`text` becomes one line on standard error."""
        super().__init__(text, ERROR)
