"""The manual page of `slurm-adopt`, and the page of its checks, are what the code makes of them."""

from __future__ import annotations

import re

import click
import pytest

from slurm_adopt.cli.checks.table import CHECKS
from slurm_adopt.cli.commands import COMMANDS, group
from tests.dev import command_page, manpage


def test_pages_are_up_to_date() -> None:
    """Where this fails, `./dev man` writes them again."""
    assert command_page.SOURCE.read_text() == command_page.source()
    assert command_page.PAGE.read_text() == manpage.page(command_page.source())
    assert command_page.CHECKS_PAGE.read_text() == command_page.checks()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_it(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command
    text = command_page.SOURCE.read_text()
    section = text.partition(f"\nslurm-adopt {name} ")[2].partition("\nslurm-adopt ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(f"**{option}**" in section for option in parameter.opts)
            assert parameter.help, f"{name} {parameter.opts}: no help"
    assert "**-h**, **--help**" in section


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_has_its_anchor(check: object) -> None:
    """That which the report links to."""
    code = getattr(check, "code", "")
    page = command_page.CHECKS_PAGE.read_text()
    assert len(re.findall(rf"^### {code}$", page, re.MULTILINE)) == 1


def test_help_that_click_does_not_wrap_stays_as_it_is() -> None:
    given = "One\nline.\n\n\b\n  as it\n  is\n\nLast *one* of a_b_."
    assert [*command_page._paragraphs(given)] == [
        "One line.\n",
        "::\n\n    as it\n    is\n",
        "Last \\*one\\* of a\\_b\\_.\n",
    ]
