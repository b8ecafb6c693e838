"""Faults of slurm.conf and cgroup.conf."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from tests.cluster.faults.bring import AWAY, CONF, cannot_be_opened, conf_with, does_not_answer
from tests.cluster.faults.bring import over_conf as over
from tests.cluster.faults.fault import ADOPT, GENERIC, UNKNOWN, Bring, Fault, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.faults.arena import Arena

EVERYBODY = {"one": GENERIC, "two": GENERIC, "none": GENERIC}
CHOSEN = {"one": ADOPT, "two": ADOPT}  # by the account phase; the session phase cannot adopt

MEGABYTE = 1 << 20
SECOND = "/etc/slurm/second.conf"
CGROUP = "/etc/slurm/cgroup.conf"
CANNOT = f"cannot read {CONF}: "


def unusable(name: str, bring: Bring, says: str) -> Fault:
    """Return the fault of a slurm.conf that cannot be used."""
    return Fault(f"slurm.conf {name}", bring, EVERYBODY, says, CHOSEN)


@contextlib.contextmanager
def loop_of_two(arena: Arena) -> Iterator[None]:
    """Have a file that slurm.conf includes include slurm.conf."""
    arena.node.write(SECOND, "Include slurm.conf\n")
    try:
        with conf_with(f"Include {SECOND}")(arena):
            yield
    finally:
        arena.sh(f"rm -f {SECOND}")


def nodes(count: int) -> str:
    """Return so many NodeName lines."""
    line = "NodeName=c{0:05} CPUs=64 RealMemory=256000 Sockets=2 CoresPerSocket=32 Gres=gpu:a100:4"
    return "\n".join(line.format(number) for number in range(count))


def cgroup(name: str, script: str | Bring, says: str = "") -> Fault:
    """Return the fault of a cgroup.conf that cannot be used: nobody can be adopted."""
    file, away = CGROUP, "/etc/slurm/cgroup.away"
    if isinstance(script, str):
        bring = shell(f"mv {file} {away}; {script} {file}", f"rm -rf {file}; mv {away} {file}")
    else:
        bring = script
    touched = {"one": ADOPT, "two": UNKNOWN} if says else {}
    return Fault(f"cgroup.conf {name}", bring, touched, says, CHOSEN if says else {})


FAULTS = (
    Fault("nothing", shell("true", "true")),
    unusable("missing", over("true"), "no slurm.conf in any of"),
    unusable("a link to nothing", over(f"ln -s nowhere {CONF}"), "no slurm.conf in any of"),
    unusable(
        "a link to itself",
        over(f"ln -s slurm.conf {CONF}"),
        CANNOT + "Too many levels of symbolic links",
    ),
    unusable("not to be opened", cannot_be_opened(CONF, errno.EACCES), CANNOT),
    unusable("on a broken disk", cannot_be_opened(CONF, errno.EIO), CANNOT),
    unusable("that does not answer", does_not_answer(CONF), CANNOT),
    unusable("a directory", over(f"mkdir {CONF}"), CANNOT + "it is not a regular file"),
    unusable("a FIFO", over(f"mkfifo {CONF}"), CANNOT + "it is not a regular file"),
    unusable("a device", over(f"mknod {CONF} c 1 5"), CANNOT + "it is not a regular file"),
    unusable("a socket", over(f"python3 -c \"import socket; socket.socket(1).bind('{CONF}')\""),
             CANNOT),
    unusable("binary", over(f"cp /bin/ls {CONF}"), f"{CONF} is not a text file"),
    unusable("of a gigabyte", over(f"truncate -s 1G {CONF}"), CANNOT + "it is larger than"),
    unusable("that includes itself", conf_with("Include slurm.conf"), f"{CONF} includes itself"),
    unusable("in a loop of two", loop_of_two, f"{CONF} includes itself: {CONF} -> {SECOND}"),
    unusable("with a missing Include", conf_with("Include /nowhere"), "cannot read /nowhere: No"),
    unusable("with an odd host list", over(f"sed s/^NodeName=.*/NodeName=n[1-/ {AWAY} >{CONF}"),
             "brackets do not match"),
    # Slurm's defaults are what this cluster has, and the sockets carry the node name.
    Fault("slurm.conf empty", over(f": >{CONF}")),
    Fault("slurm.conf of no keys", over(f"seq 20000 >{CONF}")),
    Fault("slurm.conf with a line of a megabyte", conf_with("Epilog=" + "e" * MEGABYTE)),
    Fault("slurm.conf with many blanks", conf_with("Epilog" + " " * (MEGABYTE >> 3) + "x=1")),
    Fault("slurm.conf with many backslashes", conf_with("Epilog=" + "\\" * (MEGABYTE >> 3))),
    Fault("slurm.conf with a line of 20,000 names",
          conf_with("NodeName=" + ",".join(f"x{n}[1-2]y" for n in range(20000)), first=True)),
    Fault("slurm.conf with a node name of 5,000 characters", conf_with("NodeName=" + "n" * 5000)),
    Fault("slurm.conf not UTF-8", conf_with(b"NodeName=n\xff\xfe Comment=\xe9", first=True)),
    Fault("slurm.conf of 5,000 nodes", conf_with(nodes(5000), first=True)),
    Fault("slurm.conf of 20,000 nodes", conf_with(nodes(20000), first=True)),
    # Of cgroup.conf all defaults count where it is missing; what the step has counts for all that.
    cgroup("missing", ": #"),
    cgroup("of no keys", "seq 1000 >"),
    cgroup("a FIFO", "mkfifo", "cgroup.conf: it is not a regular file"),
    cgroup("on a broken disk", cannot_be_opened(CGROUP, errno.EIO), f"{CGROUP}: Input/output"),
    cgroup("that does not answer", does_not_answer(CGROUP), f"cannot read {CGROUP}: "),
    cgroup("a directory", "mkdir", "cgroup.conf: it is not a regular file"),
    cgroup("garbage", "cp /bin/ls", "cgroup.conf is not a text file"),
)  # fmt: skip
