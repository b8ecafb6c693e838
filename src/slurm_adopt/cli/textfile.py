"""A file for node_exporter's textfile collector, which may read it at any moment."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .errors import CliError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODE = 0o644  # node_exporter is a user of its own


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """Return one line of Prometheus's text format."""
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def head(name: str, kind: str, help_: str) -> list[str]:
    """Return the two lines in front of a metric's samples; `kind`: gauge, counter, histogram."""
    return [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]


def write(path: str, lines: Iterable[str]) -> None:
    """Write a file whole or not at all; CliError if that cannot be done."""
    folder, name = os.path.split(path)
    if not name or os.path.isdir(path):
        raise CliError(f"cannot write {path}: it is a directory; name a file, NAME.prom")
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    text = "".join(f"{line}\n" for line in lines).encode()
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), MODE)
        os.rename(temporary, path)
    except OSError as error:
        if error.errno is None or not isinstance(error, FileExistsError):
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise CliError(f"cannot write {path}: {error.strerror}") from None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
