"""The sshds of this host, and the settings that they have: what `sshd -T` says."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from slurm_adopt.cli.checks.machine import processes
from slurm_adopt.cli.deadlines import SSHD
from slurm_adopt.slurm import proc

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = "/etc/ssh/sshd_config"
PROGRAMS = "/usr/sbin:/usr/local/sbin:/sbin"
DEPTH = 16  # of files that include each other, as in servconf.c
GIVEN = ("-f", "-o", "-h")  # options of sshd's with a value that matters here
OTHERS = ("-C", "-c", "-E", "-g", "-p", "-u", "-b", "-k", "-V")  # with a value that does not

# Of a login that comes from elsewhere; sshd wants all of it where there are Match blocks.
FROM_ELSEWHERE = "host=client.invalid,addr=192.0.2.1,laddr=127.0.0.1"


class Sshd(NamedTuple):
    """A program, and what it was started with."""

    program: str
    options: tuple[str, ...] = ()
    listens: bool = False

    @property
    def config(self) -> str:
        """Return the path of its configuration."""
        named = [b for a, b in zip(self.options, self.options[1:]) if a == "-f"]
        return named[-1] if named else DEFAULT


class SettingsError(Exception):
    """sshd does not say its settings; the text says why."""


def sshds() -> list[Sshd]:
    """Return the sshds that listen here, each kind once; else the installed one; else none."""
    found = dict.fromkeys(_listening())
    if found:
        return list(found)
    program = shutil.which("sshd", path=f"{PROGRAMS}:{os.environ.get('PATH', '')}")
    return [Sshd(program)] if program else []


def settings(sshd: Sshd, user: str, port: str = "22") -> dict[str, str]:
    """Return the settings for a user's login from elsewhere: by name, in lower case."""
    login = f"user={user},{FROM_ELSEWHERE},lport={port}"
    argv = [sshd.program, "-T", *sshd.options, "-C", login]
    try:
        done = subprocess.run(  # noqa: S603 - sshd's own path and options
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SSHD,
            check=False,
            env={"PATH": PROGRAMS},
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(f"{sshd.program} -T has not ended within {SSHD:g} s") from None
    except OSError as error:
        raise SettingsError(f"{sshd.program}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").splitlines()
        raise SettingsError(said[-1].strip() if said else f"status {done.returncode}")
    found: dict[str, str] = {}
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(" ")
        name = name.lower()
        found[name] = f"{found[name]} {value}" if name in found else value
    return found


def place(config: str, name: str, value: str) -> tuple[str, int]:
    """Return where a setting stands, outside of Match blocks; the file alone for a default.

    Of several the first counts; of MaxStartups the last in some releases (seen with 9.2). So it is
    the first that has the value, if one has it.
    """
    there = list(_places(config, name.lower(), DEPTH))
    having = [one for one in there if value.lower().startswith(one[2].lower())]
    return [*having, *there, (config, 0, "")][0][:2]


def _places(config: str, name: str, depth: int) -> Iterator[tuple[str, int, str]]:
    try:
        with open(config, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError:
        return
    matching = False
    for number, line in enumerate(lines, 1):
        words = line.replace("=", " ", 1).split()
        keyword = words[0].lower() if words else ""
        if keyword == "match":
            matching = [word.lower() for word in words[1:]] != ["all"]
        elif matching:
            continue
        elif keyword == name:
            yield config, number, " ".join(words[1:])
        elif keyword == "include" and depth:
            for pattern in words[1:]:
                for path in sorted(glob.glob(os.path.join(os.path.dirname(DEFAULT), pattern))):
                    yield from _places(path, name, depth - 1)


def _listening() -> Iterator[Sshd]:
    """Yield root's sshds that listen, those of this host.

    sshd has its title and its arguments in its command line: `sshd: /usr/sbin/sshd -D [listener] 0
    of 10-100 startups`; before 8.2 the arguments alone, and children by another title.
    """
    for pid in proc.pids():
        process = f"/proc/{pid}"
        try:
            # All uids have to be root's: users give what they start by setuid any name.
            if not (proc.comm(process).startswith("sshd") and proc.is_root(process)):
                continue
            if not processes.is_this_host_s(pid):  # its program is to be run
                continue
            words = proc.read(f"{process}/cmdline").decode("utf-8", "replace")
            program = os.readlink(f"{process}/exe").removesuffix(" (deleted)")  # by an upgrade
            if not os.path.basename(program).startswith("sshd"):  # its name was anybody's choice
                continue
        except OSError:  # ended, or kept from us
            continue
        arguments = words.replace("\0", " ").split()
        if arguments and arguments[0][-1] == ":":  # a title
            end = arguments.index("[listener]") if "[listener]" in arguments else 0
            arguments = arguments[1:end]
        if arguments:
            yield Sshd(program, _options(arguments[1:]), listens=True)


def _options(words: list[str]) -> tuple[str, ...]:
    """Return the options that settings depend on."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word[:2] in GIVEN:
            found += [word[:2], word[2:] or next(rest, "")]
        elif word in OTHERS:
            next(rest, "")
    return tuple(found)
