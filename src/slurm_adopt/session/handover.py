"""What belongs to a job and is handed to a session that was adopted into it.

SLURM_JOB_ID always; DISPLAY and XAUTHORITY of a job with X11; what the options ask for beyond that.
Something of this that fails is logged and left out: the session is in the job all the same. Only
namespaces are part of being in the job; node/adopting.py has them entered after all that is asked
or read, and the limits set after them: a session that could not enter is not left with limits.
"""

from __future__ import annotations

import os

from slurm_adopt.slurm.errors import SlurmAdoptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from slurm_adopt.decision.options import Options
    from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups
    from slurm_adopt.slurm.stepd.stepd import Stepd
    from slurm_adopt.system.log import Log

    from .job_process import JobProcess


class Session:
    """The session that is handed something, and its job."""

    __slots__ = ("job_id", "mountpoint", "node", "pid", "uid")

    def __init__(self, pid: int, uid: int, job_id: int, node: str, mountpoint: str) -> None:
        """`pid`: what becomes the session; `node`: NodeName; `mountpoint`: of cgroup.conf."""
        self.pid = pid
        self.uid = uid
        self.job_id = job_id
        self.node = node
        self.mountpoint = mountpoint


class Handover:
    """What one session gets from its job."""

    __slots__ = (
        "_limits_too", "_log", "_options", "_session", "_set_limits", "_step", "_variables_too",
    )  # fmt: skip

    def __init__(
        self, session: Session, step: Stepd, options: Options, log: Log, *, limits: bool
    ) -> None:
        """`step`: the open conversation; `limits`: whether now is the time for these.

        It is in the session phase only, so after pam_limits. Until then other modules and sshd work
        as root, and pam_limits may want to raise a limit.
        """
        self._session = session
        self._step = step
        self._options = options
        self._log = log
        self._limits_too = limits
        self._set_limits: Callable[[], list[str]] | None = None
        self._variables_too = True

    def without_variables(self) -> None:
        """Ask for no variable: the session's environment is out of reach (pam_exec)."""
        self._variables_too = False

    def environment(self) -> dict[str, str]:
        """Return the variables of the session."""
        found = {"SLURM_JOB_ID": str(self._session.job_id)}
        if not self._variables_too:
            if self._wants_limits():
                self._try("the job's variables and limits are left out", self._of_job)
            return found
        if not self._options.on("disable_x11"):
            found.update(self._try("DISPLAY is left alone", self._x11))
        if self._options.on("runtime_dir"):
            found.update(self._try("XDG_RUNTIME_DIR is not set", self._runtime_dir))
        if self._options["job_env"] != "SLURM_JOB_ID" or self._wants_limits():
            found.update(self._try("the job's variables and limits are left out", self._of_job))
        return found

    def finish(self) -> None:
        """Set the limits that environment() has read. Files may be the job's own by now."""
        if self._set_limits:
            self._try("limits are left as they are", self._limits)

    def _try(self, without: str, read: Callable[[], dict[str, str]]) -> dict[str, str]:
        try:
            return read()
        except SlurmAdoptError as error:
            self._log.error(f"{without}: {error}")
        except Exception as error:  # noqa: BLE001 - a mistake in here ends no login
            self._log.error(f"{without}: unexpected {error!r} (please report this)")
        return {}

    def _x11(self) -> dict[str, str]:
        """Return DISPLAY and XAUTHORITY of a job with X11."""
        display, authority = self._step.x11() or (0, "")
        variables = {
            "DISPLAY": f"localhost:{display}.0" if display else "",
            "XAUTHORITY": authority,
        }
        return {name: value for name, value in variables.items() if value}

    def _runtime_dir(self) -> dict[str, str]:
        """Make the job's own; take away those of jobs that are gone."""
        from . import runtime_dir

        session = self._session
        path = runtime_dir.make(session.node, session.uid, session.job_id)
        for remark in runtime_dir.sweep(session.node, os.path.dirname(self._step.path)):
            self._log.error(remark)
        return {"XDG_RUNTIME_DIR": path}

    def _wants_limits(self) -> bool:
        return self._limits_too and self._options.on("job_limits")

    def _of_job(self) -> dict[str, str]:
        """Return the variables that job_env names; see to job_limits."""
        from slurm_adopt.decision.variables import asks_a_process
        from slurm_adopt.slurm.cgroup.job_cgroup import JobCgroups

        from . import environment

        session, given, limits = self._session, self._options["job_env"], self._wants_limits()
        variables = self._variables_too and asks_a_process(given)
        cgroups = JobCgroups.of(session.pid, session.mountpoint)
        process = self._process(cgroups, variables) if limits or variables else None
        if limits and process:
            self._prepare_limits(process.limits)
        own = environment.own(session.job_id, session.uid, session.node)
        return environment.variables(given, own, cgroups, process, self._log)

    def _process(self, cgroups: JobCgroups, variables: bool) -> JobProcess | None:
        from .job_process import Search, Wanted

        session = self._session
        wanted = Wanted(session.job_id, session.uid, cgroups, variables)
        return Search(wanted, self._log).find(self._step, session.node)

    def _prepare_limits(self, limits: bytes) -> None:
        from .limits import set_on  # now: after the namespaces /usr may be the user's own

        self._set_limits = lambda: set_on(self._session.pid, limits)

    def _limits(self) -> dict[str, str]:
        changed = self._set_limits() if self._set_limits else []
        listed = ", ".join(changed) or "none"
        self._log.debug(f"limits of process {self._session.pid} set: {listed}")
        return {}
