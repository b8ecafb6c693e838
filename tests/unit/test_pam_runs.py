"""Ways through a PAM stack: each with what the real libpam comes to, and what leads past a line."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli.checks.pam.pam_runs import Run, Step, anything, runs
from slurm_adopt.node import pam_files
from tests.fakes.libpam import open_sessions
from tests.fakes.pam_stacks import FACTS, OURS, Files, Maker

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

STACKS = 120  # some 3700 runs


def _lines(folder: Path, files: Files) -> pam_files.Stack:
    for name, text in files.items():
        (folder / name).write_text(text.replace("{here}", str(folder)))
    return pam_files.read("session", "sshd", (str(folder),))


def _told(line: pam_files.Line) -> Iterable[str]:
    """Return what a line of these stacks returns: pam_debug says it itself."""
    says = {"pam_permit.so": "success", "pam_deny.so": "session_err", "x.so": "module_unknown"}
    return [says.get(line.module) or line.arguments[0].partition("=")[2]]


def test_against_libpam(tmp_path: Path) -> None:
    """Each run with one value for each line ends as libpam ends it."""
    cases = list(itertools.chain.from_iterable(Maker(number).runs() for number in range(STACKS)))
    codes = open_sessions(cases)
    wrong = []
    for case, code in zip(cases, codes):
        (run,) = runs(_lines(tmp_path, case).lines, _told)
        if run.opened != (code == 0):
            wrong.append((case, code))
    assert wrong == []
    assert codes.count(0) > 400


def test_facts(tmp_path: Path) -> None:
    """What libpam makes of odd lines that we read without a doubt."""
    for fact, text, included, opened in FACTS:
        stack = _lines(tmp_path, {"sshd": text, "a": included})
        if not stack.flaw:
            (run,) = runs(stack.lines, _told)
            assert run.opened == opened, fact


IN_FRONT = [
    # (lines in front of ours, which of them lead past it, by which value)
    ("session required pam_x.so", set()),
    ("session sufficient pam_x.so", {(0, "success"), (0, "new_authtok_reqd")}),
    ("session optional pam_x.so\nsession sufficient pam_localuser.so", {(1, "success")}),
    ("session [success=1 default=ignore] pam_succeed_if.so uid eq 0", {(0, "success")}),
    ("session [default=1 success=ignore] pam_succeed_if.so uid ne 0", {(0, "auth_err")}),
    ("session [success=1 default=ignore] pam_unix.so\nsession requisite pam_deny.so", set()),
    ("session [new_authtok_reqd=done default=ignore] pam_unix.so", {(0, "new_authtok_reqd")}),
    ("session requisite pam_deny.so\nsession sufficient pam_permit.so", set()),
    ("session substack a", set()),
    ("session include a", {(0, "success")}),
]  # fmt: skip


@pytest.mark.parametrize(("front", "expected"), IN_FRONT)
def test_what_leads_past_a_line(tmp_path: Path, front: str, expected: set[tuple[int, str]]) -> None:
    text = f"{front}\nsession required {OURS}\nsession required pam_permit.so\n"
    stack = _lines(tmp_path, {"sshd": text, "a": "session sufficient pam_localuser.so\n"})
    ended = runs(stack.lines, anything, stack.ours[0])
    assert {run.past for run in ended if run.opened and run.past} == expected
    assert any(run.met for run in ended) == ("pam_deny" not in front or "success=1" in front)


def test_a_long_stack_takes_no_long_time(tmp_path: Path) -> None:
    """As long as libpam reads: each line may refuse, and may lead past ours."""
    front = "session [success=1 ignore=2 auth_err=3 default=bad] pam_x.so\n" * pam_files.LINES
    stack = _lines(tmp_path, {"sshd": f"{front}session required {OURS}\n{front}"})
    counted = []

    def returns(line: pam_files.Line) -> Iterable[str]:
        counted.append(line)
        return anything(line)

    runs(stack.lines, returns, stack.ours[0])
    assert len(counted) < 40 * len(stack.lines)


def test_what_refuses(tmp_path: Path) -> None:
    text = "session required pam_permit.so\nsession requisite pam_deny.so\n"
    lines = _lines(tmp_path, {"sshd": text}).lines
    assert runs(lines, _told) == {Run(False, False, None, Step(1, "session_err"))}
    assert runs([], _told) == {Run(False, False, None, None)}
