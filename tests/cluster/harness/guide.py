"""Commands of the administrator's guide, as they stand there."""

from __future__ import annotations

import re

from tests.cluster.harness.host import CHECKOUT

GUIDE = CHECKOUT / "docs/administrators.md"


def commands(heading: str) -> list[str]:
    """Return the lines of a section's code, each without its indentation and remark."""
    text = GUIDE.read_text().partition(f"# {heading}\n")[2]
    section = re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = (line for line in section.splitlines() if line.startswith("    "))
    return [re.sub(r" +# .*", "", line.strip()) for line in lines]


def command(heading: str, with_words: str) -> str:
    """Return the first command of a section that has these words in it."""
    return next(line for line in commands(heading) if with_words in line)


def commands_between(heading: str, first: str, last: str) -> list[str]:
    """Return the commands from the first with some words to the next one with others."""
    found = commands(heading)
    start = next(n for n, line in enumerate(found) if first in line)
    return found[start : next(n for n in range(start, len(found)) if last in found[n]) + 1]
