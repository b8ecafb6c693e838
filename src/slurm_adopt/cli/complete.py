"""What a shell that completes a command is offered: users, and options of the module."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

from slurm_adopt.decision.options import OPTIONS

if TYPE_CHECKING:
    import click


def users(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return the users of this host whose names begin so."""
    return [each.pw_name for each in pwd.getpwall() if each.pw_name.startswith(incomplete)]


def options(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Return the module's options that begin so, with each value that one of a list has."""
    words = [
        f"{option.name}={value}"
        for option in OPTIONS
        for value in (option.values if isinstance(option.values, tuple) else ("",))
    ]
    return [word for word in words if word.startswith(incomplete)]
