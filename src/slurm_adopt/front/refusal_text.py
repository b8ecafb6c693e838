"""A site's own words for a user who is refused: the file behind the option `message`."""

from __future__ import annotations

import re

from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

LIMIT = 4096  # bytes


def render(path: str, values: dict[str, str]) -> str:
    """Return the file's text with `%x` replaced by values["x"]; SetupError if it cannot be used.

    A `%` before any other character stays; control characters other than newline and tab are left
    out, since the text goes to a terminal. What is longer than the file may be is cut.
    """
    text = files.read(path, LIMIT).decode("utf-8", "replace").rstrip("\n")
    text = re.sub(r"%(.)", lambda found: values.get(found[1], found[0]), text)
    text = "".join(char for char in text if char.isprintable() or char in "\n\t")
    if not text.strip():
        raise SetupError(f"{path} is empty")
    return text.encode()[:LIMIT].decode("utf-8", "ignore")
