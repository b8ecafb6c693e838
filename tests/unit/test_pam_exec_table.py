"""What is otherwise by pam_exec: nothing in the table is too much."""

from __future__ import annotations

from tests import decisions
from tests.decisions_by_pam_exec import DIFFERENCES, OWN, Seen, by_pam_exec, by_pam_python

ROWS = list(decisions.rows())


def test_each_difference_makes_one() -> None:
    """It is of some rows, not of all; and in each of them the column is another."""
    for one in DIFFERENCES:
        where = [row for row in ROWS if one.rows(row)]
        assert 0 < len(where) < len(ROWS), one.why
        for row in where:
            assert getattr(by_pam_python(row), one.column) != one.value(row), (one.why, row)


def test_no_two_speak_of_one_column_of_a_row() -> None:
    for row in ROWS:
        columns = [one.column for one in DIFFERENCES if one.rows(row)]
        assert len(columns) == len(set(columns)), row


def test_every_column_has_one() -> None:
    """What is alike in all rows needs no column."""
    assert {one.column for one in DIFFERENCES} == {*Seen._fields}
    alike = [row for row in ROWS if by_pam_exec(row) == by_pam_python(row)]
    assert {row.code for row in alike} == {"PAM_SUCCESS"}


def test_own_cases_differ() -> None:
    for situation in {own.situation for own in OWN}:
        assert any(own.code != own.by_pam_python for own in OWN if own.situation == situation)
