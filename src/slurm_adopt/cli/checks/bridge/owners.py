"""Who but root may write a file, or put another in its place: as a login sees it (importing.py)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from slurm_adopt.system import importing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def others_may_write(path: str) -> str:
    """Return why somebody else may write a file or exchange it; "" if only root may.

    What it leads to counts, and so do all directories and links on the way.
    """
    return next((f"{each} {why}" for each, why in all_others_may_write([path])), "")


def all_others_may_write(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the files and directories of many that others may write, each once, and why."""
    seen: set[str] = set()
    for path in paths:
        with suppress(OSError):  # it is not there
            whole = path if path.startswith("/") else os.path.abspath(path)
            for each, entry in importing.chain(whole):  # as it is: `..` may be behind a link
                if each not in seen:
                    seen.add(each)
                    if why := importing.why(each, entry):
                        yield each, why
