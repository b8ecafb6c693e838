"""The program: which command is asked for, and what every way to fail comes to.

A command's module is imported when it is asked for. `whoami --prompt` goes first and without click:
it stands in users' prompts.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import NoReturn

from .errors import UNKNOWN, USAGE, CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "slurm-adopt"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command of the arguments; exit with its status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except CliError as error:
        _say(str(error))
        status = error.status
    except KeyboardInterrupt:
        status = 128 + 2  # as a shell has it for SIGINT
    except OSError as error:
        status = _lost(error)
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    if arguments == ["whoami", "--prompt"]:
        return int(import_module("slurm_adopt.cli.whoami").prompt())
    try:
        import click
    except ImportError:
        raise CliError("it needs click: install python3-click (or pip install click)") from None
    from .commands import group

    try:
        status = group.main(arguments, prog_name=NAME, standalone_mode=False)
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.Abort:
        status = 128 + 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (try '{context.command_path} --help')" if context else ""
        raise CliError(f"{error.format_message()}{hint}", USAGE) from None
    return status if isinstance(status, int) else 0


def _lost(error: OSError) -> int:
    """Return the status where the reader of our output has gone, or it cannot be written."""
    if error.errno != errno.EPIPE:
        _say(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))
        return UNKNOWN
    # What is still buffered would be written at the end of the interpreter, and fail there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + 13  # as a shell has it for SIGPIPE


def _say(text: str) -> None:
    line = " ".join(text.split())
    print(f"{NAME}: {line}", file=sys.stderr)  # noqa: T201
