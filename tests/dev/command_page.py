"""The manual page of the command `slurm-adopt`, and the page of its checks: their made parts."""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

import click

from slurm_adopt.cli.checks.table import CHECKS
from slurm_adopt.cli.commands import COMMANDS, group
from slurm_adopt.cli.deadlines import QUICK
from tests.dev import manpage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slurm_adopt.cli.checks.finding import Check

SOURCE = manpage.DOCS / "reference" / "slurm-adopt.1.rst"
PAGE = manpage.DOCS / "reference" / "slurm-adopt.1"
CHECKS_PAGE = manpage.DOCS / "reference" / "checks.md"
WIDTH = 100


def source() -> str:
    """Return the source of the manual page with its commands as they are now."""
    made = "\n".join(_command(name) for name in COMMANDS)
    return manpage.replaced(SOURCE.read_text(), "commands", made)


def checks() -> str:
    """Return the page of the checks as the table is now."""
    before, begin, rest = CHECKS_PAGE.read_text().partition("<!-- begin checks -->\n")
    _, end, after = rest.partition("<!-- end checks -->\n")
    return "".join([before, begin, "\n", *_sections(CHECKS), end, after])


def write() -> None:
    """Write these pages."""
    SOURCE.write_text(source())
    PAGE.write_text(manpage.page(source()))
    CHECKS_PAGE.write_text(checks())


# The manual page


def _command(name: str) -> str:
    """Return the section of a command: its own words, and its options."""
    whole = click.Context(group, info_name="slurm-adopt", **group.context_settings)
    command = group.get_command(whole, name)
    assert command
    context = click.Context(command, info_name=name, parent=whole)
    usage = " ".join(command.collect_usage_pieces(context))
    title = f"slurm-adopt {name} {usage}"
    options = [
        f"{_names(record[0])}\n{_indented(_escaped(record[1]))}\n"
        for parameter in command.params
        if (record := parameter.get_help_record(context)) and record[1]
    ]
    options.append("**-h**, **--help**\n    Show this message and exit.\n")
    heading = _escaped(title)
    return "\n".join([heading, "-" * len(heading), "", *_paragraphs(command.help or ""), *options])


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a command's help; those that click is not to wrap as they are."""
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(text.replace("\f", "")).strip()):
        if paragraph.lstrip().startswith("\b"):
            lines = textwrap.dedent(paragraph.partition("\n")[2]).splitlines()
            yield "::\n\n" + "\n".join(f"    {line}" for line in lines) + "\n"
        else:
            yield _filled(_escaped(" ".join(paragraph.split()))) + "\n"


def _names(names: str) -> str:
    """Return `-h, --help TEXT` with the names in bold."""
    words = [
        f"**{word}**" if word.startswith("-") else _escaped(word)
        for word in names.replace(",", " ,").split()
    ]
    return " ".join(words).replace(" ,", ",")


def _escaped(text: str) -> str:
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _indented(text: str) -> str:
    return textwrap.indent(
        textwrap.fill(text, WIDTH - 4, break_on_hyphens=False, break_long_words=False), "    "
    )


# The page of the checks


def _sections(rows: Iterable[Check]) -> Iterator[str]:
    for category, of_it in groupby(rows, lambda check: check.category):
        checks = list(of_it)
        yield f"## {_plain(category)}\n\n"
        yield "| code | what is looked at |\n|---|---|\n"
        for check in checks:
            yield f"| [{check.code}](#{check.code.lower()}) | {_plain(check.name)} |\n"
        yield "\n"
        for check in checks:
            yield f"### {check.code}\n\n"
            yield f"**{_plain(check.name)}**{_cost(check)}\n\n"
            for label, text in (("Expected", check.expected), ("Why", check.why),
                                ("Fix", check.fix)):  # fmt: skip
                yield textwrap.fill(
                    f"- {label}: {_plain(text)}",
                    WIDTH,
                    subsequent_indent="  ",
                    break_on_hyphens=False,
                    break_long_words=False,
                )
                yield "\n"
            yield "\n"


def _cost(check: Check) -> str:
    """Say what keeps a check out of --quick, and how long it may take."""
    said = [] if check.quick else ["not with --quick"]
    said += [f"{check.seconds:g} s at most"] if check.seconds > QUICK else []
    return f" ({', '.join(said)})" if said else ""


def _plain(text: str) -> str:
    """Return a text whose signs mean nothing to Markdown."""
    return re.sub(r"([\\`*<>\[\]|])", r"\\\1", text)
