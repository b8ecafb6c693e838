"""What stack.why_uncertain says of a stack, against what the real libpam does with it.

Stacks are put together at random, always the same ones. We read each; libpam runs each with several
return values of its lines, and with a line in place of ours that always refuses. So a session that
libpam opens is one without our line, or against its refusal. If our line is certain to come, there
must be none. If it is not, libpam shall show one.
"""

from __future__ import annotations

import itertools
import random
import re
from typing import TYPE_CHECKING

from slurm_adopt import stack
from tests.libpam import MODULE, open_sessions

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20
STACKS = 240
LINES = 4  # of other modules, at most
RUNS = 64  # of one stack, at most

OURS = "pam_python.so pam_slurm_adopt.py"
PERMIT = "session required pam_permit.so\n"
CONTROLS = (
    "required",
    "requisite",
    "optional",
    "sufficient",
    "[success=1 default=ignore]",
    "[success=2 default=ignore]",
    "[success=ok ignore=3 default=bad]",
    "[default=1]",
    "[success=2 auth_err=1 default=die]",
    "[success=done default=ignore]",
    "[success=ok auth_err=done default=bad]",
    "[default=done auth_err=ok]",
    "[default=ignore auth_err=die]",
    "[success=1 default=die]",
    "[success=ok default=reset]",
    "[success=ok]",
    "[default=ok default=done]",
)
# Of these, and of a stack in which nothing need succeed, we say more than libpam does.
STRICTER = re.compile(r"reset|auth_err=done")

Files = dict[str, str]


class _Maker:
    """Makes a stack; in its files {N} stands for the Nth line's module, {ours} for ours."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(f"{SEED} {number}")
        self._place = self._random.randrange(1, LINES)  # how many lines are in front of ours
        self.controls: list[str] = []
        self.files: Files = {}
        self._file("sshd", 0)
        if "{ours}" not in str(self.files):
            self._ours("sshd")

    def _file(self, name: str, depth: int) -> None:
        """Write a file and those that it includes."""
        self.files[name] = PERMIT if not depth and self._random.random() < 0.7 else ""
        for _ in range(self._random.randint(1, 5 - depth)):
            if len(self.controls) == self._place and "{ours}" not in str(self.files):
                self._ours(name)
            elif depth < 3 and self._random.random() < 0.3:
                self._include(name, depth)
            elif len(self.controls) < LINES:
                self._line(name)

    def _ours(self, name: str) -> None:
        self.files[name] += f"session {self._random.choice(('required', 'requisite'))} {{ours}}\n"

    def _include(self, name: str, depth: int) -> None:
        other = f"{name}-{len(self.files)}"
        how = self._random.choice(("session include", "session substack", "@include"))
        self.files[name] += f"{how} {{here}}/{other}\n"
        self._file(other, depth + 1)

    def _line(self, name: str) -> None:
        control = self._random.choice(CONTROLS)
        self.files[name] += f"session {control} {{{len(self.controls)}}}\n"
        self.controls.append(control)

    def runs(self) -> list[Files]:
        """Return the files for runs in which the lines return other values each time."""
        every = list(itertools.product(*map(_values, self.controls)))
        chosen = self._random.sample(every, min(RUNS, len(every)))
        return [
            _filled(self.files, f"{MODULE}session_err", [MODULE + value for value in values])
            for values in chosen
        ]


def _values(control: str) -> list[str]:
    """Return a success, a value that no control names, and those that make a difference to this."""
    named = [value for value in ("ignore", "auth_err") if value in control or control[0] != "["]
    return ["success", *named, "user_unknown"]


def _filled(files: Files, ours: str, modules: list[str]) -> Files:
    """Return files with modules in them."""
    fill = {"ours": ours, **{str(number): module for number, module in enumerate(modules)}}
    pattern = re.compile(r"\{(ours|\d)\}")
    return {name: pattern.sub(lambda found: fill[found[1]], text) for name, text in files.items()}


def _reason(made: _Maker, folder: Path) -> str:
    others = [f"pam_x{number}.so" for number, _ in enumerate(made.controls)]
    for name, text in _filled(made.files, OURS, others).items():
        (folder / name).write_text(text.replace("{here}", str(folder)))
    return stack.why_uncertain("sshd", (str(folder),))


def test_against_libpam(tmp_path: Path) -> None:
    made = [_Maker(number) for number in range(STACKS)]
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
