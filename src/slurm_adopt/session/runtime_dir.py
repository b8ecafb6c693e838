"""A directory for each job and user, to be XDG_RUNTIME_DIR where there is no pam_systemd.

/run/slurm_adopt/runtime/NODE_UID_JOBID is the user's, mode 0700; the directory above it is root's,
so that nobody else can put anything in its place. It is removed by Slurm's Epilog (epilog.py), or
else by a later login with this option once the job has no stepd any more. It gets another name
first, beginning with a dot: what takes too long or is broken off is gone on with the next time.

What users leave in there is met with care (system/clearing.py).

No user's files hold up others: what other jobs have left shares a short time, in a login and in an
Epilog. Only the Epilog of the job itself takes longer. A child does the work and is ended when the
time is over: one call can take long, too. Whoever reads a directory of a million names again and
again holds its lock; the space of a file may be freed at one go only.
"""

from __future__ import annotations

import os
import pwd
from errno import EPERM
from time import monotonic_ns

from slurm_adopt import time_limits
from slurm_adopt.slurm.digits import id_of
from slurm_adopt.slurm.errors import PeerError, SetupError
from slurm_adopt.slurm.stepd import step_sockets
from slurm_adopt.slurm.waiting import Deadline
from slurm_adopt.system.clearing import OTHERS, Clearing, entered
from slurm_adopt.system.root_dirs import TOP, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

NAME = "runtime"
IN_LOGIN = time_limits.REMOVED_IN_LOGIN.last
IN_EPILOG = time_limits.REMOVED_OWN.last
FOR_OTHERS = time_limits.REMOVED_OTHERS.last
SHARE = 0.02  # seconds that each of them has at least, when its turn comes: enough to get on
SLACK = time_limits.REMOVING_ENDED.last  # its last call takes mostly far below 0.1 s
SHOWN = 8  # names in a line of the log
LINES = 20  # lines at a time
LARGEST = 1 << 16  # bytes of these lines


def path_of(node: str, uid: int, job_id: int, top: str = TOP) -> str:
    """Return where the directory of a job and user is, or would be."""
    return f"{top}/{NAME}/{_name(node, uid, job_id)}"


def make(node: str, uid: int, job_id: int, top: str = TOP) -> str:
    """Make a job's directory, which may be there already; return its path. SetupError if not."""
    path = path_of(node, uid, job_id, top)
    try:
        gid = pwd.getpwuid(uid).pw_gid
        directory = _directory(top)
        try:
            _make(directory, _name(node, uid, job_id), uid, gid)
        finally:
            os.close(directory)
    except KeyError:
        raise SetupError(f"cannot make {path}: uid {uid} is not known on this host") from None
    except OSError as error:
        raise SetupError(f"cannot make {path}: {error.strerror}") from None
    return path


def sweep(node: str, spool_directory: str, top: str = TOP) -> list[str]:
    """Remove the directories of a node's jobs that have no stepd, for a while at most.

    Returns what could not be removed, and why, for the log; nothing of what there was no time for.
    """
    steps: list[step_sockets.StepSocket] | None = None

    def gone(name: str) -> bool:
        nonlocal steps
        whose = _whose(name)
        if whose is None or whose[0] != node:
            return False
        if steps is None:  # listed after the directories: those of a job that starts now are new
            steps = step_sockets.steps(spool_directory, node)
        return not any(step_sockets.listens(step.path) for step in steps if step.job_id == whose[2])

    def work(directory: int) -> list[str]:
        names = [name for name in os.listdir(directory) if name.startswith(".") or gone(name)]
        return _remove(directory, names, IN_LOGIN, tell=False)

    return _in_directory(work, top)


def remove(node: str, uid: int, job_id: int, top: str = TOP) -> list[str]:
    """Remove a job's directory, then for a while at most what other jobs have left unfinished.

    Returns what could not be removed, and why.
    """
    if not os.path.isdir(f"{top}/{NAME}"):  # nobody has the option set
        return []

    def work(directory: int) -> list[str]:
        own, others = [], []
        for name in os.listdir(directory):
            if _whose(name) == (node, uid, job_id):
                own.append(name)
            elif name.startswith("."):
                others.append(name)
        remarks = _remove(directory, own, IN_EPILOG, tell=True)
        return remarks + _remove(directory, others, FOR_OTHERS, tell=True)

    return _in_directory(work, top)


def _name(node: str, uid: int, job_id: int) -> str:
    return f"{node}_{uid}_{job_id}"


def _whose(name: str) -> tuple[str, int, int] | None:
    """Return node, uid and job that a name stands for, also one that has been put away already.

    None for a name that is none of ours.
    """
    plain = name[1:].rpartition(".")[0] if name.startswith(".") else name
    words = plain.rsplit("_", 2)
    uid, job_id = (*map(id_of, words[1:]), None, None)[:2]
    return None if uid is None or job_id is None else (words[0], uid, job_id)


def _shown(*names: str) -> str:
    """Return names for the log, with whose they are."""
    shown = []
    for name in names[:SHOWN]:
        whose = _whose(name)
        shown.append(f"{name} (job {whose[2]} of uid {whose[1]})" if whose else name)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shown) + more


def _directory(top: str) -> int:
    return opened(NAME, 0o711, 0o022, top)


def _make(directory: int, name: str, uid: int, gid: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        pass
    descriptor = entered(directory, name)
    try:
        owner = os.fstat(descriptor).st_uid
        if owner not in (uid, os.geteuid()):  # root's: another login is about to give it away
            raise PermissionError(EPERM, f"it exists and belongs to uid {owner}")
        os.fchown(descriptor, uid, gid)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


# Removing


def _in_directory(work: Callable[[int], list[str]], top: str) -> list[str]:
    """Do something in the directory of all jobs; return its remarks as lines for the log."""
    try:
        directory = _directory(top)
    except OSError as error:
        return [f"cannot look into {top}/{NAME}: {error.strerror}"]
    try:
        return [f"cannot remove {top}/{NAME}/{remark}" for remark in work(directory)]
    finally:
        os.close(directory)


def _remove(directory: int, names: list[str], seconds: float, tell: bool) -> list[str]:
    """Have a child remove some for a while; return remarks about those that fail.

    `tell`: also about those that there was no time for.
    """
    if not names:
        return []
    from slurm_adopt.system import child

    def lines() -> list[str]:
        remarks, late = _try(directory, names, Deadline(seconds))
        if late and tell:
            text = f"timed out after {seconds:g} s; the next Epilog or login goes on"
            remarks.insert(0, f"{_shown(*late)}: {text}")
        return remarks[:LINES]

    def packed() -> bytes:
        return "\n".join(lines()).encode("utf-8", "surrogateescape")

    try:
        data = child.run(packed, Deadline(seconds + SLACK), LARGEST)
    except PeerError as error:
        return [f"{_shown(*names)}: {error}"]
    return data.decode("utf-8", "surrogateescape").splitlines()


def _try(directory: int, names: list[str], deadline: Deadline) -> tuple[list[str], list[str]]:
    """Remove some; return remarks about those that fail, and those that are not done in time.

    All are put away first: their names are free. Then each has its share of the time, beginning
    with another one each time: one that is never done does not keep the others from it.
    """
    remarks, late = [], []
    put_away = []
    for name in names:
        try:
            put_away.append(_put_away(directory, name))
        except OSError as error:
            remarks += _remark(name, error)
    start = monotonic_ns() // 1000 % (len(put_away) or 1)
    order = put_away[start:] + put_away[:start]
    for index, name in enumerate(order):
        share = deadline.within(max(SHARE, deadline.left() / (len(order) - index)))
        try:
            if not (share.left() and _delete(directory, name, share)):
                late.append(name)
        except OSError as error:
            remarks += _remark(name, error)
    return remarks, late


def _put_away(directory: int, name: str) -> str:
    """Give a directory a name that begins with a dot, if it has none; return that."""
    if name.startswith("."):
        return name
    new = f".{name}.{monotonic_ns()}"
    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=directory)
    return new


def _remark(name: str, error: OSError) -> list[str]:
    return [] if error.errno in OTHERS else [f"{_shown(name)}: {error.strerror}"]


def _delete(parent: int, name: str, deadline: Deadline) -> bool:
    """Delete a directory with all that is in it; False if there was time for a part only."""
    top = entered(parent, name)
    try:
        whose = _whose(name)
        clearing = Clearing(top, whose[1] if whose else os.fstat(top).st_uid, deadline)
        while clearing.round():
            pass
    finally:
        os.close(top)
    if clearing.trouble:
        raise clearing.trouble
    if not deadline.left():
        return False
    os.rmdir(name, dir_fd=parent)
    return True
