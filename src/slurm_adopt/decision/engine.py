"""The decision: one login, the options and a node make an outcome.

Nothing here opens a socket or a file, or knows PAM's handle: it asks a node. The session phase, and
with it step 7, is in session_phase.py. The steps, as in the README: (1) how many jobs has the user
here? (2, 3) which of several does the login come from? (4) nobody knows: the user's own choice,
then action_unknown. (5) adopt, or in the account phase leave that to a session line that is certain
to come. (6) hand over what belongs to the job. (7) in the session phase: adopt, or is it still
there? Where a job has just ended, all is decided again, once.

An exception that nobody has thought of counts for the step that it happens in, so the option that
governs this step decides.
"""

from __future__ import annotations

from slurm_adopt.slurm.errors import (
    SUSPENDED,
    UNSETTLED,
    MistakeError,
    SetupError,
    SlurmAdoptError,
    shortage,
)

from .adoption import Choice
from .outcome import ACTION_CODES, AUTO_MEANS, CHOOSE, SITUATIONS, STRICTEST, Outcome, action_of

SHOWN = 20  # jobs that a line in the log lists
OUT_OF_MEMORY = (
    "out of memory: does RLIMIT_AS or RLIMIT_DATA limit this process (pam_limits, in front of this "
    "module), or its cgroup?"
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Protocol, TypeVar

    from .adoption import Adoption
    from .login import Login
    from .options import Options
    from .outcome import Fixed, Governed

    class JobLike(Protocol):
        """One of the user's jobs, as far as the engine looks at it."""

        job_id: int
        trouble: str  # why its stepd has not answered when the jobs were counted, if it has not

        @property
        def started(self) -> int:
            """When its extern step was started here, on any clock that tells which is later."""

    Job = TypeVar("Job", bound=JobLike)
    Found = TypeVar("Found")

    class Node(Protocol[Job]):
        """What the engine asks; raises SlurmAdoptError where it cannot answer."""

        @property
        def silent(self) -> frozenset[int]:
            """Jobs, of whomever, whose stepds gave no answer when jobs() last asked."""

        @property
        def defers(self) -> bool:
            """Whether this is an account phase whose login a session line will adopt."""

        @property
        def runs_slurm(self) -> bool:
            """Whether this host is a compute node: a slurmd or stepd of root's runs here."""

        def jobs(self, uid: int, only: int | None = None) -> list[Job]:
            """Return the user's jobs here, by job id; of one job id only, if that is given."""

        def awaited_jobs(self, uid: int) -> list[Job]:
            """Wait, if that is wanted, for a job that is being set up; return the user's jobs."""

        def source_job(self, login: Login, jobs: list[Job]) -> int | None:
            """Return the job id that the host named which the login comes from; None for none."""

        def chosen_job(self, uid: int, jobs: list[Job]) -> int | None:
            """Return the job id that the user has chosen before (user_choice); None for none."""

        def ask(self, jobs: list[Job], newest: Job) -> int | None:
            """Return the job id that the user answers; None where nobody can be asked."""

        def suspended(self, job: Job) -> str:
            """Say why nothing may be put into a job's step now; "" if it may."""

        def look(self, job: Job) -> None:
            """Raise SlurmAdoptError if the job would not take the login."""

        def tell(self, choice: Choice) -> None:
            """Leave word of a choice, if another process opens the session."""

        def adopt(self, pid: int, job: Job) -> Adoption:
            """Bring the login that called us in process `pid` into the job, proven."""

        def keep(self, adoption: Adoption) -> Adoption:
            """See that a process is still in its job; put it back where it is not."""


def decide(login: Login, options: Options, node: Node[Job]) -> Outcome:
    """Return what becomes of the login. Raises nothing that a node is meant to raise."""
    outcome = not_ours(login, options) or among_jobs(login, options, node)
    return spare_root(login, outcome)


def spare_root(login: Login, outcome: Outcome) -> Outcome:
    """Turn all but an adoption of root into PAM_IGNORE: it comes here with ignore_root=0 only."""
    into = outcome.adoption or outcome.choice
    if login.uid == 0 and into is None and outcome.code != "PAM_IGNORE":
        return _fixed("root spared", f"{outcome.text}; root is left to the other modules")
    return outcome


def not_ours(login: Login, options: Options) -> Outcome | None:
    """Answer the logins for which nothing needs to be looked up; None for all others."""
    if login.uid == 0 and options.on("ignore_root"):
        return _fixed("root", "root is ignored")
    if options["service"] not in ("*", login.service):
        return _fixed("other service", f"service {login.service} is not {options['service']}")
    if not login.user:
        return _fixed("no user", "PAM_USER is not set")
    if login.uid is None:
        return _fixed("unknown user", f"user {login.user} is not known on this host")
    return None


def step(ask: Callable[[], Found]) -> Found:
    """Ask the node; MistakeError for an exception that it is not meant to raise."""
    try:
        return ask()
    except SlurmAdoptError:
        raise
    except Exception as error:
        raise MistakeError(our_mistake(error)) from error


def our_mistake(error: Exception) -> str:
    """Name the place of an unexpected exception, for a bug report; or what the kernel lacks."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    if type(error) is PermissionError and error.errno is None:  # importing.py's
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    if isinstance(error, OSError) and _is_of_the_system(error):
        return f"a system call fails: {shortage(error)} at {where}"
    try:
        said = str(error)[:200]
    except Exception as another:  # noqa: BLE001 - an error that cannot be shown is one as well
        said = f"its text raises {type(another).__name__}"
    return f"unexpected {type(error).__name__}: {said} at {where} (please report this)"


def _is_of_the_system(error: OSError) -> bool:
    """Say whether the kernel has nothing left, or a disk is broken."""
    from errno import EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC

    return error.errno in (EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC)


def uid_of(login: Login) -> int:
    """Return the uid of a login that is ours; one that is not known is never root's."""
    if login.uid is None:
        raise SetupError(f"user {login.user} is not known on this host")
    return login.uid


def among_jobs(login: Login, options: Options, node: Node[Job]) -> Outcome:
    """Decide by the jobs that the user has here now."""
    try:
        uid = uid_of(login)
        jobs = step(lambda: node.jobs(uid) or node.awaited_jobs(uid))
    except SlurmAdoptError as error:
        return undecided(options, str(error), lambda: node.runs_slurm)
    return decide_among(jobs, login, options, node)


def decide_among(jobs: list[Job], login: Login, options: Options, node: Node[Job]) -> Outcome:
    """Decide by the user's jobs; once more where one of them has just ended."""
    try:
        outcome = _into_one_of(jobs, login, options, node)
    except GoneError as gone:
        jobs, outcome = gone.jobs, decide_again(gone, login, options, node)
    return outcome.but(jobs=tuple(job.job_id for job in jobs))


def decide_again(gone: GoneError, login: Login, options: Options, node: Node[Job]) -> Outcome:
    """Decide once more, by the jobs that are left."""
    try:
        outcome = _into_one_of(gone.jobs, login, options, node)
    except GoneError as again:
        if again.answered:
            outcome = _none_taken(options, again.jobs, str(again))
        else:
            outcome = governed("adopt failure", options, str(again))
    return outcome.but(text=f"{outcome.text}; decided again, since {gone}")


class GoneError(Exception):
    """The job to adopt into has ended; `jobs` are those that a fresh look shows."""

    def __init__(self, reason: str, jobs: list[Any], *, answered: bool = False) -> None:
        """`reason`: for the log.

        `answered`: the job is one that the user has answered, and has ended while the user was
        asked. Users can bring that about at leisure: action_adopt_failure has no say in it.
        """
        super().__init__(reason)
        self.jobs = jobs
        self.answered = answered


def _into(job: Job, login: Login, node: Node[Job], how: str) -> Outcome:
    """Adopt, or see that the session line can; `how`: why into this job.

    SlurmAdoptError if that fails, GoneError if it does since the job has ended.
    """
    try:
        if step(lambda: node.defers):
            step(lambda: node.look(job))
            choice = Choice(job.job_id, uid_of(login), how)
            step(lambda: node.tell(choice))
            return _chosen(choice)
        adoption = step(lambda: node.adopt(login.pid, job))
        check_own(adoption, job.job_id, uid_of(login))
        return _adopted(login, adoption, how)
    except SlurmAdoptError as error:
        if error.kind == SUSPENDED:
            raise
        fresh = None if job.trouble else jobs_without(job.job_id, login, node)
        if fresh is None:
            raise
        raise GoneError(f"job {job.job_id} has ended: {error}", fresh) from None


def check_own(adoption: Adoption, job_id: int, uid: int) -> None:
    """Raise MistakeError where a process was brought into anything but this job of this user."""
    if (adoption.job_id, adoption.uid) != (job_id, uid):
        raise MistakeError(
            f"asked to adopt into job {job_id} of uid {uid}, the node has adopted into job "
            f"{adoption.job_id} of uid {adoption.uid} (please report this)"
        )


def jobs_without(job_id: int, login: Login, node: Node[Job]) -> list[Job] | None:
    """Look again; return the user's jobs if that one is not among them any more, else None."""
    try:
        fresh = step(lambda: node.jobs(uid_of(login)))
    except SlurmAdoptError:
        return None
    there = job_id in node.silent or any(job.job_id == job_id for job in fresh)
    return None if there else fresh


def _into_one_of(jobs: list[Job], login: Login, options: Options, node: Node[Job]) -> Outcome:
    if not jobs:
        return governed("no jobs", options, "no job on this node")
    if len(jobs) == 1 and options.on("single_job_skip_rpc"):
        return adopt_into(login, options, node, jobs[0], "the only job")
    return _by_source(login, options, node, jobs)


def _by_source(login: Login, options: Options, node: Node[Job], jobs: list[Job]) -> Outcome:
    """Take the job that the login comes from, else the only one, else the user's choice.

    What the source host says selects among the user's jobs and is worth nothing beyond that.
    """
    named, how, remark = _hinted(login, jobs) or _named(login, node, jobs)
    settled = False
    if named is not None:
        try:
            return _into(named, login, node, how)
        except SlurmAdoptError as error:
            remark = f"the login comes from job {named.job_id}, but {error}"
            settled = _settles(error)
            if len(jobs) == 1 or (settled and _adopts(options)):
                return _failed(error, options, remark)
    if len(jobs) == 1:
        return adopt_into(login, options, node, jobs[0], f"the only job; {remark}")
    left = [job for job in jobs if job is not named]
    if options.on("user_choice") and not settled:
        return _by_choice(login, options, node, left, remark)
    return _unknown(login, options, node, left, remark)


def _hinted(login: Login, jobs: list[Job]) -> tuple[Job, str, str] | None:
    """Return the user's job that the account phase has left in the PAM environment, if it did."""
    for job in jobs:
        if str(job.job_id) == login.hint:
            return job, "SLURM_JOB_ID of the PAM environment", ""
    return None


def _named(login: Login, node: Node[Job], jobs: list[Job]) -> tuple[Job | None, str, str]:
    """Return the user's job that the source host named, and how; or None and a remark."""
    try:
        job_id = step(lambda: node.source_job(login, jobs))
    except SlurmAdoptError as error:
        return None, "", str(error)
    if job_id is None:
        return None, "", "the source host knows no job for this connection"
    for job in jobs:
        if job.job_id == job_id:
            return job, "the job it comes from", ""
    return None, "", f"the source host named job {job_id}, which is not one of the user's jobs here"


def _by_choice(
    login: Login, options: Options, node: Node[Job], jobs: list[Job], remark: str
) -> Outcome:
    """Take the job that the user has chosen before, else see action_unknown.

    What the user has stated selects among the user's jobs and is worth nothing beyond that.
    """
    chosen, why = _stated(login, node, jobs)
    if chosen is not None:
        try:
            return _into(chosen, login, node, f"{why}; {remark}")
        except SlurmAdoptError as error:
            why = f"the user has chosen job {chosen.job_id}, but {error}"
            if len(jobs) == 1 or (_settles(error) and _adopts(options)):
                return _failed(error, options, f"{remark}; {why}")
    left = [job for job in jobs if job is not chosen]
    return _unknown(login, options, node, left, f"{remark}; {why}")


def _stated(login: Login, node: Node[Job], jobs: list[Job]) -> tuple[Job | None, str]:
    """Return the one of these jobs that the user has chosen, and how; or None and a remark."""
    try:
        job_id = step(lambda: node.chosen_job(uid_of(login), jobs))
    except SlurmAdoptError as error:
        return None, str(error)
    if job_id is None:
        return None, "the user has chosen no job"
    for job in jobs:
        if job.job_id == job_id:
            return job, "the job that the user has chosen"
    return None, f"the user has chosen job {job_id}, which is not one of the jobs to take"


def _adopts(options: Options) -> bool:
    """Say whether action_unknown adopts into a job, as it is set."""
    return action_of(options, "action_unknown").does != "answer"


def _unknown(
    login: Login, options: Options, node: Node[Job], jobs: list[Job], remark: str
) -> Outcome:
    """Answer by action_unknown; newest is the job whose extern step was started last here.

    One that takes no login now, being suspended, comes after all others.
    """
    does = action_of(options, "action_unknown").does
    if does == "newest" or does == "ask":  # noqa: PLR1714 - mypy follows this
        try:
            newest, how = step(lambda: _newest(jobs, node))
        except SlurmAdoptError as error:
            return governed("adopt failure", options, f"no job chosen: {error}; {remark}")
        if does == "ask":
            return _by_answer(login, options, node, jobs, (newest, f"{how}; {remark}"), remark)
        return adopt_into(login, options, node, newest, f"{how}; {remark}")
    if does != "answer" and does != "auto":  # noqa: PLR1714
        _: NoReturn = does  # mypy says so where a new one has no branch here
    return _none_taken(options, jobs, remark)


def _by_answer(
    login: Login,
    options: Options,
    node: Node[Job],
    jobs: list[Job],
    newest: tuple[Job, str],
    remark: str,
) -> Outcome:
    """Take the job that the user answers; the newest where nobody can be asked.

    `newest` is that job, and how it was found. What is answered selects among the user's jobs.
    """
    try:
        job_id = step(lambda: node.ask(jobs, newest[0]))
    except SlurmAdoptError as error:
        return _none_taken(options, jobs, f"{remark}; {error}")
    if job_id is None:
        job, how = newest
        return adopt_into(login, options, node, job, f"{how}; the user cannot be asked")
    for job in jobs:
        if job.job_id == job_id:
            fresh = jobs_without(job_id, login, node)
            if fresh is not None:
                reason = f"job {job_id} has ended while the user was asked"
                raise GoneError(reason, fresh, answered=True)
            return adopt_into(login, options, node, job, f"the user's answer; {remark}")
    return _none_taken(options, jobs, f"{remark}; the answer is none of these jobs")


def _none_taken(options: Options, jobs: list[Job], remark: str) -> Outcome:
    """Answer by the code of action_unknown; tell a user who is refused of the choice."""
    numbers = [str(job.job_id) for job in jobs]
    if len(numbers) > SHOWN:
        numbers[SHOWN:] = [f"and {len(numbers) - SHOWN} more"]
    outcome = governed("unknown job", options, f"jobs {' '.join(numbers)}; {remark}")
    if outcome.message and options.on("user_choice"):
        return outcome.but(message=outcome.message + CHOOSE)
    return outcome


def _newest(jobs: list[Job], node: Node[Job]) -> tuple[Job, str]:
    """Return the newest that is not suspended, if there is one, and what to call it.

    Older ones are not looked at: that takes as long as all else that a job more costs.
    """
    ordered = sorted(jobs, key=lambda job: (job.started, job.job_id), reverse=True)
    passed = next((at for at, job in enumerate(ordered) if not node.suspended(job)), 0)
    but = f", not counting {passed} suspended" if passed else ""
    return ordered[passed], f"the newest of {len(jobs)}{but}"


def adopt_into(login: Login, options: Options, node: Node[Job], job: Job, how: str) -> Outcome:
    """Adopt into this job, or answer by the option for what went wrong; GoneError if it ended."""
    try:
        return _into(job, login, node, how)
    except SlurmAdoptError as error:
        return _failed(error, options, f"job {job.job_id} ({how}): {error}")


def _failed(error: SlurmAdoptError, options: Options, text: str) -> Outcome:
    name: Governed = "job suspended" if error.kind == SUSPENDED else "adopt failure"
    return governed(name, options, text)


def _settles(error: SlurmAdoptError) -> bool:
    """Say whether a stepd may have the process, or had it: then no second one is asked."""
    return error.kind == UNSETTLED or error.taken


def _chosen(choice: Choice) -> Outcome:
    text = f"the session line will adopt into job {choice.job_id} ({choice.how})"
    return Outcome(SITUATIONS["chosen"], "PAM_SUCCESS", text, choice=choice)


def _adopted(login: Login, adoption: Adoption, how: str) -> Outcome:
    adoption.how = how
    text = f"adopted into job {adoption.job_id} ({how})"
    if adoption.pid != login.pid:
        text = f"process {adoption.pid}, which becomes the session, was {text}"
    return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", text, adoption)


def _fixed(name: Fixed, text: str) -> Outcome:
    row = SITUATIONS[name]
    if not row.code or row.code == "the same again":
        return Outcome(row, STRICTEST, f"{name}: {text}")
    return Outcome(row, row.code, f"{name}: {text}")


def governed(name: Governed, options: Options, text: str) -> Outcome:
    """Return the outcome that the situation's option asks for; the strictest for an odd value."""
    row = SITUATIONS[name]
    if not row.option:
        return Outcome(row, STRICTEST, f"{name}: {text}")
    said = f"{name}: {text}; {row.option}={options[row.option]}"
    return Outcome(row, action_of(options, row.option).code, said)


def undecided(options: Options, text: str, runs_slurm: Callable[[], bool]) -> Outcome:
    """Return the outcome where something keeps us from deciding; auto asks whether Slurm runs here.

    Where that cannot be told, it is taken to run.
    """
    if action_of(options, "action_generic_failure").does != "auto":
        return governed("generic failure", options, text)
    try:
        runs = runs_slurm()
    except Exception:  # noqa: BLE001 - this is no time for another failure
        runs = True
    action = AUTO_MEANS[runs]
    why = f"{action}, since {'a' if runs else 'no'} slurmd or slurmstepd runs here as root"
    said = f"generic failure: {text}; action_generic_failure=auto ({why})"
    return Outcome(SITUATIONS["generic failure"], ACTION_CODES[action], said)
