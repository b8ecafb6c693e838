"""Slurm's Epilog and Prolog: whether slurmd can run them, and whether ours is among them."""

from __future__ import annotations

import glob
import os
import re
import shlex
import stat
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.host import LateError
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.slurm import files
from slurm_adopt.slurm.config import conf
from slurm_adopt.slurm.errors import SetupError

from . import slurm_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

EPILOG = "epilog"
PROGRAMS = ("slurm_adopt.epilog", "slurm_adopt.runtime_dir")  # the second: of earlier versions
SCRIPT_LIMIT = 1 << 16
SECONDS = 73  # what our program may take: docs/how-to/epilog.md
LONG = 300  # seconds of KillWait
SHORT = 30  # seconds of UnkillableStepTimeout
DEFAULT_KILL_WAIT = "30"
DEFAULT_UNKILLABLE = "60"
ALL_COUNT = "24.11"  # the release since which Epilog= may be there several times
DEFAULT_TIMEOUT = "65534"  # PrologEpilogTimeout where it is not set
# A command at the beginning of a line that nothing follows: exec with redirections alone goes on.
_ENDS = re.compile(r"exit(?:\s|;|$)|exec\s+(?!\d*[<>])\S")
NO_CONF = "slurm.conf cannot be read: see SA301"


class Given(NamedTuple):
    """One setting of slurm.conf, and where it stands."""

    value: str
    file: str
    line: int


def given(path: str, key: str, chain: tuple[str, ...] = ()) -> list[Given]:
    """Return the values of a key in slurm.conf and what it includes, in their order.

    `chain`: the files that include it.
    """
    found: list[Given] = []
    if path in chain:
        return found
    for number, text in places.lines(path, conf.FILE_LIMIT):
        name, equals, value = text.partition("=")
        if equals and name.strip().lower() == key.lower():
            value = value.partition(" #")[0].strip().strip('"')
            found.append(Given(value, path, number))
        words = text.split(None, 1)
        if len(words) == 2 and words[0].lower() == "include":
            name = words[1].strip().strip('"')
            found += given(os.path.join(os.path.dirname(path), name), key, (*chain, path))
    return found


def _settings(host: Host, key: str) -> list[Given] | None:
    """Return where slurm.conf sets a key; None if slurm.conf cannot be read."""
    try:
        read = host.site.conf
    except SetupError:
        return None
    found = host.once(f"lines of {key}", lambda: given(read.path, key))
    value = read.get(key)
    return found or ([Given(value, read.path, 0)] if value else [])


def scripts(one: Given) -> list[str]:
    """Return the files that a setting means, as slurmd finds them: by glob(7)."""
    return sorted(glob.glob(one.value)) if one.value.startswith("/") else []


def runnable(key: str, host: Host) -> Iterator[Seen]:
    """Whether slurmd can run what a setting names."""
    settings = _settings(host, key)
    if settings is None:
        yield skipped(NO_CONF)
        return
    settings = [one for one in settings if one.value]
    if not settings:
        yield ok(f"slurm.conf has no {key}")
        return
    hidden = [one for one in settings if not _seen(one)]
    if hidden:
        yield skipped(f"only root sees what {key} names: {hidden[0].value}")
        return
    trusted = host.site.conf.uids("SlurmUser")
    wrong = [seen for one in settings for seen in _unfit(key, one, trusted)]
    yield from wrong or [ok(f"slurmd can run {key}: {', '.join(one.value for one in settings)}")]


def _seen(one: Given) -> bool:
    """Say whether this user may look at what a setting names."""
    folder = os.path.dirname(one.value)
    while folder not in ("", "/") and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return not folder.startswith("/") or os.access(folder, os.R_OK | os.X_OK)


def _unfit(key: str, one: Given, trusted: frozenset[int]) -> Iterator[Seen]:
    if not one.value.startswith("/"):
        beside = os.path.join(os.path.dirname(one.file), one.value)
        if not os.path.exists(beside):
            yield error(f"{key} is no absolute path", one.value, one.file, one.line)
        return
    found = scripts(one)
    if not found:
        yield error(f"{key} names no file that is there", one.value, one.file, one.line)
    for path in found:
        if why := not_runnable(path):
            yield error(f"slurmd cannot run {key}: {path} {why}", one.value, path)
        elif why := not_safe(path, trusted):
            yield error(f"others than root can change {key}", why, path)


def not_runnable(path: str) -> str:
    """Return why slurmd cannot run a file, "" if it can: each of these has been seen to drain."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return "leads nowhere"
    if not stat.S_ISREG(mode):
        return "is no file"
    if not mode & 0o111:
        return "is not executable"
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:  # not root: nobody else has to read it
        return ""
    if not head.startswith(b"#!"):
        return "" if head.startswith(b"\x7fELF") else "does not begin with #!"
    words = head[2:].split(b"\n")[0].strip(b" \t").replace(b"\t", b" ").split(b" ")
    interpreter = words[0].decode("utf-8", "replace")  # a \r belongs to it, for the kernel
    return "" if os.access(interpreter, os.X_OK) else f"wants {ascii(interpreter)[1:-1]}"


def not_safe(path: str, trusted: frozenset[int] = frozenset({0})) -> str:
    """Return what lets others than root change a file, "" if nothing does.

    SlurmUser may own it: who is that can have slurmd run anything.
    """
    for place in _above(os.path.realpath(path)):
        try:
            found = os.stat(place)
        except OSError:  # only root sees it
            return ""
        if found.st_uid not in trusted:
            return f"{place} belongs to uid {found.st_uid}"
        # In a directory with the sticky bit nobody can replace what is another's.
        if found.st_mode & 0o022 and not (place != path and found.st_mode & stat.S_ISVTX):
            return f"{place} has mode {stat.S_IMODE(found.st_mode):04o}"
    return ""


def _above(path: str) -> Iterator[str]:
    """Yield a path and all directories above it."""
    yield path
    while path != "/":
        path = os.path.dirname(path)
        yield path


def ours(host: Host) -> Iterator[Seen]:
    """Whether the Epilog runs this module's program."""
    settings = _settings(host, "Epilog")
    if settings is None:
        yield skipped(NO_CONF)
        return
    needed = host.options.on("runtime_dir")
    first = next(iter(settings), Given("", host.site.conf.path, 0))
    runs = [(path, at) for one in settings for path in scripts(one) for at in _runs(path)]
    if runs:
        yield from _as_it_runs(host, *runs[0])
    elif any(os.path.exists(p) and not os.access(p, os.R_OK) for o in settings for p in scripts(o)):
        yield skipped("the Epilog may be read by root alone")
    elif needed:
        title = "no Epilog removes the jobs' runtime directories"
        yield warning(title, "runtime_dir=job is set", first.file, first.line)
    else:
        yield skipped("no Epilog ends what a killed extern stepd leaves")


def _as_it_runs(host: Host, path: str, line: int) -> Iterator[Seen]:
    """Yield what is wrong with the line of a script that runs our program."""
    try:
        in_job = "runinjob" in host.site.conf.words("PrologFlags")
    except SetupError:
        in_job = False
    text = _text(path)
    settings = _settings(host, "Epilog") or []
    if path not in scripts(settings[-1]) and (release := _too_old(host)):
        title = "an Epilog= that follows takes the place of the one with this module's program"
        said = f"Slurm {release} takes the last alone"
        yield warning(title, said, settings[-1].file, settings[-1].line)
    elif gone := unreached(text, line):
        title = "the Epilog ends before this module's program"
        yield warning(title, f"line {gone} ends the script", path, line)
    elif folder := missing_folder(text, path):
        title = "the Epilog looks for this module's program where it is not"
        yield error(title, folder, path, line)
    elif in_job:
        title = "the Epilog runs in the job, and leaves the job's sessions alone"
        yield warning(title, "PrologFlags has RunInJob", path, line)
    else:
        yield ok("the Epilog runs this module's program", "", path, line)


def _too_old(host: Host) -> str:
    """Return the release of the Slurm here if it takes the last of several settings alone."""
    try:
        old = slurm_facts.at_least(host, ALL_COUNT) is False
    except LateError:
        return ""
    return slurm_facts.version(host) if old else ""


def _runs(path: str, depth: int = 0) -> Iterator[int]:
    """Yield the lines of a script that run our program, also by another script that they name."""
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.lstrip().startswith("#"):
            continue
        named = any(program in line for program in PROGRAMS)
        if named or (not depth and any(any(_runs(word, 1)) for word in _words(line))):
            yield number


def _words(line: str) -> list[str]:
    """Return the absolute paths of files among the words of a line of a script."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    return [word for word in words if word.startswith("/") and os.path.isfile(word)]


def _text(path: str) -> str:
    try:
        return files.read(path, SCRIPT_LIMIT).decode("utf-8", "replace")
    except SetupError:
        return ""


def unreached(text: str, line: int) -> int:
    """Return the line before `line` that ends a script whatever happens; 0 if there is none."""
    for number, words in enumerate(text.split("\n")[: line - 1], 1):
        if _ENDS.match(words):
            return number
    return 0


def missing_folder(text: str, path: str = "") -> str:
    """Return the folders that a script goes to for our program, if none of them has it.

    `path`: where the script is; the one in contrib/epilog.d also looks in the checkout around it.
    """
    for line in text.split("\n"):
        listed = re.fullmatch(r"for folder in (.*); do", line)
        if listed and any(program in text for program in PROGRAMS):
            around = os.path.realpath(path).rpartition("/contrib/epilog.d/")[0]
            written = [word for word in listed[1].split() if word.startswith("/")]
            looked = [*([around] if around else []), *written]
            has = any(os.path.exists(f"{one}/src/slurm_adopt/epilog.py") for one in looked)
            return "" if has else " ".join(written)
        found = re.search(r"\bcd\s+(/\S+)", line)
        if found and any(program in line for program in PROGRAMS):
            folder = found[1].rstrip("/;")
            return "" if os.path.exists(f"{folder}/slurm_adopt/epilog.py") else folder
    return ""


def timeout(host: Host) -> Iterator[Seen]:
    """Whether PrologEpilogTimeout leaves our program time."""
    found = _number(host, "PrologEpilogTimeout", DEFAULT_TIMEOUT)
    if found is None:
        yield skipped(NO_CONF)
        return
    runs = any(_runs(path) for one in _settings(host, "Epilog") or [] for path in scripts(one))
    if runs and found.number < SECONDS:
        title = "slurmd may end the Epilog before this module's program is done"
        yield warning(title, *found.told)
    else:
        yield ok("PrologEpilogTimeout leaves the Epilog time")


def kill_wait(host: Host) -> Iterator[Seen]:
    """Whether KillWait keeps sessions alive for long."""
    found = _number(host, "KillWait", DEFAULT_KILL_WAIT)
    if found is None:
        yield skipped(NO_CONF)
    elif found.number > LONG:
        yield warning("sessions outlive their job's end for long", *found.told)
    else:
        yield ok("KillWait ends sessions soon")


def unkillable(host: Host) -> Iterator[Seen]:
    """Whether UnkillableStepTimeout drains nodes early."""
    found = _number(host, "UnkillableStepTimeout", DEFAULT_UNKILLABLE)
    if found is None:
        yield skipped(NO_CONF)
    elif found.number < SHORT:
        yield warning("a session that is slow to end drains the node", *found.told)
    else:
        yield ok("UnkillableStepTimeout gives sessions time to end")


class _Number(NamedTuple):
    """A setting's number, and what a finding says of it: text, file and line."""

    number: int
    told: tuple[str, str, int]


def _number(host: Host, key: str, default: str) -> _Number | None:
    """Return a number that slurm.conf sets; None if slurm.conf cannot be read."""
    settings = _settings(host, key)
    if settings is None:
        return None
    last = (settings or [Given(default, "", 0)])[-1]
    number = int(last.value if last.value.isdecimal() else default)
    return _Number(number, (f"{key}={number}", last.file, last.line))


CHECKS = (
    Check(
        "SA921",
        EPILOG,
        "slurmd can run the Epilog",
        lambda host: runnable("Epilog", host),
        expected="Each file that Epilog= names is there, executable, and begins with #!. It "
        "belongs to root or SlurmUser, and nobody else can write to it or above it.",
        why="If slurmd cannot run one of these files, it drains the node at the end of the first "
        "job. It runs them as root.",
        fix="Correct the path in slurm.conf, or the file: chown root FILE; chmod 755 FILE. A "
        "pattern must match nothing but scripts.",
        seconds=SLOW,
    ),
    Check(
        "SA922",
        EPILOG,
        "the Epilog runs this module's program",
        ours,
        expected="The Epilog runs `python3 -sBEm slurm_adopt.epilog`, as docs/how-to/epilog.md "
        "has it.",
        why="If an extern stepd is killed, nothing of Slurm's ends the sessions of its job. "
        "Runtime directories stay until somebody logs in.",
        fix="Set the Epilog up as docs/how-to/epilog.md says.",
        seconds=SLOW,
    ),
    Check(
        "SA923",
        EPILOG,
        "PrologEpilogTimeout",
        timeout,
        expected=f"PrologEpilogTimeout is at least {SECONDS} s.",
        why="An Epilog that takes longer is killed. If that is while this module's program has a "
        "cgroup frozen, the cgroup stays frozen.",
        fix="Raise PrologEpilogTimeout in slurm.conf, then: scontrol reconfigure.",
        seconds=SLOW,
    ),
    Check(
        "SA924",
        EPILOG,
        "KillWait",
        kill_wait,
        expected=f"KillWait is at most {LONG} s.",
        why="When a job's time is over, its processes have KillWait to end, and so have its "
        "sessions. An interactive shell ignores SIGTERM.",
        fix="Lower KillWait in slurm.conf, then: scontrol reconfigure. Its default is 30.",
    ),
    Check(
        "SA925",
        EPILOG,
        "UnkillableStepTimeout",
        unkillable,
        expected=f"UnkillableStepTimeout is at least {SHORT} s.",
        why="A node is drained if processes of a job are still there after this time. A session "
        "that waits for a file system ends no sooner than that answers.",
        fix="Raise UnkillableStepTimeout in slurm.conf, then: scontrol reconfigure. Its default "
        "is 60.",
    ),
    Check(
        "SA926",
        EPILOG,
        "slurmd can run the Prolog",
        lambda host: runnable("Prolog", host),
        expected="Each file that Prolog= names is there, executable, and begins with #!. It "
        "belongs to root or SlurmUser, and nobody else can write to it or above it.",
        why="If slurmd cannot run one of these files, it drains the node at the start of the first "
        "job. It runs them as root.",
        fix="Correct the path in slurm.conf, or the file: chown root FILE; chmod 755 FILE. A "
        "pattern must match nothing but scripts.",
        seconds=SLOW,
    ),
)
