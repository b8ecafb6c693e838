"""The program for Slurm's Epilog: what is to be gone with a job, and is still there.

Sessions whose extern stepd has been killed, which nothing of Slurm's ends or thaws
(orphaned_step.py), and the job's XDG_RUNTIME_DIR (runtime_dir.py). Which job it is slurmd says by
the environment. It has to be run at the end of each job: docs/how-to/epilog.md has the lines.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

from . import time_limits
from .node.slurm_site import SlurmSite
from .session import runtime_dir
from .slurm.cgroup import orphaned_step, paths
from .slurm.cgroup.hierarchy import mounted
from .slurm.config import conf
from .slurm.digits import id_of
from .slurm.errors import PeerError, SetupError
from .slurm.stepd import step_sockets
from .slurm.waiting import Deadline
from .system import child
from .system.log import LEVELS, Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Callable

    from .slurm.cgroup.hierarchy import Mount
    from .slurm.cgroup.orphaned_step import Ended, Found
    from .slurm.config.conf import Conf

# Who starts processes all the time may go on as fast as they are ended.
ENDING = time_limits.STEP_ENDED.last
READING = time_limits.CONFIGURED.last
LARGEST = 1 << 13  # bytes of what cgroup.conf says: a path and a name
ENCODED = ("utf-8", "surrogateescape")
SHOWN = 20  # pids in the line of the log
ENDINGS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Job:
    """The job whose Epilog runs us; SetupError if the environment is none of an Epilog."""

    __slots__ = ("job_id", "node", "sluid", "slurm_conf", "uid")

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Take slurmd's variables: it makes this environment itself."""
        job_id = id_of(environment.get("SLURM_JOB_ID", ""))
        uid = id_of(environment.get("SLURM_JOB_UID", ""))
        self.node = environment.get("SLURMD_NODENAME", "")
        if not self.node or uid is None or job_id is None:
            raise SetupError(
                "SLURM_JOB_ID, SLURM_JOB_UID or SLURMD_NODENAME is missing or malformed: run "
                "this from Slurm's Epilog"
            )
        self.job_id, self.uid = job_id, uid
        self.slurm_conf = environment.get("SLURM_CONF", "")
        sluid = environment.get("SLURM_JOB_SLUID", "")
        self.sluid = sluid if paths.is_sluid(sluid) else ""


def end_sessions(job: Job, log: Log, mounts: dict[str, Mount] | None = None) -> list[str]:
    """End what the job has left in its extern step, if no stepd is there; return what was done.

    slurm.conf is read only where something is left.
    """
    mountpoint, slice_ = _configured(job, log)
    mounts = mounted(mountpoint) if mounts is None else mounts
    named = orphaned_step.Job(job.node, job.uid, job.job_id, job.sluid, slice_)
    step = orphaned_step.find(mounts, named)
    deadline = Deadline(ENDING)
    if step is None:
        return []
    try:
        if step.holds(os.getpid()):  # an Epilog in the job: RunInJob
            return []
        found = step.look(deadline)
        if not found:
            return []
        setting = SlurmSite(job.slurm_conf, job.node, os.uname().nodename, log)
        directory = setting.spool

        def taken() -> bool:
            sockets = step_sockets.extern_steps(directory, job.node)
            return any(step_sockets.listens(s.path) for s in sockets if s.job_id == job.job_id)

        if taken():
            return []
        ended = step.end(deadline, taken)
    except SetupError as error:
        return [f"cannot end what job {job.job_id} has left in {step.path}: {error}"]
    said = (
        f"job {job.job_id} of uid {job.uid} has ended, but its extern stepd ended first and "
        f"left something in {step.path}: {_told(found, ended)}"
    )
    return [said]


def _configured(job: Job, log: Log) -> tuple[str, str]:
    """Return mount point and slice: by the cgroup.conf beside the job's slurm.conf, or the usual.

    A child reads it: the file may be on a file system that does not answer, and is read in each
    Epilog.
    """

    def said() -> bytes:
        found = _cgroup_conf(job)
        return "\0".join((paths.mountpoint(found), paths.slice_of(found))).encode(*ENCODED)

    try:
        mountpoint, slice_ = (
            child.run(said, Deadline(READING), LARGEST).decode(*ENCODED).split("\0")
        )
    except PeerError as error:  # what is usual may be right all the same
        log.error(f"cannot read cgroup.conf: {error}")
        return paths.MOUNTPOINT, paths.SLICE
    return mountpoint, slice_


def _cgroup_conf(job: Job) -> Conf:
    """Read cgroup.conf, in a child; PeerError if that cannot be done."""
    slurm_conf = next(iter([job.slurm_conf] if job.slurm_conf else conf.usual()), "")
    return conf.load_beside(slurm_conf, "cgroup.conf") if slurm_conf else conf.Conf("")


def _told(found: Found, ended: Ended) -> str:
    """Say how it went: `2 processes ended, 1 could not be ended: PIDs 17`, and so on."""
    left = ended.left
    said = _many(ended.count, "process", "es") + " ended"
    if left.pids:
        pids = [str(pid) for pid in sorted(left.pids)]
        more = f" and {len(pids) - SHOWN} more" if len(pids) > SHOWN else ""
        said += f", {len(pids)} could not be ended: PIDs {' '.join(pids[:SHOWN])}{more}"
    if left.foreign:
        said += f", {left.foreign} of another PID namespace could not be ended"
    if found.frozen > left.frozen:
        said += f"; {_many(found.frozen - left.frozen, 'frozen cgroup')} thawed"
    if left.frozen:
        said += f"; {_many(left.frozen, 'cgroup')} could not be thawed"
    if left.missed:
        said += f"; more may be left: {left.missed}"
    return said


def _many(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


@contextmanager
def _orderly() -> Iterator[None]:
    """Have the signals that end a program unwind it first: nothing stays frozen."""

    def stop(*_: object) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, stop) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> int:
    """Do all of it; return 0, never anything else, which would have slurmd drain the node."""
    log = Log("slurm_adopt.epilog", LEVELS["error"][0])
    try:
        job = Job(os.environ)
    except SetupError as error:
        log.error(str(error))
        return 0
    with _orderly():
        for work in (
            lambda: end_sessions(job, log),
            lambda: runtime_dir.remove(job.node, job.uid, job.job_id),
        ):
            for remark in _done(work):
                log.error(remark)
    return 0


def _done(work: Callable[[], list[str]]) -> list[str]:
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the rest is to be done all the same
        return [f"unexpected {error!r} (please report this)"]


if __name__ == "__main__":
    raise SystemExit(main())
