"""Lines of Slurm's own PAM modules: what of their options is taken over, and who has put them in.

Sources: contribs/pam_slurm_adopt and contribs/pam of Slurm 25.05; pam-auth-update(8);
authselect-profiles(5).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.checks.pam.pam_lines import SLURM_S
from slurm_adopt.decision.options import BY_NAME, parse
from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pam_text import Entry

ADOPT = "pam_slurm_adopt.so"
LIMIT = 1 << 16  # bytes of a profile
_CONDITION = re.compile(r'\{(?:include|continue) if "([^"]+)"\}')


class Taken(NamedTuple):
    """Options of Slurm's module that ours gets, and what is said of the others."""

    options: dict[str, str]
    notes: list[str]


def is_slurm_s(entry: Entry) -> bool:
    """Say whether a line is of one of Slurm's PAM modules."""
    return entry.module in SLURM_S


def take_over(entry: Entry, service: str) -> Taken:
    """Return which of a line's options this module has as well."""
    taken = Taken({}, [])
    for word in entry.arguments if entry.kind == "account" else ():
        why = _why_not(word, entry.module, service)
        if why:
            taken.notes.append(f"{word} of {entry.module} is not taken over: {why}")
        else:
            name, _, value = word.partition("=")
            taken.options[name.lower()] = value
            _spell(taken, word)
    return taken


def _why_not(word: str, module: str, service: str) -> str:
    """Return why an option is left out; "" if it is not."""
    name, equals, value = word.partition("=")
    option = BY_NAME.get(name.lower())
    if module != ADOPT or option is None or not equals:
        return "this module has no such option"
    if not option.since:
        return f"{module} does not know it"
    if word.lower() == "ignore_root=0":
        return f"{module} takes it for 1, and this module would adopt root"
    if name.lower() == "service" and value not in ("*", service):
        return f"the line is for {service}"
    return ""


def _spell(taken: Taken, word: str) -> None:
    """Write a value as this module has it, and say so where it was another."""
    option = BY_NAME[word.partition("=")[0].lower()]
    options, complaints = parse([word])
    value = options[option.name]
    if complaints:
        taken.notes.append(f"{word} of {ADOPT} becomes {option.name}={value}: {complaints[0]}")
    taken.options[option.name] = value


def how_to_take_out(module: str, path: str, etc: str) -> str:
    """Return what takes a line out of a file that others read, too."""
    profile = _profile_of_pam_auth_update(module, path, etc)
    if profile:
        return f"run: pam-auth-update --remove {profile}"
    if os.path.realpath(path).startswith(os.path.realpath(f"{etc}/authselect") + "/"):
        return _by_authselect(module, path, etc)
    return f"take the line out of {path}, which other services may read as well"


def _profile_of_pam_auth_update(module: str, path: str, etc: str) -> str:
    folder = f"{os.path.dirname(etc).rstrip('/')}/usr/share/pam-configs"
    if not os.path.basename(path).startswith("common-") or not os.path.isdir(folder):
        return ""
    names = (name for name in sorted(os.listdir(folder)) if not name.endswith("~"))
    return next((name for name in names if _lines_with(module, f"{folder}/{name}")), "")


def _by_authselect(module: str, path: str, etc: str) -> str:
    name, *features = _text(f"{etc}/authselect/authselect.conf").split()[:99] or [""]
    root = os.path.dirname(etc).rstrip("/")
    folders = (
        [f"{etc}/authselect/{name}"]
        if name.startswith("custom/")
        else [f"{root}/usr/share/authselect/{kind}/{name}" for kind in ("vendor", "default")]
    )
    for template in (f"{folder}/{os.path.basename(path)}" for folder in folders):
        for line in _lines_with(module, template):
            feature = _CONDITION.search(line)
            if feature and feature[1] in features:
                return f"run: authselect disable-feature {feature[1]}"
            return f"take the line out of {template}, and run: authselect apply-changes"
    return "take the line out of authselect's profile, and run: authselect apply-changes"


def _lines_with(module: str, path: str) -> Sequence[str]:
    lines = (line.strip() for line in _text(path).split("\n"))
    return [line for line in lines if module in line.split() and not line.startswith("#")]


def _text(path: str) -> str:
    try:
        return files.read(path, LIMIT).decode("utf-8", "replace")
    except SetupError:
        return ""
