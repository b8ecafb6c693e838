"""The job's resource limits for the session: those of a process of the job, set on sshd.

They are set on the privileged sshd of the session, from which the user's sshd and shell have them:
nothing of PAM's runs in these. That sshd serves the connection has two consequences. No limit is
set below what sshd needs. And two are left alone, CPU and FSIZE: what goes beyond one of these is
ended by a signal, and that would be sshd after some gigabytes, or at its entry in wtmp.
"""

from __future__ import annotations

import os
import resource

from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import SetupError

# fmt: off
LIMITS = {
    # in /proc/PID/limits       RLIMIT_     least
    "Max data size":           ("DATA",       1 << 29),
    "Max stack size":          ("STACK",      1 << 20),
    "Max core file size":      ("CORE",       0),
    "Max resident set":        ("RSS",        0),
    "Max processes":           ("NPROC",      0),
    "Max open files":          ("NOFILE",     256),
    "Max locked memory":       ("MEMLOCK",    0),
    "Max address space":       ("AS",         1 << 29),
    "Max pending signals":     ("SIGPENDING", 0),
    "Max msgqueue size":       ("MSGQUEUE",   0),
    "Max nice priority":       ("NICE",       0),
    "Max realtime priority":   ("RTPRIO",     0),
    "Max realtime timeout":    ("RTTIME",     0),
}
# fmt: on

NAME_WIDTH = 26  # characters of the first column (fs/proc/base.c, proc_pid_limits)
UNLIMITED = 1 << 63  # and all above: more than resource can say


def set_on(pid: int, limits: bytes) -> list[str]:
    """Give a process the limits of another as /proc/PID/limits has them; return what was changed.

    Neither limit is ever above the hard limit that the process had. SetupError names those that
    could not be set; the others are. Nothing is imported or read here: this comes after the job's
    namespaces are entered, in which files may be the user's own.
    """
    changed, refused, reasons = [], [], set()
    for text, (name, least) in LIMITS.items():
        which = getattr(resource, f"RLIMIT_{name}")
        try:
            if wanted := _set(pid, which, least, _row(limits, text)):
                changed.append(f"{name} {_shown(wanted[0])}:{_shown(wanted[1])}")
        except (OSError, ValueError, OverflowError) as error:
            refused.append(f"RLIMIT_{name}")
            reasons.add(str(error))
    if refused:
        raise SetupError(f"{', '.join(refused)} of process {pid}: {'; '.join(sorted(reasons))}")
    return changed


def _set(
    pid: int, which: int, least: int, limits: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Set one soft and hard limit; return them if they are not what the process had."""
    target = 0 if pid == os.getpid() else pid  # 0: this process, wherever it is by now
    had = _numbers(resource.prlimit(target, which))
    wanted = _between(limits, least, had)
    if wanted == had:
        return None
    resource.prlimit(target, which, _as_kernel(wanted))
    return wanted


def _between(wanted: tuple[int, int] | None, least: int, had: tuple[int, int]) -> tuple[int, int]:
    """Return soft and hard limit: as wanted, not below `least`, never above the hard one of now."""
    if wanted is None:
        return had
    hard = min(max(wanted[1], least), had[1])
    return min(max(wanted[0], least), hard), hard


def _row(limits: bytes, text: str) -> tuple[int, int] | None:
    """Return soft and hard limit of one row; None if it is not there, or not of numbers."""
    for line in limits.decode("ascii", "replace").split("\n"):
        if line[:NAME_WIDTH].rstrip() == text:
            words = line[NAME_WIDTH:].split()[:2]
            values = [_limit(word) for word in words if _is_limit(word)]
            return (values[0], values[1]) if len(values) == 2 else None
    return None


def _is_limit(word: str) -> bool:
    return word == "unlimited" or number(word) is not None


def _limit(word: str) -> int:
    return UNLIMITED if word == "unlimited" else min(int(word), UNLIMITED)


def _numbers(limits: tuple[int, int]) -> tuple[int, int]:
    """Turn what the resource module has below 0, infinity among it, into a number that compares."""
    soft, hard = (UNLIMITED if limit < 0 else min(limit, UNLIMITED) for limit in limits)
    return soft, hard


def _as_kernel(limits: tuple[int, int]) -> tuple[int, int]:
    soft, hard = (resource.RLIM_INFINITY if limit == UNLIMITED else limit for limit in limits)
    return soft, hard


def _shown(limit: int) -> str:
    return "unlimited" if limit == UNLIMITED else str(limit)
