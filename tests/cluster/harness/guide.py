"""Commands of the how-to pages, as they stand there."""

from __future__ import annotations

import re

from tests.cluster.harness.host import CHECKOUT

PAGES = CHECKOUT / "docs/how-to"


def page(name: str) -> str:
    """Return the text of a page."""
    return (PAGES / f"{name}.md").read_text()


def commands(name: str, heading: str = "") -> list[str]:
    """Return the lines of code of a page, or of a section of it, without indentation and remark."""
    text = page(name)
    if heading:
        text = text.partition(f"# {heading}\n")[2]
        text = re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = (line for line in text.splitlines() if line.startswith("    "))
    return [re.sub(r" +# .*", "", line.strip()) for line in lines]


def command(name: str, with_words: str) -> str:
    """Return the first command of a page that has these words in it."""
    return next(line for line in commands(name) if with_words in line)


def commands_between(name: str, first: str, last: str) -> list[str]:
    """Return the commands from the first with some words to the next one with others."""
    found = commands(name)
    start = next(n for n, line in enumerate(found) if first in line)
    return found[start : next(n for n in range(start, len(found)) if last in found[n]) + 1]
