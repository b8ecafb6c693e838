"""The report of `slurm-adopt check` as text, of one node or of many, and its first line.

Nothing in it differs between nodes that are alike: no host name, pid or time.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from slurm_adopt.cli.errors import ERROR, OK, WARNING
from slurm_adopt.cli.output import printable

from .finding import RESULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Callable

    from .finding import Finding
    from .would_decide import Decision

What = TypeVar("What")

NAME = "slurm_adopt"
FIRST = 80  # characters of the first line: it is to fit Slurm's Reason=
PAGE = "docs/reference/checks.md"
STYLES = {"ok": "green", "skipped": "dim", "warning": "yellow", "error": "bold red"}
STATUSES = {"warning": WARNING, "error": ERROR}
DECIDED = "would be decided now"
_LABEL, _NARROW = 10, 12  # columns: of `expected`, and what is left for text at least
_NAMES = 8  # of nodes in a line
# A number that differs between nodes that are alike; a release has a dot in it.
_PIDS = re.compile(r"\b(process(?:es)?|pids?|slurmd|slurmstepd|sshd)(?: \d+)+(?!\w|\.\d)")


class Report(NamedTuple):
    """What was found on one node, or on several that have said the same."""

    findings: list[Finding]
    decisions: list[Decision]
    nodes: tuple[str, ...] = ()  # their names, where they are known
    number: int = 1  # of nodes


class Nodes(NamedTuple):
    """The nodes that have something in common."""

    names: tuple[str, ...]  # where they are known
    number: int


def status_of(reports: Iterable[Report], fail_on: str) -> int:
    """Return the exit status; `fail_on`: what is bad enough for one that is not 0."""
    results = {finding.result for report in reports for finding in report.findings}
    if "error" in results:
        return STATUSES["error"]
    return STATUSES["warning"] if "warning" in results and fail_on == "warning" else OK


def first_line(reports: list[Report]) -> str:
    """Return one line of ASCII that says it all, errors before warnings."""
    findings = [finding for finding, _ in _findings(reports)]
    nodes = sum(report.number for report in reports)
    numbers = []
    codes: list[str] = []
    for result in reversed(STATUSES):
        found = [finding.code for finding in findings if finding.result == result]
        if found:
            numbers.append(f"{len(found)} {result}{'s' if len(found) > 1 else ''}")
            codes += [code for code in dict.fromkeys(found) if code not in codes]
    if not codes:
        return f"{NAME}: ok{_of_nodes(nodes, nodes)}{_counted(findings)}"
    with_bad = sum(
        report.number for report in reports if any(f.result in STATUSES for f in report.findings)
    )
    return _with_codes(f"{NAME}: {', '.join(numbers)}{_of_nodes(with_bad, nodes)}:", codes)


def _with_codes(said: str, codes: list[str]) -> str:
    """Add as many codes as fit into the line, and how many more there are."""
    whole = " ".join([said, *codes])
    if len(whole) <= FIRST:
        return whole
    shown = len(codes)
    while shown and len(whole) > FIRST:
        shown -= 1
        whole = " ".join([said, *codes[:shown], f"and {len(codes) - shown} more"])
    return whole[:FIRST]


def _counted(findings: list[Finding]) -> str:
    checks = len({finding.code for finding in findings})
    skipped = len({finding.code for finding in findings if finding.result == "skipped"})
    said = f", {checks} check{'' if checks == 1 else 's'}"
    return f"{said}, {skipped} skipped" if skipped else said


def _of_nodes(some: int, all_: int) -> str:
    if all_ == 1:
        return ""
    return f" on all {all_} nodes" if some == all_ else f" on {some} of {all_} nodes"


# The whole report


def text(reports: list[Report], arrow: str, width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of a report, each with its style; `width` in columns."""
    nodes = sum(report.number for report in reports)
    first = first_line(reports)
    worst = max(
        (finding.result for report in reports for finding in report.findings),
        key=RESULTS.index,
        default="ok",
    )
    yield "bold" if worst not in STATUSES else STYLES[worst], first
    findings = _findings(reports)
    # Once is enough: why something could not be seen, and what several findings have in common.
    said: set[tuple[str, ...]] = set()
    for category in dict.fromkeys(finding.category for finding, _ in findings):
        yield "", ""
        yield "bold", category
        for finding, some in findings:
            if finding.category == category:
                yield from _shown(finding, _where(some, nodes), said, width)
    if any(report.decisions for report in reports):
        yield "", ""
        yield "bold", DECIDED
    for decision, some in _decisions(reports):
        line = f"{decision.text(arrow)}{_where(some, nodes)}"
        yield from _wrapped("  ", "    ", line, width, "")


def _shown(
    finding: Finding, where: str, said_before: set[tuple[str, ...]], width: int
) -> Iterator[tuple[str, str]]:
    """Yield the lines of a finding, without what has been said before."""
    style = STYLES[finding.result]
    head = f"  {finding.result:7}  {finding.code}  "
    yield from _wrapped(head, " " * len(head), f"{finding.title}{where}", width, style)
    if finding.result not in STATUSES:
        if finding.result == "skipped" and finding.found and (finding.found,) not in said_before:
            said_before.add((finding.found,))
            yield from _detail("", finding.found, width)
        return
    common = (finding.code, finding.expected, finding.why, finding.fix)
    if common in said_before:
        finding = finding._replace(expected="", why="", fix="")
    said_before.add(common)
    place = f"{finding.file}:{finding.line}" if finding.line else finding.file
    for label, said in (
        ("expected", finding.expected),
        ("found", finding.found),
        ("where", place),
        ("why", finding.why),
        ("fix", finding.fix),
        ("see", f"{PAGE}#{finding.code.lower()}" if finding.fix else ""),
    ):
        if said:
            yield from _detail(label, said, width)


def _detail(label: str, said: str, width: int) -> Iterator[tuple[str, str]]:
    indent = 11 if width >= 60 else 2
    head = " " * indent + f"{label:{_LABEL}}"
    yield from _wrapped(head, " " * len(head), said, width, "")


def _wrapped(head: str, rest: str, said: str, width: int, style: str) -> Iterator[tuple[str, str]]:
    """Yield a text in lines of `width` columns; where too few are left beside the head, below."""
    said = printable(said)
    if width - len(head) < _NARROW:
        if head.strip():
            yield style, head.rstrip()
        head = rest = " " * min(4, max(0, width - _NARROW))
    lines = textwrap.wrap(
        said,
        max(width, _NARROW),
        initial_indent=head,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )
    for line in lines or [head.rstrip()]:
        yield style, line


# What several nodes have in common


def _findings(reports: list[Report]) -> list[tuple[Finding, Nodes]]:
    each = [(_alike(finding), report) for report in reports for finding in report.findings]
    return _shared(each, lambda finding: finding.code)


def _decisions(reports: list[Report]) -> list[tuple[Decision, Nodes]]:
    each = [
        (decision._replace(why=_without_pids(decision.why)), report)
        for report in reports
        for decision in report.decisions
    ]
    return _shared(each, lambda decision: decision.user)


def _alike(finding: Finding) -> Finding:
    """Return a finding as it is on all nodes that are alike: without pids, and its time."""
    title, found = map(_without_pids, (finding.title, finding.found))
    return finding._replace(title=title, found=found, seconds=0.0)


def _without_pids(text: str) -> str:
    return _PIDS.sub(r"\1", text)


def _shared(
    each: Iterable[tuple[What, Report]], key: Callable[[What], str]
) -> list[tuple[What, Nodes]]:
    """Put together what is alike; in the order of keys as they came first, then of most nodes."""
    groups: dict[What, list[Report]] = {}
    for what, report in each:
        reports = groups.setdefault(what, [])
        if not (reports and reports[-1] is report):  # what a node says twice counts once
            reports.append(report)
    order = {name: at for at, name in reversed([*enumerate(map(key, groups))])}
    shared = [(what, _nodes(reports)) for what, reports in groups.items()]
    return sorted(shared, key=lambda one: (order[key(one[0])], -one[1].number))


def _nodes(reports: list[Report]) -> Nodes:
    names = tuple(name for report in reports for name in report.nodes)
    return Nodes(names, sum(report.number for report in reports))


def _where(some: Nodes, nodes: int) -> str:
    """Say on which nodes it is so; nothing where it is so on all."""
    if some.number == nodes:
        return ""
    names = [*some.names[:_NAMES], *(["..."] if some.names[_NAMES:] else [])]
    return f" [{some.number} of {nodes} nodes{': ' if names else ''}{' '.join(names)}]"
