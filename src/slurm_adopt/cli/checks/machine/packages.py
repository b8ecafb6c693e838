"""Packages of Python's, and which slurm_adopt it is that runs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import slurm_adopt
from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.finding import Check, ok, skipped, warning
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.pam_line import script_of
from slurm_adopt.slurm import proc

from . import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

PYTHON = "packages"
ENTRY = "/pam/"  # the folder of the entry script, beside src/, or in the package (a wheel)
PACKAGE = "slurm_adopt"
CHECKOUT = "/opt/slurm_adopt/src"  # as docs/how-to/install.md has it

# Package -> its module, the oldest version that will do, what is done without it.
# fmt: off
WANTED = {
    "pyroute2": ("pyroute2", (0, 5, 14), "sockets are read from /proc, which takes longer"),
    "rich":     ("rich",     (12, 6),    "tables are plain text"),
}
# fmt: on


def wanted(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Whether the packages that are used are there, and new enough."""
    found = []
    for name, (module, least, instead) in WANTED.items():
        version = _version(name, module)
        if version is None:
            yield skipped(f"python3-{name} is missing: {instead}")
        elif numbers(version) < least:
            yield warning(f"python3-{name} is too old", f"{version}")
        else:
            found.append(f"python3-{name}")
    if found:
        yield ok(f"{', '.join(found)}: there, and new enough")


def _version(name: str, module: str) -> str | None:
    """Return the version of a package; None if it is not there, "" if it does not say."""
    from importlib import metadata, util

    if util.find_spec(module) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version; one that does not say counts as the newest."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return found or (1 << 16,)


def copies(host: Host) -> Iterator[Seen]:
    """Whether PAM lines, command and other places have one version of slurm_adopt."""
    own = os.path.dirname(os.path.dirname(os.path.realpath(slurm_adopt.__file__ or "")))
    used = _of_lines(host)
    others = {path: "" for path in _elsewhere() if path not in used and path != own}
    versions = {path: version_of(path) for path in {own: "", **used, **others}}
    differing = {path: version for path, version in versions.items() if version != versions[own]}
    if len(set(used)) > 1:
        (_, (file, line)), *_ = list(used.items())[1:]
        yield warning(
            "the PAM lines run different copies of slurm_adopt", " ".join(used), file, line
        )
    elif run := [path for path in used if path in differing]:
        file, line = used[run[0]]
        found = f"{differing[run[0]] or 'none'} in {run[0]}; this command is {versions[own]}"
        yield warning("the PAM lines run another version than this command's", found, file, line)
    elif differing:
        found = ", ".join(f"{version or 'none'} in {path}" for path, version in differing.items())
        yield warning("there are other versions of slurm_adopt", found, next(iter(differing)))
    else:
        yield ok("one version of slurm_adopt is here")


def _of_lines(host: Host) -> dict[str, tuple[str, int]]:
    """Return the folders that our lines take the package from, and where those lines are."""
    found: dict[str, tuple[str, int]] = {}
    for line in host.all_our_lines():
        above, pam, _ = script_of(line).rpartition(ENTRY)
        wheel = os.path.isfile(f"{above}/__init__.py")
        if pam:
            folder = os.path.dirname(above) if wheel else f"{above}/src"
            found.setdefault(os.path.realpath(folder), places.pam_line(line))
    return found


def _elsewhere() -> list[str]:
    """Return other folders that have the package."""
    libraries = [
        f"{library}/{python}/{packages}"
        for library in missing.LIBRARIES
        for python in sorted(proc.listing(library))
        if python.startswith("python3")
        for packages in missing.PACKAGES
    ]
    return [
        os.path.realpath(path)
        for path in (CHECKOUT, *libraries)
        if os.path.isdir(f"{path}/{PACKAGE}")
    ]


def version_of(folder: str) -> str:
    """Return the version of the package in a folder, as its file says it; "" if it does not."""
    for _, line in places.lines(f"{folder}/{PACKAGE}/__init__.py"):
        name, equals, value = line.partition("=")
        if equals and name.strip() == "__version__":
            return value.strip().strip("\"'")
    return ""


def _listed() -> str:
    each = ((name, ".".join(map(str, least))) for name, (_, least, _) in WANTED.items())
    return ", ".join(f"python3-{name} {least}" for name, least in each)


CHECKS = (
    Check(
        "SA831",
        PYTHON,
        "Python's packages",
        wanted,
        expected=f"This command has {_listed()}, or later.",
        why="The command goes on without these packages, by /proc and in plain text. An older one "
        "may say something else, or fail. Logins need none of them.",
        fix="Install the distribution's packages: apt install python3-pyroute2 python3-rich.",
        seconds=SLOW,
    ),
    Check(
        "SA832",
        PYTHON,
        "one version of slurm_adopt",
        copies,
        expected="All copies of slurm_adopt are of the version that the PAM lines run.",
        why="What this command says is of its own version. What logins come to is up to the one "
        "that the PAM lines name.",
        fix="Remove the copies that are not used, and run the command of the copy that the PAM "
        "lines name.",
        seconds=SLOW,
    ),
)
