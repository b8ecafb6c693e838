"""The cgroup hierarchies as the kernel shows them: where they are mounted, where a process is.

A hierarchy goes by its controllers, as in /proc/PID/cgroup (cgroups(7)); v2 has UNIFIED for them.
"""

from __future__ import annotations

from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError, shortage
from slurm_adopt.slurm.proc import PROC, contents

_LARGEST = 64 << 20  # bytes that are read of a file
UNIFIED = ""  # the name that the v2 hierarchy has in /proc/PID/cgroup, where v1 has controllers


class Mount:
    """One mounted hierarchy."""

    __slots__ = ("point", "root")

    def __init__(self, point: str, root: str) -> None:
        """`point`: where it is mounted; `root`: the cgroup that is seen there."""
        self.point = point
        self.root = root if root != "/" else ""

    def directory(self, path: str) -> str:
        """Return the directory of a cgroup that /proc/PID/cgroup calls `path`."""
        return self.point + path[len(self.root) :]


def mounted(mountpoint: str, proc: str = PROC) -> dict[str, Mount]:
    """Return the mounted hierarchies by controller, those at or below `mountpoint` preferred.

    The mount options that stand among a v1 hierarchy's controllers are in the keys as well, but for
    `rw`, which all have.
    """
    found: dict[str, Mount] = {}
    for line in _lines(f"{proc}/self/mountinfo"):
        if " - cgroup" not in line:
            continue
        place, _, source = line.partition(" - ")
        fields, words = place.split(" ", 5), source.split(" ", 2)  # type, source, options
        if words[0] not in ("cgroup", "cgroup2") or len(fields) < 5 or len(words) < 3:
            continue
        root, point = fields[3:5]
        if "\\" in line:
            root, point = _unescape(root), _unescape(point)
        mount = Mount(point, root)
        names = [UNIFIED] if words[0] == "cgroup2" else words[2].partition(" ")[0].split(",")
        for controller in names:
            if controller == "rw":
                continue
            if controller not in found or is_below(mount.point, mountpoint):
                found[controller] = mount
    return found


def of_process(pid: int, proc: str = PROC) -> dict[str, str]:
    """Return the cgroups of a process by controller, "" for v2, as /proc/PID/cgroup says."""
    return by_controller(_lines(f"{proc}/{pid}/cgroup"))


def by_controller(lines: list[str]) -> dict[str, str]:
    """Return the cgroups in the lines of /proc/PID/cgroup by controller, "" for v2."""
    found = {}
    for line in lines:
        parts = line.split(":", 2)
        for controller in parts[1].split(",") if len(parts) == 3 else ():
            found[controller] = parts[2]
    return found


def members(directory: str) -> list[int]:
    """Return the processes in a cgroup; none where it is gone. Those of other namespaces are 0."""
    found = map(number, read_words(f"{directory}/cgroup.procs"))
    return [pid for pid in found if pid is not None]


def is_below(path: str, top: str) -> bool:
    """Say whether a cgroup is `top` or below."""
    return path == top or path.startswith(top + "/")


def read_words(path: str) -> list[str]:
    """Return the words of a cgroup's file; none where it cannot be read."""
    try:
        return contents(path, _LARGEST).decode("ascii", "replace").split()
    except OSError:
        return []


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes (proc(5))."""
    import re  # few mounts have any

    return re.sub(r"\\([01][0-7]{2})", lambda found: chr(int(found[1], 8)), field)


def _lines(path: str) -> list[str]:
    try:  # the kernel escapes little of what mount points and cgroups may be called
        data = contents(path, _LARGEST).decode("utf-8", "surrogateescape")
        return data.rstrip("\n").split("\n")
    except FileNotFoundError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}; is /proc mounted?") from None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {shortage(error)}") from None
