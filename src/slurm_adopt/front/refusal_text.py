"""A site's own words for a user who is refused: the file behind the option `message`."""

from __future__ import annotations

from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

LIMIT = 4096  # bytes


def _filled(text: str, values: dict[str, str]) -> str:
    filled = ""
    while text:
        plain, percent, text = text.partition("%")
        filled += plain + (values.get(text[:1], percent + text[:1]) if percent else "")
        text = text[1:]
    return filled


def render(path: str, values: dict[str, str]) -> str:
    """Return the file's text with `%x` replaced by values["x"]; SetupError if it cannot be used.

    A `%` before any other character stays; control characters other than newline and tab are left
    out, since the text goes to a terminal. What is longer than the file may be is cut.
    """
    text = files.read(path, LIMIT).decode("utf-8", "replace").rstrip("\n")
    text = _filled(text, values)
    text = "".join(char for char in text if char.isprintable() or char in "\n\t")
    if not text.strip():
        raise SetupError(f"{path} is empty")
    return text.encode()[:LIMIT].decode("utf-8", "ignore")
