"""What stack.why_uncertain says of a stack, against what the real libpam does with it.

Stacks are put together at random, always the same ones. We read each; libpam runs each with several
return values of its lines, and with a line in place of ours that always refuses. So a session that
libpam opens is one without our line, or against its refusal. If our line is certain to come, there
must be none. If it is not, libpam shall show one.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from slurm_adopt.node import pam_stack
from tests.fakes.libpam import open_sessions
from tests.fakes.pam_stacks import FACTS, OURS, PERMIT, RUNS, Maker, filled

if TYPE_CHECKING:
    from pathlib import Path

STACKS = 240

# Of these, and of a stack in which nothing need succeed, we say more than libpam does.
STRICTER = re.compile(r"reset|auth_err=done")


def _reason(made: Maker, folder: Path) -> str:
    others = [f"pam_x{number}.so" for number, _ in enumerate(made.controls)]
    for name, text in filled(made.files, OURS, others).items():
        (folder / name).write_text(text.replace("{here}", str(folder)))
    return pam_stack.why_uncertain("sshd", (str(folder),))


def test_against_libpam(tmp_path: Path) -> None:
    made = [Maker(number) for number in range(STACKS)]
    reasons = [_reason(one, tmp_path) for one in made]
    runs = [one.runs() for one in made]
    codes = iter(open_sessions(list(itertools.chain.from_iterable(runs))))
    for one, reason, cases in zip(made, reasons, runs):
        opened = [case for case, code in zip(cases, codes) if code == 0]
        assert reason or not opened, f"certain, but libpam opens a session by {opened[0]}"
        exact = one.files["sshd"].startswith(PERMIT) and not STRICTER.search(str(one.files))
        if exact and len(cases) < RUNS:
            assert opened or not reason, f"{reason}; libpam does not in {one.files}"
    assert STACKS / 5 < reasons.count("") < STACKS * 4 / 5


def test_facts() -> None:
    codes = open_sessions([{"sshd": text, "a": included} for _, text, included, _ in FACTS])
    wrong = [fact for (fact, *_, opened), code in zip(FACTS, codes) if (code == 0) != opened]
    assert not wrong
