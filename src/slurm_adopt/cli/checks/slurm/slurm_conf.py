"""slurm.conf: which one is read, whether it is slurmd's, and who may write it."""

from __future__ import annotations

import filecmp
import os
import pwd
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.host import LateError
from slurm_adopt.slurm.config import conf as config
from slurm_adopt.slurm.config.slurmd_processes import GUESSED
from slurm_adopt.slurm.errors import SetupError

from . import slurm_facts
from .conf_lines import lines, read_files
from .slurm_facts import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.slurm.config.slurmd_processes import Slurmd

SLURM = "slurm.conf"

# Keys that the module reads; those that stand twice are of interest.
READ = (
    "authinfo",
    "authtype",
    "clustername",
    "jobacctgathertype",
    "maxnodecount",
    "proctracktype",
    "prologflags",
    "selecttypeparameters",
    "slurmdport",
    "slurmdspooldir",
    "slurmduser",
    "taskplugin",
    "tlstype",
)


def which(host: Host) -> Iterator[Seen]:
    """Which slurm.conf is read, and why that one."""
    try:
        path = slurm_facts.conf(host).path
    except (SetupError, LateError) as wrong:
        if host.is_root or isinstance(wrong, LateError):
            at = slurm_facts.option_place(host, "slurm_conf")
            yield error("no slurm.conf can be read", str(wrong), *at)
        else:
            yield skipped("no slurm.conf can be read by this user", str(wrong))
        return
    said = [text for text in host.remarks.of("debug") if text.startswith(f"configuration: {path},")]
    yield ok(f"slurm.conf is {path}", said[-1].partition(", ")[2] if said else "", path)


@needs(slurm_facts.conf)
def others(host: Host) -> Iterator[Seen]:
    """Whether another slurm.conf lies in one of the usual places."""
    path = slurm_facts.conf(host).path
    different = [other for other in config.usual() if not _same(other, path)]
    for other in different:
        yield warning("another slurm.conf lies in a usual place and is not read", other, other)
    if not different:
        yield ok("no other slurm.conf lies in a usual place")


def _same(one: str, other: str) -> bool:
    """Say whether two files are one, or have the same content."""
    with suppress(OSError):
        return os.path.samefile(one, other) or filecmp.cmp(one, other, shallow=False)
    return False


@needs(slurm_facts.conf)
def of_slurmd(host: Host) -> Iterator[Seen]:
    """Whether the running slurmds read the same slurm.conf."""
    path = slurm_facts.conf(host).path
    if not host.is_root:
        yield skipped("which slurm.conf slurmd reads is shown to root only")
        return
    running = slurm_facts.slurmds(host)
    seen = [found for slurmd in running if (found := _unlike(host, slurmd, path))]
    if seen:
        yield from seen
    elif not any(slurmd.program == "slurmd" for slurmd in running):
        yield skipped("no slurmd runs that may read another slurm.conf")
    elif any(slurmd.told for slurmd in running):
        yield ok("slurmd was told to read the same slurm.conf")
    else:
        yield ok("slurmd was told no other slurm.conf")


def _unlike(host: Host, slurmd: Slurmd, path: str) -> Seen | None:
    """Say what is wrong where a slurmd reads another slurm.conf than the one at `path`."""
    text = f"{slurmd}; this module reads {path}"
    usual = config.usual()[:1]
    if not slurmd.conf:
        if not usual or slurmd.configless or _same(usual[0], path):
            return None
        at = slurm_facts.option_place(host, "slurm_conf")
        return error("slurmd was told no slurm.conf, and a usual place has another", text,
                     *(at if at[0] else (usual[0], 0)))  # fmt: skip
    if _same(slurmd.conf, path):
        return None
    if any(other.conf and _same(other.conf, path) for other in slurm_facts.slurmds(host)):
        return warning("a second slurmd here reads another slurm.conf: its jobs do not count", text,
                       slurmd.conf)  # fmt: skip
    if slurmd.how == GUESSED:
        return warning("slurmd may read another slurm.conf", text, slurmd.conf)
    there = os.path.exists(slurmd.conf)
    title = "slurmd reads another slurm.conf" if there else "the slurm.conf of slurmd is gone"
    return error(title, text, slurmd.conf)


@needs(slurm_facts.conf)
def syntax(host: Host) -> Iterator[Seen]:
    """Whether a part of slurm.conf is passed over, or stands there twice."""
    conf = slurm_facts.conf(host)
    good = True
    for remark in conf.remarks:
        good = False
        yield warning("slurm.conf includes files by a pattern, which is passed over", remark,
                      remark.partition(":")[0])  # fmt: skip
    for key in READ:
        found = [line for line in lines(host, conf) if line.key == key]
        if len({line.value.lower() for line in found}) > 1:
            good = False
            text = ", then ".join(f"{each.value} ({each.file}:{each.number})" for each in found)
            yield warning(f"{_spelled(key)} stands in slurm.conf with several values", text,
                          found[-1].file, found[-1].number)  # fmt: skip
    if good:
        yield ok("slurm.conf is read as it is written")


def _spelled(key: str) -> str:
    return _KEYS.get(key, key)


_KEYS = {
    name.lower(): name
    for name in ("AuthInfo", "AuthType", "ClusterName", "JobAcctGatherType", "MaxNodeCount",
                 "ProctrackType", "PrologFlags", "SelectTypeParameters", "SlurmdPort",
                 "SlurmdSpoolDir", "SlurmdUser", "TaskPlugin", "TLSType")
}  # fmt: skip


@needs(slurm_facts.conf)
def owners(host: Host) -> Iterator[Seen]:
    """Whether somebody else than root and Slurm may write to the configuration."""
    conf = slurm_facts.conf(host)
    paths = read_files(host, conf)
    with suppress(SetupError):
        beside = slurm_facts.cgroup_conf(host)
        paths += [beside.path] if os.path.exists(beside.path) else []
    trusted = conf.uids("SlurmdUser") | conf.uids("SlurmUser")
    found: dict[str, str] = {}  # by what is open: it may be a directory of several
    for path in paths:
        if why := open_to(os.path.realpath(path), trusted):
            found.setdefault(why, path)
    for why, path in found.items():
        yield error("others than root and Slurm may write to a configuration file", why, path)
    if not found:
        yield ok("only root and Slurm may write to the configuration files")


def open_to(path: str, trusted: frozenset[int]) -> str:
    """Say who else than some uids may change what a path leads to; "" for nobody."""
    groups = {0, *(_group(uid) for uid in trusted)}
    while True:
        try:
            status = os.stat(path)
        except OSError as wrong:
            return f"{path}: {wrong.strerror}"
        if status.st_uid not in trusted:
            return f"{path} belongs to uid {status.st_uid}"
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_mode & stat.S_IWOTH and not sticky:
            return f"{path} has mode {stat.S_IMODE(status.st_mode):04o}"
        if status.st_mode & stat.S_IWGRP and status.st_gid not in groups and not sticky:
            return f"{path} has mode {stat.S_IMODE(status.st_mode):04o} and group {status.st_gid}"
        if path == "/":
            return ""
        path = os.path.dirname(path)


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return 0


CHECKS = (
    Check(
        "SA301",
        SLURM,
        "slurm.conf is found",
        which,
        expected="There is a slurm.conf in one of the usual places, or of the running slurmd.",
        why="Without it the module cannot tell node name and spool directory. Each login then is "
        "answered by action_generic_failure.",
        fix="Set the option slurm_conf= to the file that slurmd reads. Make that file readable.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA302",
        SLURM,
        "no other slurm.conf",
        others,
        expected="The usual places have no other slurm.conf than the one that is read.",
        why="A file that was left behind may be read by commands of Slurm's, and by this module "
        "when the other one is gone.",
        fix="Remove the file that slurmd does not read, or set the option slurm_conf=.",
    ),
    Check(
        "SA303",
        SLURM,
        "slurmd reads the same slurm.conf",
        of_slurmd,
        expected="The running slurmd was started with the slurm.conf that this module reads.",
        why="Another slurm.conf may name another spool directory. The module then finds no job, "
        "and refuses every user.",
        fix="Set the option slurm_conf= to the file of slurmd (its -f, or SLURM_CONF in its "
        "environment), or remove the option.",
    ),
    Check(
        "SA304",
        SLURM,
        "slurm.conf is read as it is written",
        syntax,
        expected="Each key that this module reads has one value, and Include names one file.",
        why="The last of two values counts. Slurm and this module pass over an Include with a "
        "pattern.",
        fix="Remove the value that does not count. Write one Include line for each file.",
    ),
    Check(
        "SA305",
        SLURM,
        "who may write to the configuration",
        owners,
        expected="slurm.conf, cgroup.conf and the directories above them belong to root, SlurmUser "
        "or SlurmdUser, and nobody else may write to them.",
        why="Whoever can write to them decides which jobs there are, and what slurmd runs as root.",
        fix="Run chown root and chmod go-w on what is named.",
    ),
)
