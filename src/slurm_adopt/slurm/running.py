"""What the slurmds that run here were started with: which slurm.conf, which node name.

Looked at where the usual places have no slurm.conf, or it does not know this host: a search through
all processes is too dear for every login. Only root's slurmds count, by the uids in
/proc/PID/status (who owns /proc/PID says nothing of a process that may not be dumped) and the
program's name. Options are those of src/slurmd/slurmd/slurmd.c, _process_cmdline.
"""

from __future__ import annotations

import os

PROC = "/proc"
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
    """A running slurmd: `conf` is what -f says, `node` what -N says, "" where it was not given."""

    __slots__ = ("conf", "configless", "node", "pid")

    def __init__(self, pid: int, conf: str, node: str, configless: bool) -> None:
        """`configless`: whether it was told to fetch its configuration (--conf-server)."""
        self.pid = pid
        self.conf = conf
        self.node = node
        self.configless = configless

    def __str__(self) -> str:
        """Say which slurmd, for the log."""
        given = [f"-f {self.conf}"] if self.conf else []
        given += [f"-N {self.node}"] if self.node else []
        given += ["--conf-server"] if self.configless else []
        return f"slurmd {self.pid} ({' '.join(given) or 'no options'})"


def slurmds(proc: str = PROC) -> list[Slurmd]:
    """Return root's slurmds by pid; of those started alike, as a slurmd and its child, one."""
    found: dict[tuple[str, str], Slurmd] = {}
    for pid in programs(frozenset({"slurmd"}), proc):
        one = _slurmd(pid, f"{proc}/{pid}")
        found.setdefault((one.conf, one.node), one)
    return list(found.values())


def programs(names: frozenset[str], proc: str = PROC) -> dict[int, str]:
    """Return root's processes that run a program of one of these names: pid -> name, by pid.

    Nothing but `status` is read of a process before that says it is root's: a process can keep
    those waiting for ever who read its `exe`, `stat` or `environ`.
    """
    pids = sorted(int(name) for name in listing(proc) if name.isdecimal())
    found = {pid: _program(f"{proc}/{pid}") for pid in pids if is_root(f"{proc}/{pid}")}
    return {pid: name for pid, name in found.items() if name in names}


def _program(process: str) -> str:
    """Return the name of a process's program, also after the file was replaced by an upgrade.

    Debian's packages call the files slurmd-wlm and slurmstepd-wlm.
    """
    path = _link(f"{process}/exe")
    return os.path.basename(path.removesuffix(" (deleted)")).removesuffix("-wlm")


def is_root(process: str) -> bool:
    """Say whether all four uids of a process, /proc/PID, are 0."""
    for line in read(f"{process}/status").splitlines():
        if line.startswith(b"Uid:"):
            return set(line.split()[1:]) == {b"0"}
    return False


def _slurmd(pid: int, process: str) -> Slurmd:
    words = read(f"{process}/cmdline").decode("utf-8", "surrogateescape").split("\0")[1:]
    options = parse(words)
    conf = options.get("f", "")
    if conf and not conf.startswith("/"):
        conf = os.path.normpath(f"{_link(f'{process}/cwd')}/{conf}")
    return Slurmd(pid, conf, options.get("N", ""), "conf-server" in options)


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


def listing(directory: str) -> list[str]:
    """Return the names in a directory; none where it cannot be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # ended since, or a thread of the kernel
        return ""


def read(path: str) -> bytes:
    """Return the beginning of a file of /proc; nothing where the process has ended."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 17)
    except OSError:
        return b""
