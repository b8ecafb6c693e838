"""Whether a planned stack is sound: read as libpam will read it, before anything is written.

The same judgement as that of `check`, on the planned text in a folder of its own in front of the
real ones.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from slurm_adopt.cli.checks.host import Host
from slurm_adopt.cli.checks.pam import ways_in
from slurm_adopt.cli.checks.pam.pam_runs import LETS_IN, anything, name_of, runs
from slurm_adopt.cli.checks.pam.pam_users import of_root, who
from slurm_adopt.cli.verdict.pam_line import PHASES
from slurm_adopt.node import pam_files, pam_stack

from .errors import CannotError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.node.pam_files import Line, Stack

    from .pam_text import Edited

MEMORY = "/run"
PAGE = "docs/how-to/install.md"
REFUSES = ("perm_denied", "auth_err")
# Modules that start programs as the user: what they start in front of ours is in no job.
STARTERS = (
    "pam_mount.so",
    "pam_ssh.so",
    "pam_gnome_keyring.so",
    "pam_kwallet.so",
    "pam_kwallet5.so",
)
# What our lines may return at worst: as they are, without pam_python or pam_exec, without a script
WORST = ("ignore", "success", "module_unknown", "open_err", "system_err", "perm_denied")


class Stacks(NamedTuple):
    """The stacks of a service, and where its files are."""

    service: str
    places: tuple[str, ...]
    of: dict[str, Stack]
    planned: bool = False  # the first place has nothing but the planned file

    @property
    def file(self) -> str:
        """Return the service's own file."""
        names = (f"{place}/{self.service.lower()}" for place in self.places)
        return next((name for name in names if os.path.lexists(name)), "")


def read(service: str, places: tuple[str, ...]) -> Stacks:
    """Return the stacks of a service."""
    of = {kind: pam_files.read(kind, service, places) for kind in pam_files.TYPES}
    return Stacks(service, places, of)


@contextmanager
def planned(stacks: Stacks, edited: Edited) -> Iterator[Stacks]:
    """Give the stacks as they will be."""
    with ExitStack() as stack:
        folder = _with(stacks.service.lower(), edited.data, stack)
        yield read(stacks.service, (folder, *stacks.places))._replace(planned=True)


def _with(name: str, data: bytes, stack: ExitStack) -> str:
    """Return a new folder with a file in it: where /tmp has no room, one in memory."""

    def made(there: str | None) -> str:
        folder = tempfile.mkdtemp(prefix="slurm-adopt-", dir=there)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
        return folder

    try:
        return made(None)
    except OSError as error:
        why = error.strerror or str(error)
    try:
        return made(MEMORY)
    except OSError:
        raise CannotError(f"cannot write a temporary file: {why}: make room in /tmp") from None


def check_read(stacks: Stacks) -> None:
    """Refuse stacks that libpam does not surely read as they are written."""
    for kind in pam_files.TYPES:
        stack = stacks.of[kind]
        if stack.flaw:
            path, number = stack.flaw_at
            at = f"{path}:{number}: " if path else ""
            raise CannotError(_of(stacks, f"{at}{stack.flaw}: mend that first"))


def check_rest(before: Stacks, after: Stacks, edited: Edited) -> None:
    """Refuse an edit that changes what follows any line that it leaves."""
    for kind in pam_files.TYPES:
        old = _Kept(before, kind, edited.removed)
        new = _Kept(after, kind, edited.new)
        if [str(old.lines[at]) for at in old.kept] != [str(new.lines[at]) for at in new.kept]:
            raise CannotError(f"{before.file}: its lines would not be read as planned: see {PAGE}")
        for one, other in zip(old.kept, new.kept):
            for action in old.lines[one].actions.values():
                if isinstance(action, int) and old.leads(one, action) != new.leads(other, action):
                    line = old.lines[one]
                    text = f"the line of {line.module} would jump to another line than now"
                    hint = f"take it out first, or edit the file by hand: {PAGE}"
                    raise CannotError(f"{line.path}:{line.number}: {text}: {hint}")


class _Kept:
    """The lines of a phase, and which of them are there before the edit and after it."""

    def __init__(self, stacks: Stacks, kind: str, changed: frozenset[int]) -> None:
        self.lines = stacks.of[kind].lines
        file = stacks.file
        self.kept = [
            at
            for at, line in enumerate(self.lines)
            if line.path != file or line.number not in changed
        ]

    def leads(self, at: int, count: int) -> tuple[int, bool, bool]:
        """Return where a jump ends, among the kept lines; and whether that is inside of others."""
        after, complete = pam_stack.jump(self.lines, at, count)
        kept = set(self.kept)
        inside = not {after - 1, after} & kept and after < len(self.lines)
        return sum(1 for index in self.kept if index < after), complete, inside


class Planned(Host):
    """A host as it will be: what checks of PAM ask for."""

    def __init__(self, stacks: Stacks) -> None:
        """Take the stacks as they will be."""
        super().__init__(stacks.service)
        self._stacks = stacks
        self._found: dict[str, Any] = {}

    def stack(self, phase: str) -> Stack:
        """Return the planned stack of a phase."""
        return self._stacks.of[phase]

    def once(self, name: str, look: Callable[[], Any], seconds: float = 0.0) -> Any:  # noqa: ARG002
        """Return what a function returns; it only computes, so no deadline is kept."""
        if name not in self._found:
            self._found[name] = look()
        return self._found[name]


def check_root(after: Stacks) -> None:
    """Refuse stacks in which root could be locked out, whatever our lines come to."""
    host = Planned(after)
    for seen in ways_in.root_gets_in(host):
        if seen.result == "error":
            raise CannotError(f"{_of(after, seen.title)}: {_of(after, seen.found)}: see {PAGE}")
    for phase in PHASES:
        if let_in(after, phase) is not None and not let_in(after, phase):
            raise CannotError(f"the {phase} phase could lock out root: see {PAGE}")


def let_in(stacks: Stacks, phase: str) -> bool | None:
    """Say whether root gets in by a phase, whatever our lines come to; None: it has no lines."""
    lines = stacks.of[phase].lines
    others = of_root(stacks.service)
    ended = runs(lines, lambda line: others(line) if line.ours is None else WORST)
    return all(run.opened for run in ended) if lines else None


def remarks(after: Stacks) -> list[str]:
    """Return what an administrator should know of a planned stack."""
    host = Planned(after)
    seen = [*ways_in.refusals(host), *ways_in.account_reached(host)]
    notes = [_told(after, one) for one in seen if one.result in ("warning", "error")]
    why = pam_stack.why_uncertain(after.service, after.places)
    if after.of["session"].ours and why:
        notes.append(f"the session line is not certain to come: {_of(after, why)}")
    return [*notes, *_started_outside(after)]


def _started_outside(after: Stacks) -> Iterator[str]:
    """Tell what starts programs as the user in front of our session line, so outside of the job."""
    stack = after.of["session"]
    for line in stack.lines[: next(iter(stack.ours), 0)]:
        if name_of(line) in STARTERS:
            text = f"what {name_of(line)} starts for users is outside of their jobs"
            yield f"{text}: put it behind our session line"


def refusal_counts(after: Stacks) -> bool:
    """Say whether a refusal by each of our lines counts."""
    return all(seen.result != "error" for seen in ways_in.refusals(Planned(after)))


def around(stacks: Stacks, number: int) -> list[tuple[str, Line]]:
    """Return who goes by a line of the account phase that refuses, but for root; and by which."""
    lines = stacks.of["account"].lines
    target = _at(stacks, number)
    if target is None:
        return []

    def returns(line: Line) -> tuple[str, ...]:
        return REFUSES if line is lines[target] else tuple(anything(line))

    past = {run.past for run in runs(lines, returns, target) if run.opened and run.past}
    return [
        (who(lines[step.at], step.value), lines[step.at])
        for step in sorted(past)
        if step.value != LETS_IN[1] and who(lines[step.at], step.value) != "root"
    ]


def _at(stacks: Stacks, number: int) -> int | None:
    lines = stacks.of["account"].lines
    here = (i for i, line in enumerate(lines) if (line.path, line.number) == (stacks.file, number))
    return next(here, None)


def _told(stacks: Stacks, seen: Seen) -> str:
    return _of(stacks, f"{seen.title}: {seen.found}" if seen.found else seen.title)


def _of(stacks: Stacks, text: str) -> str:
    """Return a text with the file's own place for the folder that the planned one is in."""
    if not stacks.planned:
        return text
    return text.replace(f"{stacks.places[0]}/", f"{stacks.places[1]}/")
