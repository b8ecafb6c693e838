"""Whether the package is whole: what its modules import of it is there."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAME = "slurm_adopt"
# Read as text: this is quick, and a module that is broken is found elsewhere.
_FROM = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n#]*))", re.MULTILINE
)


def missing(top: str, sources: Iterable[str]) -> list[str]:
    """Return the files that some of a package's sources import, and that are not there."""
    found: dict[str, None] = {}
    for source in sources:
        with open(source, encoding="utf-8", errors="replace") as file:
            text = file.read()
        found.update(dict.fromkeys(_missing_for(top, source, text)))
    return sorted(found)


def _missing_for(top: str, source: str, text: str) -> Iterator[str]:
    for dots, name, inside, rest in _FROM.findall(text):
        place = _place(top, source, dots, name)
        if place is None:
            continue
        if os.path.isdir(place):
            yield from _missing_names(place, inside or rest)
        elif not os.path.isfile(f"{place}.py"):
            yield f"{place}.py"


def _place(top: str, source: str, dots: str, name: str) -> str | None:
    """Return the path of a module without its ending; None where it is not of the package."""
    words = [word for word in name.split(".") if word]
    if dots:
        folder = os.path.dirname(source)
        for _ in dots[1:]:
            folder = os.path.dirname(folder)
        return os.path.join(folder, *words)
    return os.path.join(top, *words[1:]) if words[:1] == [NAME] else None


def _missing_names(folder: str, names: str) -> Iterator[str]:
    """Yield the modules that are imported from a folder; what its own file defines is none."""
    try:
        with open(f"{folder}/__init__.py", encoding="utf-8", errors="replace") as file:
            own = file.read()
    except OSError:
        yield f"{folder}/__init__.py"
        return
    for word in re.sub(r"#[^\n]*", "", names).split(","):
        name = word.split(" as ")[0].strip()
        if (
            name.isidentifier()
            and not os.path.exists(f"{folder}/{name}")
            and not os.path.isfile(f"{folder}/{name}.py")
            and not re.search(rf"\b{name}\b", own)
        ):
            yield f"{folder}/{name}.py"
