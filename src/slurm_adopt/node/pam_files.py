"""The lines of a PAM stack, read from its files as libpam reads them.

Format of pam.conf(5): `type control module arguments`; `include` and `substack` as controls, and
Debian's `@include`, name other files. All files of a phase become one list of lines, as in libpam.
An included line has the level of the line that includes it, a line of a substack the next higher.

Sources: pam_handlers.c and pam_misc.c of Linux-PAM 1.1.8 to 1.7.2, and Debian's patch
031_pam_include.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    # What follows from a return value: the name of an action, or how far to jump.
    Action = str | int
    Actions = dict[str, Action]

PLACES = ("/etc/pam.d", "/usr/lib/pam.d")  # in this order
DEBIAN = "/etc/debian_version"  # where this is, libpam knows @include
# The module that runs this module's script -> the script's name.
SCRIPTS = {"pam_python.so": "pam_slurm_adopt.py", "pam_exec.so": "pam_slurm_adopt_exec"}
LIMIT = 1 << 16  # bytes of one file
FILES = 64  # read in all
DEPTH = 15  # of files that include each other; libpam includes none that is deeper
LINES = 256  # of one phase
LONG = 1000  # bytes; Linux-PAM before 1.6 takes what follows byte 1023 for another line

TYPES = ("account", "auth", "password", "session")

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


class Line:
    """One line of a stack; without actions it is the mark in front of a substack's lines."""

    __slots__ = (
        "actions",
        "arguments",
        "control",
        "level",
        "module",
        "number",
        "ours",
        "path",
        "place",
    )

    def __init__(
        self,
        place: str,
        level: int,
        words: list[str],
        actions: Actions,
        path: str = "",
        number: int = 0,
    ) -> None:
        """`words` are control, module and arguments; `place` is the file as the service names it.

        `path` and `number`: the file that was read, and in which of its lines the words begin.
        """
        self.place = place
        self.path = path
        self.number = number
        self.level = level
        self.actions = actions
        self.control, self.module, *self.arguments = words
        self.ours = _ours(self.arguments)

    def __str__(self) -> str:
        """Say where it stands, and what it says, for the log."""
        words = (self.control, self.module, *self.arguments)
        return f"{self.place}: '{' '.join(words)[:96]}'"

    def is_like(self, other: Line) -> bool:
        """Say whether two lines ask the same module the same, with the same consequences."""
        mine = (self.actions, self.module, self.arguments)
        return mine == (other.actions, other.module, other.arguments)


def read(phase: str, service: str, places: tuple[str, ...], since: float = float("inf")) -> Stack:
    """Return the lines of one phase of a service; `since`: when the login began."""
    stack = Stack(phase, places, since)
    for place in places:  # a file that is gone by now may have been in front of another
        stack.check_age(place)
    stack.read(service.lower(), 0, 0, included=False)
    if len(stack.lines) > LINES:
        stack.doubt(f"{service} has more than {LINES} {phase} lines")
    return stack


class Stack:
    """The lines of one phase, and the first thing that makes them doubtful ("" if nothing does).

    `flaw_at`: the file and line that were read by then; `paths`: the files that were read.
    """

    __slots__ = (
        "_at",
        "_left",
        "_phase",
        "_places",
        "_since",
        "flaw",
        "flaw_at",
        "lines",
        "paths",
    )

    def __init__(self, phase: str, places: tuple[str, ...], since: float) -> None:
        """Read nothing yet; `since`: when the login began, in seconds since the epoch."""
        self._phase = phase
        self._places = places
        self._since = since
        self._left = FILES
        self._at = ("", 0)
        self.flaw = ""
        self.flaw_at = ("", 0)
        self.paths: list[str] = []
        self.lines: list[Line] = []

    @property
    def ours(self) -> list[int]:
        """Where lines of this module are."""
        return [index for index, line in enumerate(self.lines) if line.ours is not None]

    def doubt(self, flaw: str) -> None:
        """Note what makes the stack doubtful; the first counts."""
        if not self.flaw:
            self.flaw, self.flaw_at = flaw, self._at

    def check_age(self, path: str) -> None:
        """Doubt what has changed since the login began: by its ctime, which users cannot set."""
        try:
            changed = os.stat(path).st_ctime
        except OSError:  # there is no such folder; or the file has gone since it was read
            changed = 0.0 if path in self._places else self._since
        if changed >= self._since:
            self.doubt(f"{path} has changed since this login began")

    def read(self, name: str, depth: int, level: int, *, included: bool) -> bool:
        """Add the lines of a file and those it includes; `included` as a file of this phase.

        Say whether it could be read.
        """
        path, text = self._text(name, depth)
        for number, words in self._split(name, path, text):
            self._at = path, number
            kind = words[0].lower()
            kind = kind[1:] if kind[:1] == "-" else kind
            if kind == "@include":
                self._include(name, words, depth, level, included=included)
            elif kind == self._phase:
                self._add(name, words, depth, level)
            elif included and kind not in TYPES:  # a line of this phase that refuses
                self.doubt(f"{name}: '{words[0][:32]}' is not a module type")
        return bool(path)

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
        control, at = words[1].lower(), self._at
        if control in ("include", "substack"):
            deeper = control == "substack"
            if deeper:
                self.lines.append(Line(name, level, words[1:3], {}, *at))
            if not self.read(words[2], depth + 1, level + deeper, included=True):
                self.lines.append(Line(name, level, words[1:3], {"default": "bad"}, *at))
        else:
            actions = _actions(words[1])
            line = Line(name, level, words[1:], actions or {"default": "bad"}, *self._at)
            self.lines.append(line)
            if actions is None:
                self.doubt(f"{line}: the control is not understood")

    def _text(self, name: str, depth: int) -> tuple[str, str]:
        """Return a file's path and text, a character for each byte; "" if it cannot be read."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH:
            self.doubt(f"{name}: more than {FILES} files are included, or it is included too deep")
            return "", ""
        for place in self._places:
            path = name if name[:1] == "/" else f"{place}/{name}"
            try:
                data = files.read(path, LIMIT)
                self.check_age(path)
                self.paths.append(path)
                return path, data.decode("latin-1")
            except SetupError as error:
                if os.path.lexists(path):  # libpam does not look any further
                    self.doubt(str(error))
        self.doubt(f"there is no file {name}")
        return "", ""

    def _split(self, name: str, path: str, text: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the words of each line."""
        for number, line in self._assemble(name, path, text):
            if not line.replace("\t", " ").isprintable() or not line.isascii():
                self.doubt(f"{name} has a character that is not ASCII")
            if words := _words(line):
                yield number, words

    def _assemble(self, name: str, path: str, text: str) -> Iterator[tuple[int, str]]:
        """Yield lines without comments; those that end with a backslash with what they continue in.

        A comment or an empty line inside of a line is skipped by libpam before 1.7 and ends the
        line since.
        """
        begun, first = "", 0  # the first line of those that are continued
        for number, raw in enumerate(text.split("\n"), 1):
            self._at = path, number
            first = first if begun else number
            line, comment, _ = raw.partition("#")
            line = line.strip(" \t")
            if len(begun) + len(raw) > LONG:
                self.doubt(f"{name} has a line of more than {LONG} bytes")
            if begun and not line:
                self.doubt(f"{name} has a comment or an empty line inside a continued line")
            elif line[-1:] == "\\" and not comment:
                begun += line[:-1] + " "
            else:
                yield first, begun + line
                begun = ""
        if begun:
            self.doubt(f"{name} ends inside a continued line")


def _words(line: str) -> list[str]:
    """Return the words of a line; one in brackets, as [success=1 default=ignore], may have blanks.

    A backslash in it takes the meaning from the bracket behind it.
    """
    words: list[str] = []
    rest = line.lstrip(" \t")
    while "[" in rest:
        if rest[0] == "[":
            end = rest.find("]")
            while end > 0 and rest[end - 1] == "\\":
                end = rest.find("]", end + 1)
            end = end if end > 0 else len(rest)
            words.append(rest[1:end].replace("\\]", "]"))
            rest = rest[end + 1 :]
        else:
            word = rest.partition(" ")[0].partition("\t")[0]
            words.append(word)
            rest = rest[len(word) :]
        rest = rest.lstrip(" \t")
    return words + [word for word in rest.replace("\t", " ").split(" ") if word]


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
        if word.rpartition("/")[2] in SCRIPTS.values():
            return arguments[index + 1 :]
    return None
