"""Which of the cluster's tests run on Debian as it comes: each file is named, as in the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.host import CHECKOUT
from tests.vm import stock

if TYPE_CHECKING:
    from collections.abc import Iterable

OF_V1 = [file for file, why in stock.NOT_HERE.items() if why.startswith(stock.V1)]
PAGE = (CHECKOUT / "docs/reference/compatibility.md").read_text()


def test_every_file_is_played_or_has_a_reason() -> None:
    files = sorted(path.name for path in (CHECKOUT / stock.FOLDER).glob("test_*.py"))
    named = [*stock.WHOLE, *stock.PARTS, *stock.NOT_HERE]
    assert sorted(named) == files


def test_what_is_played_is_there() -> None:
    for file, tests in stock.PARTS.items():
        text = (CHECKOUT / stock.FOLDER / file).read_text()
        for test in tests:
            name, _, parameters = test.partition("[")
            assert f"def {name}(" in text
            assert f'"{parameters.rstrip("]")}"' in text or not parameters


@pytest.mark.parametrize(
    ("bullet", "files"),
    [
        ("Whole", stock.WHOLE),
        ("In part", stock.PARTS),
        ("Not, since they expect the paths of cgroup v1", OF_V1),
    ],
)
def test_the_page_says_which(bullet: str, files: Iterable[str]) -> None:
    """Its lists are those that the machines are given."""
    section = PAGE.partition("## On Debian as it comes\n")[2].partition("\n## ")[0]
    (line,) = re.findall(rf"^- {bullet}: (.+(?:\n  .+)*)", section, re.MULTILINE)
    assert set(re.findall(r"`(test_\w+\.py)`", line)) == set(files)
