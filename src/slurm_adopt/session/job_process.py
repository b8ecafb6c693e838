"""A process of the user's own in a job: where the job's variables and limits are to be seen.

The extern step has none but logins. So the stepds of the job's other steps are asked for theirs:
the batch step first, then the interactive one, then by number; in a step the oldest process comes
first. Users write what they like into the memory of their processes, and change their limits:
what is read here is validated by whoever uses it. They can also hold up for ever who reads
/proc/PID/stat or environ (child.py), so a child does that. Reading status, cgroup and limits has
no such wait, nor has stat(2).
"""

from __future__ import annotations

import os

from slurm_adopt.slurm import files
from slurm_adopt.slurm.cgroup import hierarchy
from slurm_adopt.slurm.errors import PeerError, SetupError, SlurmAdoptError
from slurm_adopt.slurm.proc import PROC, is_of, start_time
from slurm_adopt.slurm.stepd import step_sockets
from slurm_adopt.slurm.waiting import Deadline, Patience
from slurm_adopt.time_limits import STEP_READ, STEPS_READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket
    from slurm_adopt.slurm.stepd.stepd import Stepd
    from slurm_adopt.system.log import Log

SILENT = 2  # steps that have not answered: then no other is asked
LISTED = 1000  # processes of a step among which the oldest is looked for
READ = 16  # processes of a step that are read
ENVIRONMENT = 1 << 20  # bytes
LIMITS = 1 << 14  # bytes
REMARKS = 1 << 14  # bytes
LARGEST = ENVIRONMENT + LIMITS + REMARKS  # bytes of what was seen
SHOWN = 8  # pids in a line of the log
DESCRIPTORS = "/proc/self/fd"


class JobProcess:
    """What was seen of one process."""

    __slots__ = ("environment", "limits", "pid")

    def __init__(self, pid: int, environment: dict[bytes, bytes], limits: bytes) -> None:
        """`limits` is what /proc/PID/limits says."""
        self.pid = pid
        self.environment = environment
        self.limits = limits


class Wanted:
    """Which process is looked for, and what is to be seen of it."""

    __slots__ = ("cgroups", "job_id", "uid", "variables")

    def __init__(self, job_id: int, uid: int, cgroups: JobCgroups, variables: bool = True) -> None:
        """`variables`: whether the environment is wanted."""
        self.job_id = job_id
        self.uid = uid
        self.cgroups = cgroups
        self.variables = variables


class Search:
    """Looks for a process in a job."""

    __slots__ = ("_log", "_proc", "_remarks", "_wanted")

    def __init__(self, wanted: Wanted, log: Log, proc: str = PROC) -> None:
        """Nothing is looked at yet."""
        self._wanted = wanted
        self._log = log
        self._proc = proc
        self._remarks: list[str] = []

    def find(self, extern: Stepd, node: str) -> JobProcess | None:
        """Return the process, None if there is none or nothing answers in time; that is logged.

        `extern`: the conversation with the extern step's stepd, beside whose socket the others are.
        """
        longest, silent = Deadline(STEPS_READ.last), 0
        for socket in self._steps(extern, node):
            name = os.path.basename(socket.path)
            if silent == SILENT or not longest.left():
                self._log.info(f"step {name} and later ones are not asked: no time is left")
                break
            patience = Patience(STEP_READ.silence, min(STEP_READ.last, longest.left()))
            try:
                pids = self._pids(extern.other(socket, patience))
                patience.renew()
                found = self.first(pids, patience)
            except SlurmAdoptError as error:
                self._log.info(f"step {name}: {error}")
                silent += not patience.left()
                continue
            if found:
                self._log.debug(f"step {name}: process {found.pid} is the one that is read")
                return found
        return None

    def _steps(self, extern: Stepd, node: str) -> list[StepSocket]:
        try:
            return step_sockets.job_steps(os.path.dirname(extern.path), node, self._wanted.job_id)
        except SetupError as error:
            self._log.error(str(error))
            return []

    def _pids(self, other: Stepd) -> list[int]:
        with other as step:
            return step.pids() if step.uid() == self._wanted.uid else []

    def first(self, pids: list[int], deadline: Deadline) -> JobProcess | None:
        """Return the oldest whose environment names the job, else the oldest.

        One that has another job's is, say, what `salloc` has started inside this one; none at all
        have components of heterogeneous jobs, which have their leader's. Where no variables are
        wanted it is the one with the lowest pid, and its environment is empty. PeerError if the
        processes cannot be looked at in time.
        """
        self._remarks = []
        if not self._wanted.variables:
            found = next(filter(None, map(self._process, sorted(pids)[:READ])), None)
            remarks = self._remarks
        else:
            remarks, found = self._by_child(pids, deadline)
        for remark in remarks:
            self._log.debug(remark)
        return found

    def _by_child(self, pids: list[int], deadline: Deadline) -> tuple[list[str], JobProcess | None]:
        """Have a child look for the oldest; return what is to be logged, and the process."""
        from slurm_adopt.system import child

        try:
            data = child.run(lambda: self._packed(self._oldest(pids)), deadline, LARGEST)
        except PeerError as error:
            shown = " ".join(map(str, sorted(pids)[:SHOWN]))
            raise PeerError(
                f"cannot read its processes ({shown}): {error}; a process that waits for a file "
                "system in execve(2) blocks its readers"
            ) from None
        return _unpacked(data)

    def _packed(self, process: JobProcess | None) -> bytes:
        remarks = "\n".join(self._remarks).encode("ascii", "replace")[:REMARKS]
        if process is None:
            return remarks
        pairs = (name + b"=" + value for name, value in process.environment.items())
        return b"\0".join([remarks, b"%d" % process.pid, process.limits, b"\0".join(pairs)])

    def _oldest(self, pids: list[int]) -> JobProcess | None:
        oldest = None
        times = [(start_time(pid, self._proc), pid) for pid in sorted(pids)[:LISTED]]
        for _, pid in sorted(times)[:READ]:
            process = self._process(pid)
            if process and process.environment.get(b"SLURM_JOB_ID") == b"%d" % self._wanted.job_id:
                return process
            oldest = oldest or process
        return oldest

    def _process(self, pid: int) -> JobProcess | None:
        """Look at a process through a descriptor: it stays the same one, whoever gets its pid."""
        try:
            fd = os.open(f"{self._proc}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:  # it has ended
            return None
        try:
            return self._seen(pid, fd)
        except (OSError, SetupError) as error:
            self._remarks.append(f"process {pid}: {error}")
            return None
        finally:
            os.close(fd)

    def _seen(self, pid: int, fd: int) -> JobProcess | None:
        """Read first, then see whose it is: what runs another program since has another memory."""
        top = f"{DESCRIPTORS}/{fd}"
        environment = files.read(f"{top}/environ", ENVIRONMENT) if self._wanted.variables else b""
        limits = files.read(f"{top}/limits", LIMITS)
        if not self._of_user(top):
            why = "does not have the user's uid throughout, or is not dumpable"
        elif not self._wanted.cgroups.hold(hierarchy.of_process(fd, DESCRIPTORS)):
            why = f"is not in job {self._wanted.job_id}"
        else:
            return JobProcess(pid, _split(environment), limits)
        self._remarks.append(f"process {pid} {why}")
        return None

    def _of_user(self, top: str) -> bool:
        """Say whether all four uids are the user's, and the user might read it, too.

        /proc/PID/environ belongs to root where a process is not dumpable (proc(5)): one that had
        other rights before, or one that a stepd has just forked and that runs no program yet.
        """
        return is_of(top, self._wanted.uid) and os.stat(f"{top}/environ").st_uid == self._wanted.uid


def _unpacked(data: bytes) -> tuple[list[str], JobProcess | None]:
    """Return what a child has packed: remarks, pid, limits and environment, NUL between."""
    remarks, *seen = data.split(b"\0", 3)
    lines = remarks.decode("ascii").splitlines()
    if not seen:
        return lines, None
    pid, limits, environment = seen
    return lines, JobProcess(int(pid), _split(environment), limits)


def _split(data: bytes) -> dict[bytes, bytes]:
    """Take /proc/PID/environ apart; of two with the same name the first counts, as in getenv(3)."""
    found: dict[bytes, bytes] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            found.setdefault(name, value)
    return found
