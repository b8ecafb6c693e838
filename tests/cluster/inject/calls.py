"""The system calls of a login, from the output of `strace -y`: which are the module's.

strace counts `when=` by process and name, from the start of the process. So are they counted here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.inject.errors import ERRORS, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = "/etc/inject"  # files that pam_echo opens around our lines: PHASE.begin, PHASE.end
SCRIPTS = {"pam_python": "pam_slurm_adopt.py", "pam_exec": "pam_slurm_adopt_exec"}
BRIDGE = "/security/pam_python.so"
LIBPAM = ("/security/pam_", "/pam.d")  # in what libpam opens: modules, and files of stacks

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_PATH = re.compile(r'^(?:AT_FDCWD(?:<[^>]*>)?, )?"(?P<path>[^"]*)"')
_FD = re.compile(r"^(?P<fd>\d+)<(?P<what>[^>]*)>")
_NEW_FD = re.compile(r"= (?P<fd>\d+)<[^>]*>$")
_SUN_PATH = re.compile(r'sun_path=@?"(?P<path>[^"]*)"')
_PID = re.compile(r"/proc/\d+")
_NOTE = re.compile(r"/adoptions/\d+-\d+")
_JOB = re.compile(r"\d+\.(\d{10})")

# Where a call is: in front of our code, or in it.
LOAD = "load"  # libpam loads pam_python, and with it the interpreter's library
START = "start"  # the guard, and the interpreter until it has read the entry script
ACCOUNT, SESSION = "account", "session"
PARTS = (LOAD, START, ACCOUNT, SESSION)

TO = "socket: "  # what a call to a socket is about begins with


@dataclass(frozen=True)
class Call:
    """One system call of the process that is traced."""

    part: str
    name: str
    when: int  # as strace counts: of this name, in this process
    about: str  # what it is about: a path, or what a descriptor was opened for
    imports: bool  # it reads for an import alone


def of_module(trace: str, front: str, phase: str) -> list[Call]:
    """Return the calls that are the module's, or in front of it; `phase` counts for pam_exec."""
    lines = list(_calls(trace))
    pid = lines[0][0] if lines else ""
    connected: dict[str, str] = {}
    made = [(name, _about(name, rest, connected)) for by, name, rest in lines if by == pid]
    parts = _python_parts(made) if front == "pam_python" else _exec_parts(made, phase)
    found = []
    counts: dict[str, int] = {}
    for (name, about), part in zip(made, parts):
        counts[name] = counts.get(name, 0) + 1
        if part:
            found.append(Call(part, name, counts[name], named(about), _is_import(about)))
    return found


def others(trace: str) -> int:
    """Return how many processes have been started."""
    return len({caller for caller, _, _ in _calls(trace)}) - 1


def unknown(calls: list[Call]) -> set[str]:
    """Return the names of calls that no table has an error for."""
    return {call.name for call in calls} - set(ERRORS) - NEVER


def is_hit(line: str, call: Call) -> bool:
    """Say whether a line of strace's is about what a call is about.

    How often sshd reads is different from login to login.
    """
    found = _CALL.match(line)
    about = named(_about(call.name, found["rest"], {})) if found else ""
    return about == call.about or (not about and call.about.startswith(TO))


def named(about: str) -> str:
    """Return what a call is about without numbers that differ from login to login."""
    about = _NOTE.sub("/adoptions/NOTE", _PID.sub("/proc/PID", about))
    return _JOB.sub(r"JOB.\1", about)


def _calls(trace: str) -> Iterator[tuple[str, str, str]]:
    for line in trace.splitlines():
        found = _CALL.match(line)
        if found:
            yield found["pid"], found["name"], found["rest"]


def _about(name: str, rest: str, connected: dict[str, str]) -> str:
    """Return a path, or what a descriptor is for; keep what sockets are connected to."""
    path, fd = _PATH.match(rest), _FD.match(rest)
    if path:
        return path["path"]
    if name == "socket":
        made = _NEW_FD.search(rest)
        connected[made["fd"] if made else ""] = TO + rest.partition(",")[0]
        return ""
    if not fd:
        return ""
    if fd["what"].startswith("/"):
        return fd["what"]
    if name == "connect" and (to := _SUN_PATH.search(rest)):
        connected[fd["fd"]] = TO + to["path"]
    return connected.get(fd["fd"], "")


def _is_import(about: str) -> bool:
    return "/lib/python3" in about or ("/slurm_adopt/" in about and "/pam/" not in about)


def _python_parts(made: list[tuple[str, str]]) -> Iterator[str]:
    """Say of each call of a login by pam_python where it is; "" for what is not the module's."""
    part = ""
    read = _script_read(made, SCRIPTS["pam_python"])
    for number, (name, about) in enumerate(made):
        if part == LOAD and any(place in about for place in LIBPAM) and not about.endswith(BRIDGE):
            part = ""
        if name == "openat":
            if about.endswith(BRIDGE):
                part = LOAD
            elif about.startswith(f"{MARKS}/"):
                phase, _, side = about.removeprefix(f"{MARKS}/").partition(".")
                begun = START if phase == ACCOUNT or number < read else SESSION
                part = begun if side == "begin" else ""
        yield part
        if number == read:
            part = SESSION if part == START and _alone(made[:number]) else ACCOUNT


def _alone(made: list[tuple[str, str]]) -> bool:
    """Say whether no account phase has begun."""
    return ("openat", f"{MARKS}/{ACCOUNT}.begin") not in made


def _exec_parts(made: list[tuple[str, str]], phase: str) -> Iterator[str]:
    """Say of each call of the process that pam_exec has started where it is."""
    read = _script_read(made, SCRIPTS["pam_exec"])
    for number in range(len(made)):
        yield START if number <= read else phase


def _script_read(made: list[tuple[str, str]], script: str) -> int:
    """Return the number of the call by which the interpreter is done with reading the script."""
    closed = ("close", script)
    found = [
        n for n, (name, about) in enumerate(made) if (name, about.rpartition("/")[2]) == closed
    ]
    return found[-1] if found else len(made)
