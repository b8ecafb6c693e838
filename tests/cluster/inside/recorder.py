"""A module for pam_python: what sshd's process is like right before and right after a line.

    PHASE optional pam_python.so /checkout/tests/cluster/inside/recorder.py before
    ... the line ...
    PHASE optional pam_python.so /checkout/tests/cluster/inside/recorder.py after

The second of the two adds a line to FILE: a Python literal with the phase and both records. Each is
a dictionary of text. What pam_python itself does to a process, and ctypes, is done before the first
record. `damage NAME` does one thing to the process that a module must not do.
"""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILE = "/run/recorded"
LINE = "recorder: a line of syslog(3)"  # as sshd's state of it makes it
CATEGORIES = range(13)  # LC_CTYPE to LC_IDENTIFICATION, <bits/locale.h>
SIGNALS = range(1, 65)
STATUS = (
    "Name", "Umask", "Uid", "Gid", "Groups", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn",
    "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
    "TracerPid", "Cpus_allowed_list", "Mems_allowed_list", "VmLck", "NSpid", "NSpgid", "NSsid",
)  # fmt: skip
FILES = (
    "cgroup", "limits", "oom_score_adj", "personality", "timers", "timerslack_ns", "comm",
    "coredump_filter", "autogroup", "loginuid", "sessionid", "uid_map", "gid_map", "setgroups",
    "mountinfo", "attr/current", "attr/exec", "attr/fscreate", "cmdline",
)  # fmt: skip
LINKS = ("cwd", "exe")
NAMESPACES = sorted(os.listdir("/proc/self/ns"))
TIMERS = range(3)  # ITIMER_REAL to ITIMER_PROF, <sys/time.h>
# prctl(2)'s that return something, <linux/prctl.h>
PRCTL = {"dumpable": 3, "keepcaps": 7, "securebits": 27, "timer slack": 30, "no_new_privs": 39,
         "THP disabled": 42, "timing": 13, "machine check": 34}  # fmt: skip
PRCTL_INTO = {"death signal": 2, "child subreaper": 37}
STAT = {"state": 2, "parent": 3, "process group": 4, "session": 5, "terminal": 6, "tpgid": 7,
        "flags": 8, "nice": 18, "real-time priority": 39, "scheduling policy": 40}  # fmt: skip
KEYRINGS = {"thread": -1, "process": -2, "session": -3, "user": -4, "user session": -5}
# <asm/unistd.h>: ioprio_get, keyctl
NUMBERS = {"x86_64": (252, 250), "aarch64": (31, 219)}
TOLERANCE = 2.0  # seconds between two looks at a clock
IGNORED, SIGCHLD = 1, 17  # <bits/signum-generic.h>

ioprio_get, keyctl = NUMBERS[os.uname().machine]
libc = ctypes.CDLL(None)
libc.setlocale.restype = ctypes.c_char_p
libc.getpwnam.restype = libc.getgrnam.restype = libc.localtime.restype = ctypes.c_void_p
libc.__fbufsize.restype = libc.__fpending.restype = ctypes.c_size_t
MEMORY: dict[str, Any] = {}


def pam_sm_acct_mgmt(pamh: Any, _: int, argv: list[str]) -> int:
    """Record in the account phase."""
    return _answer("account", pamh, argv[1:])


def pam_sm_open_session(pamh: Any, _: int, argv: list[str]) -> int:
    """Record in the session phase."""
    return _answer("session", pamh, argv[1:])


def pam_sm_close_session(pamh: Any, *_: Any) -> int:
    """Do nothing."""
    return int(pamh.PAM_IGNORE)


def _answer(phase: str, pamh: Any, argv: list[str]) -> int:
    what = argv[0]
    if what == "damage":
        DAMAGES[" ".join(argv[1:])](pamh)
    elif what == "before":
        _use_static_buffers()
        MEMORY.pop("modules", None)
        for number in TIMERS:
            MEMORY.pop(f"timer {number}", None)
        MEMORY["before"] = record(pamh)
    else:
        found = phase, MEMORY.pop("before"), record(pamh)
        with open(FILE, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{found!r}\n")
    return int(pamh.PAM_IGNORE)


def record(pamh: Any) -> dict[str, str]:
    """Return all that is known of this process, in text."""
    libc.syslog(5, b"%s", LINE.encode())  # at first: it connects
    parts = (_of_libc(), _of_kernel(), _of_proc(), _of_python(pamh))
    return {name: f"{value}" for found in parts for name, value in found.items()}


def _of_libc() -> dict[str, object]:
    names = (ctypes.c_char_p * 2).in_dll(libc, "tzname")
    zone = ctypes.c_long.in_dll(libc, "timezone").value
    return {
        "static buffers": _static_buffers(),
        "environment": _environment(),
        "syslog mask": libc.setlogmask(0),
        "time zone": [*names, zone, ctypes.c_int.in_dll(libc, "daylight").value],
        **{f"locale {number}": libc.setlocale(number, None) for number in CATEGORIES},
        **{name: _stream(name) for name in ("stdin", "stdout", "stderr")},
    }


def _of_kernel() -> dict[str, object]:
    """Return what system calls say."""
    stack = ctypes.create_string_buffer(24)
    libc.sigaltstack(None, stack)
    return {
        "signal stack": stack.raw.hex(),
        "I/O priority": libc.syscall(ioprio_get, 1, 0),
        **{f"signal {number}": _action(number) for number in SIGNALS},
        **{f"timer {number}": _interval(number) for number in TIMERS},
        **{name: libc.prctl(number, 0, 0, 0, 0) for name, number in PRCTL.items()},
        **{name: _prctl_into(number) for name, number in PRCTL_INTO.items()},
        **{f"{name} keyring": libc.syscall(keyctl, 0, at, 0) for name, at in KEYRINGS.items()},
    }


def _of_proc() -> dict[str, object]:
    status = dict(line.split(":", 1) for line in _read("status").splitlines())
    stat = _read("stat").rpartition(")")[2].split()
    tasks = os.listdir("/proc/self/task")
    root = os.stat("/")
    return {
        "children": sorted(
            child for task in tasks for child in _read(f"task/{task}/children").split()
        ),
        "threads": sorted(tasks),
        "descriptors": _descriptors(),
        "shared objects": _shared_objects(),
        "root": (root.st_dev, root.st_ino),
        **{name: status[name].strip() for name in STATUS if name in status},
        **{name: stat[place - 2] for name, place in STAT.items()},
        **{name: _read(name) for name in FILES},
        **{name: os.readlink(f"/proc/self/{name}") for name in LINKS},
        **{f"namespace {kind}": os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES},
    }


def _of_python(pamh: Any) -> dict[str, object]:
    items = ("service", "user", "tty", "rhost", "ruser")
    return {
        "PAM environment": sorted(pamh.env.items()),
        "PAM items": [getattr(pamh, name) for name in items],
        "interpreter": _interpreter(),
        "others' modules": _others_modules(),
    }


def _read(name: str) -> str:
    try:
        with open(f"/proc/self/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        return f"{error.strerror}"


def _prctl_into(number: int) -> int:
    value = ctypes.c_int(-1)
    libc.prctl(number, ctypes.byref(value), 0, 0, 0)
    return value.value


def _action(number: int) -> tuple[int, ...]:
    """Return a signal's handler, with mask and flags as far as these count.

    Python's own signal(2) gives SIGINT its default back with other ones: they mean nothing then
    (sigaction(2)), but for what SIGCHLD has of them. libc has room for a longer mask than the
    kernel has, and fills it with what is on the stack.
    """
    buffer = ctypes.create_string_buffer(152)
    libc.sigaction(number, None, buffer)
    handler, mask, flags = struct.unpack("<QQ120xI", buffer.raw[:140])
    return (handler, mask, flags) if handler > IGNORED or number == SIGCHLD else (handler,)


def _interval(number: int) -> list[object]:
    """Return what a timer of setitimer(2) has: sshd's own ends LoginGraceTime.

    Whether it repeats, whether it runs, and whether it ends when it did in the first record.
    """
    values = (ctypes.c_long * 4)()
    libc.getitimer(number, values)
    end = time.monotonic() + values[2] + values[3] / 1e6
    moved = abs(end - MEMORY.setdefault(f"timer {number}", end)) > TOLERANCE
    return [any(values[:2]), any(values[2:]), any(values[2:]) and moved]


def _use_static_buffers() -> None:
    """Have answers in the buffers that libc has one of for each process, as sshd may."""
    seconds = ctypes.c_long(0)
    MEMORY["buffers"] = (
        libc.getpwnam(b"daemon"),
        libc.getgrnam(b"daemon"),
        libc.localtime(ctypes.byref(seconds)),
    )


def _static_buffers() -> list[object]:
    password, group, moment = MEMORY["buffers"]
    first = [ctypes.cast(at, ctypes.POINTER(ctypes.c_char_p))[0] for at in (password, group)]
    return [*first, ctypes.string_at(moment, 36).hex()]


def _environment() -> list[bytes]:
    """Return environ(7), which is not Python's os.environ."""
    strings = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
    found: list[bytes] = []
    while strings and (string := strings[len(found)]) is not None:
        found.append(string)
    return found


def _descriptors() -> list[tuple[int, str, str]]:
    """Return number, kind, and what fdinfo has: flags, offset, locks."""
    found = []
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            link = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # that of the listing itself
            continue
        found.append((number, link, _read(f"fdinfo/{number}")))
    return found


def _shared_objects() -> list[str]:
    lines = (line.split(None, 5) for line in _read("maps").splitlines())
    return sorted({line[5].strip() for line in lines if len(line) == 6 and line[5][0] == "/"})


def _stream(name: str) -> list[int]:
    stream = ctypes.c_void_p.in_dll(libc, name)
    functions = (
        libc.fileno, libc.feof, libc.ferror, libc.__fbufsize, libc.__fpending, libc.__flbf,
    )  # fmt: skip
    return [function(stream) for function in functions]


def _interpreter() -> list[object]:
    """Return what the modules of pam_python in one process share."""
    atexit = sys.modules.get("atexit")
    socket: Any = sys.modules.get("_socket")
    warnings: Any = sys.modules.get("warnings")
    return [
        sys.path, sys.meta_path, sys.path_hooks, sys.argv, sys.getrecursionlimit(),
        sys.getswitchinterval(), sys.dont_write_bytecode, sys.excepthook, sys.unraisablehook,
        sys.displayhook, sys.stdin, sys.stdout, sys.stderr, sys.gettrace(), sys.getprofile(),
        sys.exc_info(), sorted(os.environ.items()), gc.isenabled(), gc.get_threshold(),
        gc.callbacks, gc.get_freeze_count(), sorted(vars(sys.modules["builtins"])),
        atexit and atexit._ncallbacks(),
        socket and socket.getdefaulttimeout(), warnings and warnings.filters,
    ]  # fmt: skip


def _others_modules() -> list[str]:
    """Return which of the modules that were there at the first record are gone or replaced."""
    now = {name: id(module) for name, module in sys.modules.items()}
    if not MEMORY.get("modules"):
        MEMORY["modules"] = now
    before: dict[str, int] = MEMORY["modules"]
    return sorted(name for name, number in before.items() if now.get(name) != number)


# What a module must not do: the name of what is seen then, in a record -> how it is done


def _python_s_signals(_: Any) -> None:
    import signal  # noqa: F401 - it takes SIGINT


def _limit(_: Any) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _prctl(number: int, *values: Any) -> Callable[[Any], object]:
    return lambda _: libc.prctl(number, *values)


def _thread(_: Any) -> None:
    import _thread

    lock = _thread.allocate_lock()
    lock.acquire()
    _thread.start_new_thread(lock.acquire, ())
    while len(os.listdir("/proc/self/task")) < 2:
        pass


def _child(_: Any) -> None:
    if not os.fork():
        os._exit(0)


def _variable(pamh: Any) -> None:
    pamh.env["LEFT"] = "1"


def _score(_: Any) -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")


def _root(_: Any) -> None:
    os.chroot("/mnt")  # in which the test has mounted /proc and /run


IN_LOG = "syslog"  # shows in the log alone
IDENT = ctypes.create_string_buffer(b"left")  # openlog(3) keeps the pointer
DAMAGES: dict[str, Callable[[Any], object]] = {
    IN_LOG: lambda _: libc.openlog(IDENT, 0, 10 << 3),  # LOG_AUTHPRIV
    "Cpus_allowed_list": lambda _: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "Gid": lambda _: libc.setfsgid(4242),
    "Groups": lambda _: os.setgroups([0, 4242]),
    "I/O priority": lambda _: libc.syscall(ioprio_get - 1, 1, 0, 3 << 13),  # idle
    "NoNewPrivs": _prctl(38, 1, 0, 0, 0),
    "PAM environment": _variable,
    "SigBlk": lambda _: libc.sigprocmask(0, (ctypes.c_ulong * 16)(1 << 9), None),
    "SigCgt": _python_s_signals,
    "SigIgn": lambda _: libc.signal(12, 1),
    "Uid": lambda _: os.setresuid(-1, -1, 1),
    "Umask": lambda _: os.umask(0o27),
    "VmLck": lambda _: libc.mlock(IDENT, 4),
    "child subreaper": _prctl(36, 1, 0, 0, 0),
    "children": _child,
    "comm": _prctl(15, b"left"),
    "cwd": lambda _: os.chdir("/usr"),
    "death signal": _prctl(1, 10),
    "descriptors": lambda _: os.open("/etc/passwd", os.O_RDONLY),
    "dumpable": lambda _: libc.prctl(4, 1 - libc.prctl(3, 0, 0, 0, 0), 0, 0, 0),
    "environment": lambda _: os.putenv("LEFT", "1"),
    "interpreter": lambda _: sys.path.append("/left"),
    "limits": _limit,
    "locale 1": lambda _: libc.setlocale(1, b"C.UTF-8"),
    "namespace uts": lambda _: libc.unshare(0x04000000),  # CLONE_NEWUTS
    "nice": lambda _: os.nice(1),
    "oom_score_adj": _score,
    "others' modules": lambda _: sys.modules.pop("_struct"),
    "personality": lambda _: libc.personality(0x0040000),  # ADDR_NO_RANDOMIZE
    "scheduling policy": lambda _: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
    "securebits": _prctl(28, 1 << 5, 0, 0, 0),
    "session keyring": lambda _: libc.syscall(keyctl, 1, None),
    "shared objects": lambda _: __import__("_zoneinfo"),
    "signal 10": lambda _: libc.signal(10, libc.abs),
    "static buffers": lambda _: libc.getpwnam(b"root"),
    "stdout": lambda _: libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, 2, 0),
    "syslog mask": lambda _: libc.setlogmask(0x7F),
    "threads": _thread,
    "timer 0": lambda _: libc.alarm(1000),  # instead of LoginGraceTime's
    "timer slack": _prctl(29, 70000, 0, 0, 0),
    "root": _root,
}
