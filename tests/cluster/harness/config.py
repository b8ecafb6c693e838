"""The cluster's configuration files, from one record of settings."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tests.cluster.harness import cgroups

NODES = ("n1", "n2")

USERS = {"alice": 5001, "bob": 5002, "carol": 5003}

# One machine plays all nodes: they are told what they have, and every core is shared by many jobs.
SLURM_CONF = """\
ClusterName=adopt
SlurmctldHost=ctl
SlurmUser=slurm
AuthType=auth/munge
CredType=cred/munge
MpiDefault=none
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir={spool}
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
SlurmctldDebug=verbose
SlurmdDebug=debug
SwitchType=switch/none
PropagateResourceLimits=NONE

PrologFlags=contain
ProctrackType=proctrack/cgroup
TaskPlugin=task/affinity,task/cgroup
JobAcctGatherType={jobacct}
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/none

SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
MaxJobCount=1000
KillWait=1
CompleteWait=0
InactiveLimit=0
UnkillableStepTimeout=60
SlurmdParameters=config_overrides
DefMemPerCPU=100
{extra}
NodeName=n[1-2] CPUs={cpus} RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:64
"""

CGROUP_CONF = """\
CgroupPlugin={plugin}
ConstrainCores=yes
ConstrainRAMSpace=yes
ConstrainDevices=yes
{extra}"""

KEY_FILES = ("slurm.key", "slurm.jwks")  # of auth/slurm: raw, or keys with names; the latter wins

GRES_CONF = "Name=gpu File=/dev/fakegpu[0-1]\n"

BOTH_PORT = 2222  # where sshd wants a public key and keyboard-interactive, in either order

SSHD_CONFIG = f"""\
Port 22
Port {BOTH_PORT}
UsePAM yes
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication yes
X11Forwarding yes
PrintMotd no
UseDNS no
MaxStartups 500
LogLevel VERBOSE
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
Match LocalPort {BOTH_PORT}
    AuthenticationMethods publickey,keyboard-interactive keyboard-interactive,publickey
Match All
"""

# The default key exchange takes as long as the rest of a login.
SSH_CONFIG = """\
Host *
    PasswordAuthentication no
    StrictHostKeyChecking yes
    CheckHostIP no
    ServerAliveInterval 10
    KexAlgorithms ^curve25519-sha256
"""


# What a release of Slurm does not know, or wants otherwise: file -> key -> line, "" for none.
# Keys that stand here for one release are as above in all others.
DIALECTS: dict[str, dict[str, dict[str, str]]] = {
    "20.11": {
        "cgroup.conf": {"CgroupPlugin": ""},  # since 21.08; before there was v1 only
    },
    "22.05": {},
    "24.11": {},
    "26.05": {},
}


@dataclass(frozen=True)
class Settings:
    """What differs between variants of the cluster's configuration."""

    jobacct: str = "jobacct_gather/cgroup"
    slurm_conf: str = ""  # more lines; a key given again wins
    cgroup_conf: str = ""
    nodes: tuple[tuple[str, str], ...] = tuple((name, name) for name in NODES)  # name and host
    ports: tuple[tuple[str, int], ...] = ()  # of a node's slurmd, where it is not the usual one
    spool: str = "/var/spool/slurmd"
    slurm_key: str = ""  # the secret of auth/slurm
    key_file: str = KEY_FILES[0]  # what it is in
    sackd: tuple[str, ...] = ()  # hosts with a sackd
    configless: bool = False  # the nodes get their configuration from slurmctld


def slurm_conf(settings: Settings, release: str = "22.05") -> str:
    """Return slurm.conf for a host with this release of Slurm."""
    text = SLURM_CONF.format(
        jobacct=settings.jobacct, spool=settings.spool, extra="", cpus=os.cpu_count()
    )
    return _spoken(_with(text, settings.slurm_conf), release, "slurm.conf")


def cgroup_conf(settings: Settings, release: str = "22.05") -> str:
    """Return cgroup.conf; where the machine has swap, jobs may not use it instead of memory."""
    swap = "ConstrainSwapSpace=yes\nAllowedSwapSpace=0\n" if _swap_counted() else ""
    plugin = "cgroup/v2\nIgnoreSystemd=yes" if cgroups.unified() else "cgroup/v1"
    text = _with(CGROUP_CONF.format(plugin=plugin, extra=swap), settings.cgroup_conf)
    return _spoken(text, release, "cgroup.conf")


def _with(text: str, more: str) -> str:
    """Return a configuration with lines added; what they set again is taken out above."""
    keys = {line.partition("=")[0] for line in more.splitlines() if "=" in line}
    kept = [line for line in text.splitlines() if line.partition("=")[0] not in keys]
    return "\n".join([*kept, *more.splitlines()]) + "\n"


def _spoken(text: str, release: str, file: str) -> str:
    """Return a configuration in the words of a release."""
    other = DIALECTS[release].get(file, {})
    lines = (other.get(line.partition("=")[0], line) for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def _swap_counted() -> bool:
    """Say whether the kernel counts swap per cgroup."""
    v1 = cgroups.MOUNT / "memory/memory.memsw.limit_in_bytes"
    return v1.exists() or any(cgroups.MOUNT.glob("*/memory.swap.max"))
