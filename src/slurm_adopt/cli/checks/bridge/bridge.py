"""The entry scripts, the interpreters that run them, and the files that root runs at each login."""

from __future__ import annotations

import os
import re
import shlex
import struct
from contextlib import suppress
from importlib.util import source_hash
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.pam import pam_modules
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.fronts import PAM_EXEC, PAM_PYTHON
from slurm_adopt.node.pam_files import SCRIPTS

from . import image, parts
from .bridge_trial import FailedError, NoTrialError, trial
from .owners import all_others_may_write
from .scripts import scripts, tried

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

    from .scripts import Tried

BRIDGE_S = "bridge"
OLDEST = (3, 9)
ENVIRONMENTS = ("/etc/default/ssh", "/etc/sysconfig/sshd")
SITE_DIRS = ("site-packages", "dist-packages")
TRIES = 2  # of which the quickest counts


def scripts_there(host: Host) -> Iterator[Seen]:
    """Tell whether the lines' scripts are there, and each with the module that it is made for."""
    for script in scripts(host):
        place = pam_line(script.line)
        name, module = os.path.basename(script.path), os.path.basename(script.line.module)
        if not os.path.isabs(script.path):
            yield error("a line of this module has a script without a whole path", "", *place)
        elif not os.path.isfile(script.path):
            yield error(f"there is no {script.path}", "", *place)
        elif SCRIPTS.get(module) != name:
            wanted = next(key for key, value in SCRIPTS.items() if value == name)
            yield error(f"{script.line.module} is not {wanted}", str(script.line), *place)
        elif script.front is PAM_EXEC and not os.access(script.path, os.X_OK):
            yield error(f"{script.path} is not executable", "", *place)
        else:
            yield ok(f"{script.path} is there", "", *place)
    yield from _without_lines(host)


def runs(host: Host) -> Iterator[Seen]:
    """Tell whether pam_python runs a script, and by which Python."""
    for _, told in (yield from tried(host, explain=PAM_PYTHON)):
        version = ".".join(map(str, told["version"]))
        found = f"starts in {told['start'] * 1000:.0f} ms of CPU time; {told['prefix']}"
        if tuple(told["version"]) < OLDEST:
            yield error(f"pam_python runs Python {version}, which is too old", found)
        else:
            yield ok(f"pam_python runs Python {version}", found)
    if scripts(host) and not any(script.front is PAM_PYTHON for script in scripts(host)):
        yield ok("no line of this module is run by pam_python")


def package(host: Host) -> Iterator[Seen]:
    """Tell whether the module can be imported there, and which version it is."""
    for one in (yield from _new_enough(host)):
        told, place = one.told, pam_line(one.script.line)
        if "wrong" in told:
            yield error(f"{one.runner} cannot import this module", told["wrong"], *place)
            continue
        file, version = told["package"]["file"], told["package"]["version"]
        top = os.path.dirname(file)
        lacking = parts.missing(top, _sources(top))
        if lacking:
            more = f"; {len(lacking) - 1} more" if lacking[1:] else ""
            yield error("a part of this module is missing", f"{lacking[0]}{more}", *place)
            continue
        found = f"{top}; imports take {told['import'] * 1000:.0f} ms of CPU time"
        yield ok(f"{one.runner} imports version {version} of this module", found)


def byte_code(host: Host) -> Iterator[Seen]:
    """Tell whether byte code and login image of the module fit the interpreter, and the source."""
    for one in (yield from _new_enough(host)):
        told = one.told
        if "package" not in told:
            yield skipped("the module cannot be imported, so its byte code is not looked at")
            continue
        top = os.path.dirname(told["package"]["file"])
        sources = list(_sources(top))
        states = {file: _state_of_code(file, told["tag"], told["magic"]) for file in sources}
        hint = f"; run {shlex.join(image.command(top, told))}"
        old = [file for file, state in states.items() if state == "unchecked"]
        bad = {state: sum(s == state for s in states.values()) for state in ("missing", "stale")}
        if old:
            yield error("byte code of this module is of another source, and is run", old[0], old[0])
        if any(bad.values()):
            found = ", ".join(f"{count} files: {state}" for state, count in bad.items() if count)
            first = next(file for file, state in states.items() if state in bad)
            without = "without the login image logins would compile parts of"
            what = without if told.get("image") else "each login compiles"
            yield warning(f"{what} the module: its byte code is not fresh", found, first)
        if image.maker(top) and not told.get("image"):
            why, made_again = image.why_unused(top, told["tag"], sources)
            title = "each login imports the module file by file, without its login image"
            path = image.path_of(top, told["tag"])
            yield warning(title, why + hint if made_again else why, path)
        elif told.get("changed"):
            title = "some logins import parts of the module file by file, without the login image"
            why, made_again = image.why_in_part(told["changed"])
            yield warning(title, why + hint if made_again else why, told["changed"][0])
        elif not old and not any(bad.values()):
            fresh = "byte code and login image are" if told.get("image") else "byte code is"
            yield ok(f"the module's {fresh} fresh, for {told['tag']}")


def owned(host: Host) -> Iterator[Seen]:
    """Tell whether only root may write what root runs at a login."""
    paths = []
    for script in scripts(host):
        if os.path.isabs(script.path) and os.path.exists(script.path):
            paths.append(script.path)
        if script.front is PAM_EXEC:
            modules = filter(os.path.exists, pam_modules.paths(script.line.module))
            paths += dict.fromkeys(map(os.path.realpath, modules))
    found = yield from _new_enough(host)
    for one in found:
        told = one.told
        package_file = told.get("package", {}).get("file", "") or _beside(one.script.path)
        sources = list(_sources(os.path.dirname(package_file))) if package_file else []
        code = [*told["modules"], *told["ours"], *sources]
        paths += [*code, *_byte_code_of(code, told["tag"]), *told["libraries"], *_pth_files(told)]
        paths += [image.path_of(os.path.dirname(package_file), told["tag"])] if package_file else []
        paths += [told["interpreter"]] if "interpreter" in told else []
        paths += [entry for entry in told["path"] if os.path.isabs(entry)]
        if "" in told["path"] or "." in told["path"]:
            yield error(f"sys.path of {one.runner} has the working directory", str(told["path"]))
    bad = list(all_others_may_write(paths))
    for path, why in bad:
        yield error("others than root may write what root runs at a login", f"{path} {why}", path)
    if paths and not bad and found:
        yield ok("only root may write what root runs at a login")
    elif paths and not bad:
        yield ok("only root may write the entry script")


def path_files(host: Host) -> Iterator[Seen]:
    """Tell which .pth files run code at each login."""
    found = yield from _new_enough(host)
    there = {}
    for one in found:
        running = {path: line for path in _pth_files(one.told) if (line := _code_in(path))}
        cost = _cost(one, list(running)) if running and not host.quick else ""
        there.update({path: (line, cost) for path, line in running.items()})
    for path, (number, cost) in there.items():
        name = os.path.basename(path)
        yield warning(f"{name} runs code as root at each login", cost, path, number)
    if found and not there:
        yield ok("no .pth file runs code at a login")


def variables(host: Host) -> Iterator[Seen]:
    """Tell whether variables of the environment steer the interpreter."""
    for one in (yield from _new_enough(host)):
        flags = one.told["flags"]
        if flags.get("ignore_environment") or flags.get("isolated"):
            yield ok(f"{one.runner} heeds no variable of Python's")
        elif one.script.front is PAM_EXEC:
            found = "its first line does not give Python the options -IS"
            yield warning("the script of pam_exec heeds variables of Python's", found,
                          one.script.path, 1)  # fmt: skip
        else:
            yield from _of_sshd()


def _of_sshd() -> Iterator[Seen]:
    wrong = False
    for path in ENVIRONMENTS:
        with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                name = line.strip().removeprefix("export ").partition("=")[0].strip()
                if re.fullmatch("PYTHON[A-Z0-9_]*", name):
                    wrong = True
                    yield warning(
                        f"{name} is set for sshd, and so for pam_python", "", path, number
                    )
    if not wrong:
        yield ok("no variable of Python's is set in a file of sshd's")


# What these share


def _new_enough(host: Host) -> Generator[Seen, None, list[Tried]]:
    """Return the trials; one whose Python is so old that it tells nothing else is left out."""
    found = []
    for one in (yield from tried(host)):
        if "path" in one.told:
            found.append(one)
        else:
            yield skipped(f"not known, since the Python of {one.runner} is too old")
    return found


def _without_lines(host: Host) -> Iterator[Seen]:
    if not scripts(host):
        yield skipped(f"this module has no line in {host.service}")


def _beside(script: str) -> str:
    """Return the package's file beside a script that does not import it; "" where it has none."""
    above = os.path.dirname(os.path.dirname(os.path.realpath(script)))
    places = (f"{above}/src/slurm_adopt/__init__.py", f"{above}/__init__.py")
    return next(filter(os.path.isfile, places), "")


# Byte code


def _byte_code_of(sources: Sequence[str], tag: str) -> Iterator[str]:
    """Yield where the byte code of sources is, and its directories."""
    for source in sources:
        folder, name = os.path.split(source)
        yield f"{folder}/__pycache__"
        yield f"{folder}/__pycache__/{name.rpartition('.')[0]}.{tag}.pyc"


def _sources(top: str) -> Iterator[str]:
    """Yield the sources that a login may import."""
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(set(folders) - {"__pycache__", *(["cli"] if folder == top else [])})
        yield from (f"{folder}/{name}" for name in sorted(names) if name.endswith(".py"))


def _state_of_code(source: str, tag: str, magic: str) -> str:
    """Return fresh, missing, stale, or unchecked: another source's that is run all the same."""
    folder, name = os.path.split(source)
    try:
        with open(f"{folder}/__pycache__/{name[:-3]}.{tag}.pyc", "rb") as file:
            head = file.read(16)
        entry = os.stat(source)
        with open(source, "rb") as file:
            text = file.read()
    except OSError:
        return "missing"
    if len(head) < 16 or head[:4].hex() != magic:
        return "stale"
    flags, first, second = struct.unpack("<III", head[4:])  # PEP 552
    if not flags & 1:
        mine = (int(entry.st_mtime) & 0xFFFFFFFF, entry.st_size & 0xFFFFFFFF)
        return "fresh" if (first, second) == mine else "stale"
    if head[8:] == source_hash(text):
        return "fresh"
    return "stale" if flags & 2 else "unchecked"


# .pth files


def _pth_files(told: dict[str, Any]) -> list[str]:
    """Return the .pth files that the interpreter reads."""
    found = []
    for folder in dict.fromkeys(told["path"]) if told["site"] else ():
        if os.path.basename(folder) in SITE_DIRS and os.path.isdir(folder):
            names = sorted(os.listdir(folder))
            found += [f"{folder}/{name}" for name in names if name.endswith(".pth")]
    return found


def _code_in(path: str) -> int:
    """Return the number of the first line of a .pth file that is run; 0 for none."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.startswith(("import ", "import\t")):
                return number
    return 0


def _cost(one: Tried, paths: Sequence[str]) -> str:
    """Say what .pth files cost a login: the interpreter's start with them and without."""
    script = one.script
    if script.front is PAM_EXEC:
        return ""
    try:
        having = [trial(script.line.module, script.path)["start"] for _ in range(TRIES - 1)]
        without = [trial(script.line.module, script.path, paths)["start"] for _ in range(TRIES)]
    except (NoTrialError, FailedError):
        return ""
    cost = min(one.told["start"], *having) - min(without)
    tens = round(cost * 100)  # not more exact: nodes that are alike say the same
    said = f"about {tens * 10} ms" if tens > 0 else "less than 10 ms"
    return f"all such files cost {said} of CPU time at each login"


CHECKS = (
    Check(
        "SA201",
        BRIDGE_S,
        "the entry script is there",
        scripts_there,
        expected="Each line gives pam_python.so the whole path of pam_slurm_adopt.py, or "
        "pam_exec.so that of pam_slurm_adopt_exec, which is executable. The file is there.",
        why="Where there is no script pam_python and pam_exec answer with an error. So everybody "
        "but root is locked out.",
        fix="Check out or copy the module again, or correct the path: docs/how-to/install.md. "
        "Make pam_slurm_adopt_exec executable by chmod 755.",
    ),
    Check(
        "SA202",
        BRIDGE_S,
        "pam_python runs",
        runs,
        expected="libpam can load pam_python.so, and its Python is 3.9 or later.",
        why="Where pam_python cannot be loaded PAM refuses everybody whom no line has let by.",
        fix="Install libpam-python for the system's Python, or build pam_python again after the "
        "system got another Python.",
        seconds=SLOW,
    ),
    Check(
        "SA203",
        BRIDGE_S,
        "the script imports the module",
        package,
        expected="The whole package is beside the entry script.",
        why="Without its package the script answers users by action_generic_failure alone.",
        fix="Check out or copy the module again: docs/how-to/install.md.",
        seconds=SLOW,
    ),
    Check(
        "SA204",
        BRIDGE_S,
        "byte code and login image are fresh",
        byte_code,
        expected="Each file of the module has byte code of this Python and of this source. The "
        "login image is of these files, and root's alone.",
        why="A login never writes either. The login image has the code of a login in one file. "
        "Without it the module costs about twice as much. Without fresh byte code, too, each login "
        "compiles the module: more than ten times as much. Unchecked byte code is run whatever the "
        "source says.",
        fix="Run python3 -m compileall -q on the directory src of the checkout, then python3 -I on "
        "src/slurm_adopt/login_image.py. Use the Python of pam_python, or of the first line of "
        "pam_exec's script. The Debian package does both by /usr/libexec/slurm-adopt/byte-compile. "
        "slurm-adopt install makes the image, too. Files that are not root's alone: run chown "
        "root:root and chmod go-w. In PAM lines, name the module by a path without links.",
        seconds=SLOW,
    ),
    Check(
        "SA205",
        BRIDGE_S,
        "only root may write what root runs",
        owned,
        expected="Script, package, Python's library, pam_python or pam_exec, and the directories "
        "above them belong to root, and nobody else may write to them.",
        why="Whoever may write one of these is root at the next login. The entry script does not "
        "load a package that is not root's alone: action_generic_failure answers users then.",
        fix="Run chown root:root and chmod go-w on what is named.",
        seconds=SLOW,
    ),
    Check(
        "SA206",
        BRIDGE_S,
        "no .pth file runs code",
        path_files,
        expected="No .pth file has a line that begins with import.",
        why="Python runs such lines when it starts, so sshd runs them as root at each login. They "
        "take time, and may fail.",
        fix="Remove the package that the file belongs to from compute nodes.",
        seconds=SLOW,
    ),
    Check(
        "SA207",
        BRIDGE_S,
        "no variable steers Python",
        variables,
        expected="The environment of sshd has no PYTHONPATH, PYTHONHOME or other variable of "
        "Python's. The first line of pam_exec's script gives Python the options -IS.",
        why="Python heeds these variables otherwise. They change which code root runs at each "
        "login. The environment of pam_exec's script is PAM's, which users may be able to write.",
        fix="Take the variable out of the named file and restart sshd. Give Python the options -IS "
        "in the first line of pam_exec's script.",
        seconds=SLOW,
    ),
)
