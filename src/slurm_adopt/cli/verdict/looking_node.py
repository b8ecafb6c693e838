"""A node that looks and changes nothing: the engine over it says what a login would come to.

Stepds are asked for uid and state, as at every login, and for what they would hand out. None is
asked to add a process, nothing is written, no note is left, no namespace entered.

What was looked up once stays: the same node with other options (`but`) answers from memory. Whether
a stepd would take the process cannot be known without asking it to. `refusing` is for that case.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.node.jobs import Jobs
from slurm_adopt.node.node import Node
from slurm_adopt.node.stepds import Stepds
from slurm_adopt.slurm.errors import PeerError, SetupError, SlurmAdoptError

from .looking_job import LookingJob

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    from slurm_adopt.decision.adoption import Choice
    from slurm_adopt.decision.login import Login
    from slurm_adopt.decision.options import Options
    from slurm_adopt.node.jobs import Job
    from slurm_adopt.node.ssh_connection import Connection
    from slurm_adopt.slurm.stepd.ask_all import Answer
    from slurm_adopt.slurm.stepd.step_sockets import StepSocket
    from slurm_adopt.system.log import Log

    Found = TypeVar("Found")

NOT_ENTERED = (
    "with pam_exec nobody can enter the job's namespaces: have pam_python run the lines; or set "
    "join_container=false"
)
NO_SOURCE = "source unknown: no connection is given (--from ADDRESS:PORT)"


class NotingStepds(Stepds):
    """Keeps what stepds have said: the engine hears nothing of jobs that are ending."""

    __slots__ = ("answers", "silent")

    def __init__(self, *given: Any) -> None:
        """Nothing is asked yet."""
        super().__init__(*given)
        self.answers: dict[StepSocket, Answer] = {}
        self.silent: dict[StepSocket, str] = {}

    def ask_all(
        self, steps: list[StepSocket], of_another: Callable[[StepSocket], bool]
    ) -> tuple[dict[StepSocket, Answer], dict[StepSocket, str]]:
        """Ask all, and keep their answers."""
        answers, silent = super().ask_all(steps, of_another)
        self.answers.update(answers)
        self.silent.update(silent)
        return answers, silent


class LookingNode(Node):
    """The real node, as far as it can be looked at."""

    __slots__ = ("_apart", "_facts", "_no_source", "_options", "_refusing", "_source", "stepds")

    def __init__(
        self,
        options: Options,
        log: Log,
        hostname: str = "",
        source: Connection | None = None,
        no_source: str = NO_SOURCE,
        *,
        apart: bool = False,
    ) -> None:
        """`source`: the connection that the login is to come by; `no_source`: why there is none.

        `apart`: the line that adopts is pam_exec's, so another process than the session's adopts.
        """
        super().__init__(options, log, hostname)
        self._apart = apart
        self.stepds = NotingStepds(self.phase)
        self._jobs = Jobs(self.phase, self.stepds)
        self._source = source
        self._no_source = no_source
        self._options = options
        self._refusing: frozenset[int] = frozenset()
        self._facts: dict[object, tuple[Any, BaseException | None]] = {}

    def but(self, options: Options | None = None, refusing: Collection[int] = ()) -> LookingNode:
        """Return the same node under other options, those that say where Slurm is excepted.

        `refusing`: jobs whose stepds refuse, as if.
        """
        other = copy(self)
        other._options = options or self._options  # noqa: SLF001 - of the same class
        other._refusing = frozenset(refusing)  # noqa: SLF001
        return other

    def once(self, what: object, look: Callable[[], Found]) -> Found:
        """Return what a function returns, or raise what it raises; it is called once."""
        if what not in self._facts:
            try:
                self._facts[what] = look(), None
            except Exception as error:  # noqa: BLE001 - kept for all who ask
                self._facts[what] = None, error
        found, wrong = self._facts[what]
        if wrong is not None:
            raise wrong.with_traceback(None)
        return found  # type: ignore[no-any-return]

    # What the engine asks

    @property
    def defers(self) -> bool:
        """Return that all is decided here: what either phase comes to is the same."""
        return False

    @property
    def runs_slurm(self) -> bool:
        """Whether this host is a compute node."""
        return self.once("runs_slurm", lambda: self.phase.site.runs_slurm)

    def jobs(self, uid: int, only: int | None = None) -> list[Job]:
        """Return the user's jobs here, as they were when this was first asked."""
        return list(self.once(("jobs", uid, only), lambda: self._jobs.of(uid, only)))

    def awaited_jobs(self, uid: int) -> list[Job]:  # noqa: ARG002
        """Wait for none: there are those that are here now; see being_set_up()."""
        return []

    def being_set_up(self, uid: int) -> str:
        """Say what shows that a job is being set up for the user; "" if nothing does."""
        try:
            return self.once(("sign", uid), lambda: self._jobs.sign(uid))
        except SlurmAdoptError:
            return ""

    def source_job(self, login: Login, jobs: list[Job]) -> int | None:  # noqa: ARG002
        """Ask the slurmd at the other end of the given connection; without one it is not known."""
        if not self._options.on("callerid"):
            raise PeerError("callerid=0")
        return self.asked_source(max(job.protocol for job in jobs))

    def asked_source(self, protocol: int = 0) -> int | None:
        """Ask it, whatever the options say; `protocol`: of the newest stepd here, if one is."""
        protocol = max([protocol, *(one.protocol for one in self.stepds.answers.values())])
        return self.once("source", lambda: self._ask_source(protocol))

    def _ask_source(self, protocol: int) -> int | None:
        if self._source is None:
            raise PeerError(self._no_source)
        from slurm_adopt.node import source_job

        return source_job.ask_about(self._source, protocol, self.phase)

    def suspended(self, job: Job) -> str:
        """Say why nothing may be put into a job's step now; "" if it may, or nothing shows."""
        return self.once(("suspended", job.job_id), lambda: Node.suspended(self, job))

    def look(self, job: Job) -> None:
        """Raise PeerError if a job would not take a login now; SUSPENDED if it is frozen."""
        self.once(("look", job.job_id), lambda: Node.look(self, job))

    def _have_place(self, uid: int) -> None:
        """Make nothing."""

    def adopt(self, pid: int, job: Job) -> Adoption:
        """Return the adoption that there would be, where the job would take the login."""
        self.look(job)
        if job.job_id in self._refusing:
            raise PeerError(f"stepd of job {job.job_id} refuses to take process {pid}")
        seen = self.of(job)
        joins = self._options.on("join_container")
        seen.check(join_container=joins)
        if self._apart and joins and seen.namespaces:
            raise SetupError(NOT_ENTERED)
        return Adoption(pid, job.uid, job.job_id).proven(
            {name: path or "" for name, path in seen.cgroups.items()},
            {} if self._apart else seen.environment,
        )

    def of(self, job: Job) -> LookingJob:
        """Return what shows of a job."""
        return self.once(("job", job.job_id), lambda: LookingJob(job, self.phase, self.stepds))

    def keep(self, adoption: Adoption) -> Adoption:
        """Change nothing."""
        return adoption

    def tell(self, choice: Choice) -> None:
        """Tell nobody."""
