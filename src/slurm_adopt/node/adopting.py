"""Adopting a process into a job: the conversation with its stepd, the proof, what it is given."""

from __future__ import annotations

import os

from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.session.handover import Handover, Session
from slurm_adopt.slurm.errors import SUSPENDED, UNSETTLED, PeerError, SetupError
from slurm_adopt.slurm.proc import start_time

from .jobs import Job
from .moving import Confinement, check_alive, check_running, ended
from .session_process import session_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.stepd.stepd import Stepd

    from .moving import Place
    from .phase import Phase
    from .stepds import Stepds

GONE = -1  # in place of the start of a process that is not there


class Adopter:
    """Adopts a login, or sees that it is still adopted."""

    __slots__ = ("_phase", "_stepds")

    def __init__(self, phase: Phase, stepds: Stepds) -> None:
        """Nothing is asked yet."""
        self._phase = phase
        self._stepds = stepds

    def adopt(self, pid: int, job: Job) -> Adoption:
        """Bring a login into the job's extern step; PeerError or SetupError if it is not in.

        `pid` is the process that the service has called us in. The one that becomes the session is
        adopted: in the session phase the same, in the account phase nearly always. The stepd is
        asked once.
        """
        job.check_answering()
        if job.starting:
            self._stepds.await_start(job)
        adoption = self._adoption(pid, job)
        confinement = Confinement(job, self._phase)
        confinement.check_mounted()
        with self._stepds.of(job) as step:
            _check_owner(job, step)
            confinement.check_takes()
            check_alive(adoption)
            before = confinement.place(adoption.pid)
            if self._phase.account_of:
                self._watch(before, confinement)
            return self._take(adoption, step, confinement, before)

    def keep(self, adoption: Adoption) -> Adoption:
        """See that an adopted process is still in its job; write it back where it is not.

        The stepd has it already: asked again, it would start a second accounting entry and watcher.
        PeerError or SetupError if the process is not in the job, or the job is ending.
        """
        if not os.path.exists("/proc/self"):
            raise SetupError(
                "this process is in the job's PID namespace, whose /proc does not show it: is "
                "there a second session line of this module, or one behind a line that may end the "
                "stack (sufficient, done)?"
            )
        job_id = adoption.job_id
        for socket in self._phase.site.steps(job_id):
            job = Job(socket, adoption.uid)
            with self._stepds.of(job) as step:
                _check_owner(job, step)
                return self._complete(adoption, step, Confinement(job, self._phase))
        raise PeerError(f"job {job_id} has ended")

    def _adoption(self, pid: int, job: Job) -> Adoption:
        """Return the adoption that is to be: of which process, and when that was started."""
        # A session is opened in the process that becomes it.
        session = session_process(pid) if self._phase.account_of else pid
        started = 0 if session == os.getpid() else start_time(session) or GONE
        if self._phase.apart and os.getppid() != pid:  # all this may be of who has its pid now
            raise ended(pid)
        return Adoption(session, job.uid, job.job_id, started)

    def _watch(self, before: Place, confinement: Confinement) -> None:
        """Have a login watched that is not done yet when the user's job has it."""
        from .login_slot import slot_of

        pid, log = before.pid, self._phase.log
        slot = slot_of(pid)
        if slot is None:
            log.debug(f"process {pid} holds no MaxStartups slot of sshd: it is not watched")
            return
        from . import unfinished_login

        unfinished_login.start(slot, before.cgroups, confinement.layout, log, confinement.whose)

    def _take(
        self, adoption: Adoption, step: Stepd, confinement: Confinement, before: Place
    ) -> Adoption:
        """Have the stepd take the process; return the adoption as proven, else put it back.

        Unless the stepd has refused it, word is left of it, whatever comes of the rest.
        """
        pid = adoption.pid
        told: Adoption | None = None
        try:
            check_alive(adoption)
            try:
                step.add_extern_pid(pid)
            except PeerError as error:
                told = adoption if error.kind == UNSETTLED else None
                raise
            told = adoption
            self._phase.log.debug(
                f"stepd of job {adoption.job_id} ({step.protocol}) took process {pid}"
            )
            told = self._complete(adoption, step, confinement, before.cpus)
        except BaseException as error:
            confinement.put_back(before, error)
            if isinstance(error, PeerError) and error.kind == SUSPENDED:
                error.taken = True
            raise
        finally:
            if told and self._phase.account_of and pid != os.getpid():
                self._tell(told)
        return told

    def _complete(
        self,
        adoption: Adoption,
        step: Stepd,
        confinement: Confinement,
        cpus: set[int] | None = None,
    ) -> Adoption:
        """Return the adoption as proven, with what the job gives to the session.

        `cpus`: those that a process which is new in the job was bound to.
        """
        phase, pid, job_id = self._phase, adoption.pid, adoption.job_id
        written, paths = confinement.bring(adoption, step)
        check_running(job_id, step)
        if cpus and len(cpus) < os.sysconf("SC_NPROCESSORS_ONLN"):
            confinement.widen(pid)
        namespaces = step.namespaces() if phase.options.on("join_container") else []
        site = phase.site
        session = Session(pid, adoption.uid, job_id, site.name, site.mountpoint())
        handover = Handover(session, step, phase.options, phase.log, limits=not phase.account_of)
        if phase.apart:
            handover.without_variables()
        environment = handover.environment()  # after all that: it may make the stepd hang up
        if namespaces:
            self._join(adoption, namespaces)
        check_alive(adoption)  # its limits would be another's
        handover.finish()
        return adoption.proven(paths, environment, written)

    def _join(self, adoption: Adoption, namespaces: list[tuple[int, int]]) -> None:
        """Enter the job's namespaces; SetupError if that fails. It is the last thing done.

        In the account phase that is left to our session line, where there is one: other modules of
        the session phase want the host's own (pam_loginuid its /proc, pam_limits its rights), and
        only the process that becomes the session can enter.
        """
        from slurm_adopt.slurm.stepd.namespaces import enter

        from . import pam_stack

        log, account_of = self._phase.log, self._phase.account_of
        if account_of and pam_stack.joins(account_of):
            log.debug(f"namespaces of job {adoption.job_id}: left to the session line")
            return
        log.open()  # the host's: in the job's namespaces /dev/log may be another one
        entered = enter(adoption.pid, namespaces)
        names = " ".join(entered) or "none, it was in all of them"
        log.debug(f"namespaces of job {adoption.job_id} entered: {names}")

    def _tell(self, adoption: Adoption) -> None:
        """Leave word for the session phase, which another process runs, if it comes to us."""
        if self._phase.apart and not self._session_line():
            return
        from . import adoption_note

        try:
            adoption_note.leave(adoption)
        except SetupError as error:
            self._phase.log.error(f"{error}; a session line will ask the stepd a second time")

    def _session_line(self) -> bool:
        from . import pam_stack

        return pam_stack.session_line(self._phase.account_of) is not None


def _check_owner(job: Job, step: Stepd) -> None:
    if step.uid() != job.uid:
        raise PeerError(f"job {job.job_id} does not belong to uid {job.uid} any more")
