"""What commands print: plain lines, tables, JSON. rich is used on a terminal alone, if it is there.

Texts from outside (names of users and jobs, environment) are made printable: none can send a
terminal anything.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INDENT = 1


def printable(text: object) -> str:
    """Return a text of one line without control characters, as ascii() would escape them."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def line(text: object = "") -> None:
    """Print one line."""
    click.echo(printable(text))


def as_json(value: Any) -> None:
    """Print a value as JSON, in one go; what is no UTF-8 is replaced, for strict readers."""
    click.echo(json.dumps(_whole(value), indent=INDENT, ensure_ascii=True))


def _whole(value: Any) -> Any:
    """Return a value without half characters, as names have them that are no UTF-8."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole(each) for each in value]
    return value


def arrow() -> str:
    """Return an arrow that the encoding of standard output has."""
    try:
        "\u2192".encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return "->"
    return "\u2192"


def styled(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines, each with a style of rich's; the style counts on a terminal, if rich is there.

    Everything goes out in one go: two programs that print to one pipe do not mix.
    """
    shown = [(style, printable(text)) for style, text in lines]
    if on_terminal():
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            console = Console(highlight=False, soft_wrap=True)
            console.print(Text("\n").join(Text(text, style=style) for style, text in shown))
            return
    click.echo("\n".join(text for _, text in shown))


def on_terminal() -> bool:
    """Say whether standard output is a terminal that can show colours and lines."""
    return sys.stdout.isatty() and (os.environ.get("TERM") or "dumb") != "dumb"


def width() -> int:
    """Return the columns of the terminal; lines that go elsewhere are not cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1 << 16


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: with rich on a terminal, else columns with two blanks between."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if on_terminal():
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            pass
        else:
            shown = Table(box=None, pad_edge=False, header_style="bold")
            for name in head:
                shown.add_column(name, overflow="fold")
            for row in cells:
                shown.add_row(*map(Text, row))  # no markup, and no :names: of emoji
            Console().print(shown)
            return
    plain = [list(head), *cells]
    widths = [max(len(row[at]) for row in plain) for at in range(len(head))]
    for row in plain:
        text = "  ".join(cell.ljust(size) for cell, size in zip(row, widths)).rstrip()
        click.echo(text[: width()])
