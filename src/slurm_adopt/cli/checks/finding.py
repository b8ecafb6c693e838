"""A check, and what it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, NamedTuple

from slurm_adopt.cli.deadlines import QUICK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from .host import Host

    Result = Literal["ok", "warning", "error", "skipped"]
    Look = Callable[["Host"], "Iterable[Seen]"]

RESULTS = ("ok", "skipped", "warning", "error")  # from good to bad


class Seen(NamedTuple):
    """What one look came to: `title` is one line that is true of this node."""

    result: Result
    title: str
    found: str = ""
    file: str = ""
    line: int = 0


class Check(NamedTuple):
    """One row: what is looked at, what is expected, why it matters and what to do if it is not so.

    `look` yields at least one Seen. `expected`, `why` and `fix` are for warnings and errors, and
    for the page docs/reference/checks.md.
    """

    code: str  # SA and three digits: it never changes, nor is it given to another check
    category: str
    name: str  # of the check, for the page: a few words
    look: Look
    expected: str
    why: str
    fix: str
    quick: bool = True  # looks at this host alone, without a network, in a moment
    seconds: float = QUICK


class Finding(NamedTuple):
    """One line of the report."""

    code: str
    category: str
    result: Result
    title: str
    expected: str
    found: str
    file: str
    line: int
    why: str
    fix: str
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        given: dict[str, object] = {}
        for name, value in self._asdict().items():
            if name == "file":
                given["where"] = {"file": self.file, "line": self.line}
            elif name != "line":
                given[name] = value
        return {**given, "seconds": round(self.seconds, 4)}


def ok(title: str, found: str = "", file: str = "", line: int = 0) -> Seen:
    """Say what is true and right."""
    return Seen("ok", title, found, file, line)


def warning(title: str, found: str = "", file: str = "", line: int = 0) -> Seen:
    """Say what is true and should be otherwise."""
    return Seen("warning", title, found, file, line)


def error(title: str, found: str = "", file: str = "", line: int = 0) -> Seen:
    """Say what is true and wrong."""
    return Seen("error", title, found, file, line)


def skipped(title: str, found: str = "") -> Seen:
    """Say what could not be looked at, and why, or does not matter here."""
    return Seen("skipped", title, found)


def finding(check: Check, seen: Seen, seconds: float) -> Finding:
    """Return a line of the report."""
    bad = seen.result in ("warning", "error")
    return Finding(
        check.code,
        check.category,
        seen.result,
        seen.title,
        check.expected,
        seen.found,
        seen.file,
        seen.line,
        check.why if bad else "",
        check.fix if bad else "",
        seconds,
    )
