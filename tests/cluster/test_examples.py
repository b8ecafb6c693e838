"""The files of docs/examples: stock files with our lines, and logins with these very files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import pam
from tests.cluster.harness.suites import SUITES
from tests.cluster.scenarios import stock

if TYPE_CHECKING:
    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.suites import Suite

LINES = pam.both_lines(*pam.PRODUCTION)


def test_each_is_shown_in_the_guide() -> None:
    guide = (stock.EXAMPLES.parent / "how-to/install.md").read_text()
    files = {path.name for path in stock.EXAMPLES.iterdir()}
    assert files == {*stock.EXAMPLE_OF.values(), stock.RHEL}
    assert [name for name in files if f"(../examples/{name})" not in guide] == []


@pytest.mark.parametrize("name", [*stock.EXAMPLE_OF.values(), stock.RHEL])
def test_its_lines_are_where_readme_says(name: str) -> None:
    """What is without ours, and ours put in there, is the file but for our two comments."""
    text = (stock.EXAMPLES / name).read_text()
    assert text.count(stock.OUR_COMMENT) == 2
    words = [line for line in text.splitlines() if line and not line.startswith("#")]
    made = stock.with_lines(stock.without_ours(text), LINES)
    assert words == [line for line in made if line and not line.startswith("#")]


@pytest.mark.parametrize("suite", [*map(SUITES.get, stock.EXAMPLE_OF)], ids=stock.EXAMPLE_OF)
def test_it_is_the_stock_file_with_our_lines(suite: Suite) -> None:
    example = (stock.EXAMPLES / stock.EXAMPLE_OF[suite.name]).read_text()
    assert stock.without_ours(example) == stock.debian(suite)


@pytest.mark.parametrize("name", [stock.EXAMPLE_OF["bookworm"], stock.RHEL])
def test_logins_with_it(cluster: Cluster, name: str) -> None:
    """Users without a job stay out, with one they are in it; root gets in."""
    stock.logins_with(cluster, (stock.EXAMPLES / name).read_text())
