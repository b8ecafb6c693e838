"""The cgroups of this node: version, hierarchies, controllers, and Slurm's own part."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli import deadlines
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.cgroup import hierarchy, paths, step_cgroup
from slurm_adopt.slurm.errors import SetupError

from . import slurm_facts
from .slurm_conf import open_to
from .slurm_facts import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.slurm.cgroup.hierarchy import Mount

CGROUPS = "cgroups"
CONFINED = needs(slurm_facts.conf, slurm_facts.cgroup_conf, slurm_facts.place)
# What v2 calls the controllers that v1 has; those that are left out are in each kernel's v2.
V2_NAMES = {"cpuset": "cpuset", "memory": "memory"}


def _mounts(host: Host) -> dict[str, Mount]:
    return hierarchy.mounted(paths.mountpoint(slurm_facts.cgroup_conf(host)))


def _is_v2(host: Host) -> bool:
    return isinstance(slurm_facts.layout(host), step_cgroup.V2)


def _wanted(host: Host) -> frozenset[str]:
    return step_cgroup.confining(slurm_facts.conf(host), slurm_facts.cgroup_conf(host))


@CONFINED
def version(host: Host) -> Iterator[Seen]:
    """Which version of cgroups is used, and whether it is mounted."""
    try:
        layout = slurm_facts.layout(host)
    except SetupError as wrong:
        yield error("the cgroups that are wanted are not mounted", str(wrong))
        return
    if layout is None:
        yield skipped("this configuration has no use for cgroups")
        return
    if _is_v2(host):
        yield ok("cgroup v2 is mounted and used")
        return
    wanted, mounts = _wanted(host), _mounts(host)
    if missing := sorted(wanted - mounts.keys()):
        yield error(
            "hierarchies of cgroup v1 that confine jobs are not mounted", ", ".join(missing)
        )
    else:
        yield ok(f"cgroup v1 is mounted and used: {', '.join(sorted(wanted))}")


@needs(slurm_facts.conf, slurm_facts.cgroup_conf)
def confining(host: Host) -> Iterator[Seen]:
    """Whether sessions are put into cgroups at all."""
    wanted = _wanted(host)
    disabled = slurm_facts.cgroup_conf(host).get("CgroupPlugin").lower() == "disabled"
    if not wanted or disabled:
        yield error("this configuration puts jobs into no cgroups: nothing shows an adoption")
    elif confined := sorted(wanted & {"cpuset", "memory", "devices"}):
        yield ok(f"sessions are confined by cgroups: {', '.join(confined)}")
    else:
        yield warning("sessions are in their job's cgroups, which confine nothing",
                      ", ".join(sorted(wanted)))  # fmt: skip


@CONFINED
def controllers(host: Host) -> Iterator[Seen]:
    """Whether the controllers that the configuration wants are switched on.

    On v2 they have to be in the scope of the stepds, if that is there already.
    """
    wanted = _wanted(host)
    try:
        v2 = _is_v2(host)
    except SetupError as wrong:
        yield skipped("the cgroups of this node are not known", str(wrong))
        return
    place = ""
    if v2:
        place = next(iter(tops(host)), _mounts(host)[hierarchy.UNIFIED].point)
        there = set(hierarchy.read_words(f"{place}/cgroup.controllers"))
        missing = sorted({V2_NAMES[name] for name in wanted & V2_NAMES.keys()} - there)
    else:
        lines = proc.read("/proc/cgroups").decode("ascii", "replace").split("\n")
        enabled = {row.split()[0] for row in lines if row[:1] not in ("", "#")
                   and row.split()[-1] == "1"}  # fmt: skip
        missing = sorted(wanted - enabled) if enabled else []
    if missing:
        yield error("controllers that confine jobs are not switched on", ", ".join(missing), place)
    else:
        yield ok("the controllers that confine jobs are switched on")


def tops(host: Host) -> list[str]:
    """Return the directories that all of Slurm's cgroups are below, as far as they are there."""
    node, mounts = slurm_facts.place(host)[0], _mounts(host)
    if _is_v2(host):
        bases = _bases(mounts[hierarchy.UNIFIED])
        of_slice = paths.slice_of(slurm_facts.cgroup_conf(host))
        found = [f"{base}/{of_slice}/{scope}" for base in bases for scope in paths.scopes(node)]
    else:
        points = dict.fromkeys(
            mounts[name].point for name in sorted(_wanted(host)) if name in mounts
        )
        found = [next((f"{point}/{top}" for top in paths.tops(node)
                       if os.path.isdir(f"{point}/{top}")), "") for point in points]  # fmt: skip
    return [directory for directory in found if os.path.isdir(directory)]


def _bases(mount: Mount) -> list[str]:
    """Return where the slice of the scope may be: 22.05 and later releases."""
    try:
        of_init = hierarchy.of_process(1).get(hierarchy.UNIFIED, "/")
    except SetupError:
        of_init = "/"
    return list(dict.fromkeys([mount.point, mount.directory(os.path.dirname(of_init)).rstrip("/")]))


@CONFINED
def top(host: Host) -> Iterator[Seen]:
    """Whether Slurm's own cgroups are there."""
    try:
        found, v2 = (tops(host), _is_v2(host)) if slurm_facts.layout(host) else ([], False)
    except SetupError as wrong:
        yield skipped("the cgroups of this node are not known", str(wrong))
        return
    if slurm_facts.layout(host) is None:
        yield skipped("this configuration has no use for cgroups")
        return
    wanted = 1 if v2 else len({_mounts(host)[name].point for name in _wanted(host)
                               if name in _mounts(host)})  # fmt: skip
    running = _has_jobs(host)
    if len(found) >= wanted:
        what = "the scope of the stepds is" if v2 else "the cgroups of Slurm are"
        yield ok(f"{what} there")
    elif v2 and not running and not _has_slurmd(host):
        yield skipped("the scope of the stepds is made by slurmd, which does not run")
    elif v2 or running:
        where = ", ".join(found) or "none is there"
        yield error("cgroups that Slurm makes for all jobs are not there", where)
    else:
        yield skipped("the cgroups of Slurm are made with the first job; not all are there yet")


def _has_slurmd(host: Host) -> bool:
    return not host.is_root or bool(slurm_facts.slurmds(host))


def _has_jobs(host: Host) -> bool:
    try:
        return bool(slurm_facts.asked(host).answers)
    except SetupError:
        return False


@CONFINED
def top_is_slurms(host: Host) -> Iterator[Seen]:
    """Whether Slurm's own cgroups are root's, and run."""
    try:
        found = tops(host) if slurm_facts.layout(host) else []
    except SetupError as wrong:
        yield skipped("the cgroups of this node are not known", str(wrong))
        return
    if not found:
        yield skipped("no cgroup of Slurm's is there yet")
        return
    trusted = slurm_facts.conf(host).uids("SlurmdUser")
    bad = False
    for directory in found:
        if why := open_to(directory, trusted) or open_to(f"{directory}/cgroup.procs", trusted):
            bad = True
            yield error("others than root and slurmd may write to the cgroups of Slurm", why,
                        directory)  # fmt: skip
        if why := _frozen(directory):
            bad = True
            yield error("the cgroup of all jobs is frozen", why, directory)
    if not bad:
        yield ok("the cgroups of Slurm are root's, and are not frozen")


def _frozen(directory: str) -> str:
    for file, words in (("freezer.state", ("FROZEN", "FREEZING")), ("cgroup.freeze", ("1",))):
        found = hierarchy.read_words(f"{directory}/{file}")
        if found and found[0] in words:
            return f"{directory}/{file} says {found[0]}"
    return ""


CHECKS = (
    Check(
        "SA501",
        CGROUPS,
        "version of cgroups",
        version,
        expected="The cgroups that Slurm's configuration wants are mounted.",
        why="The module reads back from them that a session is in its job. What it cannot see it "
        "does not take for an adoption.",
        fix="Mount the hierarchies at boot, or correct CgroupPlugin and CgroupMountpoint in "
        "cgroup.conf.",
    ),
    Check(
        "SA502",
        CGROUPS,
        "what confines sessions",
        confining,
        expected="Sessions are confined by at least one of cpuset, memory and devices.",
        why="A session in a cgroup that confines nothing can use the whole node.",
        fix="Set ProctrackType=proctrack/cgroup and TaskPlugin=task/cgroup in slurm.conf. Set "
        "ConstrainCores, ConstrainRAMSpace and ConstrainDevices=yes in cgroup.conf.",
    ),
    Check(
        "SA503",
        CGROUPS,
        "controllers",
        controllers,
        expected="The kernel has the controllers that Slurm's configuration wants. With cgroup v2 "
        "the scope of the stepds has them, too.",
        why="Without its controller a limit is not kept. Slurm may not start a job.",
        fix="Take cgroup_disable= off the kernel's command line. Some kernels want "
        "cgroup_enable=memory. Where only the scope lacks them restart slurmd, or set "
        "EnableControllers=yes in cgroup.conf.",
    ),
    Check(
        "SA504",
        CGROUPS,
        "Slurm's own cgroups",
        top,
        expected="The cgroup that holds those of all jobs is there wherever Slurm confines jobs.",
        why="Without it slurmd can start no job, and jobs that run cannot take a session.",
        fix="Restart slurmd; with cgroup v2 look at slurmstepd.scope with systemctl status.",
        seconds=deadlines.SLOW,
    ),
    Check(
        "SA505",
        CGROUPS,
        "who has Slurm's cgroups",
        top_is_slurms,
        expected="The cgroups that hold those of all jobs belong to root, and are not frozen.",
        why="Who can write to them can leave a job, or stop all of them.",
        fix="Find out who has changed the cgroup. Write THAWED to freezer.state, or 0 to "
        "cgroup.freeze, and run chown root on what is named.",
    ),
)
