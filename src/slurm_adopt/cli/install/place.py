"""Where this copy of slurm_adopt is: the scripts that PAM lines name, and the command itself."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import slurm_adopt
from slurm_adopt.cli.checks.bridge.owners import others_may_write
from slurm_adopt.cli.errors import ERROR, CliError
from slurm_adopt.node.pam_files import SCRIPTS

if TYPE_CHECKING:
    from .our_lines import Front

FRONTS: dict[Front, str] = {
    "pam_python": SCRIPTS["pam_python.so"],
    "pam_exec": SCRIPTS["pam_exec.so"],
}
# What packages and the guide have: PAM files name these, also where a link leads here.
KNOWN = ("/usr/libexec/slurm-adopt", "/opt/slurm_adopt")
_PROGRAM = "import sys; sys.path[:0] = [{folder!r}]; from slurm_adopt.cli.main import main; main()"
_PACKAGE = os.path.dirname(os.path.realpath(slurm_adopt.__file__))


def script_of(front: Front) -> str:
    """Return the whole path of a front's script; CliError where it is not there, or not safe."""
    name = FRONTS[front]
    for folder in (top(), _PACKAGE):
        path = f"{folder}/pam/{name}"
        if os.path.isfile(path):
            break
    else:
        raise CliError(f"there is no {name} beside this command ({top()}/pam)", ERROR)
    why = next(filter(None, (others_may_write(one) for one in (path, _PACKAGE))), "")
    if why:
        raise CliError(f"root would run {path} at each login, but {why}: nothing is changed", ERROR)
    return path


def command() -> list[str]:
    """Return the command of this copy, as root's timers run it: by whole paths."""
    program = f"{top()}/bin/slurm-adopt"
    if os.path.isfile(program):
        return [program]
    return [sys.executable, "-IBc", _PROGRAM.format(folder=folder())]


def folder() -> str:
    """Return the folder that Python finds the package in."""
    return f"{top()}/src" if _PACKAGE.endswith("/src/slurm_adopt") else os.path.dirname(_PACKAGE)


def package() -> str:
    """Return the package's folder, without links."""
    return _PACKAGE


def top() -> str:
    """Return the folder that has src/ and pam/."""
    found = os.path.dirname(os.path.dirname(_PACKAGE))
    return next((known for known in KNOWN if os.path.realpath(known) == found), found)
