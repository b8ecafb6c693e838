"""A service's PAM stack, read as libpam reads it, to tell whether our session line is sure to come.

Format of pam.conf(5): `type control module arguments`; `include` and `substack` as controls, and
Debian's `@include`, name other files. All files of a phase become one list of lines, as in libpam.
An included line has the level of the line that includes it, a line of a substack the next higher.

The account phase leaves the adoption to the session phase where `why_uncertain` has nothing to say.
A login that neither phase adopts is the worst mistake, so whatever libpam's releases read in
different ways, or only with an error in its log, makes our line uncertain.

Sources: pam_handlers.c, pam_dispatch.c and pam_misc.c of Linux-PAM 1.1.8 to 1.7.2, and Debian's
patch 031_pam_include.
"""

from __future__ import annotations

import os
import re

from slurm_adopt.decision.options import parse
from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    # What follows from a return value: the name of an action, or how far to jump.
    Action = str | int
    Actions = dict[str, Action]
    # Of a run through a stack: whether it is refused by now, and what became of the target.
    State = tuple[bool, str]

PLACES = ("/etc/pam.d", "/usr/lib/pam.d")  # in this order
DEBIAN = "/etc/debian_version"  # where this is, libpam knows @include
SCRIPT = "pam_slurm_adopt.py"
LIMIT = 1 << 16  # bytes of one file
FILES = 64  # read in all
DEPTH = 15  # of files that include each other; libpam includes none that is deeper
LINES = 256  # of one phase
LONG = 1000  # bytes; Linux-PAM before 1.6 takes what follows byte 1023 for another line

TYPES = ("account", "auth", "password", "session")
_WORD = re.compile(r"\[((?:\\\]|[^\]])*)\]?|([^ \t]+)")  # [success=1 default=ignore] is one word

# fmt: off
_CONTROLS: dict[str, Actions] = {
    "required":   {"success": "ok",   "new_authtok_reqd": "ok",   "ignore": "ignore",
                   "default": "bad"},
    "requisite":  {"success": "ok",   "new_authtok_reqd": "ok",   "ignore": "ignore",
                   "default": "die"},
    "optional":   {"success": "ok",   "new_authtok_reqd": "ok",   "default": "ignore"},
    "sufficient": {"success": "done", "new_authtok_reqd": "done", "default": "ignore"},
}
_ACTIONS = ("ignore", "ok", "done", "bad", "die", "reset")
_VALUES = (
    "success", "open_err", "symbol_err", "service_err", "system_err", "buf_err", "perm_denied",
    "auth_err", "cred_insufficient", "authinfo_unavail", "user_unknown", "maxtries",
    "new_authtok_reqd", "acct_expired", "session_err", "cred_unavail", "cred_expired", "cred_err",
    "no_module_data", "conv_err", "authtok_err", "authtok_recover_err", "authtok_lock_busy",
    "authtok_disable_aging", "try_again", "ignore", "abort", "authtok_expired", "module_unknown",
    "bad_item", "conv_again", "incomplete", "default",
)
# fmt: on

# pam_succeed_if(8): root's guard, and what a condition on the user alone is made of
_GUARD = ["quiet", "uid", "eq", "0"]
_GUARDS: Actions = {"success": 1, "default": "ignore"}
_FLAGS = ("audit", "debug", "quiet", "quiet_fail", "quiet_success")
_SUBJECTS = ("gid", "uid", "user")
_TESTS = ("=", "!=", "=~", "!~", "eq", "ne", "lt", "le", "gt", "ge", "in", "notin")
_GROUPS = ("ingroup", "notingroup")

# What became of the target, a line that is looked for
_AHEAD, _MET, _REFUSED, _MISSED = "ahead", "met", "refused", "missed"


def why_uncertain(
    service: str, places: tuple[str, ...] = PLACES, since: float = float("inf")
) -> str:
    """Return "" if our session line comes in each session that is opened, and its refusal counts.

    Otherwise a short reason for the log. Logins of root that the documented guard lets jump over
    our line do not count, nor do logins that jump over our account line by the same condition.
    `since`: when the login began, in seconds since the epoch. libpam has read the files once, some
    time after that; what has changed by now may have been otherwise then.
    """
    if "/" in service or service.lower() == "other":  # libpam reads `other` twice
        return f"libpam reads no stack for a service named {service}"
    stack = _read("session", service, places, since)
    if stack.flaw or len(stack.ours) != 1:
        return stack.flaw or f"{service} has {len(stack.ours) or 'no'} session lines of this module"
    line = stack.lines[stack.ours[0]]
    return _unfit(line, service) or _unreached(stack, service, places, since)


def session_line(service: str, places: tuple[str, ...] = PLACES) -> list[str] | None:
    """Return the arguments that a service's session line gives this module.

    None where there is no such line, where its failure would count for nothing (`optional`), or
    where a line in front of it may end the stack with a success. A jump over our line is its
    author's will.
    """
    ended = DEPTH + 1  # the level that has ended
    for line in _read("session", service, places).lines:
        if line.level >= ended:
            continue
        ended = DEPTH + 1
        if line.ours is not None and line.actions["default"] in ("bad", "die"):
            return line.ours
        if "done" in line.actions.values():
            ended = line.level
    return None


def joins(service: str, places: tuple[str, ...] = PLACES) -> bool:
    """Return whether a session line of this module will enter namespaces."""
    arguments = session_line(service, places)
    if arguments is None:
        return False
    options, _ = parse(arguments)
    return options.on("join_container") and options["service"] in ("*", service)


class _Line:
    """One line of a stack; without actions it is the mark in front of a substack's lines."""

    __slots__ = ("actions", "arguments", "control", "level", "module", "ours", "place")

    def __init__(self, place: str, level: int, words: list[str], actions: Actions) -> None:
        """`words` are control, module and arguments; `place` says where they stand."""
        self.place = place
        self.level = level
        self.actions = actions
        self.control, self.module, *self.arguments = words
        self.ours = _ours(self.arguments)

    def __str__(self) -> str:
        words = (self.control, self.module, *self.arguments)
        return f"{self.place}: '{' '.join(words)[:96]}'"

    def is_like(self, other: _Line) -> bool:
        """Say whether two lines ask the same module the same, with the same consequences."""
        mine = (self.actions, self.module, self.arguments)
        return mine == (other.actions, other.module, other.arguments)


# The files


def _read(phase: str, service: str, places: tuple[str, ...], since: float = float("inf")) -> _Stack:
    stack = _Stack(phase, places, since)
    for place in places:  # a file that is gone by now may have been in front of another
        stack.check_age(place)
    stack.read(service.lower(), 0, 0, included=False)
    if len(stack.lines) > LINES:
        stack.doubt(f"{service} has more than {LINES} {phase} lines")
    return stack


class _Stack:
    """The lines of one phase, and the first thing that makes them doubtful ("" if nothing does)."""

    __slots__ = ("_left", "_phase", "_places", "_since", "flaw", "lines")

    def __init__(self, phase: str, places: tuple[str, ...], since: float) -> None:
        self._phase = phase
        self._places = places
        self._since = since
        self._left = FILES
        self.flaw = ""
        self.lines: list[_Line] = []

    @property
    def ours(self) -> list[int]:
        """Where lines of this module are."""
        return [index for index, line in enumerate(self.lines) if line.ours is not None]

    def doubt(self, flaw: str) -> None:
        """Note what makes the stack doubtful; the first counts."""
        self.flaw = self.flaw or flaw

    def check_age(self, path: str) -> None:
        """Doubt what has changed since the login began: by its ctime, which users cannot set."""
        try:
            changed = os.stat(path).st_ctime
        except OSError:  # there is no such folder; or the file has gone since it was read
            changed = 0.0 if path in self._places else self._since
        if changed >= self._since:
            self.doubt(f"{path} has changed since this login began")

    def read(self, name: str, depth: int, level: int, *, included: bool) -> None:
        """Add the lines of a file and those it includes; `included` as a file of this phase."""
        for words in self._split(name, self._text(name, depth)):
            kind = words[0].lower()
            kind = kind[1:] if kind[:1] == "-" else kind
            if kind == "@include":
                self._include(name, words, depth, level, included=included)
            elif kind == self._phase:
                self._add(name, words, depth, level)
            elif included and kind not in TYPES:  # a line of this phase that refuses
                self.doubt(f"{name}: '{words[0][:32]}' is not a module type")

    def _include(
        self, name: str, words: list[str], depth: int, level: int, *, included: bool
    ) -> None:
        if not os.path.exists(DEBIAN):
            self.doubt(f"{name}: @include is for Debian only")
        if len(words) < 2:
            self.doubt(f"{name}: @include without a name")
            return
        self.read(words[1], depth + 1, level, included=included)

    def _add(self, name: str, words: list[str], depth: int, level: int) -> None:
        """Add one line of this phase, or the lines that it stands for."""
        if len(words) < 3:
            self.doubt(f"{name}: '{' '.join(words)[:96]}' names no module")
            return
        control = words[1].lower()
        if control == "include":
            self.read(words[2], depth + 1, level, included=True)
        elif control == "substack":
            self.lines.append(_Line(name, level, words[1:3], {}))
            self.read(words[2], depth + 1, level + 1, included=True)
        else:
            actions = _actions(words[1])
            line = _Line(name, level, words[1:], actions or {"default": "bad"})
            self.lines.append(line)
            if actions is None:
                self.doubt(f"{line}: the control is not understood")

    def _text(self, name: str, depth: int) -> str:
        """Return a file's text, a character for each byte; "" if it cannot be read."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH:
            self.doubt(f"{name}: more than {FILES} files are included, or it is included too deep")
            return ""
        for place in self._places:
            path = name if name[:1] == "/" else f"{place}/{name}"
            try:
                data = files.read(path, LIMIT)
                self.check_age(path)
                return data.decode("latin-1")
            except SetupError as error:
                if os.path.lexists(path):  # libpam does not look any further
                    self.doubt(str(error))
        self.doubt(f"there is no file {name}")
        return ""

    def _split(self, name: str, text: str) -> Iterator[list[str]]:
        """Yield the words of each line."""
        for line in self._assemble(name, text):
            if not line.replace("\t", " ").isprintable() or not line.isascii():
                self.doubt(f"{name} has a character that is not ASCII")
            words = [word.replace("\\]", "]") or other for word, other in _WORD.findall(line)]
            if words:
                yield words

    def _assemble(self, name: str, text: str) -> Iterator[str]:
        """Yield lines without comments; those that end with a backslash with what they continue in.

        A comment or an empty line inside of a line is skipped by libpam before 1.7 and ends the
        line since.
        """
        begun = ""
        for raw in text.split("\n"):
            line, comment, _ = raw.partition("#")
            line = line.strip(" \t")
            if len(begun) + len(raw) > LONG:
                self.doubt(f"{name} has a line of more than {LONG} bytes")
            if begun and not line:
                self.doubt(f"{name} has a comment or an empty line inside a continued line")
            elif line[-1:] == "\\" and not comment:
                begun += line[:-1] + " "
            else:
                yield begun + line
                begun = ""
        if begun:
            self.doubt(f"{name} ends inside a continued line")


def _actions(control: str) -> Actions | None:
    """Return the actions of a control by return value, `default` among them; None: a mistake."""
    if control.lower() in _CONTROLS:
        return _CONTROLS[control.lower()]
    words = control.replace("=", " = ").split()
    actions: Actions = {}
    for value, equals, action in zip(words[::3], words[1::3], words[2::3]):
        if value not in _VALUES or equals != "=" or not _is_action(action):
            return None
        if value != "default" or value not in actions:  # the first default counts
            actions[value] = action if action in _ACTIONS else int(action)
    actions.setdefault("default", "bad")
    return actions if words and len(words) % 3 == 0 else None


def _is_action(word: str) -> bool:
    return word in _ACTIONS or (word.isdecimal() and word[0] != "0" and len(word) < 5)


def _ours(arguments: list[str]) -> list[str] | None:
    """Return what follows our script among a module's arguments; None if it is not there."""
    for index, word in enumerate(arguments):
        if word.rpartition("/")[2] == SCRIPT:
            return arguments[index + 1 :]
    return None


# What may happen


def _unfit(line: _Line, service: str) -> str:
    """Return why our line does not count even if it is reached, or ""."""
    asked = [word.rpartition("/")[2] for word in (line.module, *line.arguments)]
    if asked[:2] != ["pam_python.so", SCRIPT]:
        return f"{line} does not run {SCRIPT} by pam_python.so"
    if line.control.lower() not in ("required", "requisite"):
        return f"{line} is neither required nor requisite"
    options, _ = parse(line.ours or [])
    if options["service"] not in ("*", service):
        return f"{line} is for another service"
    return ""


def _unreached(stack: _Stack, service: str, places: tuple[str, ...], since: float) -> str:
    """Return how a session may be opened without our line, or against its refusal; else ""."""
    ours = stack.ours[0]
    excused = {index for index in range(ours) if _is_guard(stack.lines[index])}
    reason = _escape(stack.lines, ours, excused)
    if not reason or not any(_is_of_user(line) for line in stack.lines[:ours]):
        return reason
    account = _read("account", service, places, since)
    excused.update(i for i in range(ours) if _is_twin(stack.lines, i, ours, account))
    return _escape(stack.lines, ours, excused)


def _escape(lines: list[_Line], ours: int, excused: Container[int]) -> str:
    """Return how a run through a stack may succeed without our line or its consent; else ""."""
    for (refused, fate), why in _walk(lines, ours, excused)[-1].items():
        if not refused and fate != _MET:
            return why
    return ""


def _walk(lines: list[_Line], target: int, excused: Container[int] = ()) -> list[dict[State, str]]:
    """Return for each line, and for the end, in which states a run may come there, and why.

    Each line may return any value each time. A run counts as a success unless a line refused: that
    at least one must have succeeded is left out, and a `reset` forgets all refusals, even those of
    before its substack. Jumps over the target from `excused` lines are not followed.
    """
    states: list[dict[State, str]] = [{} for _ in range(len(lines) + 1)]
    states[0][False, _AHEAD] = ""
    for index, line in enumerate(lines):
        for (refused, fate), why in states[index].items():
            for action in _possible(line):
                after, now = _step(lines, index, action, refused=refused)
                then = _fate(fate, index, after, target, action)
                missed = then == _MISSED != fate
                if missed and index in excused and isinstance(action, int):
                    continue
                because = f"{line} {_blame(action)}" if missed or (refused and not now) else why
                states[after].setdefault((now, then), because)
    return states


def _possible(line: _Line) -> dict[Action, None]:
    """Return the actions that may follow a line; a value that PAM does not know is `bad`."""
    return dict.fromkeys((*line.actions.values(), "bad") if line.actions else ("ignore",))


def _step(lines: list[_Line], index: int, action: Action, *, refused: bool) -> tuple[int, bool]:
    """Return the line that follows an action, and whether the run is refused by then."""
    if isinstance(action, int):
        after, complete = _jump(lines, index, action)
        return after, refused or not complete
    if action == "die" or (action == "done" and not refused):
        return _end(lines, index), action == "die"
    return index + 1, action == "bad" or (refused and action != "reset")


def _jump(lines: list[_Line], index: int, count: int) -> tuple[int, bool]:
    """Return where a jump ends, and whether there were lines enough.

    A substack counts as one line. None jumps out of its own.
    """
    level = lines[index].level
    after = index + 1
    while count and after < len(lines) and lines[after].level >= level:
        after += 1
        while after < len(lines) and lines[after].level > level:
            after += 1
        count -= 1
    return after, not count


def _end(lines: list[_Line], index: int) -> int:
    """Return the line that follows if a line ends the stack, or the substack, that it is in."""
    level = lines[index].level
    rest = range(index + 1, len(lines))
    return next((after for after in rest if lines[after].level < level), len(lines))


def _fate(fate: str, index: int, after: int, target: int, action: Action) -> str:
    if fate != _AHEAD:
        return fate
    if index == target:
        return _REFUSED if action in ("bad", "die") else _MET
    return _MISSED if after > target else _AHEAD


def _blame(action: Action) -> str:
    if isinstance(action, int):
        return "may jump over this module's line"
    return (
        "may undo a refusal" if action == "reset" else "may end the stack before this module's line"
    )


def _is_guard(line: _Line) -> bool:
    """Say whether a line is the documented guard for root."""
    return (
        line.module == "pam_succeed_if.so" and line.arguments == _GUARD and line.actions == _GUARDS
    )


def _is_twin(lines: list[_Line], index: int, ours: int, account: _Stack) -> bool:
    """Say whether all who jump over our session line at this one jump over our account line, too.

    They do if each way to our account line leads through the same line as this one, and whatever
    lets it jump over the session line lets it jump over the account line.
    """
    line = lines[index]
    twins = [i for i, other in enumerate(account.lines) if other.is_like(line)]
    if account.flaw or len(account.ours) != 1 or len(twins) != 1 or not _is_of_user(line):
        return False
    target, twin = account.ours[0], twins[0]
    counts = [action for action in line.actions.values() if isinstance(action, int)]
    over = [count for count in counts if _jump(lines, index, count)[0] > ours]
    return (
        twin < target
        and all(fate != _MISSED for _, fate in _walk(account.lines, twin)[target])
        and all(_jump(account.lines, twin, count)[0] > target for count in over)
    )


def _is_of_user(line: _Line) -> bool:
    """Say whether a line asks pam_succeed_if of nothing but what both phases see alike."""
    words = [word for word in line.arguments if word not in _FLAGS]
    return (
        line.module == "pam_succeed_if.so"
        and len(words) % 3 == 0 != len(words)
        and "use_uid" not in words
        and all(word in _SUBJECTS for word in words[::3])
        and all(word in (*_TESTS, *_GROUPS) for word in words[1::3])
    )
