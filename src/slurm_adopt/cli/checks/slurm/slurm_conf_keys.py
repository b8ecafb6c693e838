"""What slurm.conf must say, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.cli.accounts import uid_of
from slurm_adopt.cli.checks.finding import Check, error, ok, warning
from slurm_adopt.slurm.cgroup import step_cgroup
from slurm_adopt.slurm.config import conf as config
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.versions import RELEASES

from . import slurm_facts
from .conf_lines import where
from .slurm_conf import SLURM
from .slurm_facts import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

RUN_IN_JOB = "24.05"  # the first release in which RunInJob includes Contain
PAM_ADOPT = "23.02"  # the first release that knows ulimit_pam_adopt


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
    elif number(user) is None and uid_of(user) is None:
        yield error("SlurmdUser names a user that this host does not know", user, *at)
    else:
        yield warning("SlurmdUser is not root: processes of that user are taken for Slurm's", user,
                      *at)  # fmt: skip


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
