"""`--json FILE` of what takes long: that it can be written there is known before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Command = Callable[..., Any]


def _checked(_context: click.Context, _option: click.Parameter, file: Path | None) -> Path | None:
    """Refuse a file in no directory."""
    if file and not file.parent.is_dir():
        raise click.BadParameter(f"there is no directory {file.parent}")
    return file


def json_file(command: Command) -> Command:
    """Give a command the option."""
    kind = click.Path(path_type=Path, dir_okay=False, writable=True)
    said = "write what was seen there"
    return click.option("--json", "file", type=kind, callback=_checked, help=said)(command)
