"""What `install` and `uninstall` would write: files are read, and none is changed here.

The lines go into the service's own file. The account lines stand in front of the first include of
that phase, the session lines behind the last session line: docs/how-to/install.md says why.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Callable, NamedTuple

from slurm_adopt.cli.verdict.pam_line import PHASES, SSHD
from slurm_adopt.decision.options import parse
from slurm_adopt.node import pam_files
from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

from . import sound
from .errors import CannotError
from .our_lines import (
    block,
    call,
    exempting,
    guard_line,
    is_ours,
    pairs,
    script_at,
    take_out,
)
from .pam_text import Entry, PamText
from .slurm_lines import how_to_take_out, is_slurm_s, take_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .our_lines import Front, Pair

__all__ = ["CannotError", "Change", "Plan", "Wish", "install", "uninstall"]

DEFAULTS = {"action_adopt_failure": "deny", "action_generic_failure": "deny"}
PAGE = sound.PAGE
ADMINISTRATORS = "docs/how-to/administrators.md"
VENDOR = "usr/lib/pam.d"  # files that one of the same name in /etc/pam.d takes the place of
REFUSING = ("required", "requisite")
# Modules that say yes to accounts: ours stand in front of them, where no include is before them.
AUTHORITIES = (
    "pam_unix.so",
    "pam_sss.so",
    "pam_ldap.so",
    "pam_krb5.so",
    "pam_winbind.so",
    "pam_localuser.so",
    "pam_usertype.so",
    "pam_permit.so",
)
LONGEST = pam_files.LONG - 100  # bytes behind a line's type and control
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*")
_UNFIT = re.compile(r"[^!-~]|[#\[\]\\]")  # what is no plain part of a PAM line's word


class Wish(NamedTuple):
    """What shall be installed; `script` is the whole path of the front's script.

    `options` are all that the lines get, but for DEFAULTS. Where there are none, lines that are
    there keep theirs, and those of a line of Slurm's are taken over.
    """

    service: str
    front: Front
    options: dict[str, str]
    script: str
    replace: bool = False


class Change(NamedTuple):
    """One PAM file before and after; None: it is not there, or shall not be."""

    path: str
    before: bytes | None
    after: bytes | None


class Plan(NamedTuple):
    """What would be written; `notes` are lines for the administrator.

    `taken`: options that a line of Slurm's modules had, and ours have now: none where some are
    wished.
    """

    changes: list[Change]
    notes: list[str]
    taken: dict[str, str]


def install(wish: Wish, etc: str = "/etc") -> Plan:
    """Return how the service's file gets our lines; CannotError where that is not to be."""
    _check_wish(wish)
    file = _File(wish.service, etc)
    file.check_own()
    file.check_whole()
    for elsewhere in file.in_included(is_ours), file.in_included(is_slurm_s):
        if elsewhere:
            raise CannotError(elsewhere[0])
    for entry in file.text.entries:
        if is_ours(entry) and entry.kind not in PHASES:
            what = f"{file.source}:{entry.number} has this module in the {entry.kind} phase"
            raise CannotError(f"{what}, where it decides nothing: take that line out first")
    slurm_s = [entry for entry in file.text.entries if is_slurm_s(entry)]
    if slurm_s and not wish.replace:
        first = f"{file.source}:{slurm_s[0].number}: '{slurm_s[0]}'"
        raise CannotError(f"{first} is there: run with --replace to have this module in its place")
    edit = _Edit(wish, file)
    edit.take_over(slurm_s)
    for phase in PHASES:
        edit.put(phase)
    edited = file.text.edited()
    with sound.planned(file.stacks, edited) as after:
        sound.check_read(after)
        sound.check_rest(file.stacks, after, edited)
        sound.check_root(after)
        if edit.refuses and not sound.refusal_counts(after):
            raise CannotError(f"{file.path}: {sound.remarks(after)[0]}: see {PAGE}")
        notes = [*edit.notes, *sound.remarks(after)]
    return Plan(file.changes(edited.data), notes, edit.taken)


def uninstall(service: str, etc: str = "/etc") -> Plan:
    """Return how the service's file looks without our lines; no changes where there are none."""
    _check_service(service)
    file = _File(service, etc)
    elsewhere = file.in_included(is_ours)
    ours = [pair for kind in pam_files.TYPES for pair in pairs(file.text, kind, is_ours)]
    if not ours and elsewhere:
        raise CannotError(elsewhere[0])
    if not ours:
        return Plan([], [f"{file.source} has no line of this module"], {})
    for pair in ours:
        take_out(file.text, pair)
    edited = file.text.edited()
    notes = [f"'{entry}' goes as well" for pair in ours for entry in pair.exempted]
    notes.extend(elsewhere)
    with sound.planned(file.stacks, edited) as after:
        sound.check_rest(file.stacks, after, edited)
        for phase in PHASES:
            if sound.let_in(file.stacks, phase) and not sound.let_in(after, phase):
                text = f"without this module's lines the {phase} phase would refuse root"
                raise CannotError(f"{file.path}: {text}: put the include of {phase} there first")
    if edited.data == file.vendor:
        notes.append(f"{file.path} goes: without our lines it is {file.vendor_path}")
        return Plan([Change(file.path, file.before, None)], notes, {})
    return Plan(file.changes(edited.data), notes, {})


class _File:
    """The service's own file, and the stacks that it is part of."""

    def __init__(self, service: str, etc: str) -> None:
        """Read them; CannotError where they are not to be edited."""
        name = service.lower()
        etc = self._etc = os.path.normpath(etc)
        self.path = f"{etc}/pam.d/{name}"
        self.vendor_path = os.path.join(os.path.dirname(etc), VENDOR, name)
        there = os.path.lexists(self.path)
        self.source = self.path if there else self.vendor_path
        if os.path.islink(self.source):
            raise CannotError(_why_no_link(self.source))
        self.vendor = _bytes(self.vendor_path) if os.path.lexists(self.vendor_path) else None
        if not there and self.vendor is None:
            raise CannotError(f"there is no PAM file {self.path}: name a service that has one")
        self.before = _bytes(self.path) if there else None
        data = self.vendor if self.before is None else self.before
        self.text = PamText(data or b"")
        places = (os.path.dirname(self.path), os.path.dirname(self.vendor_path))
        self.stacks = sound.read(service, places)

    def check_own(self) -> None:
        """Refuse a file that sshd includes: ours would be in all services, and decide in none."""
        of_sshd = sound.read(SSHD, self.stacks.places).of.values()
        if self.stacks.service != SSHD and any(self.source in one.paths for one in of_sshd):
            raise CannotError(
                f"{self.source} is a part of {SSHD} and others: name a service, as --service {SSHD}"
            )

    def check_whole(self) -> None:
        """Refuse files that libpam misreads."""
        if any("\r" in word for entry in self.text.entries for word in entry.words):
            how = f"run: sed -i 's/\\r$//' {self.source}"
            raise CannotError(f"{self.source} has the line ends of DOS, which PAM misreads; {how}")
        sound.check_read(self.stacks)

    def in_included(self, is_one: Callable[[Entry], bool]) -> list[str]:
        """Return which lines of a kind are in files that other services may read, too."""
        found = []
        for kind in pam_files.TYPES:
            for line in self.stacks.of[kind].lines:
                words = (kind, line.control, line.module, *line.arguments)
                entry = Entry(0, 0, kind, words)
                if line.path != self.source and line.actions and is_one(entry):
                    whose = "this module" if is_ours(entry) else entry.module
                    what = f"{line.path}:{line.number} has a line of {whose}, which is not for"
                    how = how_to_take_out(entry.module, line.path, self._etc)
                    again = _options_again(entry, self.stacks.service)
                    found.append(f"{what} this command to edit; {how}{again}")
        return found

    def changes(self, after: bytes) -> list[Change]:
        """Return the change, if there is one."""
        return [] if after == self.before else [Change(self.path, self.before, after)]


class _Edit:
    """The edits of an installation, what is said of them, and the options that are taken over."""

    def __init__(self, wish: Wish, file: _File) -> None:
        self.notes: list[str] = []
        self.taken: dict[str, str] = {}
        self.refuses = True  # a refusal by our lines is to count
        self._wish = wish
        self._file = file
        self._text = file.text
        self._exempted: tuple[Entry, ...] = ()
        self._in_place: Pair | None = None  # Slurm's line whose place and control ours gets
        self._ours = {phase: self._pair(phase) for phase in PHASES}
        if file.before is None:
            self.notes.append(
                f"{file.path} is made from {file.source}, whose updates do not count any more"
            )

    def take_over(self, slurm_s: Sequence[Entry]) -> None:
        """Take Slurm's lines out, and over what they say."""
        for kind in pam_files.TYPES:
            for pair in pairs(self._text, kind, is_slurm_s):
                self._take_over(pair)
        if any(self._ours.values()) and slurm_s:
            self.notes.append("options are those of this module's lines that are there")
            self.taken.clear()

    def _take_over(self, pair: Pair) -> None:
        line = pair.line
        own = f"'{line}'"
        options, notes = take_over(line, self._wish.service)
        self.notes.extend(notes)
        if self._wish.options:  # a second time there would be nothing to take them from
            given = _lower(self._wish.options)
            lost = [f"{name}={value}" for name, value in options.items() if name not in given]
            self.notes.extend(
                f"{word} of {line.module} is not taken over, since options are given: give it, too"
                for word in lost
            )
        else:
            self.taken.update(options)
        own_place = line.kind == "account" and line.control not in REFUSING
        if own_place and not self._ours["account"] and self._in_place is None:
            self._in_place = pair
            self.refuses = False
            self.notes.append(
                f"our account line takes the place of {own} with its control, and there is no "
                f"session line: {ADMINISTRATORS} has another way to let users in without a job"
            )
            return
        if line.kind == "account":
            known = {entry.words[2:] for entry in self._exempted}
            self._exempted += tuple(one for one in pair.exempted if one.words[2:] not in known)
            self._tell_who_went_around(pair)
        for entry in pair.entries:
            self._text.remove(entry.start, entry.end)

    def _tell_who_went_around(self, pair: Pair) -> None:
        """Say who was not asked for a job, and is now."""
        kept = {entry.words[2:] for entry in pair.exempted}
        for whom, line in sound.around(self._file.stacks, pair.line.number):
            if (line.module, *line.arguments) not in kept:
                self.notes.append(
                    f"{whom} went by {pair.line.module} at {line.module}, and need a job now: "
                    f"{ADMINISTRATORS}"
                )

    def put(self, phase: str) -> None:
        """Put the lines of a phase where they belong, or mend those that are there."""
        there = self._ours[phase]
        if there:
            self._mend(there)
        elif phase == "account" and self._in_place:
            self._replace(self._in_place)
        elif self._in_place is None and not self._account_line_alone(phase):
            place = _place(self._text, phase, self._file)
            others = [pair.exempted for pair in self._ours.values() if pair]
            exempted = self._exempted or next(iter(others), ())
            guards = [*exempting(phase, exempted), guard_line(phase, self._wish.service)]
            lines = [*guards, f"{phase} required {self._call(phase)}"]
            self._text.insert(place, block(self._text, place, lines, phase, self._wish.service))

    def _account_line_alone(self, phase: str) -> bool:
        """Say whether there is an account line whose refusal may count for nothing."""
        account = self._ours["account"]
        alone = phase == "session" and account and account.line.control not in REFUSING
        if alone and account:
            self.refuses = False
            self.notes.append(
                f"no session line is added, since the account line is '{account.line.control}': it "
                "would refuse whom the lines behind that one let in"
            )
        return bool(alone)

    def _pair(self, phase: str) -> Pair | None:
        found = pairs(self._text, phase, is_ours)
        if len(found) > 1:
            lines = ", ".join(str(pair.line.number) for pair in found)
            raise CannotError(
                f"{self._file.source} has several {phase} lines of this module ({lines}): "
                "leave one, or run slurm-adopt uninstall first"
            )
        return found[0] if found else None

    def _mend(self, pair: Pair) -> None:
        """Give a line of ours the front and the options that are wanted, and root's guard."""
        line = pair.line
        if line.control not in REFUSING:
            self.refuses = False
        wanted = self._call(line.kind).split()
        there = [line.module, *line.words[3:]]
        if _alike(there, wanted) and pair.guard:
            return
        self._replace(pair)

    def _replace(self, pair: Pair) -> None:
        """Write our line in the place of another, with its type and control, and root's guard."""
        line = pair.line
        phase = line.kind
        new = f"{' '.join(line.words[:2])} {self._call(phase)}"
        self._text.remove(line.start, line.end)
        if pair.guard is None:
            for entry in pair.exempted:
                self._text.remove(entry.start, entry.end)
            guards = [*exempting(phase, pair.exempted), guard_line(phase, self._wish.service)]
            self._text.insert(line.start, guards)
        self._text.insert(line.start, [new])

    def _call(self, phase: str) -> str:
        text = call(self._wish.front, self._wish.script, self._words(phase))
        if len(text) > LONGEST:
            raise CannotError(
                f"the line would be longer than PAM surely reads: {len(text)} bytes behind its "
                f"control, at most {LONGEST}: give fewer options, or shorter paths"
            )
        return text

    def _words(self, phase: str) -> list[str]:
        """Return the options of the line of a phase."""
        options = self._wish.options
        there = self._ours[phase] or next(filter(None, self._ours.values()), None)
        if there and not options:
            return list(there.line.arguments[script_at(there.line.arguments) + 1 :])
        own = {} if self._wish.service == SSHD else {"service": self._wish.service}
        chosen = {**own, **DEFAULTS, **self.taken, **_lower(options)}
        return [f"{name}={value}" for name, value in chosen.items()]


def _lower(options: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in options.items()}


def _options_again(entry: Entry, service: str) -> str:
    """Return the options that a line of Slurm's has, for who has to take it out by another way."""
    options = take_over(entry, service).options if is_slurm_s(entry) else {}
    words = " ".join(f"{name}={value}" for name, value in options.items())
    return f"; then give this command its options: {words}" if words else ""


def _alike(there: Sequence[str], wanted: Sequence[str]) -> bool:
    """Say whether two calls are the same, in whatever order their options are."""
    at, other = script_at(there), script_at(wanted)
    options, others = sorted(there[at + 1 :]), sorted(wanted[other + 1 :])
    return there[: at + 1] == wanted[: other + 1] and options == others


def _place(text: PamText, phase: str, file: _File) -> int:
    """Return in front of which line of the text the lines of a phase belong."""
    there = [entry for entry in text.entries if _has(entry, phase, file)]
    if phase == "session":
        if not there:
            raise CannotError(_unknown(file, "has no session line"))
        while len(there) > 1 and there[-1].module in sound.STARTERS:
            there.pop()
        return there[-1].end
    first = next((one for one in there if one.included or one.module in AUTHORITIES), None)
    if first is None:
        raise CannotError(_unknown(file, "has no include in its account phase"))
    index = first.start
    while text.is_comment(index - 1) and not text.lines[index - 1].startswith("#%PAM"):
        index -= 1
    return index


def _has(entry: Entry, phase: str, file: _File) -> bool:
    """Say whether a line is one of a phase, or stands for some."""
    if entry.kind != "@include":
        return entry.kind == phase
    stack = pam_files.Stack(phase, file.stacks.places, float("inf"))
    stack.read(entry.included, 0, 0, included=False)
    return bool(stack.lines)


def _unknown(file: _File, what: str) -> str:
    files_of = "the files of Debian, Ubuntu, RHEL and SUSE"
    return f"{file.source} {what}, as {files_of} have: put the lines there by hand: {PAGE}"


def _why_no_link(path: str) -> str:
    target = os.path.realpath(path)
    if "/authselect/" in target:
        return f"{path} is a link to {target}, which authselect writes: make a profile of your own"
    how = f"run: cp --remove-destination {target} {path}"
    return f"{path} is a link to {target}, which others may read as well; {how}"


def _bytes(path: str) -> bytes:
    try:
        return files.read(path, pam_files.LIMIT)
    except SetupError as error:
        raise CannotError(str(error)) from None


def _check_service(service: str) -> None:
    if not _SERVICE.fullmatch(service) or service.lower() == "other":
        raise CannotError(f"'{service[:64]}' is not a PAM service that can have lines of ours")


def _check_wish(wish: Wish) -> None:
    """Refuse what cannot be written into a PAM line, or would be misread there."""
    _check_service(wish.service)
    words = [f"{name}={value}" for name, value in wish.options.items()]
    for word in (wish.script, *words):
        if _UNFIT.search(word):
            raise CannotError(f"'{word[:128]}' cannot be written in a PAM line: give a plain word")
    _, complaints = parse(words)
    if complaints:
        raise CannotError(complaints[0])
    service = wish.options.get("service", wish.service)
    if service not in ("*", wish.service):
        raise CannotError(f"service={service} would keep this module out of {wish.service}")
