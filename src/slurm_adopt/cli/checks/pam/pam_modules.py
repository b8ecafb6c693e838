"""The modules of PAM's that a stack names: whether they are there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_adopt.node.pam_files import Line

PLACES = (  # of PAM's modules: Debian, Red Hat, and what is built by hand
    "/lib/{}-linux-gnu/security",
    "/usr/lib/{}-linux-gnu/security",
    "/lib64/security",
    "/usr/lib64/security",
    "/lib/security",
    "/usr/lib/security",
    "/usr/local/lib/security",
)
_ALWAYS = "pam_deny.so"  # Linux-PAM's own; where it is not, modules are elsewhere
_ISA = "$ISA"  # libpam puts a word of its own there


def is_missing(line: Line) -> bool:
    """Say whether a line's module is not there; False where that cannot be told."""
    name = line.module
    if not line.actions or _ISA in name:
        return False
    if os.path.isabs(name):
        return not os.path.lexists(name)
    return not _is_there(name) and _is_there(_ALWAYS)


def is_unread(line: Line) -> bool:
    """Say whether a line is the include of a file that cannot be read: it refuses."""
    return bool(line.actions) and line.control.lower() in ("include", "substack")


def paths(name: str) -> list[str]:
    """Return where a module of a relative name may be."""
    machine = os.uname().machine
    return [f"{place.format(machine)}/{name}" for place in PLACES]


def _is_there(name: str) -> bool:
    return any(map(os.path.lexists, paths(name)))
