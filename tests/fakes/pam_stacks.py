"""PAM stacks for libpam: put together at random, always the same ones; and odd lines."""

from __future__ import annotations

import itertools
import random
import re

from tests.fakes.libpam import MODULE

SEED = 20
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

Files = dict[str, str]


class Maker:
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
            filled(self.files, f"{MODULE}session_err", [MODULE + value for value in values])
            for values in chosen
        ]


def _values(control: str) -> list[str]:
    """Return a success, a value that no control names, and those that make a difference to this."""
    named = [value for value in ("ignore", "auth_err") if value in control or control[0] != "["]
    return ["success", *named, "user_unknown"]


def filled(files: Files, ours: str, modules: list[str]) -> Files:
    """Return files with modules in them."""
    fill = {"ours": ours, **{str(number): module for number, module in enumerate(modules)}}
    pattern = re.compile(r"\{(ours|\d)\}")
    return {name: pattern.sub(lambda found: fill[found[1]], text) for name, text in files.items()}


REFUSE = "session required pam_deny.so\n"
ENDS = "session sufficient pam_permit.so\n"
RESET = "session [default=reset] pam_permit.so\n"
JUMP = "session [success=1 default=ignore] pam_permit.so\n"

# What pam_stack.py takes for granted: (fact, sshd's file, the file a, whether a session is opened)
FACTS = [
    ("a backslash in a comment continues nothing", f"# \\\n{ENDS}{REFUSE}", "", True),
    ("nor does one in a comment behind", f"{PERMIT[:-1]} # \\\n{ENDS}{REFUSE}", "", True),
    ("a line that never ends is an error", f"{PERMIT}session required \\", "", False),
    ("a bracket ends a word", f"session [success=done]pam_permit.so\n{REFUSE}", "", True),
    ("a control needs none", f"session default=done pam_permit.so\n{REFUSE}", "", True),
    ("a word in brackets is the word", "session [Required] pam_permit.so\n", "", True),
    ("the first default counts", f"session [default=ok default=done] x.so\n{PERMIT}", "", False),
    ("values are lower case", f"session [SUCCESS=done] pam_permit.so\n{REFUSE}", "", False),
    ("an unknown type is auth", f"sesion required pam_deny.so\n{PERMIT}", "", True),
    ("or the including line's", "session include {here}/a\n", f"{PERMIT}sesion x y\n", False),
    ("a dash is no part of it", "-@include {here}/a\n", PERMIT, True),
    ("a missing file refuses", f"{PERMIT}session include {{here}}/none\n", "", False),
    ("a folder is an empty file", f"{PERMIT}session include {{here}}\n", "", True),
    ("an empty substack is a line", f"{JUMP}session substack {{here}}/a\n{REFUSE}", "", False),
    ("an empty include is none", f"{PERMIT}{JUMP}@include {{here}}/a\n{REFUSE}", "", True),
    ("no jump leaves a substack", f"{PERMIT}session substack {{here}}/a\n{PERMIT}", JUMP, False),
    ("done ends nothing refused", f"{REFUSE}{ENDS}{RESET}{PERMIT}", "", True),
    ("reset forgets a substack", f"session substack {{here}}/a\n{RESET}{PERMIT}", REFUSE, True),
]
