"""slurm.conf: which one is read, and what it must say."""

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
from slurm_adopt.slurm.cgroup import step_cgroup
from slurm_adopt.slurm.config import conf as config
from slurm_adopt.slurm.config.slurmd_processes import GUESSED
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.versions import RELEASES

from . import slurm_facts
from .conf_lines import lines, read_files, where
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
RUN_IN_JOB = "24.05"  # the first release in which RunInJob includes Contain
PAM_ADOPT = "23.02"  # the first release that knows ulimit_pam_adopt


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


@needs(slurm_facts.conf)
def prolog_flags(host: Host) -> Iterator[Seen]:
    """Whether jobs get an extern step."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "PrologFlags")
    given = conf.get("PrologFlags")
    flags = set(conf.words("PrologFlags")) & config.CONTAIN
    text = f"PrologFlags={given}" if given else "PrologFlags is not set"
    if not flags:
        yield error("PrologFlags gives jobs no extern step", text, *at)
    elif flags == {"runinjob"} and slurm_facts.at_least(host, RUN_IN_JOB) is False:
        text += f", and slurmd is of Slurm {slurm_facts.release(host)}"
        yield error("PrologFlags=RunInJob gives jobs no extern step in this release", text, *at)
    else:
        yield ok(f"PrologFlags={given} gives jobs an extern step", "", *at)


@needs(slurm_facts.conf)
def proctrack(host: Host) -> Iterator[Seen]:
    """Whether adopted processes are found and killed when the job ends."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "ProctrackType")
    given = conf.get("ProctrackType", "proctrack/cgroup")
    if step_cgroup.tracks_by_cgroup(conf):
        yield ok("ProctrackType=proctrack/cgroup: sessions end with their job", "", *at)
    else:
        yield error(f"ProctrackType={given}: sessions stay when their job ends", "", *at)


@needs(slurm_facts.conf)
def task_plugin(host: Host) -> Iterator[Seen]:
    """Whether jobs are confined at all."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "TaskPlugin")
    given = conf.get("TaskPlugin")
    if confines_tasks(host):
        yield ok("TaskPlugin has task/cgroup: what cgroup.conf says confines sessions", "", *at)
    else:
        text = f"TaskPlugin={given}" if given else "TaskPlugin is not set"
        yield warning("TaskPlugin has no task/cgroup: jobs and sessions are not confined", text,
                      *at)  # fmt: skip


def confines_tasks(host: Host) -> bool:
    """Say whether task/cgroup is there, so that cgroup.conf's Constrain keys are followed."""
    return not {"task/cgroup", "cgroup"}.isdisjoint(slurm_facts.conf(host).words("TaskPlugin"))


GATHERING = {
    "jobacct_gather/cgroup": "it counts sessions by their cgroup",
    "jobacct_gather/linux": "it counts the adopted processes",
    "jobacct_gather/none": "nothing is counted, in sessions or jobs",
}


@needs(slurm_facts.conf)
def gathering(host: Host) -> Iterator[Seen]:
    """Whether what a session uses is counted."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "JobAcctGatherType")
    given = conf.get("JobAcctGatherType", "jobacct_gather/none").lower()
    name = given if "/" in given else f"jobacct_gather/{given}"
    if name in GATHERING:
        yield ok(f"JobAcctGatherType={given}: {GATHERING[name]}", "", *at)
    else:
        yield warning("JobAcctGatherType is not one of Slurm's", given, *at)


@needs(slurm_facts.conf)
def slurmd_user(host: Host) -> Iterator[Seen]:
    """Whose processes are taken for Slurm's besides root's."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "SlurmdUser")
    user = conf.get("SlurmdUser", "root").partition("(")[0]
    if user in ("root", "0"):
        yield ok("SlurmdUser is root: no other user's process is taken for Slurm's", "", *at)
    elif number(user) is None and not _known(user):
        yield error("SlurmdUser names a user that this host does not know", user, *at)
    else:
        yield warning("SlurmdUser is not root: processes of that user are taken for Slurm's", user,
                      *at)  # fmt: skip


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except (KeyError, ValueError):
        return False
    return True


@needs(slurm_facts.conf)
def launch_parameters(host: Host) -> Iterator[Seen]:
    """Whether Slurm itself sets limits of adopted processes."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "LaunchParameters")
    if "ulimit_pam_adopt" not in conf.words("LaunchParameters"):
        yield ok("LaunchParameters leaves the limits of sessions to this module", "", *at)
    elif slurm_facts.at_least(host, PAM_ADOPT) is False:
        yield warning("LaunchParameters=ulimit_pam_adopt does nothing in this release",
                      f"slurmd is of Slurm {slurm_facts.release(host)}", *at)  # fmt: skip
    else:
        yield ok("LaunchParameters=ulimit_pam_adopt: stepds limit RLIMIT_RSS of sessions", "", *at)


@needs(slurm_facts.conf)
def encryption(host: Host) -> Iterator[Seen]:
    """Whether slurmds can be asked by callerid, or encrypt what they are asked."""
    conf = slurm_facts.conf(host)
    at = where(host, conf, "TLSType")
    name = slurm_facts.release(host)
    spoken = [each.protocol for each in RELEASES if each.name == name]
    why = callerid.encrypted(conf, spoken[0] if spoken else RELEASES[-1].protocol)
    if not why:
        yield ok("TLSType does not keep slurmds from being asked by callerid", "", *at)
    elif host.options.on("callerid"):
        yield warning("TLSType encrypts RPCs: no slurmd can be asked by callerid", why, *at)
    else:
        yield ok("TLSType encrypts RPCs, and callerid=0: nobody is asked", why, *at)


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
    Check(
        "SA306",
        SLURM,
        "PrologFlags",
        prolog_flags,
        expected="PrologFlags has Contain, or X11 or (since Slurm 24.05) RunInJob, which include "
        "it.",
        why="Sessions are adopted into the extern step. A job without one does not count, and its "
        "user is refused.",
        fix="Set PrologFlags=Contain in slurm.conf on all hosts, and restart slurmctld and all "
        "slurmds. Jobs that run now get no extern step any more.",
    ),
    Check(
        "SA307",
        SLURM,
        "ProctrackType",
        proctrack,
        expected="ProctrackType is proctrack/cgroup, which is the default.",
        why="At the end of a job Slurm kills what its proctrack plugin knows. Other plugins take "
        "no notice of adopted processes.",
        fix="Set ProctrackType=proctrack/cgroup in slurm.conf, and restart the slurmds without "
        "jobs.",
    ),
    Check(
        "SA308",
        SLURM,
        "TaskPlugin",
        task_plugin,
        expected="TaskPlugin has task/cgroup.",
        why="The keys of cgroup.conf that begin with Constrain are followed by task/cgroup alone. "
        "Without it a session can use all CPUs, memory and devices of the node.",
        fix="Set TaskPlugin=task/affinity,task/cgroup in slurm.conf, and restart the slurmds.",
    ),
    Check(
        "SA309",
        SLURM,
        "JobAcctGatherType",
        gathering,
        expected="JobAcctGatherType is jobacct_gather/cgroup, jobacct_gather/linux or "
        "jobacct_gather/none.",
        why="It decides whether the accounting of a job counts its sessions, and into which cgroup "
        "they are put.",
        fix="Set JobAcctGatherType=jobacct_gather/cgroup in slurm.conf.",
    ),
    Check(
        "SA310",
        SLURM,
        "SlurmdUser",
        slurmd_user,
        expected="SlurmdUser is root, which is the default.",
        why="The module takes a process for a stepd or slurmd if it is root's or SlurmdUser's. A "
        "name that this host does not know stands for nobody.",
        fix="Remove SlurmdUser from slurm.conf. slurmd needs root to run jobs as their users.",
    ),
    Check(
        "SA311",
        SLURM,
        "LaunchParameters",
        launch_parameters,
        expected="LaunchParameters has no ulimit_pam_adopt, or Slurm is 23.02 or newer.",
        why="Older releases do not know the word, and limit nothing by it.",
        fix="Remove ulimit_pam_adopt, and set the option job_limits=1 of this module instead.",
    ),
    Check(
        "SA312",
        SLURM,
        "TLSType",
        encryption,
        expected="TLSType is not set, or Slurm is older than 25.05, or callerid=0 is set.",
        why="This module does not speak TLS. So a login of a user with several jobs here is "
        "decided by action_unknown.",
        fix="Set the option callerid=0, and choose a value for action_unknown.",
    ),
)
