"""A service's PAM stack, read to tell whether this module has a session line in it.

Format of pam.conf(5): `type control module arguments`; `include` and `substack` as controls, and
Debian's `@include`, name other files. Only what the account phase wants to know is looked for: will
the session phase come to us? A jump over our line is its author's will; a line in front of it that
may end the stack as a whole is not.
"""

from __future__ import annotations

import re

from .options import parse
from .slurm import files
from .slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = ("/etc/pam.d", "/usr/lib/pam.d")  # in this order
SCRIPT = "pam_slurm_adopt.py"
LIMIT = 1 << 16  # bytes of one file
FILES = 64  # read in all
DEPTH = 16  # of files that include each other

_WORD = re.compile(r"\[(?:\\.|[^\]\\])*\]|\S+")  # [success=1 default=ignore] is one word
_CONTINUED = re.compile(r"\\[ \t]*\n")


def session_line(service: str, places: tuple[str, ...] = PLACES) -> list[str] | None:
    """Return the arguments that a service's session line gives this module.

    None where there is no such line, where its failure would count for nothing (`optional`), or
    where a line in front of it may end the stack with a success.
    """
    try:
        return _Search(places).line(service.lower(), 0)
    except _EndedError:
        return None


def joins(service: str, places: tuple[str, ...] = PLACES) -> bool:
    """Return whether a session line of this module will enter namespaces."""
    arguments = session_line(service, places)
    if arguments is None:
        return False
    options, _ = parse(arguments)
    return options.on("join_container") and options["service"] in ("*", service)


class _EndedError(Exception):
    """A line that may end the stack stands where none of ours has come yet."""


class _Search:
    """One search through the files of a stack."""

    __slots__ = ("_left", "_places")

    def __init__(self, places: tuple[str, ...]) -> None:
        self._places = places
        self._left = FILES

    def line(self, name: str, depth: int) -> list[str] | None:
        """Return the arguments of our first session line in a file and those it includes."""
        for words in _session_lines(self._text(name, depth)):
            control, module, arguments = words[0].lower(), words[1], words[2:]
            if control == "substack":
                found = self._substack(module, depth + 1)
            elif control == "include":
                found = self.line(module, depth + 1)
            else:
                found = _ours(arguments) if _refuses(control) else None
            if found is not None:
                return found
            if control == "sufficient" or re.search(r"=\s*done\b", control):
                raise _EndedError
        return None

    def _substack(self, name: str, depth: int) -> list[str] | None:
        """As `line`; what ends a substack ends nothing outside of it."""
        try:
            return self.line(name, depth)
        except _EndedError:
            return None

    def _text(self, name: str, depth: int) -> str:
        """Return a file's text; nothing for one that cannot be read, or is one too many."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH:
            return ""
        for place in self._places:
            try:
                data = files.read(f"{place}/{name}" if name[:1] != "/" else name, LIMIT)
            except SetupError:
                continue
            return data.decode("utf-8", "replace")
        return ""


def _session_lines(text: str) -> Iterator[list[str]]:
    """Yield control, module and arguments of the session lines; those of @include as `include`."""
    for raw in _CONTINUED.sub(" ", text).split("\n"):
        words = _WORD.findall(raw.partition("#")[0])
        if len(words) >= 2 and words[0].lower() == "@include":
            yield ["include", *words[1:]]
        elif len(words) >= 3 and words[0].lower().lstrip("-") == "session":
            yield words[1:]


def _refuses(control: str) -> bool:
    """Say whether a failure of a line is one of the stack's."""
    named = control in ("required", "requisite")
    return named or re.search(r"default\s*=\s*(bad|die)\b", control) is not None


def _ours(arguments: list[str]) -> list[str] | None:
    """Return what follows our script among a module's arguments; None if it is not there."""
    for index, word in enumerate(arguments):
        if word.rpartition("/")[2] == SCRIPT:
            return arguments[index + 1 :]
    return None
