"""This host: what the kernel gives, the clock, and what keeps users out."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks import places
from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.decision.options import parse
from slurm_adopt.slurm import proc

from . import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.node.pam_files import Line

HOST = "host"
SYSTEMD = "/run/systemd/system"  # there where PID 1 is systemd: sd_booted(3)
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
TIME_ERROR = 5  # sys/timex.h: the clock is not synchronised
# Programs that keep a clock, as the kernel cuts their names at 15 characters.
TIME_SERVICES = frozenset(
    {"chronyd", "ntpd", "ntpd-rs", "ptp4l", "phc2sys", "systemd-timesyn", "systemd-timesyncd",
     "vmtoolsd", "VBoxService"}
)  # fmt: skip
NOLOGIN_ASKER = "pam_nologin.so"
NOLOGIN = ("/etc/nologin", "/run/nologin")  # pam_nologin(8)


def in_container() -> bool:
    """Say whether this process is in a PID namespace of its own."""
    return proc.link("/proc/self/ns/pid") not in ("", INITIAL_PID_NAMESPACE)


def kernel(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Which kernel, and whether it lends descriptors of processes."""
    release = os.uname().release
    if _has_pidfds():
        yield ok(f"Linux {release} has descriptors of processes (pidfd)")
    else:
        yield skipped(
            f"Linux {release} has no descriptors of processes (pidfd)",
            "A pid that is used again between two looks cannot be told. Linux 5.3 and later can.",
        )


def _has_pidfds() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def proc_mount(host: Host) -> Iterator[Seen]:
    """How /proc is mounted."""
    options = proc_options(proc.read("/proc/self/mountinfo").decode("utf-8", "replace"))
    if options is None:
        yield error("/proc is not mounted")
        return
    hidden = [word for word in options if word.startswith("hidepid=")]
    if "subset=pid" in options:
        yield error("/proc has processes only: it is mounted with subset=pid", file="/proc")
    elif hidden and hidden[0] not in ("hidepid=0", "hidepid=off") and not host.is_root:
        yield skipped(f"/proc hides processes of others from users ({hidden[0]})")
    elif hidden:
        yield ok(f"/proc shows root all processes; users see their own ({hidden[0]})")
    else:
        yield ok("/proc is mounted whole")


def proc_options(mountinfo: str) -> list[str] | None:
    """Return the options of the last mount at /proc; None where there is none."""
    found = None
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 6 and fields[4] == "/proc" and "-" in fields:
            found = [*fields[5].split(","), *fields[-1].split(",")]
    return found


class _Timex(ctypes.Structure):
    """The beginning of struct timex; the kernel writes 208 bytes at most."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def _adjtimex() -> int:
    """Return the state of the kernel's clock; -1 if it says none."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.byref(_Timex())))
    except (OSError, AttributeError):
        return -1


def clock(host: Host) -> Iterator[Seen]:
    """Whether the kernel says that the clock is synchronised."""
    if in_container():
        yield skipped("the clock is not this container's to keep")
        return
    answer = _adjtimex()
    keeper = sorted({one.program for one in processes.of(host)} & TIME_SERVICES)
    if answer == TIME_ERROR and not keeper and is_guest(proc.read("/proc/cpuinfo")):
        yield skipped("no time service runs; the hypervisor may keep this guest's clock")
    elif answer == TIME_ERROR:
        found = f"{', '.join(keeper)} runs" if keeper else "no known time service runs"
        yield warning("the clock is not synchronised", found)
    elif answer < 0:
        yield skipped("the kernel says nothing of the clock")
    else:
        yield ok("the clock is synchronised")


def is_guest(cpuinfo: bytes) -> bool:
    """Say whether a CPU has the flag of a virtual one."""
    flags = (line for line in cpuinfo.split(b"\n") if line.startswith(b"flags"))
    return b"hypervisor" in next(flags, b"").split()


def nologin(host: Host) -> Iterator[Seen]:
    """Whether a file keeps all users but root out."""
    there = [path for path in NOLOGIN if os.path.exists(path)]
    asks = [line for phase in ("auth", "account") for line in _lines_of(host, phase, NOLOGIN_ASKER)]
    if not there:
        yield ok("no nologin file keeps users out")
    elif not asks:
        yield ok(f"{there[0]} is there, and {host.service} does not ask pam_nologin")
    else:
        file, number = places.pam_line(asks[0])
        yield warning(
            f"{there[0]} keeps every user out but root",
            f"{file}:{number} asks pam_nologin",
            there[0],
        )


def _lines_of(host: Host, phase: str, module: str) -> list[Line]:
    """Return the lines of a stack that ask a module."""
    return [one for one in host.stack(phase).lines if os.path.basename(one.module) == module]


def shared_memory(host: Host) -> Iterator[Seen]:
    """Whether logind removes what a user's jobs share in memory."""
    lines = _lines_of(host, "session", "pam_systemd.so")
    if not os.path.isdir(SYSTEMD) or not lines:
        yield ok("no login of users' is a session of logind's")
        return
    given = places.settings(places.drop_ins("logind.conf", places.SYSTEMD), "Login")
    usual = ("no" if _is_rhel() else "yes", *places.pam_line(lines[0]))
    value, file, number = given.get("RemoveIPC", usual)
    if value.lower() in ("no", "false", "off", "0", "n", "f"):
        yield ok("logind leaves users' shared memory alone")
    else:
        title = "logind removes the shared memory of a user's jobs at logout"
        yield warning(title, f"RemoveIPC={value}", file, number)


def _is_rhel() -> bool:
    """Say whether this is RHEL or of its kin, where RemoveIPC is `no` by default."""
    given = dict(line.partition("=")[::2] for _, line in places.lines("/etc/os-release"))
    names = f"{given.get('ID', '')} {given.get('ID_LIKE', '')}".replace('"', "").split()
    return "rhel" in names


def runtime_dir(host: Host) -> Iterator[Seen]:
    """Whether XDG_RUNTIME_DIR is set by two modules."""
    makes = any(parse(line.ours or [])[0].on("runtime_dir") for line in host.our_lines("session"))
    others = _lines_of(host, "session", "pam_systemd.so")
    if makes and others:
        file, number = places.pam_line(others[0])
        title = "two modules set XDG_RUNTIME_DIR: pam_systemd, and ours with runtime_dir=job"
        yield warning(title, "the line that comes last wins", file, number)
    elif makes:
        yield ok("runtime_dir=job alone sets XDG_RUNTIME_DIR")
    elif others:
        yield ok("pam_systemd alone sets XDG_RUNTIME_DIR")
    else:
        yield ok("no known module sets XDG_RUNTIME_DIR")


CHECKS = (
    Check(
        "SA801",
        HOST,
        "the kernel",
        kernel,
        expected="Linux is 5.3 or later.",
        why="The module tells processes by descriptors. On older kernels it compares start times, "
        "which is less certain.",
        fix="Nothing has to be done. A kernel of 5.6 or later is better.",
    ),
    Check(
        "SA802",
        HOST,
        "/proc is mounted whole",
        proc_mount,
        expected="/proc is mounted, without subset=pid.",
        why="The module proves each adoption by /proc, and finds hierarchies and sockets there.",
        fix="Take subset=pid out of the line for /proc in /etc/fstab, and reboot.",
    ),
    Check(
        "SA806",
        HOST,
        "the clock is kept",
        clock,
        expected="A time service keeps the clock.",
        why="Slurm's credentials carry the time. Hosts whose clocks are minutes apart refuse each "
        "other's, so callerid gets no answer and jobs do not start.",
        fix="Install chrony or systemd-timesyncd, and see that it reaches its servers.",
        seconds=SLOW,
    ),
    Check(
        "SA807",
        HOST,
        "no nologin file",
        nologin,
        expected="Neither /etc/nologin nor /run/nologin is there.",
        why="With pam_nologin every user but root is refused while the file is there, job or not. "
        "systemd makes /run/nologin at boot and removes it when the boot is done.",
        fix="Remove the file when users are to come in again. If it comes back, look why the boot "
        "does not end: systemctl is-system-running.",
    ),
    Check(
        "SA808",
        HOST,
        "one module sets XDG_RUNTIME_DIR",
        runtime_dir,
        expected="Either pam_systemd is in the session stack, or runtime_dir=job is set.",
        why="Both set XDG_RUNTIME_DIR. Where pam_systemd comes last, sessions do not have the "
        "directory of their job, and it lies there unused.",
        fix="Use one or the other: see docs/how-to/runtime-directory.md.",
    ),
    Check(
        "SA809",
        HOST,
        "shared memory stays at logout",
        shared_memory,
        expected="There is no pam_systemd in the session stack, or logind.conf has RemoveIPC=no.",
        why="When the last of a user's sessions ends, logind removes all that the user has in "
        "/dev/shm, and shared memory and semaphores of System V. Jobs are no sessions: what their "
        "processes share is removed while they run.",
        fix="Set RemoveIPC=no in /etc/systemd/logind.conf, then: systemctl restart systemd-logind.",
    ),
)
