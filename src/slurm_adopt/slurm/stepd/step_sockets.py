"""The spool directory: the stepds' socket files, `NODENAME_JOBID.STEPID`, by node and job.

Source: src/common/stepd_api.c (stepd_available). A file that merely has such a name is no job yet:
who listens on it is looked at when it is connected to (stepd.py).
"""

from __future__ import annotations

import _socket
import os

from slurm_adopt.slurm.digits import id_of
from slurm_adopt.slurm.errors import PeerError, SetupError, shortage
from slurm_adopt.slurm.proc import peer
from slurm_adopt.slurm.versions import EXTERN_STEPS

# Batch step since 20.11, before that; interactive step (slurm/slurm.h).
FIRST_STEPS = (0xFFFFFFFB, 0xFFFFFFFE, 0xFFFFFFFA)
_EXTERN = frozenset(map(str, EXTERN_STEPS))


class StepSocket:
    """The socket file of a step in the spool directory, nearly always of an extern step."""

    __slots__ = ("cgroup_job", "job_id", "path", "pid", "stranger")

    def __init__(self, path: str, job_id: int) -> None:
        """Nothing is looked at before the file is connected to."""
        self.path = path
        self.job_id = job_id
        self.cgroup_job = job_id  # in the names of its cgroups; see V1.follow_leader()
        self.pid = 0  # of the stepd, as the kernel says; 0 until connected
        self.stranger = False  # whether somebody else than Slurm listens there

    def check_peer(self, socket: _socket.socket, trusted: frozenset[int]) -> None:
        """Refuse a connection to somebody else than Slurm, PeerError; note who listens."""
        pid, uid = peer(socket)
        if uid not in trusted:
            self.stranger = True
            raise PeerError(f"{self.path} is a socket of uid {uid}, not of Slurm: ignored")
        self.pid = pid


def new_socket(flags: int = 0) -> _socket.socket:
    """Return a socket to connect to a stepd's; SetupError if there is none to be had."""
    try:
        return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | flags)
    except OSError as error:
        raise SetupError(f"cannot ask a stepd: {shortage(error)}") from None


def extern_steps(spool: str, node: str, job_id: int | None = None) -> list[StepSocket]:
    """List the extern steps of one node; SetupError if the spool directory cannot be read.

    `job_id`: of this job only. There may be a thousand others, so the directory is not read.
    """
    prefix, place = f"{node}_", f"{spool}/"
    if job_id is not None:
        paths = [f"{place}{prefix}{job_id}.{step}" for step in _EXTERN]
        return [StepSocket(path, job_id) for path in paths if os.path.lexists(path)]
    found, begin = [], len(prefix)
    for name in _listing(spool):
        job, _, step = name[begin:].partition(".")
        if step in _EXTERN and name.startswith(prefix) and (number := id_of(job)) is not None:
            found.append(StepSocket(place + name, number))
    return found


def steps(spool: str, node: str) -> list[StepSocket]:
    """List all steps of one node."""
    return [socket for socket, _ in _steps(spool, node)]


def lone_steps(spool: str, node: str) -> list[StepSocket]:
    """List the steps of those jobs of one node that have no extern step."""
    steps = _steps(spool, node)
    accompanied = {socket.job_id for socket, extern in steps if extern}
    return [socket for socket, _ in steps if socket.job_id not in accompanied]


def job_steps(spool: str, node: str, job_id: int) -> list[StepSocket]:
    """List a job's steps but the extern step: batch and interactive step first, then by number."""
    steps = _steps(spool, node)
    found = [socket for socket, extern in steps if socket.job_id == job_id and not extern]
    return sorted(found, key=_rank)


def other_steps(spool: str, node: str) -> int:
    """Count the steps of one node that are not extern steps, and that somebody listens for."""
    return sum(not extern and listens(socket.path) for socket, extern in _steps(spool, node))


def node_names(spool: str, *, alive: bool = False) -> set[str]:
    """Return the node names that extern steps' sockets carry; `alive`: that somebody listens on."""
    found: set[str] = set()
    for name in _listing(spool):
        node, _, numbers = name.rpartition("_")
        if node and node not in found and _is_extern(numbers.split(".")):
            found.update([node] if not alive or listens(f"{spool}/{name}") else [])
    return found


def listens(path: str) -> bool:
    """Say whether somebody listens on a socket: 24.11.5 leaves a file behind after a login.

    SetupError if there is no socket to be had.
    """
    with_stepd = new_socket(_socket.SOCK_NONBLOCK)
    try:
        with_stepd.connect(path)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:  # too many are waiting
        return True
    finally:
        with_stepd.close()
    return True


def _listing(spool: str) -> list[str]:
    try:
        return os.listdir(spool)
    except OSError as error:
        raise SetupError(
            f"cannot read the spool directory {spool}: {error.strerror}; is SlurmdSpoolDir right, "
            "and does slurmd run on this node?"
        ) from None


def _steps(spool: str, node: str) -> list[tuple[StepSocket, bool]]:
    """List the steps of one node; the second of each pair says whether it is an extern step."""
    prefix = node + "_"
    found = []
    for name in _listing(spool):
        numbers = name[len(prefix) :].split(".") if name.startswith(prefix) else []
        if _is_step(numbers):
            socket = StepSocket(f"{spool}/{name}", int(numbers[0]))
            found.append((socket, _is_extern(numbers)))
    return found


def _is_step(numbers: list[str]) -> bool:
    """Say whether these are `JOBID.STEPID`, or with a heterogeneous step's component behind."""
    return len(numbers) > 1 and all(id_of(number) is not None for number in numbers)


def _is_extern(numbers: list[str]) -> bool:
    return _is_step(numbers) and len(numbers) == 2 and int(numbers[1]) in EXTERN_STEPS


def _rank(socket: StepSocket) -> list[int]:
    step, *component = map(int, socket.path.rpartition("_")[2].split(".")[1:])
    first = FIRST_STEPS.index(step) if step in FIRST_STEPS else len(FIRST_STEPS)
    return [first, step, *component]
