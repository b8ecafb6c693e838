"""The pictures of the documentation are those that the code draws now."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.decision.options import BY_NAME
from slurm_adopt.decision.outcome import SITUATIONS
from tests.dev import pictures
from tests.dev.pictures import decision
from tests.dev.pictures.svg import Picture

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", pictures.DRAWN)
def test_picture_is_up_to_date(name: str) -> None:
    """Where this fails, `./dev pictures` draws it again."""
    assert (pictures.FOLDER / name).read_text() == pictures.DRAWN[name]()


def texts(path: Path) -> str:
    """Return all that is written in a picture, with single blanks."""
    return " ".join(" ".join(ET.parse(path).getroot().itertext()).split())


def test_every_decision_is_in_the_picture() -> None:
    text = texts(pictures.FOLDER / "decision.svg")
    for row in SITUATIONS.values():
        assert f"{row.name} {row.when}" in text
        assert row.code in text
        for value in BY_NAME[row.option].values if row.option else ():
            assert f"{row.option} " in text
            assert f" {value}: " in text


def test_a_situation_without_a_question_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "QUESTIONS", decision.QUESTIONS[1:])
    with pytest.raises(ValueError, match="root"):
        decision.draw()


def test_text_that_would_be_cut_off_is_seen() -> None:
    picture = Picture("", 200)
    picture.text(10, 20, "this much fits")
    with pytest.raises(ValueError, match="beyond the picture's edge"):
        picture.text(10, 40, "this is far more than what fits into it")


@pytest.mark.parametrize("name", [*pictures.DRAWN, pictures.DEMO])
def test_picture_is_self_contained(name: str) -> None:
    """A picture is small, and shows the same without any other file or host."""
    text = (pictures.FOLDER / name).read_text()
    assert len(text) < 400_000
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"') == 1
    assert "<script" not in text
