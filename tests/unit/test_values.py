"""The values of options, in the tables that have to agree: parser, engine, tests, man page."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from slurm_adopt.decision.login import Login
from slurm_adopt.decision.options import BY_NAME, OPTIONS, SWITCHES, Option, parse
from slurm_adopt.decision.outcome import ACTIONS, SITUATIONS, STRICTEST, Outcome, action_of
from tests import decisions
from tests.dev import manpage

SRC = Path(__file__).parents[2] / "src"
LISTED: dict[str, tuple[str, ...]] = {
    row.name: row.values for row in OPTIONS if isinstance(row.values, tuple)
}
OF_TESTS = {name: row for name, row in decisions.ANSWERS.items() if name.startswith("action_")}


def values_of(tables: object) -> dict[str, set[str]]:
    assert isinstance(tables, dict)
    return {name: set(values) for name, values in tables.items()}


def test_the_engine_knows_the_values_of_the_parser() -> None:
    """Every listed value has a row: in ACTIONS where it governs, else in SWITCHES."""
    assert {**values_of(ACTIONS), **values_of(SWITCHES)} == values_of(LISTED)
    assert set(ACTIONS) == {name for name in LISTED if name.startswith("action_")}


def test_the_tests_know_the_values_of_the_parser() -> None:
    assert values_of(OF_TESTS) == values_of(ACTIONS)
    spelled = {name: set(decisions.SPELLINGS[name].values()) for name in decisions.ANSWERS}
    assert spelled == values_of(decisions.ANSWERS)
    for name, row in decisions.SPELLINGS.items():
        assert set(LISTED[name]) <= set(row)
        assert row[""] == BY_NAME[name].default


def test_the_tests_have_the_engine_s_answers() -> None:
    for name, row in ACTIONS.items():
        for value, action in row.items():
            if action.does == "answer":
                assert decisions.ANSWERS[name][value].code == action.code
                assert not decisions.ANSWERS[name][value].job
            else:  # where it comes to an answer after all, that is the strictest
                assert action.code == STRICTEST


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_default_and_strictest_are_values(option: Option) -> None:
    if option.name in LISTED:
        assert {option.default, option.strictest, *option.older.values()} <= {*LISTED[option.name]}
    if option.name in ACTIONS:
        assert ACTIONS[option.name][option.strictest].code == STRICTEST
        assert ACTIONS[option.name][option.strictest].does == "answer"


@pytest.mark.parametrize("name", LISTED)
def test_a_value_that_only_the_parser_knows(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is the strictest; the man page cannot be made with it."""
    option = BY_NAME[name]
    monkeypatch.setattr(option, "values", (*option.values, "oldest"))
    options, complaints = parse([f"{name}=oldest"])
    assert not complaints
    strictest, _ = parse([f"{name}={option.strictest}"])
    if option.name in ACTIONS:
        assert action_of(options, option.name) is action_of(strictest, option.name)
        with pytest.raises(KeyError, match="oldest"):
            manpage.source()
    else:
        assert option.name in SWITCHES
        assert options.on(option.name) is strictest.on(option.name)


def test_values_are_read_by_their_tables() -> None:
    """No module compares the text of a value that a table explains."""
    read = re.compile(r"options\[\"(\w+)\"\]")
    found = {name for path in SRC.rglob("*.py") for name in read.findall(path.read_text())}
    assert "service" in found
    assert found & {*ACTIONS, *SWITCHES} == set()


def test_every_situation_is_governed_or_fixed() -> None:
    governing = {row.option for row in SITUATIONS.values() if row.option}
    assert governing == set(ACTIONS)
    for name, row in SITUATIONS.items():
        assert name == row.name
        assert bool(row.option) != bool(row.code)


def test_the_engine_names_situations_as_they_are() -> None:
    """What it has an option decide is governed, what it answers itself is fixed; none is left."""
    text = "".join(path.read_text() for path in (SRC / "slurm_adopt/decision").glob("*.py"))
    governed = set(re.findall(r"governed\(\s*\"([^\"]+)\"", text)) | {"job suspended"}
    fixed = set(re.findall(r"(?:_fixed\(\s*|SITUATIONS\[)\"([^\"]+)\"", text))
    assert governed == {name for name, row in SITUATIONS.items() if row.option}
    fixed_rows = {name for name, row in SITUATIONS.items() if row.code}
    assert fixed - {"generic failure"} == fixed_rows  # auto answers that one itself


@pytest.mark.parametrize("kind", [Outcome, Login])
def test_what_does_not_change_is_final(kind: type) -> None:
    """Mypy refuses a module that sets an attribute of theirs."""
    source = ast.parse(inspect.getsource(kind))
    final = {
        ast.unparse(node.target)
        for node in ast.walk(source)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith("Final")
    }
    assert final == {f"self.{name}" for name in kind.__slots__}  # type: ignore[attr-defined]


def test_a_changed_outcome_is_another() -> None:
    outcome = Outcome(SITUATIONS["no jobs"], "PAM_IGNORE", "why")
    changed = outcome.but(text="other", level="err", jobs=(7,), withdrawn=frozenset({"A"}))
    assert (changed.text, changed.level, changed.jobs) == ("other", "err", (7,))
    assert (changed.withdrawn, changed.code) == (frozenset({"A"}), "PAM_IGNORE")
    assert (outcome.text, outcome.level, outcome.jobs) == ("why", "info", ())
    again = changed.but()
    assert all(getattr(again, name) == getattr(changed, name) for name in Outcome.__slots__)
