"""Moving a process: into the cgroups of its job's step, back into them, and out again.

What the stepd has left outside is written into the step's cgroups; the kernel's word in
/proc/PID/cgroup is what counts. Where an adoption fails the process goes back to where it was.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.cgroup import hierarchy, step_cgroup
from slurm_adopt.slurm.errors import SUSPENDED, UNSETTLED, PeerError, SetupError
from slurm_adopt.slurm.proc import is_root, start_time
from slurm_adopt.slurm.stepd import stepd
from slurm_adopt.slurm.versions import LEADER, layout_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.adoption import Adoption

    from .jobs import Job
    from .phase import Phase


class Place:
    """Where a process is: its cgroups by controller, and the CPUs that it may use."""

    __slots__ = ("cgroups", "cpus", "pid")

    def __init__(self, pid: int, cgroups: dict[str, str]) -> None:
        """Look at its CPUs now: coming into a cpuset may change them; none where it is gone."""
        self.pid = pid
        self.cgroups = cgroups
        self.cpus = _cpus(pid)


class Confinement:
    """The cgroups of one job's extern step."""

    __slots__ = ("_job", "_phase", "layout")

    def __init__(self, job: Job, phase: Phase) -> None:
        """Look up where this node's extern steps are; SetupError if that cannot be told."""
        self._job = job
        self._phase = phase
        self.layout = phase.site.layout()

    @property
    def whose(self) -> str:
        """The job and its user, for the log."""
        return f"job {self._job.job_id} of uid {self._job.uid}"

    def check_takes(self, present: dict[str, str] | None = None) -> None:
        """Raise PeerError of kind SUSPENDED if nothing may be put into the step, or stay there.

        `present`: the cgroups of a process that is there; None: of one that is to be put there.
        """
        if why := self.obstacle(present):
            raise PeerError(why, SUSPENDED)

    def check_mounted(self) -> None:
        """Raise SetupError where a hierarchy is not mounted: nothing could be undone in it."""
        for controller in self.layout.unmounted() if self.layout else ():
            raise _without(self._job.job_id, controller)

    def obstacle(self, present: dict[str, str] | None = None) -> str:
        """Say why nothing may be put into the step, or stay there; "" if nothing shows."""
        job = self._job
        return self.layout.obstacle(job.socket, job.uid, present) if self.layout else ""

    def place(self, pid: int) -> Place:
        """Return where a process is now."""
        return Place(pid, hierarchy.of_process(pid, self.layout.proc) if self.layout else {})

    # bringing a process in

    def bring(
        self, adoption: Adoption, step: stepd.Stepd
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Read back; write what is missing; read back again. PeerError if it is still outside.

        Returns the cgroups written to, and by controller where the process is in the end.
        """
        self._say_what_tracks()
        layout, job = self.layout, self._job
        if layout is None:
            return (), {}
        release = layout_of(step.protocol)
        if release and release.het_cgroup == LEADER:
            layout.follow_leader(job.socket, job.uid, step.pids())
        pid = adoption.pid
        outside = layout.missing(pid, job.socket, job.uid, adoption.paths)
        listed = ", ".join(outside) or "nothing"
        self._phase.log.debug(f"process {pid} is outside the job in: {listed}")
        if outside:
            self._write(adoption, layout, outside, step)
        check_alive(adoption)
        if outside and layout.missing(pid, job.socket, job.uid):
            raise PeerError(f"process {pid} is still outside the cgroups of job {job.job_id}")
        # Read once: a reader waits until all moves of processes are over.
        present = hierarchy.of_process(pid, layout.proc)
        self.check_takes(present)
        return tuple(filter(None, outside.values())), present

    def _say_what_tracks(self) -> None:
        if step_cgroup.tracks_by_cgroup(self._phase.site.conf):
            return
        if self.layout:
            rest = "only the stepd's answer says that this session ends with the job"
        else:
            rest = (
                "only the stepd's answer says that this session is in the job; nothing confines it "
                "or ends it with the job"
            )
        self._phase.log.info(f"ProctrackType does not use cgroups: {rest}")

    def _write(
        self,
        adoption: Adoption,
        layout: step_cgroup.Layout,
        outside: dict[str, str | None],
        step: stepd.Stepd,
    ) -> None:
        """Write a process into the cgroups, by controller, that it is outside of."""
        check_running(adoption.job_id, step)  # the paths were those of a living step
        self.check_takes()
        for controller, path in outside.items():
            check_alive(adoption)
            self._enter(adoption, layout, controller, path)

    def _enter(
        self, adoption: Adoption, layout: step_cgroup.Layout, controller: str, path: str | None
    ) -> None:
        """Write a process into a cgroup of its job, and say so."""
        if path is None:
            raise _without(adoption.job_id, controller)
        where, pid = f"{controller}:{path}", adoption.pid
        log = self._phase.log
        if adoption.paths:  # it has been in the job before: pam_systemd does this at every login
            log.debug(f"{where}: process {pid} was moved away; it is written back")
        else:
            log.info(f"{where}: the stepd left process {pid} outside; it is written there")
        layout.enter(pid, controller, path)

    def widen(self, pid: int) -> None:
        """Let a process use all CPUs of its job, where the job has some of the node's."""
        if self.layout is None or "cpuset" not in self.layout.controllers:
            return
        from . import affinity

        try:
            if changed := affinity.widen(pid, self.layout):
                self._phase.log.debug(f"process {pid} may use {changed}")
        except SetupError as error:
            self._phase.log.error(f"process {pid} in job {self._job.job_id} {error}")

    # and out again

    def put_back(self, before: Place, error: BaseException) -> None:
        """Write a process back into the cgroups that it was in, as far as that can be done.

        `error`: what has failed. Where its stepd may be moving it at this moment it is settled in
        or out (unsettled.py).
        """
        layout, log, pid = self.layout, self._phase.log, before.pid
        if layout is None:
            return
        if isinstance(error, PeerError) and error.kind == UNSETTLED:
            from . import unsettled

            job = self._job
            back, said = unsettled.settle(pid, before.cgroups, layout, job.socket, job.uid)
            if said:
                log.error(said)
            if not back:
                return
        for remark in layout.restore(pid, before.cgroups):
            log.error(f"process {pid} stays in its job's cgroup: {remark}")
        if before.cpus and before.cpus != _cpus(pid):
            from . import affinity

            if remark := affinity.restore(pid, before.cpus):
                log.error(f"process {pid} cannot be bound to its CPUs again: {remark}")


def _without(job_id: int, controller: str) -> SetupError:
    return SetupError(
        f"job {job_id} has no cgroup for {controller or 'its processes'}, though the configuration "
        "asks for one: is that hierarchy not mounted here, or was the job started before a change "
        "of slurm.conf?"
    )


def check_running(job_id: int, step: stepd.Stepd) -> None:
    """Raise PeerError where a step has begun to end."""
    if step.state() not in stepd.ALIVE:
        raise PeerError(f"job {job_id} is ending")


def check_alive(adoption: Adoption) -> None:
    """Raise PeerError where another process has got the pid, or none has; nothing for our own.

    What is still our parent has not ended, whosever it is: that of su is a user's, by its real uid.
    """
    if not adoption.started or os.getppid() == adoption.pid:
        return
    pid = adoption.pid
    if not is_root(f"/proc/{pid}") or start_time(pid) != adoption.started:
        raise ended(pid)


def ended(pid: int) -> PeerError:
    """Return the error of a process that is not there to be adopted any more."""
    return PeerError(f"process {pid}, which was to become the session, has ended")


def _cpus(pid: int) -> set[int]:
    try:
        return os.sched_getaffinity(pid)
    except OSError:
        return set()
