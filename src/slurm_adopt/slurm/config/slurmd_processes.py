"""What the slurmds that run here were started with: which slurm.conf, which node name.

Looked at where the usual places have no slurm.conf, or it does not know this host, or leads to no
job: a search through all processes is too dear for every login. Only root's slurmds count, by their
uids and the program's name; a program with a setuid bit does not: anybody may have started that.
Where no slurmd runs, root's stepds say where their Slurm is.

Which slurm.conf a slurmd reads: src/slurmd/slurmd/slurmd.c, _establish_configuration (the same in
20.11 to 26.05). What slurmctld sent, with --conf-server; what -f names; what SLURM_CONF names; the
place that was compiled in, if that is there. That last is not to be seen from outside; nearly
always it is a usual one, or etc/ beside the directory of the program (configure's own default).
Options are those of _process_cmdline there.
"""

from __future__ import annotations

import os
import stat

from slurm_adopt.slurm.proc import PROC, comm, exe, is_root, link, pids, strings

from .conf import FETCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS = frozenset({"slurmd", "slurmstepd"})
BESIDE = ("etc/slurm.conf", "etc/slurm/slurm.conf")  # below the prefix of bin/ or sbin/
_WITH_VALUE = frozenset("dfLnN")  # short options; -F may have one, only right behind it
_LONG_WITH_VALUE = frozenset(
    {
        "authinfo",
        "ca-cert-file",
        "conf",
        "conf-server",
        "extra",
        "instance-id",
        "instance-type",
        "parameters",
    }
)


class Slurmd:
    """A running slurmd: its slurm.conf, and what -N says; "" where that does not show.

    `how` tells where `conf` comes from. `program` is slurmstepd where no slurmd runs.
    """

    __slots__ = ("conf", "configless", "how", "node", "pid", "program")

    def __init__(
        self,
        pid: int,
        conf: str,
        how: str,
        options: Mapping[str, str],
        program: str = "slurmd",
    ) -> None:
        """`options`: its command line, as parse() returns it."""
        self.pid = pid
        self.conf = conf
        self.node = options.get("N", "")
        self.configless = "conf-server" in options  # told to fetch its configuration
        self.how = how
        self.program = program

    @property
    def told(self) -> bool:
        """Whether slurm.conf is what it was told, and no guess by where its program is."""
        return bool(self.conf) and self.how != GUESSED

    def __str__(self) -> str:
        """Say which slurmd, for the log."""
        given = [f"{self.how} {self.conf}"] if self.conf and self.how == "-f" else []
        given += [f"-N {self.node}"] if self.node else []
        given += ["--conf-server"] if self.configless else []
        if self.conf and self.how == VARIABLE:
            given.append(f"{VARIABLE}={self.conf}")
        if self.conf and self.how == GUESSED:
            given.append(f"{self.conf} beside its program")
        return f"{self.program} {self.pid} ({' '.join(given) or 'no options'})"


GUESSED = "beside"
VARIABLE = "SLURM_CONF"
FROM_CONTROLLER = "--conf-server"
_CACHE = "SLURMD_RECONF_CONF_CACHE"  # set for itself by a slurmd that starts again, since 23.11


def slurmds(proc: str = PROC) -> list[Slurmd]:
    """Return root's slurmds by pid; of those started alike, as a slurmd and its child, one.

    Where there is none, the same of root's stepds. What was read of a process counts only if it is
    root's afterwards, too: a stepd forks as root, and its child becomes the user's program.
    """
    found: dict[str, dict[tuple[str, str], Slurmd]] = {name: {} for name in PROGRAMS}
    for pid, name in programs(PROGRAMS, proc).items():
        one = _slurmd(pid, name, f"{proc}/{pid}")
        if is_root(f"{proc}/{pid}") and _program(f"{proc}/{pid}") == name:
            found[name].setdefault((one.conf, one.node), one)
    return list((found["slurmd"] or found["slurmstepd"]).values())


def programs(names: frozenset[str], proc: str = PROC) -> dict[int, str]:
    """Return root's processes that run a program of one of these names: pid -> name, by pid.

    Nothing but `status` is read of a process before that says it is root's: a process can keep
    those waiting for ever who read its `exe`, `stat` or `environ`. And it has to be root's when
    its `exe` has been read: it may have become a program of a user's in between.
    """
    found = {pid: _program(f"{proc}/{pid}") for pid in pids(proc) if is_root(f"{proc}/{pid}")}
    found = {pid: name for pid, name in found.items() if name in names}
    return {
        p: name for p, name in found.items() if _is_plain(f"{proc}/{p}") and is_root(f"{proc}/{p}")
    }


def hidden(names: frozenset[str] = PROGRAMS, proc: str = PROC) -> bool:
    """Say whether a process of root's goes by one of these names, and may not be looked at.

    So it is without CAP_SYS_PTRACE, or with SELinux. The name is what it was called by, which for a
    setuid program is a user's choice: it tells that Slurm runs, and nothing of where it is.
    """
    return any(_is_hidden(f"{proc}/{pid}", names) for pid in pids(proc) if is_root(f"{proc}/{pid}"))


def _is_hidden(process: str, names: frozenset[str]) -> bool:
    try:
        os.readlink(f"{process}/exe")
    except PermissionError:
        return comm(process).removesuffix("-wlm") in names
    except OSError:  # ended since, or a thread of the kernel
        pass
    return False


def _program(process: str) -> str:
    """Return the name of a process's program, also after the file was replaced by an upgrade.

    Debian's packages call the files slurmd-wlm and slurmstepd-wlm.
    """
    return os.path.basename(exe(process)).removesuffix("-wlm")


def _is_plain(process: str) -> bool:
    """Say whether a process's program has no setuid or setgid bit, so that root has started it."""
    try:
        return not os.stat(f"{process}/exe").st_mode & (stat.S_ISUID | stat.S_ISGID)
    except OSError:  # ended since
        return True


def _slurmd(pid: int, name: str, process: str) -> Slurmd:
    """Look at a process. Of a stepd its title has overwritten the command line.

    And the environment, but mostly not its end, where slurmd has put SLURM_CONF.
    """
    if name != "slurmd":
        conf, how = _conf(process, "", {})
        if not os.path.exists(conf):
            conf, how = _beside([exe(process)]), GUESSED
        return Slurmd(pid, conf, how, {}, name)
    called, *words = strings(f"{process}/cmdline") or [""]
    options = parse(words)
    conf, how = _conf(process, called, options)
    return Slurmd(pid, conf, how, options)


def _conf(process: str, called: str, options: dict[str, str]) -> tuple[str, str]:
    """Return the slurm.conf of a slurmd that was called by this name, and how that shows."""
    variables = strings(f"{process}/environ")
    environment = dict(text.partition("=")[::2] for text in reversed(variables))
    if cache := environment.get(_CACHE):
        return _absolute(process, f"{cache}/slurm.conf"), FROM_CONTROLLER
    if "conf-server" in options:
        return FETCHED if os.path.exists(FETCHED) else "", FROM_CONTROLLER
    if options.get("f"):
        return _absolute(process, options["f"]), "-f"
    if environment.get(VARIABLE):
        return _absolute(process, environment[VARIABLE]), VARIABLE
    return _beside([called, exe(process)]), GUESSED


def _beside(paths: list[str]) -> str:
    """Return the slurm.conf in the etc/ that belongs to the program with one of these paths."""
    for path in paths:
        prefix = os.path.dirname(os.path.dirname(path))
        for name in BESIDE if path.startswith("/") else ():
            if os.path.exists(conf := os.path.normpath(f"{prefix}/{name}")):
                return conf
    return ""


def _absolute(process: str, path: str) -> str:
    return path if path.startswith("/") else os.path.normpath(f"{link(f'{process}/cwd')}/{path}")


def parse(words: list[str]) -> dict[str, str]:
    """Return the options of a command line that have values, as getopt_long(3) reads them."""
    options: dict[str, str] = {}
    left = iter(words)
    for word in left:
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name in _LONG_WITH_VALUE:
                options[name] = value if equals else next(left, "")
        elif word.startswith("-"):
            name, value = _short(word[1:])
            if name:
                options[name] = value or next(left, "")
    return options


def _short(letters: str) -> tuple[str, str]:
    """Return the option with a value that ends a group as in -DvN n1, and what is behind it."""
    for at, letter in enumerate(letters):
        if letter in _WITH_VALUE:
            return letter, letters[at + 1 :]
        if letter == "F":
            break
    return "", ""
