"""What one job would give to a session: read, or asked of its stepd; nothing is changed.

Stepds hand out namespaces and X11 to whoever asks, since 25.11 to root and the job's own user only.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from slurm_adopt.decision.variables import asks_a_process
from slurm_adopt.session import environment, runtime_dir
from slurm_adopt.session.job_process import Search, Wanted
from slurm_adopt.slurm.cgroup import hierarchy, step_cgroup
from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups
from slurm_adopt.slurm.errors import SetupError, SlurmAdoptError
from slurm_adopt.slurm.stepd.namespaces import FILES
from slurm_adopt.slurm.versions import LEADER, layout_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_adopt.node.jobs import Job
    from slurm_adopt.node.phase import Phase
    from slurm_adopt.node.stepds import Stepds
    from slurm_adopt.session.job_process import JobProcess
    from slurm_adopt.slurm.cgroup.step_cgroup import Layout
    from slurm_adopt.slurm.stepd.stepd import Stepd

UNTOLD = "its stepd tells only root and the job's user of namespaces and X11"


def asks_as() -> int:
    """Return the uid by which stepds and slurmds know this command."""
    return os.geteuid()


class LookingJob:
    """One of the user's jobs here; its stepd is asked once, when this is made."""

    def __init__(self, job: Job, phase: Phase, stepds: Stepds) -> None:
        """Ask the stepd what it has to give."""
        self.job = job
        self._phase = phase
        self._stepds = stepds
        self.remarks: list[str] = []  # what a session would do without, or could not be seen
        self.namespaces: list[str] = []  # kinds that the job has, and this process is not in
        self.environment = {"SLURM_JOB_ID": str(job.job_id)}
        self.limits_of: int | None = None  # the process whose limits job_limits=1 takes
        self._trouble: SlurmAdoptError | None = None  # that would fail an adoption
        self._namespace_trouble: SlurmAdoptError | None = None
        self._may_ask = asks_as() in (0, job.uid)
        layout = phase.site.layout()
        try:
            with stepds.of(job) as step:
                self._ask(step, layout)
        except SlurmAdoptError as error:
            self._trouble = error
        self.confined = layout is not None
        self.cgroups = _cgroups(layout, job)

    def _ask(self, step: Stepd, layout: Layout | None) -> None:
        release = layout_of(step.protocol)
        if layout and release and release.het_cgroup == LEADER:
            layout.follow_leader(self.job.socket, self.job.uid, step.pids())
        try:
            self.namespaces = [_name(*one) for one in step.namespaces() if not _is_ours(*one)]
        except SlurmAdoptError as error:
            if not self._may_ask:
                self.remarks.append(UNTOLD)
                return
            self._namespace_trouble = error
        self._give(step)

    def check(self, *, join_container: bool) -> None:
        """Raise what would fail an adoption, as far as it shows."""
        for trouble in (self._trouble, self._namespace_trouble if join_container else None):
            if trouble is not None:
                raise trouble.with_traceback(None)
        for controller, path in self.cgroups.items():
            if path is None:
                raise SetupError(
                    f"job {self.job.job_id} has no cgroup for {controller or 'its processes'}, "
                    "though the configuration asks for one"
                )

    # What the session gets

    def _give(self, step: Stepd) -> None:
        options = self._phase.options
        if options.on("runtime_dir"):
            name = self._phase.site.name
            path = runtime_dir.path_of(name, self.job.uid, self.job.job_id)
            self.environment["XDG_RUNTIME_DIR"] = path
        if not options.on("disable_x11"):  # last: it may make the stepd hang up
            self._try("DISPLAY is left alone", lambda: self._x11(step))

    def look_at_processes(self) -> None:
        """Add what the session gets from a process of the job, if the options ask for that."""
        options = self._phase.options
        if options["job_env"] != "SLURM_JOB_ID" or options.on("job_limits"):
            self._try("the job's variables and limits are left out", self._ask_for_processes)

    def _ask_for_processes(self) -> None:
        with self._stepds.of(self.job) as step:
            self._of_job(step)

    def _try(self, without: str, look: Callable[[], None]) -> None:
        try:
            look()
        except SlurmAdoptError as error:
            self.remarks.append(f"{without}: {error}")

    def _x11(self, step: Stepd) -> None:
        display, authority = step.x11() or (0, "")
        if display:
            self.environment["DISPLAY"] = f"localhost:{display}.0"
        if authority:
            self.environment["XAUTHORITY"] = authority

    def _of_job(self, step: Stepd) -> None:
        """Read the job's variables as a login does: a child reads what users can hold up."""
        options, site, job = self._phase.options, self._phase.site, self.job
        given = options["job_env"]
        layout = site.layout()
        cgroups = JobCgroups({}, {})
        if layout:
            cgroups = JobCgroups.of_step(layout, job.socket, job.uid)
        process = self._process(step, cgroups, variables=asks_a_process(given))
        self.limits_of = process.pid if process and options.on("job_limits") else None
        own = environment.own(job.job_id, job.uid, site.name)
        found = environment.variables(given, own, cgroups, process, self._phase.log)
        self.environment.update(found)

    def _process(self, step: Stepd, cgroups: JobCgroups, *, variables: bool) -> JobProcess | None:
        if not variables and not self._phase.options.on("job_limits"):
            return None
        wanted = Wanted(self.job.job_id, self.job.uid, cgroups, variables)
        return Search(wanted, self._phase.log).find(step, self._phase.site.name)


def _cgroups(layout: Layout | None, job: Job) -> dict[str, str | None]:
    """Return where the process would go, by controller; None where the step has no cgroup."""
    if layout is None:
        return {}
    known = hierarchy.of_process(os.getpid(), layout.proc)  # mount options have other names
    found = {name: top for name, top in layout.tops_of(job.socket, job.uid) if name in known}
    unified = isinstance(layout, step_cgroup.V2)
    wanted = {hierarchy.UNIFIED} if unified else layout.controllers | found.keys()
    return {name: found.get(name) for name in sorted(wanted)}


def _name(flag: int, _: int) -> str:
    if flag not in FILES:
        raise SetupError(f"the job has a namespace of unknown kind {flag:#x}")
    return FILES[flag].partition("_")[0]


def _is_ours(flag: int, descriptor: int) -> bool:
    """Say whether this process is in a namespace."""
    with suppress(OSError):
        return os.path.samestat(os.stat(f"/proc/self/ns/{FILES.get(flag)}"), os.fstat(descriptor))
    return False
