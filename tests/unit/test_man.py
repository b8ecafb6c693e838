"""The manual page is what its source and the code's tables make of it."""

from __future__ import annotations

from slurm_adopt.decision.outcome import SITUATIONS
from slurm_adopt.decision.variables import NAMED, VARIABLES
from tests import decisions
from tests.dev import manpage


def test_page_is_up_to_date() -> None:
    """Where this fails, `./dev man` writes it anew."""
    assert manpage.SOURCE.read_text() == manpage.source()
    assert manpage.PAGE.read_text() == manpage.page(manpage.source())


def test_every_decision_is_in_it() -> None:
    text = " ".join(manpage.SOURCE.read_text().split())
    for row in SITUATIONS.values():
        assert f"*{row.name}*" in text
        assert row.message in text


def test_every_variable_is_in_it() -> None:
    """Each once, with its source, its form and its group, and whether it has to be named."""
    part = manpage.SOURCE.read_text().partition(".. begin variables")[2].partition(".. end")[0]
    entries = [" ".join(entry.split()) for entry in part.split("\n\n") if entry.strip()]
    for name, (source, kind, group, asked_for) in VARIABLES.items():
        (entry,) = [entry for entry in entries if f"**{name}**" in entry]
        head = entry.partition(" **")[0]
        assert head.startswith(f"*from {source}*: {kind.text}")
        assert group in head
        assert head.endswith(NAMED) == (asked_for == NAMED)


def test_it_says_what_the_decision_table_says() -> None:
    """The page is made from the code's tables; here it meets the one that the tests go through."""
    text = " ".join(manpage.SOURCE.read_text().split())
    for option, answers in decisions.ANSWERS.items():
        for value, answer in answers.items():
            assert f"**{option}**\\ =\\ " in text
            if option.startswith("action_"):
                what = "adopted into the" if answer.job == "newest" else answer.code
                assert f"**{option}={value}**: {what}" in text
            assert f'"{answer.shown}"' in text or not answer.shown
    fixed = {row.answer.code for row in decisions.SITUATIONS if not isinstance(row.answer, str)}
    assert all(f" {code} " in text for code in fixed)
