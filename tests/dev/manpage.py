"""The manual page: its tables from the code's, and roff from its source."""

from __future__ import annotations

import textwrap
from pathlib import Path

from docutils.core import publish_string
from docutils.writers.manpage import Writer

from slurm_adopt.decision.options import OPTIONS, Option
from slurm_adopt.decision.outcome import ACTIONS, SITUATIONS, Situation
from slurm_adopt.decision.variables import ALONE, MEMORY, NAMED, VARIABLES, Kind

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = DOCS / "reference" / "slurm_adopt.8.rst"
PAGE = DOCS / "reference" / "slurm_adopt.8"


def source() -> str:
    """Return the page's source with its generated parts as the code has them now."""
    text = SOURCE.read_text()
    text = replaced(text, "options", "\n".join(map(_option, OPTIONS)))
    text = replaced(text, "decisions", "\n".join(map(_decision, SITUATIONS.values())))
    forms = dict.fromkeys(VARIABLES.values())
    return replaced(text, "variables", "\n".join(_variables(*form) for form in forms))


def page(text: str) -> str:
    """Return the page in roff."""
    settings = {"report_level": 1, "halt_level": 2, "output_encoding": "unicode"}
    roff = publish_string(text, writer=Writer(), settings_overrides=settings)
    return roff if isinstance(roff, str) else roff.decode()


def write() -> None:
    """Write source and page."""
    SOURCE.write_text(source())
    PAGE.write_text(page(source()))


def replaced(text: str, part: str, lines: str) -> str:
    """Return a source with other lines between the marks of a part."""
    before, _, rest = text.partition(f".. begin {part}\n")
    _, _, after = rest.partition(f".. end {part}\n")
    return f"{before}.. begin {part}\n\n{lines}\n.. end {part}\n{after}"


def _option(option: Option) -> str:
    values = option.values if isinstance(option.values, tuple) else (f"*{option.values}*",)
    shown = " | ".join(value if "*" in value else f"**{value}**" for value in values)
    since = f"In the C module since {option.since}." if option.since else "Not in the C module."
    older = "".join(
        f" The early releases' **{old}** means **{new}**." for old, new in option.older.items()
    )
    by_kind = option.default and isinstance(option.values, str)
    default = f" Default: {option.default}." if by_kind else ""
    text = option.text.replace("*", "\\*")
    words = f"{text}{default}{older} {since}"
    return f"**{option.name}**\\ =\\ {shown}\n{_indented(words)}\n"


def _decision(row: Situation) -> str:
    return f"*{row.name}*: {row.when}\n{_indented(_consequence(row))}\n"


def _variables(source: str, kind: Kind, group: str, asked_for: str) -> str:
    """Return the variables of one source, form and group that are asked for in the same way."""
    row = (source, kind, group, asked_for)
    names = ", ".join(f"**{name}**" for name, other in VARIABLES.items() if other == row)
    remarks = [kind.text]
    if group != ALONE:
        how = group if group == MEMORY else f"together with the others of: {group}"
        remarks.append(how)
    if asked_for == NAMED:
        remarks.append(NAMED)
    return f"*from {source}*: {'; '.join(remarks)}\n{_indented(names)}\n"


def _consequence(row: Situation) -> str:
    if not row.option:
        return row.code
    values = next(option for option in OPTIONS if option.name == row.option).values
    assert isinstance(values, tuple)
    actions = ACTIONS[row.option]
    answers = "; ".join(f"**{row.option}={value}**: {actions[value].text}" for value in values)
    told = f' A refused user is told "{row.message}".' if row.message else ""
    return f"{answers}.{told}"


def _indented(text: str) -> str:
    return textwrap.fill(
        text,
        100,
        initial_indent="    ",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )
