"""This node as the engine sees it: the user's jobs, adopting a process, proving that it is in.

Everything is looked up when it is first asked for, so that a login that is none of our business
reads no file of Slurm.
"""

from __future__ import annotations

import os
from time import sleep

from slurm_adopt.decision.adoption import Adoption
from slurm_adopt.decision.options import parse
from slurm_adopt.session.handover import Handover
from slurm_adopt.slurm.cgroup import step_cgroup
from slurm_adopt.slurm.config import conf
from slurm_adopt.slurm.deadline import Deadline, Patience
from slurm_adopt.slurm.errors import PeerError, SetupError, SuspendedError, UnsettledError
from slurm_adopt.slurm.stepd import ask_all, step_sockets, stepd
from slurm_adopt.slurm.versions import LEADER, RELEASES, layout_of

from .session_process import is_child, is_sshd, login_began, session_process, start_time
from .slurm_site import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.adoption import Choice
    from slurm_adopt.decision.login import Login
    from slurm_adopt.decision.options import Options
    from slurm_adopt.slurm.config.conf import Conf
    from slurm_adopt.slurm.stepd import starting
    from slurm_adopt.system.log import Log

    from .ssh_connection import Connection

# Of silence, in seconds: nothing answers, and nothing shows that a stepd is at work (deadline.py).
ASKING = 5.0  # of all stepds that are asked whose they are; of stopped ones 2 (inquiry.QUIET)
ADOPTING = 5.0  # of the one that adopts: it may take 4.1 s to say that it failed
# For all that a login tries, in seconds: no sign of life makes it longer.
ASKING_LONGEST = 30.0
ADOPTING_LONGEST = 100.0  # less than LoginGraceTime's 120 s, which a silent client has as well
STARTING = 10.0  # seconds that a stepd may take to make its step ready: mostly 10 to 30 ms
UNKNOWN = 1 << 64  # later than all ticks since boot
GONE = -1  # in place of the start of a process that is not there
POLL = 0.01  # seconds between looks whether it is, at first
SLOWEST = 0.2  # seconds between them later on: hundreds may be looking


class Job:
    """A job of the user that has an extern step on this node."""

    __slots__ = ("job_id", "protocol", "socket", "starting", "trouble", "uid")

    def __init__(
        self,
        socket: step_sockets.StepSocket,
        uid: int,
        protocol: int = 0,
        trouble: str = "",
        *,
        starting: bool = False,
    ) -> None:
        """`protocol`: number of its stepd's release; `trouble`: why that does not answer, if so.

        `starting`: it was still making its step ready when it was asked.
        """
        self.job_id = socket.job_id
        self.socket = socket
        self.uid = uid
        self.protocol = protocol
        self.trouble = trouble
        self.starting = starting

    @property
    def started(self) -> int:
        """When the extern step was started: clock ticks since boot, of its stepd.

        The socket's change time would be finer, but everybody may write to the sockets, so
        everybody may change that. Where no connection was to be had, which everybody can bring
        about, it is not known, and counts as the newest: then the login is in no older one.
        """
        return start_time(self.socket.pid) if self.socket.pid else UNKNOWN


class Node:
    """The real node."""

    def __init__(
        self, options: Options, log: Log, hostname: str = "", account_of: str = ""
    ) -> None:
        """`hostname` is this host's own unless given.

        `account_of`: the service whose account phase this is; "" in the session phase.
        """
        self._options = options
        self._log = log
        self._account_of = account_of
        self._defers: bool | None = None
        self._laid_out: tuple[Conf, step_cgroup.Layout | None] | None = None
        self._starting: Deadline | None = None
        self._bounds: dict[float, Deadline] = {}
        self.silent: frozenset[int] = frozenset()  # jobs whose stepds gave no answer
        self._setting = Setting(
            options["slurm_conf"], options["nodename"], hostname or os.uname().nodename, log
        )

    @property
    def runs_slurm(self) -> bool:
        """Whether this host is a compute node: a slurmd or stepd of root's runs here."""
        return self._setting.runs_slurm

    # jobs

    def jobs(self, uid: int, only: int | None = None) -> list[Job]:
        """Return the user's jobs that have an extern step here and have not begun to end.

        `only`: the one of that id, if it is among them. Raises SetupError if this cannot be told.
        """
        steps = [step for step in self._setting.steps() if only in (None, step.job_id)]
        jobs, alive = self._jobs_among(steps, uid)
        dead = f" ({len(steps) - alive} sockets without a stepd)" if len(steps) > alive else ""
        self._log.debug(f"{alive} extern steps here{dead}, {len(jobs)} of uid {uid}")
        if not alive and only is None:
            self._hint(self._setting.spool, self._setting.name, len(steps))
        return jobs

    def awaited_jobs(self, uid: int) -> list[Job]:
        """Wait up to wait_for_job for an extern step that is being set up; return the jobs then.

        Without a sign of one there is a second look, and no wait.
        """
        seconds = self._options.seconds("wait_for_job")
        if not seconds:
            return []
        from slurm_adopt.slurm.stepd import starting

        steps = step_sockets.steps(self._setting.spool, self._setting.name)
        known = frozenset(step.job_id for step in steps)
        watch = starting.Watch(uid, self._setting.name, known)
        if sign := self._sign(watch, uid) or watch.nameless:
            self._log.info(f"no extern step yet, but {sign}: waiting up to {seconds:g} s")
        return starting.wait(
            lambda: self._jobs_among(self._setting.steps(), uid)[0],
            lambda: self._sign(watch, uid),
            bool(sign),
            Deadline(seconds),
        )

    def _sign(self, watch: starting.Watch, uid: int) -> str:
        """Say what shows that a job of the user is being set up here; "" if nothing does."""
        if (job_id := watch.prolog()) is not None:
            return f"the prolog of job {job_id} is running"
        lone = step_sockets.lone_steps(self._setting.spool, self._setting.name)
        for job in self._jobs_among(lone, uid)[0]:
            return f"job {job.job_id} has another step"
        return ""

    def _jobs_among(self, steps: list[step_sockets.StepSocket], uid: int) -> tuple[list[Job], int]:
        """Return the user's jobs among these steps, by job id, that have not begun to end.

        And how many of the steps, of whomever, have a stepd; that a socket lies there says nothing.
        """
        answers, silent = ask_all.ask_all(
            steps,
            self._setting.trusted,
            self._patience(ASKING, ASKING_LONGEST),
            self._introduce,
            lambda step: self._of_another(step, uid),
        )
        jobs = [
            Job(step, uid, answer.protocol, starting=answer.state == stepd.STARTING)
            for step, answer in answers.items()
            if answer.uid == uid and answer.state in stepd.ALIVE
        ]
        jobs += self._silent(silent, uid)
        return sorted(jobs, key=lambda job: job.job_id), len(answers) + len(silent)

    def _of_another(self, step: step_sockets.StepSocket, uid: int) -> bool:
        """Say whether a job is another user's, by its cgroups; False where they do not tell."""
        try:
            layout = self._layout()
        except SetupError:
            return False
        uids = layout.uids(step) if layout else set()
        return bool(uids) and uid not in uids

    def _hint(self, directory: str, name: str, dead: int) -> None:
        """Say what may be wrong where this node has no extern step at all, but `dead` ones."""
        others = step_sockets.other_steps(directory, name)
        if others and dead:
            self._log.error(
                f"{others} steps run here, but no extern stepd answers ({dead} sockets "
                f"without a stepd in {directory}): if the extern stepds have died, nobody can log "
                f"in to these jobs any more; {self._extern_steps('otherwise ')}"
            )
        elif others:
            self._log.error(
                f"{others} steps run here, but no job has an extern step: {self._extern_steps()}"
            )
        elif names := step_sockets.node_names(directory, alive=True) - {name}:
            self._log.error(
                f"the jobs in {directory} belong to node {' '.join(sorted(names)[:4])}, but this "
                f"host is taken for node {name}: is nodename= right?"
            )
        elif self._options["nodename"] and not conf.has_node(self._setting.conf, name):
            self._log.error(f"node {name} is not in {self._setting.conf.path}: is nodename= right?")

    def _extern_steps(self, otherwise: str = "") -> str:
        """Say what keeps jobs from having an extern step, by PrologFlags."""
        path = self._setting.conf.path
        if flags := conf.contains(self._setting.conf):
            return (
                f"{otherwise}they were started before PrologFlags={flags} was set in {path}, and "
                "do not count as jobs until they end"
            )
        return (
            f"{otherwise}set PrologFlags=contain in {path} (X11 and RunInJob include it, Alloc "
            "does not; jobs started before do not count as jobs until they end)"
        )

    def _silent(self, silent: dict[step_sockets.StepSocket, str], uid: int) -> list[Job]:
        """Return the user's jobs, told by their cgroups, whose stepds gave no answer."""
        for step in [step for step in silent if step.stranger]:
            self._log.error(silent.pop(step))
        self.silent = frozenset(step.job_id for step in silent)
        if not silent:
            return []
        try:
            layout = self._layout()
        except SetupError as error:
            self._log.error(str(error))
            layout = None
        jobs = []
        for step, reason in silent.items():
            owner = layout.owner(step) if layout else None
            whose = "of an unknown user" if owner is None else f"of uid {owner}"
            self._log.error(f"stepd of job {step.job_id} ({whose}): {reason}")
            if owner == uid:
                jobs.append(Job(step, uid, trouble=reason))
        return jobs

    def _introduce(self, deadline: Deadline) -> bytes:
        """Make the greeting that stepds of 17.11 and 18.08 want."""
        from slurm_adopt.slurm import auth
        from slurm_adopt.slurm.stepd import old_greeting

        return old_greeting.make(auth.of(self._setting.conf), deadline)

    # source

    def source_job(self, login: Login, jobs: list[Job]) -> int | None:
        """Ask the slurmd at the other end of the login's connection which job holds that end.

        Raises PeerError or SetupError with the reason where that cannot be asked or was not
        answered; all of it within callerid_timeout.
        """
        if not self._options.on("callerid"):
            raise PeerError("callerid=0")
        from . import ssh_connection as logins

        deadline = Deadline(self._options.seconds("callerid_timeout"))
        connection, remark = logins.find(
            login.ssh_connection, login.rhost, os.getppid(), deadline=deadline
        )
        if connection is None:
            raise PeerError(f"source unknown: {remark}")
        if remark:
            self._log.info(f"source: {remark}; the socket from {connection.source} is used")
        return self._ask(connection, max(job.protocol for job in jobs), deadline)

    def _ask(self, connection: Connection, protocol: int, deadline: Deadline) -> int | None:
        """Ask about a connection; `protocol`: of the newest stepd here, 0 if none answered."""
        from slurm_adopt.slurm import auth
        from slurm_adopt.slurm.config import slurmd_ports
        from slurm_adopt.slurm.slurmd import callerid

        from . import own_address

        slurm_conf, trusted = self._setting.conf, self._setting.trusted
        protocol = protocol or RELEASES[-1].protocol
        if why := callerid.encrypted(slurm_conf, protocol):
            raise PeerError(why)
        plugin = auth.of(slurm_conf)
        places: list[tuple[str, int]] = []
        if own_address.is_own(connection.source):
            all_ports = slurmd_ports.all_ports(slurm_conf)
            places = own_address.places(connection, all_ports, trusted, deadline)
        if not places:
            ports = slurmd_ports.ports_at(slurm_conf, connection.source)
            places = [(connection.source, port) for port in ports]
        self._log.debug(
            f"asking {', '.join(f'{address} port {port}' for address, port in places)} about "
            f"{connection}, protocol {protocol}, {plugin.plugin_name}"
        )
        return callerid.ask_each(connection, places, protocol, plugin, deadline, trusted)

    # adoption

    def adopt(self, pid: int, job: Job) -> Adoption:
        """Bring a login into the job's extern step; PeerError or SetupError if it is not in.

        `pid` is the process that the service has called us in. The one that becomes the session is
        adopted: in the session phase the same, in the account phase nearly always. The stepd is
        asked once; what it then left outside is written into the step's cgroups; the kernel's word
        in /proc/PID/cgroup is what counts. Where that fails the process goes back to where it was.
        """
        self._check_answering(job)
        if job.starting:
            self._await_start(job)
        # A session is opened in the process that becomes it.
        session = session_process() if self._account_of else pid
        started = 0 if session == os.getpid() else start_time(session) or GONE
        adoption = Adoption(session, job.uid, job.job_id, started=started)
        layout = self._layout()
        with self._stepd(job) as step:
            self._check_owner(job, step)
            self._check_suspended(job, layout)
            _check_alive(adoption)
            before = step_cgroup.of_process(session, layout.proc) if layout else {}
            cpus = _cpus(session)
            if self._account_of:
                self._watch(session, job, before, layout)
            try:
                step.add_extern_pid(session)
                self._log.debug(
                    f"stepd of job {job.job_id} ({step.protocol}) took process {session}"
                )
                adoption = self._complete(adoption, job, step, cpus)
            except BaseException as error:
                if layout:
                    self._put_back(session, before, layout, job, cpus, error)
                if isinstance(error, SuspendedError):
                    error.taken = True
                raise
            finally:  # the stepd has it, whatever comes of the rest
                if session != pid:
                    self._tell(adoption)
        return adoption

    @property
    def defers(self) -> bool:
        """Whether this is an account phase whose login a session line will adopt.

        That line has to be certain to come. So has the session phase: OpenSSH's programs call it.
        """
        if self._defers is None:
            self._defers = bool(self._account_of) and self._session_line_comes()
        return self._defers

    def _session_line_comes(self) -> bool:
        from . import pam_stack

        why = "" if is_sshd() else "this program is not OpenSSH's sshd, and may not open a session"
        why = why or pam_stack.why_uncertain(self._account_of, since=login_began())
        why = why or self._other_options()
        if why:  # no session line at all is a choice
            there = pam_stack.session_line(self._account_of) is not None
            tell = self._log.info if there else self._log.debug
            tell(f"the account phase adopts: {why}")
        return not why

    def _other_options(self) -> str:
        """Say so where the session line would decide otherwise: an adoption that fails, above all.

        A line that is less strict than the account line would let in whom that refuses.
        """
        from . import pam_stack

        theirs, _ = parse(pam_stack.session_line(self._account_of) or [])
        names = self._options.differing(theirs)
        return f"the session line has other options: {', '.join(names)}" if names else ""

    def look(self, job: Job) -> None:
        """Raise PeerError if a job would not take a login now, SuspendedError if it is frozen."""
        self._check_answering(job)
        self._check_suspended(job, self._layout())

    def suspended(self, job: Job) -> str:
        """Say why nothing may be put into a job's step now; "" if it may, or nothing shows."""
        try:
            layout = self._layout()
            return layout.obstacle(job.socket, job.uid) if layout else ""
        except SetupError:
            return ""

    def tell(self, choice: Choice) -> None:
        """Leave word of a choice where another process opens the session: then it is our parent."""
        if not is_child():
            return
        from . import adoption_note

        try:
            adoption_note.leave_choice(choice, os.getppid())
        except SetupError as error:
            self._log.error(f"{error}; the session line decides again")

    def _check_answering(self, job: Job) -> None:
        if job.trouble:
            raise PeerError(f"stepd of job {job.job_id}: {job.trouble}")

    def _check_suspended(
        self, job: Job, layout: step_cgroup.Layout | None, pid: int | None = None
    ) -> None:
        """Raise SuspendedError if nothing may be put into the step; or stay there, with `pid`."""
        if layout and (why := layout.obstacle(job.socket, job.uid, pid)):
            raise SuspendedError(why)

    def _watch(
        self, pid: int, job: Job, before: dict[str, str], layout: step_cgroup.Layout | None
    ) -> None:
        """Have a login watched that is not done yet when the user's job has it."""
        from .login_slot import slot_of

        slot = slot_of(pid)
        if slot is None:
            self._log.debug(f"process {pid} holds no MaxStartups slot of sshd: it is not watched")
            return
        from . import watcher

        watcher.start(slot, before, layout, self._log, f"job {job.job_id} of uid {job.uid}")

    def _put_back(
        self,
        pid: int,
        before: dict[str, str],
        layout: step_cgroup.Layout,
        job: Job,
        cpus: set[int],
        error: BaseException,
    ) -> None:
        """Write a process back into the cgroups that it was in, as far as that can be done.

        `cpus`: those that it was bound to, which coming into a cpuset may have changed. Where its
        stepd may be moving it at this moment it is settled in or out (unsettled.py).
        """
        if isinstance(error, UnsettledError):
            from . import unsettled

            back, said = unsettled.settle(pid, before, layout, job.socket, job.uid)
            if said:
                self._log.error(said)
            if not back:
                return
        for remark in layout.restore(pid, before):
            self._log.error(f"process {pid} stays in its job's cgroup: {remark}")
        if cpus and cpus != _cpus(pid):
            from . import affinity

            if remark := affinity.restore(pid, cpus):
                self._log.error(f"process {pid} cannot be bound to its CPUs again: {remark}")

    def noted(self, pid: int, uid: int) -> Adoption | Choice | None:
        """Return what another process has left word of, if one has."""
        from . import adoption_note

        try:
            return adoption_note.take(pid, uid)
        except Exception as error:  # noqa: BLE001 - then all is decided here
            self._log.error(f"cannot read the account phase's note: {error!r}")
            return None

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
        for socket in self._setting.steps():
            if socket.job_id == job_id:
                job = Job(socket, adoption.uid)
                with self._stepd(job) as step:
                    self._check_owner(job, step)
                    return self._complete(adoption, job, step)
        raise PeerError(f"job {job_id} has ended")

    def _tell(self, adoption: Adoption) -> None:
        """Leave word for the session phase, which another process runs."""
        from . import adoption_note

        try:
            adoption_note.leave(adoption)
        except SetupError as error:
            self._log.error(f"{error}; a session line will ask the stepd a second time")

    def _await_start(self, job: Job) -> None:
        """Wait for a stepd that answers, but has not made all of its step's cgroups yet.

        It would refuse the process, and leave it in some of them. It says that it is running when
        all are there (seen on 20.11 to 26.05). An InitScript of job_container.conf comes before.
        """
        if self._starting is None:  # one wait for all that a login tries
            self._starting = Deadline(max(STARTING, self._options.seconds("wait_for_job")))
        patience, pause = Patience(ADOPTING, self._starting.left() + ADOPTING), POLL
        with self._stepd(job, patience) as step:
            while step.state() == stepd.STARTING:
                if not self._starting.left():
                    self._log.error(
                        f"the extern step of job {job.job_id} is still starting: does an "
                        "InitScript of Slurm's need longer? Set wait_for_job= to wait longer"
                    )
                    return
                sleep(pause)
                pause = min(SLOWEST, 1.2 * pause)

    def _stepd(self, job: Job, deadline: Deadline | None = None) -> stepd.Stepd:
        deadline = deadline or self._patience(ADOPTING, ADOPTING_LONGEST)
        return stepd.Stepd(job.socket, self._setting.trusted, deadline, self._introduce)

    def _patience(self, silence: float, longest: float) -> Patience:
        """Return a wait for stepds: of all that a login tries none goes on after `longest`.

        But each has the time that silence takes.
        """
        bound = self._bounds.setdefault(longest, Deadline(longest))
        return Patience(silence, max(silence, bound.left()))

    def _check_owner(self, job: Job, step: stepd.Stepd) -> None:
        if step.uid() != job.uid:
            raise PeerError(f"job {job.job_id} does not belong to uid {job.uid} any more")

    def _complete(
        self, adoption: Adoption, job: Job, step: stepd.Stepd, cpus: set[int] | None = None
    ) -> Adoption:
        """Return the adoption as proven, with what the job gives to the session.

        `cpus`: those that a process which is new in the job was bound to.
        """
        pid = adoption.pid
        written, paths = self._confine(adoption, job, step)
        if step.state() not in stepd.ALIVE:
            raise PeerError(f"job {job.job_id} is ending")
        if cpus and len(cpus) < os.sysconf("SC_NPROCESSORS_ONLN"):
            self._widen(pid, job)
        namespaces = step.namespaces() if self._options.on("join_container") else []
        name = self._setting.name
        handover = Handover(
            step,
            job.job_id,
            job.uid,
            pid,
            name,
            self._options,
            self._log,
            session=not self._account_of,
        )
        environment = handover.environment()  # after all that: it may make the stepd hang up
        if namespaces:
            self._join(adoption, namespaces)
        handover.finish()
        started = adoption.started
        return Adoption(pid, job.uid, job.job_id, paths, environment, written, started=started)

    def _widen(self, pid: int, job: Job) -> None:
        """Let a process use all CPUs of its job, where the job has some of the node's."""
        layout = self._layout()
        if layout is None or "cpuset" not in layout.controllers:
            return
        from . import affinity

        try:
            if changed := affinity.widen(pid, layout):
                self._log.debug(f"process {pid} may use {changed}")
        except SetupError as error:
            self._log.error(f"process {pid} in job {job.job_id} {error}")

    def _join(self, adoption: Adoption, namespaces: list[tuple[int, int]]) -> None:
        """Enter the job's namespaces; SetupError if that fails. It is the last thing done.

        In the account phase that is left to our session line, where there is one: other modules of
        the session phase want the host's own (pam_loginuid its /proc, pam_limits its rights), and
        only the process that becomes the session can enter.
        """
        from slurm_adopt.slurm.stepd.namespaces import enter

        from . import pam_stack

        if self._account_of and pam_stack.joins(self._account_of):
            self._log.debug(f"namespaces of job {adoption.job_id}: left to the session line")
            return
        self._log.open()  # the host's: in the job's namespaces /dev/log may be another one
        entered = enter(adoption.pid, namespaces)
        names = " ".join(entered) or "none, it was in all of them"
        self._log.debug(f"namespaces of job {adoption.job_id} entered: {names}")

    def _confine(
        self, adoption: Adoption, job: Job, step: stepd.Stepd
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Read back; write what is missing; read back again.

        Returns the cgroups written to, and by controller where the process is in the end.
        """
        layout = self._layout()
        if not step_cgroup.tracks_by_cgroup(self._setting.conf):
            self._log.info(
                "ProctrackType does not use cgroups: "
                + (
                    "only the stepd's answer says that this session ends with the job"
                    if layout
                    else "only the stepd's answer says that this session is in the job; nothing "
                    "confines it or ends it with the job"
                )
            )
        if layout is None:
            return (), {}
        pid = adoption.pid
        release = layout_of(step.protocol)
        if release and release.het_cgroup == LEADER:
            layout.follow_leader(job.socket, job.uid, step.pids())
        outside = layout.missing(pid, job.socket, job.uid, adoption.paths)
        self._log.debug(f"process {pid} is outside the job in: {', '.join(outside) or 'nothing'}")
        if outside and step.state() not in stepd.ALIVE:  # the paths were those of a living step
            raise PeerError(f"job {job.job_id} is ending")
        if outside:
            self._check_suspended(job, layout)
        for controller, path in outside.items():
            _check_alive(adoption)
            self._enter(adoption, layout, controller, path)
        _check_alive(adoption)
        if outside and layout.missing(pid, job.socket, job.uid):
            raise PeerError(f"process {pid} is still outside the cgroups of job {job.job_id}")
        self._check_suspended(job, layout, pid)
        return tuple(filter(None, outside.values())), step_cgroup.of_process(pid, layout.proc)

    def _enter(
        self, adoption: Adoption, layout: step_cgroup.Layout, controller: str, path: str | None
    ) -> None:
        """Write a process into a cgroup of its job, and say so."""
        if path is None:
            raise SetupError(
                f"job {adoption.job_id} has no cgroup for {controller or 'its processes'}, though "
                "the configuration asks for one: is that hierarchy not mounted here, or was the "
                "job started before a change of slurm.conf?"
            )
        where, pid = f"{controller}:{path}", adoption.pid
        if adoption.paths:  # it has been in the job before: pam_systemd does this at every login
            self._log.debug(f"{where}: process {pid} was moved away; it is written back")
        else:
            self._log.info(f"{where}: the stepd left process {pid} outside; it is written there")
        layout.enter(pid, controller, path)

    def _layout(self) -> step_cgroup.Layout | None:
        """Return where this node's extern steps are; looked up once for each slurm.conf."""
        slurm_conf = self._setting.conf
        if self._laid_out is None or self._laid_out[0] is not slurm_conf:
            cgroup_conf = conf.load_beside(slurm_conf.path, "cgroup.conf")
            found = step_cgroup.layout(slurm_conf, cgroup_conf, self._setting.name)
            self._laid_out = slurm_conf, found
        return self._laid_out[1]


def _cpus(pid: int) -> set[int]:
    """Return the CPUs that a process may use; none where it is gone."""
    try:
        return os.sched_getaffinity(pid)
    except OSError:
        return set()


def _check_alive(adoption: Adoption) -> None:
    """Raise PeerError where another process has got the pid, or none has; nothing for our own."""
    if not adoption.started:
        return
    from slurm_adopt.slurm.config.slurmd_processes import is_root

    pid = adoption.pid
    if not is_root(f"/proc/{pid}") or start_time(pid) != adoption.started:
        raise PeerError(f"process {pid}, which was to become the session, has ended")
