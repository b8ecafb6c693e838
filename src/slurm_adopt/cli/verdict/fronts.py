"""The modules of PAM's that run this module: what each answers, and how its line is written.

Source: modules/pam_exec/pam_exec.c of Linux-PAM 1.1.8 to 1.7.2, and pam_python.c of pam_python 1.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.decision.options import parse
from slurm_adopt.decision.outcome import REFUSALS
from slurm_adopt.node.pam_files import SCRIPTS

if TYPE_CHECKING:
    from slurm_adopt.node.pam_files import Line

EXEC_TYPES = {"account": "account", "session": "open_session"}  # phase -> PAM_TYPE
# pam_exec(8): its options, of which those with = have a value.
EXEC_OPTIONS = (
    "debug", "expose_authtok", "quiet", "quiet_log", "seteuid", "stdout", "log=", "type=",
)  # fmt: skip


def _value(code: str) -> str:
    """Return the name of a PAM code as the controls of pam.conf(5) have it."""
    return code.removeprefix("PAM_").lower()


class Front(NamedTuple):
    """One module of PAM's, and which values it may return for ours."""

    name: str  # as people call it
    runner: str  # what runs the package
    script: str
    refuses: tuple[str, ...]
    ignores: str  # root's, by default
    broken: dict[str, str]  # what it returns where it cannot be run -> why that is


PAM_PYTHON = Front(
    "pam_python",
    "pam_python",
    SCRIPTS["pam_python.so"],
    tuple(sorted(map(_value, REFUSALS))),
    "ignore",
    {
        "module_unknown": "pam_python.so cannot be loaded",
        "open_err": "the script cannot be read",
    },
)
PAM_EXEC = Front(
    "pam_exec",
    "the script of pam_exec",
    SCRIPTS["pam_exec.so"],
    ("system_err",),
    "success",
    {
        "module_unknown": "pam_exec.so cannot be loaded",
        "system_err": "the script cannot be run",
    },
)


def front_of(line: Line) -> Front:
    """Return by which module a line of ours runs; pam_python where it is neither."""
    return PAM_EXEC if is_exec(line) else PAM_PYTHON


def is_exec(line: Line) -> bool:
    """Say whether a line is pam_exec's."""
    return line.module.rpartition("/")[2] == "pam_exec.so"


def returns(line: Line, code: str, uid: int) -> str:
    """Return what a line of ours returns to PAM where the module has decided on a code."""
    if not is_exec(line) or code == "PAM_SUCCESS":
        return _value(code)
    if code == "PAM_IGNORE" and (uid == 0 or passes(line)):
        return "success"
    return "system_err"


def passes(line: Line) -> bool:
    """Say whether a line of pam_exec's goes on where the module would say PAM_IGNORE."""
    return parse(line.ours or [])[0].on("ignore_passes")


def exec_words(line: Line) -> tuple[list[str], str]:
    """Return the options of pam_exec's on a line of its, and the program that it runs."""
    words = line.arguments
    at = next((at for at, word in enumerate(words) if not _is_option(word)), len(words))
    return words[:at], words[at] if at < len(words) else ""


def _is_option(word: str) -> bool:
    name, equals, _ = word.lower().partition("=")
    return name + equals in EXEC_OPTIONS


def is_kept_out(line: Line, phase: str) -> bool:
    """Say whether `type=` keeps pam_exec from running the script in a phase: it ignores that."""
    return not all(
        word.partition("=")[2].lower() == EXEC_TYPES[phase]
        for word in exec_words(line)[0]
        if word.lower().startswith("type=")
    )
