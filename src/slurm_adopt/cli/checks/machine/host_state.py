"""This host: what the kernel gives, /run, the clock, and what keeps users out."""

from __future__ import annotations

import ctypes
import fnmatch
import os
import stat
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
RUN = "/run"
SYSTEMD = "/run/systemd/system"  # there where PID 1 is systemd: sd_booted(3)
FREE = 1 << 20  # bytes that /run has to have left
NAME = "/run/slurm_adopt"
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
TIME_ERROR = 5  # sys/timex.h: the clock is not synchronised
# Programs that keep a clock, as the kernel cuts their names at 15 characters.
TIME_SERVICES = frozenset(
    {"chronyd", "ntpd", "ntpd-rs", "ptp4l", "phc2sys", "systemd-timesyn", "systemd-timesyncd",
     "vmtoolsd", "VBoxService"}
)  # fmt: skip
NOLOGIN_ASKER = "pam_nologin.so"
NOLOGIN = ("/etc/nologin", "/run/nologin")  # pam_nologin(8)
TMPREAPER = "/etc/tmpreaper.conf"
TMPFILES = (
    "/etc/tmpfiles.d",
    "/run/tmpfiles.d",
    "/usr/local/lib/tmpfiles.d",
    "/usr/lib/tmpfiles.d",
)

# What each directory of ours must not allow others (adoption_note.py, runtime_dir.py,
# user_choice.py).
CHOICES = f"{NAME}/choices"
FORBIDDEN = {NAME: 0o022, f"{NAME}/adoptions": 0o077, f"{NAME}/runtime": 0o022, CHOICES: 0o022}


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


def run(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Whether /run can be written to."""
    try:
        found = os.statvfs(RUN)
        mode = os.stat(RUN)
    except OSError as wrong:
        yield error(f"{RUN} cannot be looked at", str(wrong), RUN)
        return
    if found.f_flag & os.ST_RDONLY:
        yield error(f"{RUN} is mounted read-only", file=RUN)
    elif mode.st_uid or mode.st_mode & 0o022:
        yield error(
            f"{RUN} is not root's alone",
            f"owner {mode.st_uid}, mode {stat.S_IMODE(mode.st_mode):04o}",
            RUN,
        )
    elif found.f_bavail * found.f_frsize < FREE:
        yield warning(f"{RUN} is full", f"{found.f_bavail * found.f_frsize} bytes are left", RUN)
    elif found.f_files and not found.f_favail:
        yield warning(f"{RUN} is full", "no inode is left", RUN)
    else:
        yield ok(f"{RUN} is root's, writable, and has space left")


def own_directories(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Owner and mode of the directories below /run/slurm_adopt."""
    there = [path for path in FORBIDDEN if os.path.lexists(path)]
    if not there:
        yield ok(f"{NAME} is not there yet: the first login that needs it makes it")
        return
    wrong = [seen for path in there for seen in _unfit(path)]
    if not wrong:
        wrong = list(_squatted(CHOICES))
    yield from wrong or [ok(f"{NAME} is root's, and nobody else can write there")]


def _unfit(path: str) -> Iterator[Seen]:
    found = os.lstat(path)
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield error(f"{path} is not a directory", file=path)
    elif found.st_uid:
        yield error(f"{path} does not belong to root", f"owner {found.st_uid}", path)
    elif mode & FORBIDDEN[path]:
        yield error(f"{path} is open to others", f"mode {mode:04o}", path)


def _squatted(choices: str) -> Iterator[Seen]:
    """Say where there is something else than the link of a user's choice (user_choice.py)."""
    for name in sorted(proc.listing(choices)):  # root sees the names
        path = f"{choices}/{name}"
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISLNK(found.st_mode):
            yield error(f"{path} is not the link of a user's choice", "it is no link", path)
        elif str(found.st_uid) != name:
            said = f"its owner is {found.st_uid}"
            yield error(f"{path} is not the link of a user's choice", said, path)


def cleaners(host: Host) -> Iterator[Seen]:  # noqa: ARG001
    """Whether something removes old files below /run/slurm_adopt."""
    found = []
    spared = False
    for path in _tmpfiles():
        for number, line in places.lines(path):
            spared = spared or is_spared(line)
            if rule := cleaned(line):
                title = f"systemd-tmpfiles removes what is old in {NAME}"
                found.append(warning(title, rule, path, number))
    if spared:
        found.clear()
    for number, line in places.lines(TMPREAPER):
        if line.startswith("TMPREAPER_DIRS=") and f"{RUN}/" in line:
            title = f"tmpreaper removes what is old in {RUN}"
            found.append(warning(title, line, TMPREAPER, number))
    yield from found or [ok(f"nothing removes old files in {NAME}")]


def _tmpfiles() -> list[str]:
    """Return the files of tmpfiles.d(5): of two of one name the first counts."""
    found: dict[str, str] = {}
    for folder in reversed(TMPFILES):
        found.update({n: f"{folder}/{n}" for n in proc.listing(folder) if n.endswith(".conf")})
    return [found[name] for name in sorted(found)]


def cleaned(line: str) -> str:
    """Return what a line of tmpfiles.d says if it removes what is old in our directory.

    tmpfiles.d(5): `type path mode user group age`. A type with `!` is for the boot alone.
    """
    words = line.split()
    if len(words) < 6 or words[0][0] not in "dDevqQC" or "!" in words[0]:
        return ""
    path = words[1].rstrip("/")
    covers = path in (RUN, NAME) or path.startswith(NAME + "/")
    if words[0][0] == "e":
        covers = covers or fnmatch.fnmatchcase(NAME, path)
    return " ".join(words) if covers and words[5] != "-" else ""


def is_spared(line: str) -> bool:
    """Say whether a line of tmpfiles.d keeps our directory and all in it from being cleaned."""
    words = line.split()
    return len(words) > 1 and words[0] == "x" and fnmatch.fnmatchcase(NAME, words[1])


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
        "SA803",
        HOST,
        "/run can be written to",
        run,
        expected="/run is root's, writable for root alone, and has space left.",
        why="The module notes there what one process of sshd tells another. Without the note a "
        "login by keyboard-interactive is decided twice, and runtime_dir=job makes no directory.",
        fix="Make space in /run, or mount it again as a tmpfs with mode 755.",
        seconds=SLOW,
    ),
    Check(
        "SA804",
        HOST,
        "/run/slurm_adopt",
        own_directories,
        expected="/run/slurm_adopt and what is in it are root's, and others cannot write there. "
        "adoptions has mode 0700. choices has one link for a user, which is that user's.",
        why="The module does not use a directory that others could have changed. Notes are then "
        "not kept, jobs get no runtime directory, and what users have chosen does not count.",
        fix="Look who has made or changed it. Then give it to root: mode 711 for "
        "/run/slurm_adopt, runtime and choices, 700 for adoptions. Remove what is no directory, "
        "and what is in choices and is no link of its user's.",
    ),
    Check(
        "SA805",
        HOST,
        "nothing removes old files",
        cleaners,
        expected="Nothing removes old files in /run/slurm_adopt.",
        why="A job's runtime directory holds sockets that live as long as the job. A cleaner that "
        "goes by age removes them while the job runs.",
        fix="Take the line out, or write `x /run/slurm_adopt` into a file in /etc/tmpfiles.d.",
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
