"""What the running sshd may do and see: the module runs in it, and has no other rights."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.machine import processes
from slurm_adopt.cli.checks.machine import selinux as policy
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.fronts import is_exec
from slurm_adopt.slurm import proc
from slurm_adopt.slurm.cgroup import paths
from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.cli.checks.machine.processes import Process

HOST = "sshd process"
FILES = 1024  # descriptors: one for each extern step that is asked, and sshd's own
FILE_SIZE = 1 << 20
ADDRESSES = 1 << 30

# fmt: off
CAPABILITIES = {  # linux/capability.h: number, and what the module does with it
    "CAP_KILL":       (5,  "to end a login that its job has stopped"),
    "CAP_SYS_PTRACE": (19, "to see which program a process of root's runs"),
    "CAP_SYS_ADMIN":  (21, "to enter the namespaces of a job"),
}
# fmt: on


def _sshd(host: Host) -> Process | None:
    """Return the sshd that takes connections; the first of several."""
    return next(iter(processes.sshds(host)), None)


NONE = "no sshd waits for connections: a socket unit may start it for each"
NOT_ROOT = "only root sees what sshd may do"


def limits(host: Host) -> Iterator[Seen]:
    """Whether the running sshd has resource limits that are low."""
    sshd = _sshd(host)
    if sshd is None:
        yield skipped(NONE)
        return
    text = proc.read(f"/proc/{sshd.pid}/limits").decode("ascii", "replace")
    low = [
        f"{name} {value}"
        for name, least in (
            ("Max open files", FILES),
            ("Max file size", FILE_SIZE),
            ("Max address space", ADDRESSES),
        )
        if (value := soft_limit(text, name)) is not None and value < least
    ]
    if not text:
        yield skipped("the limits of sshd cannot be read")
    elif low:
        yield warning("sshd runs with limits that are low", ", ".join(low))
    else:
        yield ok("sshd's own limits are high enough")


def soft_limit(text: str, name: str) -> int | None:
    """Return a soft limit of /proc/PID/limits; None where there is none."""
    for line in text.splitlines():
        if line.startswith(name):
            words = line[len(name) :].split()
            return number(words[0]) if words else None
    return None


def capabilities(host: Host) -> Iterator[Seen]:
    """Which capabilities the running sshd lacks."""
    sshd = _sshd(host)
    status = proc.status(f"/proc/{sshd.pid}/status") if sshd else {}
    if not status:
        yield skipped(NONE)
        return
    missing = lacking(status.get("CapEff", ""))
    modules = {is_exec(line) for line in host.all_our_lines()}
    if "CAP_SYS_ADMIN" in missing and (
        not host.options.on("join_container") or modules == {True}  # pam_exec enters none
    ):
        missing.remove("CAP_SYS_ADMIN")
    if missing:
        found = "; ".join(f"{name}: {CAPABILITIES[name][1]}" for name in missing)
        yield warning(f"sshd runs without {', '.join(missing)}", found)
    else:
        yield ok("sshd has the capabilities that the module uses")


def lacking(bits: str) -> list[str]:
    """Return the capabilities of the table that a CapEff does not have."""
    try:
        given = int(bits, 16)
    except ValueError:
        return []
    return [name for name, (number, _) in CAPABILITIES.items() if not given >> number & 1]


def view(host: Host) -> Iterator[Seen]:
    """Whether sshd sees cgroups, /run and the spool directory as this host has them."""
    sshd = _sshd(host)
    if sshd is None:
        yield skipped(NONE)
        return
    if not host.is_root:
        yield skipped(NOT_ROOT)
        return
    mounts = proc.read(f"/proc/{sshd.pid}/mountinfo").decode("utf-8", "replace")
    here = read_only(proc.read("/proc/self/mountinfo").decode("utf-8", "replace"))
    wrong = [
        error(f"sshd sees {point} read-only", "this command does not", point)
        for point in read_only(mounts)
        if point not in here
    ]
    wrong += _without_spool(host, sshd) + _elsewhere(host, sshd)
    yield from wrong or [ok("sshd sees cgroups, /run and Slurm's files as this host has them")]


def read_only(mountinfo: str) -> list[str]:
    """Return which of the mounts that the module writes to are read-only."""
    found = {}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        separator = fields.index("-") if "-" in fields else 0
        if not 6 <= separator < len(fields) - 1:
            continue
        point, options, kind = fields[4], fields[5].split(","), fields[separator + 1]
        if kind in ("cgroup", "cgroup2") or point == "/run":
            found[point] = "ro" in options  # the last of several counts
    return [point for point, is_read_only in found.items() if is_read_only]


def _without_spool(host: Host, sshd: Process) -> list[Seen]:
    try:
        spool = host.site.spool
    except SetupError:
        return []
    if os.path.isdir(spool) and not os.path.isdir(f"/proc/{sshd.pid}/root{spool}"):
        return [error("sshd does not see the spool directory of slurmd", spool, spool)]
    return []


def _elsewhere(host: Host, sshd: Process) -> list[Seen]:
    """Return a finding where slurmd is in another PID namespace."""
    slurmd = processes.anywhere(host, ("slurmd", "slurmd-wlm"))
    mine = proc.link(f"/proc/{sshd.pid}/ns/pid")
    theirs = {proc.link(f"/proc/{one.pid}/ns/pid") for one in slurmd} - {""}
    if not mine or not theirs or mine in theirs:
        return []
    return [error("sshd and slurmd are in different PID namespaces")]


def selinux(host: Host) -> Iterator[Seen]:
    """Whether SELinux refuses sshd what the module does."""
    enforcing = policy.enforcing()
    sshd = _sshd(host)
    if enforcing is None:
        yield ok("SELinux is off")
    elif not enforcing:
        yield ok("SELinux is permissive: it refuses nothing")
    elif sshd is None:
        yield skipped(NONE)
    elif context := policy.context_of(sshd.pid):
        yield _confined(host, context)
    else:
        yield skipped(NOT_ROOT)


def _confined(host: Host, context: str) -> Seen:
    kind = domain(context)
    try:
        refused = policy.refused(context, list(policy.wanted(host, context)))
    except (OSError, ValueError, IndexError) as wrong:
        return skipped(f"what SELinux allows sshd ({kind}) cannot be asked", str(wrong))
    if refused:
        return warning(f"SELinux refuses sshd ({kind}) what the module does", "; ".join(refused))
    return ok(f"SELinux allows sshd ({kind}) what the module does")


def domain(context: str) -> str:
    """Return the type in a context `user:role:type:range`."""
    fields = context.split(":")
    return fields[2] if len(fields) > 2 else ""


def apparmor(host: Host) -> Iterator[Seen]:
    """Whether a profile of AppArmor confines sshd."""
    if proc.read("/sys/module/apparmor/parameters/enabled").strip() != b"Y":
        yield ok("AppArmor is off")
        return
    sshd = _sshd(host)
    if sshd is None:
        yield skipped(NONE)
        return
    label = ""
    for name in ("attr/apparmor/current", "attr/current"):
        label = label or proc.read(f"/proc/{sshd.pid}/{name}").decode("utf-8", "replace")
    label = label.strip("\0\n ")
    yield profile(label)


def profile(label: str) -> Seen:
    """Return what is said of a process with this label of AppArmor's."""
    if not label:
        return skipped(NOT_ROOT)
    if label == "unconfined" or label.endswith(("(complain)", "(unconfined)")):
        return ok(f"AppArmor refuses sshd nothing ({label})")
    return warning(f"AppArmor confines sshd: {label}")


CHECKS = (
    Check(
        "SA821",
        HOST,
        "sshd's resource limits",
        limits,
        expected=f"The sshd may have {FILES} open files, files of 1 MiB, and 1 GiB of addresses.",
        why="The module runs in sshd. It has one connection to each extern step of the node at "
        "the same time, and Python needs memory.",
        fix="Raise LimitNOFILE=, LimitFSIZE= or LimitAS= of sshd's unit, then restart sshd.",
        seconds=SLOW,
    ),
    Check(
        "SA822",
        HOST,
        "sshd's capabilities",
        capabilities,
        expected=f"The sshd has {', '.join(CAPABILITIES)}.",
        why="The module has the rights of sshd. Without one of these an adoption fails, or the "
        "session does not get all that belongs to its job.",
        fix="Give sshd these capabilities: see CapabilityBoundingSet= of its unit, or the options "
        "of the container that it runs in. CAP_SYS_ADMIN is not needed with join_container=false.",
        seconds=SLOW,
    ),
    Check(
        "SA823",
        HOST,
        "sshd sees what Slurm has here",
        view,
        expected=f"In sshd's mounts {paths.MOUNTPOINT} and /run can be written to, and slurmd's "
        "spool directory is there. Its PID namespace is that of slurmd.",
        why="The module asks stepds by sockets in the spool directory, and writes what a stepd "
        "leaves out into the cgroups of the job. What sshd does not see cannot be used.",
        fix="Look at ProtectControlGroups=, ReadOnlyPaths=, InaccessiblePaths= and "
        "TemporaryFileSystem= of sshd's unit, or at the volumes of its container. Then restart "
        "sshd.",
        seconds=SLOW,
    ),
    Check(
        "SA824",
        HOST,
        "SELinux allows what the module does",
        selinux,
        expected="SELinux is off or permissive, or its policy allows sshd what the module does.",
        why="No distribution's policy knows this module. Where it refuses sshd something, users "
        "are refused, or let in by action_adopt_failure=allow.",
        fix="Install the policy module: docs/how-to/selinux.md. If it is installed, ausearch -m "
        "avc -ts recent shows what is missing.",
        seconds=SLOW,
    ),
    Check(
        "SA825",
        HOST,
        "AppArmor leaves sshd alone",
        apparmor,
        expected="There is no profile for sshd, or it is in complain mode.",
        why="Where a profile refuses sshd something, users are refused, or let in by "
        "action_adopt_failure=allow.",
        fix="Allow in the profile what docs/how-to/selinux.md lists for SELinux, or set it to "
        "complain: aa-complain sshd.",
        seconds=SLOW,
    ),
)
