"""/run, this module's directories in it, and what removes old files there."""

from __future__ import annotations

import fnmatch
import os
import stat
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.finding import Check, error, ok, warning
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.slurm import proc

from .host_state import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

RUN = "/run"
FREE = 1 << 20  # bytes that /run has to have left
NAME = "/run/slurm_adopt"
TMPREAPER = "/etc/tmpreaper.conf"
TMPFILES = (
    "/etc/tmpfiles.d",
    "/run/tmpfiles.d",
    "/usr/local/lib/tmpfiles.d",
    "/usr/lib/tmpfiles.d",
)

# What each directory of ours must not allow others (adoption_note.py, runtime_dir.py,
# user_choice.py, unreached.py, step_owners.py).
CHOICES = f"{NAME}/choices"
FORBIDDEN = {
    NAME: 0o022,
    f"{NAME}/adoptions": 0o077,
    f"{NAME}/unreached": 0o077,
    f"{NAME}/owners": 0o077,
    f"{NAME}/runtime": 0o022,
    CHOICES: 0o022,
}


def run(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Whether /run can be written to."""
    try:
        found = os.statvfs(RUN)
        mode = os.stat(RUN)
    except OSError as wrong:
        yield error(f"{RUN} cannot be looked at", str(wrong), RUN)
        return
    if found.f_flag & os.ST_RDONLY:
        yield error(f"{RUN} is mounted read-only", file=RUN)
    elif mode.st_uid or mode.st_mode & 0o022:
        yield error(
            f"{RUN} is not root's alone",
            f"owner {mode.st_uid}, mode {stat.S_IMODE(mode.st_mode):04o}",
            RUN,
        )
    elif found.f_bavail * found.f_frsize < FREE:
        yield warning(f"{RUN} is full", f"{found.f_bavail * found.f_frsize} bytes are left", RUN)
    elif found.f_files and not found.f_favail:
        yield warning(f"{RUN} is full", "no inode is left", RUN)
    else:
        yield ok(f"{RUN} is root's, writable, and has space left")


def own_directories(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Owner and mode of the directories below /run/slurm_adopt."""
    there = [path for path in FORBIDDEN if os.path.lexists(path)]
    if not there:
        yield ok(f"{NAME} is not there yet: the first login that needs it makes it")
        return
    wrong = [seen for path in there for seen in _unfit(path)]
    if not wrong:
        wrong = list(_squatted(CHOICES))
    yield from wrong or [ok(f"{NAME} is root's, and nobody else can write there")]


def _unfit(path: str) -> Iterator[Seen]:
    found = os.lstat(path)
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield error(f"{path} is not a directory", file=path)
    elif found.st_uid:
        yield error(f"{path} does not belong to root", f"owner {found.st_uid}", path)
    elif mode & FORBIDDEN[path]:
        yield error(f"{path} is open to others", f"mode {mode:04o}", path)


def _squatted(choices: str) -> Iterator[Seen]:
    """Say where there is something else than the link of a user's choice (user_choice.py)."""
    for name in sorted(proc.listing(choices)):  # root sees the names
        path = f"{choices}/{name}"
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISLNK(found.st_mode):
            yield error(f"{path} is not the link of a user's choice", "it is no link", path)
        elif str(found.st_uid) != name:
            said = f"its owner is {found.st_uid}"
            yield error(f"{path} is not the link of a user's choice", said, path)


def cleaners(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Whether something removes old files below /run/slurm_adopt."""
    found = []
    spared = False
    for path in _tmpfiles():
        for number, line in places.lines(path):
            spared = spared or is_spared(line)
            if rule := cleaned(line):
                title = f"systemd-tmpfiles removes what is old in {NAME}"
                found.append(warning(title, rule, path, number))
    if spared:
        found.clear()
    for number, line in places.lines(TMPREAPER):
        if line.startswith("TMPREAPER_DIRS=") and f"{RUN}/" in line:
            title = f"tmpreaper removes what is old in {RUN}"
            found.append(warning(title, line, TMPREAPER, number))
    yield from found or [ok(f"nothing removes old files in {NAME}")]


def _tmpfiles() -> list[str]:
    """Return the files of tmpfiles.d(5): of two of one name the first counts."""
    found: dict[str, str] = {}
    for folder in reversed(TMPFILES):
        found.update({n: f"{folder}/{n}" for n in proc.listing(folder) if n.endswith(".conf")})
    return [found[name] for name in sorted(found)]


def cleaned(line: str) -> str:
    """Return what a line of tmpfiles.d says if it removes what is old in our directory.

    tmpfiles.d(5): `type path mode user group age`. A type with `!` is for the boot alone.
    """
    words = line.split()
    if len(words) < 6 or words[0][0] not in "dDevqQC" or "!" in words[0]:
        return ""
    path = words[1].rstrip("/")
    covers = path in (RUN, NAME) or path.startswith(NAME + "/")
    if words[0][0] == "e":
        covers = covers or fnmatch.fnmatchcase(NAME, path)
    return " ".join(words) if covers and words[5] != "-" else ""


def is_spared(line: str) -> bool:
    """Say whether a line of tmpfiles.d keeps our directory and all in it from being cleaned."""
    words = line.split()
    return len(words) > 1 and words[0] == "x" and fnmatch.fnmatchcase(NAME, words[1])


CHECKS = (
    Check(
        "SA803",
        HOST,
        "/run can be written to",
        run,
        expected="/run is root's, writable for root alone, and has space left.",
        why="The module notes there what one process of sshd tells another. Without the note a "
        "login by keyboard-interactive is decided twice, and runtime_dir=job makes no directory.",
        fix="Make space in /run, or mount it again as a tmpfs with mode 755.",
        seconds=SLOW,
    ),
    Check(
        "SA804",
        HOST,
        "/run/slurm_adopt",
        own_directories,
        expected="/run/slurm_adopt and what is in it are root's, and others cannot write there. "
        "adoptions, unreached and owners have mode 0700. choices has one link for a user, which is "
        "that user's.",
        why="The module does not use a directory that others could have changed. Notes are then "
        "not kept, jobs get no runtime directory, and what users have chosen does not count.",
        fix="Look who has made or changed it. Then give it to root: mode 711 for "
        "/run/slurm_adopt, runtime and choices, 700 for adoptions, unreached and owners. Remove "
        "what is no directory, and what is in choices and is no link of its user's.",
    ),
    Check(
        "SA805",
        HOST,
        "nothing removes old files",
        cleaners,
        expected="Nothing removes old files in /run/slurm_adopt.",
        why="A job's runtime directory holds sockets that live as long as the job. A cleaner that "
        "goes by age removes them while the job runs.",
        fix="Take the line out, or write `x /run/slurm_adopt` into a file in /etc/tmpfiles.d.",
    ),
)
