"""This module's lines in a PAM file, and the lines in front that let somebody jump over them."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Callable, NamedTuple

from slurm_adopt.node import pam_files
from slurm_adopt.node.pam_stack import FLAGS, is_of_user

from .pam_text import PamText

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from .pam_text import Entry

    Front = Literal["pam_python", "pam_exec"]

# Each front: what stands between the control and the script. pam_exec(8): `stdout` shows what the
# script prints, and `quiet` keeps pam_exec from telling its exit status.
FRONTS: dict[str, str] = {"pam_python": "pam_python.so", "pam_exec": "pam_exec.so quiet stdout"}
SUCCEED_IF = "pam_succeed_if.so"

# For whom the guard is. What cron and at run for system users is in no job: at-and-cron.md.
ROOT, SYSTEM = "uid eq 0", "uid < 1000"
GUARDS = {"cron": SYSTEM, "crond": SYSTEM, "atd": SYSTEM}

_COMMENT = "# slurm_adopt: everybody but {} needs a job here. In front of the include, which may "
_WHO = {ROOT: "root", SYSTEM: "the system's users"}
ACCOUNT = {who: f"{_COMMENT.format(name)}end this phase." for who, name in _WHO.items()}
SESSION = (
    "# slurm_adopt: the last session lines, behind whatever may move the session out of its job."
)

_JUMP = re.compile(r"\[\s*success\s*=\s*(\d+)\s+default\s*=\s*ignore\s*\]", re.IGNORECASE)


class Pair(NamedTuple):
    """A line of a module with what belongs to it: whom to let jump over it, root above all.

    `guard`: the line for root, or the system's users, None if there is none. `exempted`: the other
    lines right in front that jump over this one and no further.
    """

    line: Entry
    guard: Entry | None
    exempted: tuple[Entry, ...]

    @property
    def entries(self) -> list[Entry]:
        """Return all that belongs together, in its order."""
        own = [*self.exempted, *([self.guard] if self.guard else []), self.line]
        return sorted(own, key=lambda entry: entry.start)


def script_at(words: Sequence[str]) -> int:
    """Return which of a module's arguments is a script of ours; -1 for none."""
    names = [word.rpartition("/")[2] for word in words]
    scripts = pam_files.SCRIPTS.values()
    return next((index for index, name in enumerate(names) if name in scripts), -1)


def is_ours(entry: Entry) -> bool:
    """Say whether a line runs this module."""
    return bool(entry.module) and script_at(entry.arguments) >= 0


def pairs(text: PamText, phase: str, is_one: Callable[[Entry], bool]) -> list[Pair]:
    """Return the lines of a phase that are meant, each with what belongs to it."""
    there = [entry for entry in text.entries if entry.kind in (phase, "@include")]
    return [_pair(there, index) for index, entry in enumerate(there) if is_one(entry)]


def _pair(there: Sequence[Entry], index: int) -> Pair:
    guard: Entry | None = None
    exempted: list[Entry] = []
    for distance in range(1, index + 1):
        entry = there[index - distance]
        condition = _condition(entry)
        is_guard = condition in (ROOT, SYSTEM) and guard is None
        ends = distance == 1 and is_guard and entry.control == "sufficient"
        jump = _JUMP.fullmatch(entry.control)
        if not condition or not (ends or (jump and int(jump[1]) == distance)):
            break
        if is_guard:
            guard = entry
        else:
            exempted.insert(0, entry)
    return Pair(there[index], guard, tuple(exempted))


def _condition(entry: Entry) -> str:
    """Return which users a line of pam_succeed_if is about; "" for any other line."""
    if entry.module != SUCCEED_IF or entry.kind == "@include":
        return ""
    words = [entry.words[1], SUCCEED_IF, *entry.arguments]
    if not is_of_user(pam_files.Line("", 0, words, {"default": "ignore"})):
        return ""
    return " ".join(word for word in entry.arguments if word not in FLAGS)


def call(front: str, script: str, words: Sequence[str]) -> str:
    """Return what stands behind the control of our line; `words` are its options."""
    return " ".join([FRONTS[front], script, *words])


def guard_line(phase: str, service: str) -> str:
    """Return the guard that stands right in front of our line."""
    return f"{phase} [success=1 default=ignore] {SUCCEED_IF} quiet {_guarded(service)}"


def _guarded(service: str) -> str:
    """Return for whom a service's guard is."""
    return GUARDS.get(service.lower(), ROOT)


def exempting(phase: str, exempted: Sequence[Entry]) -> list[str]:
    """Return lines that let the same users jump over root's guard and our line."""
    return [
        f"{phase} [success={len(exempted) + 1 - at} default=ignore] {' '.join(entry.words[2:])}"
        for at, entry in enumerate(exempted)
    ]


def take_out(text: PamText, pair: Pair) -> None:
    """Take our lines out, and what `install` has put around them."""
    entries = pair.entries
    for entry in entries:
        text.remove(entry.start, entry.end)
    start, end = entries[0].start, entries[-1].end
    if start and text.lines[start - 1].rstrip("\n") in (*ACCOUNT.values(), SESSION):
        start -= 1
        text.remove(start, start + 1)
        if text.is_blank(start - 1) and text.is_blank(end):
            blank = end if pair.line.kind == "account" else start - 1
            text.remove(blank, blank + 1)


def block(text: PamText, place: int, lines: Sequence[str], phase: str, service: str) -> list[str]:
    """Return lines as they are put into the text: with a comment, and set off where others are."""
    if phase == "account":
        whole = [ACCOUNT[_guarded(service)], *lines]
        return [*whole, ""] if text.is_blank(place - 1) else whole
    whole = [SESSION, *lines]
    return ["", *whole] if text.is_blank(place) else whole


def with_lines_of(now: bytes | None, after: bytes | None, before: bytes | None) -> bytes | None:
    """Return an edited text with the lines of ours that stood there before a change.

    None where there were none, or each changed line is not there once, as the change has left it.
    """
    if now is None or after is None or before is None or not _has_ours(before):
        return None
    lines, new, old = (text.splitlines(keepends=True) for text in (now, after, before))
    for kind, start, end, first, last in SequenceMatcher(None, new, old, False).get_opcodes():
        if kind == "equal":
            continue
        if end - start != last - first or any(lines.count(line) != 1 for line in new[start:end]):
            return None
        for line, instead in zip(new[start:end], old[first:last]):
            lines[lines.index(line)] = instead
    return b"".join(lines)


def _has_ours(text: bytes) -> bool:
    return any(is_ours(entry) for entry in PamText(text).entries)
