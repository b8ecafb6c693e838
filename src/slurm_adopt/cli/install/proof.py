"""Whether a stack that has just been written keeps everybody out: the checks that can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.cli.checks import report
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.report import Report
from slurm_adopt.cli.checks.runner import run
from slurm_adopt.cli.checks.table import BY_CODE, CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Finding

# Errors of these keep out root, or everybody else: the files, root's way in, modules.
LOCKOUTS = ("SA101", "SA106", "SA114")
# The script, the interpreter of either front, the package.
BRIDGE = ("SA201", "SA202", "SA203", "SA209")


def lockouts(service: str) -> list[str]:
    """Return why everybody, or root, would be kept out; one line each."""
    found = run([BY_CODE[code] for code in (*LOCKOUTS, *BRIDGE)], Host(service))
    return [_line(one) for one in found if one.result == "error"]


def rest(service: str) -> tuple[str, Iterator[str]]:
    """Return the first line of a quick check, and a line for each thing that is wrong."""
    findings = list(run(CHECKS, Host(service, quick=True)))
    bad = [one for one in findings if one.result in ("warning", "error")]
    return report.first_line([Report(findings, [])]), map(_line, bad)


def _line(one: Finding) -> str:
    return f"{one.code} {one.title}{f' ({one.found})' if one.found else ''}"
