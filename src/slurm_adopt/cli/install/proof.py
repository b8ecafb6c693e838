"""Whether a stack that has just been written keeps everybody out: the checks that can tell."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks import report
from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.report import Report
from slurm_adopt.cli.checks.runner import run
from slurm_adopt.cli.checks.table import BY_CODE, CHECKS
from slurm_adopt.cli.verdict.pam_line import script_of

from .fronts import why_no_pam_exec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Finding

# Errors of these keep out root, or everybody else: the files, root's way in, modules.
LOCKOUTS = ("SA101", "SA106", "SA114")
BRIDGE = ("SA201", "SA202", "SA203")  # of pam_python: the script, the interpreter, the package


def lockouts(service: str) -> list[str]:
    """Return why everybody, or root, would be kept out; one line each."""
    host = Host(service)
    by_exec = {
        script_of(line)
        for line in host.all_our_lines()
        if os.path.basename(line.module) == "pam_exec.so"
    }
    codes = LOCKOUTS if by_exec else (*LOCKOUTS, *BRIDGE)
    found = run([BY_CODE[code] for code in codes], host)
    wrong = [_line(one) for one in found if one.result == "error"]
    return [*wrong, *filter(None, map(why_no_pam_exec, sorted(by_exec)))]


def rest(service: str) -> tuple[str, Iterator[str]]:
    """Return the first line of a quick check, and a line for each thing that is wrong."""
    findings = list(run(CHECKS, Host(service, quick=True)))
    bad = [one for one in findings if one.result in ("warning", "error")]
    return report.first_line([Report(findings, [])]), map(_line, bad)


def _line(one: Finding) -> str:
    return f"{one.code} {one.title}{f' ({one.found})' if one.found else ''}"
