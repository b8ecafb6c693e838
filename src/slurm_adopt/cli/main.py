"""The program: which command is asked for, and what every way to fail comes to.

A command's module is imported when it is asked for. `whoami --prompt` goes first and without click:
it stands in users' prompts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from importlib import import_module

from .errors import UNKNOWN, USAGE, CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import Any, NoReturn
else:
    import _signal as signal  # all that is wanted of `signal`, which takes 3 ms to import

NAME = "slurm-adopt"
INTERRUPTED = 128 + 2  # as a shell has it for SIGINT
COMPLETION = "_SLURM_ADOPT_COMPLETE"  # set by a shell that wants to complete a command


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command of the arguments; exit with its status."""
    _on_interrupt(signal.SIG_DFL)  # ends it without a word, also while something is imported
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):  # what an encoding does not have is escaped
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if arguments[:1] == ["check"]:
        from . import apart

        sys.exit(apart.run(lambda: _ended(arguments)))
    status = _ended(arguments)
    threading = sys.modules.get("threading")
    if threading and threading.active_count() > 1:
        os._exit(status)  # what waits in another thread is not waited for
    sys.exit(status)


def _on_interrupt(handler: Any) -> None:
    """Set what SIGINT does, unless it is ignored: so it is behind `&` and nohup."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _open_standard_streams() -> None:
    """Have standard input, output and error where they were closed: what is written is lost.

    Else the next file that is opened would be one of them.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - to the end


def _ended(arguments: list[str]) -> int:
    """Return the status of the command, also where ^C ends it: then it may tidy up."""
    try:
        _on_interrupt(signal.default_int_handler)
        status = _status_of(arguments)
        _on_interrupt(signal.SIG_DFL)
    except KeyboardInterrupt:
        status = INTERRUPTED
    return status


def _status_of(arguments: list[str]) -> int:
    """Run the command, say what has gone wrong in one line; all that it prints is written."""
    try:
        try:
            status = _run(arguments)
        finally:
            sys.stdout.flush()
    except CliError as error:
        _say(str(error))
        status = error.status
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError as error:
        status = _lost(error)
    except MemoryError:
        _say("there is not enough memory (see ulimit -v)")
        status = UNKNOWN
    except SystemExit as done:  # of click, for a completion
        status = done.code if isinstance(done.code, int) else UNKNOWN
    except Exception as error:  # noqa: BLE001 - one line, whatever it is
        from slurm_adopt.decision.engine import our_mistake

        _say(our_mistake(error))
        status = UNKNOWN
    return status


def _run(arguments: list[str]) -> int:
    if arguments == ["whoami", "--prompt"]:
        return int(import_module("slurm_adopt.cli.whoami.shell_job").prompt())
    try:
        import click
    except ImportError:
        raise CliError("it needs click: install python3-click (or pip install click)") from None
    if not hasattr(click.Parameter, "shell_complete"):  # new in 8.0; RHEL 9 has 7.1
        raise CliError(f"it needs click 8.0 or later, and finds an older one: {click.__file__}")
    from .commands import group

    if COMPLETION in os.environ:
        group.main(arguments, prog_name=NAME)
    try:
        # Not by group.main: that has a status of its own where the reader of our output has gone.
        with group.make_context(NAME, arguments) as context:
            status = group.invoke(context)
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.Abort:
        status = INTERRUPTED
    except click.ClickException as error:
        raise CliError(_in_a_line(error), USAGE) from None
    return status if isinstance(status, int) else 0


def _in_a_line(error: Exception) -> str:
    """Return what is wrong with the arguments, as click says it, and where the help is."""
    import click

    context = getattr(error, "ctx", None)
    path = context.command_path if context else NAME
    said = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":  # its text is the whole help
        said = "which command?"
    return f"{said} (try '{path} --help')"


def _lost(error: OSError) -> int:
    """Return the status where the reader of our output has gone, or it cannot be written."""
    if error.filename is None:
        # What is still buffered would be written at the end of the interpreter, and fail there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno == errno.EPIPE:
        return 128 + 13  # as a shell has it for SIGPIPE
    said = error.strerror or str(error)
    _say(f"{said}: {error.filename}" if error.filename else said)
    return UNKNOWN


def _say(text: str) -> None:
    line = " ".join(text.split())
    with contextlib.suppress(OSError):  # nobody hears it
        print(f"{NAME}: {line}", file=sys.stderr)  # noqa: T201
