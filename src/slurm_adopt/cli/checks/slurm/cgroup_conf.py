"""cgroup.conf: what sessions are confined by, and what is left open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.slurm.cgroup import hierarchy, paths
from slurm_adopt.slurm.config.conf import load_beside
from slurm_adopt.slurm.errors import SetupError

from . import slurm_facts
from .conf_lines import where
from .slurm_conf_keys import confines_tasks
from .slurm_facts import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

CGROUP = "cgroup.conf"
MEMORY_COUNTS = "23.02"  # since then memory is confined only where it is a consumable resource
SYSTEMD = "/run/systemd/system"  # sd_booted(3)
DEVICES = frozenset({"gpu", "mps", "shard"})  # Gres that are devices, whatever gres.conf says
PLUGINS = ("autodetect", "cgroup/v1", "cgroup/v2", "disabled")


@needs(slurm_facts.conf)
def readable(host: Host) -> Iterator[Seen]:
    """Whether there is a cgroup.conf, and it can be read."""
    try:
        found = slurm_facts.cgroup_conf(host)
    except SetupError as wrong:
        path = os.path.join(os.path.dirname(slurm_facts.conf(host).path), "cgroup.conf")
        if host.is_root:
            yield error("cgroup.conf cannot be read", str(wrong), path)
        else:
            yield skipped("cgroup.conf cannot be read by this user", str(wrong))
        return
    if os.path.exists(found.path):
        yield ok(f"cgroup.conf is {found.path}", "", found.path)
    else:
        yield warning("there is no cgroup.conf: nothing confines jobs", "", found.path)


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def cores(host: Host) -> Iterator[Seen]:
    """Whether sessions are confined to the CPUs of their job."""
    yield from _constrained(host, "ConstrainCores", "the CPUs of their job", "all CPUs")


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def memory(host: Host) -> Iterator[Seen]:
    """Whether sessions are confined to the memory of their job."""
    slurm_conf = slurm_facts.conf(host)
    consumable = "memory" in slurm_conf.get("SelectTypeParameters").lower()
    yes = slurm_facts.cgroup_conf(host).yes("ConstrainRAMSpace") and confines_tasks(host)
    if yes and not consumable and slurm_facts.at_least(host, MEMORY_COUNTS) is not False:
        at = where(host, slurm_conf, "SelectTypeParameters")
        text = slurm_conf.get("SelectTypeParameters") or "SelectTypeParameters is not set"
        yield warning("memory is no consumable resource: ConstrainRAMSpace does nothing", text, *at)
        return
    yield from _constrained(host, "ConstrainRAMSpace", "the memory of their job", "all memory")


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def swap(host: Host) -> Iterator[Seen]:
    """Whether sessions can go round the limit of memory by swapping."""
    if not _has_swap():
        yield ok("this host has no swap: there is none to confine")
        return
    yield from _constrained(host, "ConstrainSwapSpace", "the swap space of their job", "all swap")


def _has_swap() -> bool:
    words = hierarchy.read_words("/proc/meminfo")
    return "SwapTotal:" in words and words[words.index("SwapTotal:") + 1] != "0"


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def devices(host: Host) -> Iterator[Seen]:
    """Whether GPUs are open to whoever logs in."""
    if not _has_devices(host):
        yield ok("this node has no Gres with devices: there are none to confine")
        return
    yield from _constrained(
        host, "ConstrainDevices", "the devices of their job", "the devices of all jobs"
    )


def _has_devices(host: Host) -> bool:
    """Say whether the Gres of this node are devices; some are only counted."""
    names = {each.partition(":")[0].strip() for each in slurm_facts.gres_of_node(host).split(",")}
    if names & DEVICES:
        return True
    try:
        beside = load_beside(slurm_facts.conf(host).path, "gres.conf")
    except SetupError:
        return bool(names - {""})
    return bool(names - {""}) and bool(beside.get("File") or beside.get("MultipleFiles"))


def _constrained(host: Host, key: str, confined: str, otherwise: str) -> Iterator[Seen]:
    """Say what a Constrain key comes to."""
    found = slurm_facts.cgroup_conf(host)
    at = where(host, found, key)
    if not found.yes(key):
        text = f"{key}={found.get(key)}" if found.get(key) else f"{key} is not set"
        yield warning(f"{key} is not yes: sessions can use {otherwise}", text, *at)
    elif not confines_tasks(host):
        yield warning(f"{key}=yes does nothing without task/cgroup in TaskPlugin: sessions can use "
                      f"{otherwise}", "", *at)  # fmt: skip
    else:
        yield ok(f"{key}=yes: sessions can use {confined} only", "", *at)


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def plugin(host: Host) -> Iterator[Seen]:
    """Whether CgroupPlugin fits the cgroups that this host has."""
    found = slurm_facts.cgroup_conf(host)
    at = where(host, found, "CgroupPlugin")
    given = found.get("CgroupPlugin", "autodetect").lower()
    mounts = hierarchy.mounted(paths.mountpoint(found))
    v2 = hierarchy.UNIFIED in mounts
    v1 = bool({"freezer", "cpuset", "memory", "devices"} & set(mounts))
    if given not in PLUGINS:
        yield error("CgroupPlugin has a value that Slurm does not know", given, *at)
    elif given == "disabled":
        yield error("CgroupPlugin=disabled: no session is confined", "", *at)
    elif given == "cgroup/v1" and not v1:
        yield error("CgroupPlugin=cgroup/v1, but no cgroup v1 hierarchy is mounted", "", *at)
    elif given == "cgroup/v2" and not v2:
        yield error("CgroupPlugin=cgroup/v2, but no cgroup v2 hierarchy is mounted", "", *at)
    elif given == "cgroup/v2" and v1:
        yield error("CgroupPlugin=cgroup/v2, but the controllers are in cgroup v1", "", *at)
    else:
        yield ok(f"CgroupPlugin={given} fits the cgroups of this host", "", *at)


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def mountpoint(host: Host) -> Iterator[Seen]:
    """Whether CgroupMountpoint leads to cgroups."""
    found = slurm_facts.cgroup_conf(host)
    at = where(host, found, "CgroupMountpoint")
    top = paths.mountpoint(found)
    points = [mount.point for mount in hierarchy.mounted(top).values()]
    if any(hierarchy.is_below(point, top) for point in points):
        yield ok(f"cgroups are mounted at or below {top}", "", *at)
    else:
        yield error(f"no cgroups are mounted at or below {top}", "", *at)


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def ignore_systemd(host: Host) -> Iterator[Seen]:
    """Whether Slurm makes its cgroups behind systemd's back."""
    found = slurm_facts.cgroup_conf(host)
    at = where(host, found, "IgnoreSystemd")
    if not found.yes("IgnoreSystemd"):
        yield ok("IgnoreSystemd is not set: systemd knows of Slurm's cgroups", "", *at)
    elif os.path.isdir(SYSTEMD):
        yield warning("IgnoreSystemd=yes: systemd may take processes out of Slurm's cgroups", "",
                      *at)  # fmt: skip
    else:
        yield ok("IgnoreSystemd=yes, and no systemd runs here", "", *at)


OPEN = "A session can use what its job has not been given, at the cost of other jobs."

CHECKS = (
    Check(
        "SA321",
        CGROUP,
        "cgroup.conf is found",
        readable,
        expected="There is a cgroup.conf beside slurm.conf, and it can be read.",
        why="Without the file all its keys have their defaults, and these confine nothing. A file "
        "that cannot be read makes adoptions fail.",
        fix="Write a cgroup.conf with ConstrainCores, ConstrainRAMSpace and ConstrainDevices=yes.",
    ),
    Check(
        "SA322",
        CGROUP,
        "ConstrainCores",
        cores,
        expected="ConstrainCores is yes, and TaskPlugin has task/cgroup.",
        why=OPEN,
        fix="Set ConstrainCores=yes in cgroup.conf, and restart slurmd.",
    ),
    Check(
        "SA323",
        CGROUP,
        "ConstrainRAMSpace",
        memory,
        expected="ConstrainRAMSpace is yes, TaskPlugin has task/cgroup, and memory is among "
        "SelectTypeParameters.",
        why=OPEN,
        fix="Set ConstrainRAMSpace=yes in cgroup.conf, and a value with Memory, such as "
        "CR_Core_Memory, for SelectTypeParameters in slurm.conf. Restart slurmd.",
    ),
    Check(
        "SA324",
        CGROUP,
        "ConstrainSwapSpace",
        swap,
        expected="ConstrainSwapSpace is yes, or this host has no swap.",
        why="A session that has used the memory of its job goes on in the swap space of the node.",
        fix="Set ConstrainSwapSpace=yes and AllowedSwapSpace=0 in cgroup.conf, and restart slurmd.",
    ),
    Check(
        "SA325",
        CGROUP,
        "ConstrainDevices",
        devices,
        expected="ConstrainDevices is yes, or this node has no Gres.",
        why="The GPUs of the node are open to whoever logs in. CUDA_VISIBLE_DEVICES is but a hint.",
        fix="Set ConstrainDevices=yes in cgroup.conf, and restart slurmd.",
    ),
    Check(
        "SA326",
        CGROUP,
        "CgroupPlugin",
        plugin,
        expected="CgroupPlugin is autodetect, or the version of cgroups that this host has.",
        why="With another version slurmd does not start, and adoptions fail.",
        fix="Remove CgroupPlugin from cgroup.conf, or set the version that is mounted.",
    ),
    Check(
        "SA327",
        CGROUP,
        "CgroupMountpoint",
        mountpoint,
        expected="Cgroups are mounted at CgroupMountpoint, by default /sys/fs/cgroup, or below it.",
        why="The module and Slurm look for the cgroups of jobs there.",
        fix="Remove CgroupMountpoint from cgroup.conf, or set the directory where cgroups are "
        "mounted.",
    ),
    Check(
        "SA328",
        CGROUP,
        "IgnoreSystemd",
        ignore_systemd,
        expected="IgnoreSystemd is not set where systemd runs.",
        why="systemd does not know of the cgroups that Slurm makes then. It may move processes out "
        "of them, or take controllers from them.",
        fix="Remove IgnoreSystemd from cgroup.conf, and restart slurmd.",
    ),
)
