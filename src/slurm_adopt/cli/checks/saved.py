"""Reports that `slurm-adopt check --json` has printed earlier, on one node or on many.

They stand one after another, as cat gives them; with a name in front of each line (pdsh, clush), or
a heading of three lines above each (clush -b, dshbak).
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.errors import CliError
from slurm_adopt.slurm.config import hostlist
from slurm_adopt.slurm.errors import SetupError

from .finding import RESULTS, Finding
from .report import Report
from .would_decide import DECISIONS, Decision

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = 1
STDIN = "-"
_RULE = re.compile(r"-{8,}\s*$")
_PREFIX = re.compile(r"([^\s{}\[\]\",:]+): ?")
_BLANKS = re.compile(r"\s*")
_NUMBER = (int, float)


def read(path: str) -> list[Report]:
    """Return the reports of a file; CliError if it cannot be read, or something else is in it."""
    reports = [
        _report(value, f"{path}, report {number}", names)
        for number, (names, value) in enumerate(_values(_text(path), path), 1)
    ]
    if not reports:
        raise CliError(f"{path}: no report in it: save what `slurm-adopt check --json` prints")
    return reports


def _text(path: str) -> str:
    try:
        if path == STDIN:
            return sys.stdin.buffer.read().decode(errors="replace")
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from None


def _values(text: str, path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the JSON values of a text, each with the names of its nodes, if they stand there."""
    decoder = json.JSONDecoder()
    for names, part in _parts(text):
        at = _after_blanks(part, 0)
        while at < len(part):
            try:
                value, at = decoder.raw_decode(part, at)
            except (ValueError, RecursionError) as error:
                of = f" of {' '.join(names)}" if names else ""
                said = getattr(error, "msg", "") or "malformed"
                line = part.count("\n", 0, getattr(error, "pos", at)) + 1
                raise CliError(f"{path}: no JSON in line {line}{of}: {said}") from None
            yield names, value
            at = _after_blanks(part, at)


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _parts(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Return the parts of a text by their nodes."""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if _RULE.match(first):
        return _under_headings(lines)
    if _PREFIX.match(first):
        return _by_prefix(lines)
    return [((), text)]


def _under_headings(lines: list[str]) -> list[tuple[tuple[str, ...], str]]:
    parts: list[tuple[tuple[str, ...], list[str]]] = []
    rest = iter(lines)
    for line in rest:
        if _RULE.match(line):
            parts.append((_names(next(rest, "")), []))
            next(rest, "")
        elif parts:
            parts[-1][1].append(line)
    return [(names, "\n".join(part)) for names, part in parts]


def _names(heading: str) -> tuple[str, ...]:
    """Return the names of `n[1-3] (3)`, or the whole if it is no host list."""
    folded = re.sub(r"\s*\(\d+\)$", "", heading.strip())
    try:
        return tuple(hostlist.expand(folded))
    except SetupError:
        return (folded,)


def _by_prefix(lines: list[str]) -> list[tuple[tuple[str, ...], str]]:
    parts: dict[str, list[str]] = {}
    for line in lines:
        if found := _PREFIX.match(line):
            parts.setdefault(found[1], []).append(line[found.end() :])
        elif line.strip():
            raise CliError(f"a line without the name of its node: {line[:40]}")
    return [((name,), "\n".join(part)) for name, part in parts.items()]


# One report, field by field


def _report(value: Any, where: str, names: tuple[str, ...]) -> Report:
    found = _Fields(value, where)
    schema = found.get("schema", int)
    if schema != SCHEMA:
        raise CliError(
            f"{where}: schema {schema}, and this release knows {SCHEMA}: read it with the release "
            "that has saved it"
        )
    findings = [_finding(_Fields(each, where)) for each in found.get("findings", list)]
    decisions = [_decision(_Fields(each, where)) for each in found.get("would_decide", list)]
    return Report(findings, decisions, names, max(1, len(names)))


def _finding(found: _Fields) -> Finding:
    where = _Fields(found.get("where", dict), found.where)
    return Finding(
        found.get("code", str),
        found.get("category", str),
        found.one_of("result", RESULTS),  # type: ignore[arg-type]
        found.get("title", str),
        found.get("expected", str),
        found.get("found", str),
        where.get("file", str),
        where.get("line", int),
        found.get("why", str),
        found.get("fix", str),
        found.get("seconds", *_NUMBER),
    )


def _decision(found: _Fields) -> Decision:
    none = type(None)
    jobs = found.get("jobs", list)
    return Decision(
        found.get("user", str),
        found.get("uid", int, none),
        found.one_of("decision", DECISIONS),
        found.get("job", int, none),
        tuple(job for job in jobs if isinstance(job, int)),
        found.get("situation", str),
        found.get("option", str),
        found.get("why", str),
    )


class _Fields:
    """An object of JSON; what is missing or of another type is named."""

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise CliError(f"{where}: {_shown(value)} where an object is expected")
        self._value = value

    def get(self, name: str, *types: type) -> Any:
        value = self._value.get(name)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            said = "is missing" if name not in self._value else f"is {_shown(value)}"
            raise CliError(f"{self.where}: {name} {said}")
        return sys.intern(value) if isinstance(value, str) else value  # of many nodes, once

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        value = self.get(name, str)
        if value not in known:
            raise CliError(f"{self.where}: {name} is {_shown(value)}, not {' or '.join(known)}")
        return str(value)


def _shown(value: Any) -> str:
    try:
        return ascii(value)[:40]
    except RecursionError:
        return "nested too deeply"
