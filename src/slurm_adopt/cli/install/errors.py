"""What keeps `install` and `uninstall` from a stack."""

from __future__ import annotations

from slurm_adopt.cli.errors import CliError


class CannotError(CliError):
    """A stack that is not known, or is not for this command to edit; and what to do."""
