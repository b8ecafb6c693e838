"""What `install` and `uninstall` would write: files are read, and nothing is written here.

The lines go into the service's own file. The account lines stand in front of the first include of
that phase, the session lines behind the last session line: docs/how-to/install.md says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.errors import CliError
from slurm_adopt.cli.verdict.pam_line import PHASES
from slurm_adopt.node import pam_files
from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

from .pam_text import PamText

if TYPE_CHECKING:
    from typing import Literal

    from .pam_text import Entry

    Front = Literal["pam_python", "pam_exec"]

# Each front: what stands between the control and the options, but for the script's path.
FRONTS = {"pam_python": "pam_python.so", "pam_exec": "pam_exec.so quiet stdout"}
SCRIPTS = ("pam_slurm_adopt.py", "pam_slurm_adopt_exec")
DEFAULTS = {"action_adopt_failure": "deny", "action_generic_failure": "deny"}
COMMENTS = {
    "account": "# slurm_adopt: everybody but root needs a job here. In front of the include, which "
    "may end this phase.",
    "session": "# slurm_adopt: the last session lines, behind whatever may move the session out of "
    "its job.",
}
PAGE = "docs/how-to/install.md"


class CannotError(CliError):
    """A stack that is not known, or is not for this command to edit; and what to do."""


class Wish(NamedTuple):
    """What shall be installed; `script` is the whole path of the front's script.

    `options`: none leaves lines that are there with those that they have.
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

    `taken`: options that a line of Slurm's modules had, and ours have now.
    """

    changes: list[Change]
    notes: list[str]
    taken: dict[str, str]


def install(wish: Wish, etc: str = "/etc") -> Plan:
    """Return how the service's file gets our lines; CannotError where that is not to be."""
    path, text = _read(wish.service, etc)
    for phase in PHASES:
        place = _place(text, phase, etc)
        text.insert(place, _block(text, phase, place, _line(wish)))
    after = text.edited().data
    return Plan([Change(path, text.data, after)], [], {})


def uninstall(service: str, etc: str = "/etc") -> Plan:
    """Return how the service's file looks without our lines; no changes where there are none."""
    raise CannotError("not yet")


def _read(service: str, etc: str) -> tuple[str, PamText]:
    path = f"{etc}/pam.d/{service.lower()}"
    try:
        return path, PamText(files.read(path, pam_files.LIMIT))
    except SetupError as error:
        raise CannotError(str(error)) from None


def _line(wish: Wish) -> str:
    options = " ".join(f"{name}={value}" for name, value in {**DEFAULTS, **wish.options}.items())
    return f"{FRONTS[wish.front]} {wish.script} {options}"


def _place(text: PamText, phase: str, etc: str) -> int:
    """Return in front of which line of the text the lines of a phase belong."""
    there = [entry for entry in text.entries if _has(entry, phase, etc)]
    if phase == "session":
        return there[-1].end
    index = next(entry.start for entry in there if entry.included)
    while text.is_comment(index - 1):
        index -= 1
    return index


def _has(entry: Entry, phase: str, etc: str) -> bool:
    if entry.kind != "@include":
        return entry.kind == phase
    stack = pam_files.Stack(phase, (f"{etc}/pam.d",), float("inf"))
    stack.read(entry.included, 0, 0, included=False)
    return bool(stack.lines)


def _block(text: PamText, phase: str, place: int, call: str) -> list[str]:
    guard = f"{phase} [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"
    lines = [COMMENTS[phase], guard, f"{phase} required {call}"]
    if phase == "account":
        return [*lines, ""] if text.is_blank(place - 1) else lines
    return ["", *lines] if text.is_blank(place) else lines
