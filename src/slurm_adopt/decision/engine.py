"""The decision: one login, the options and a node make an outcome.

Nothing here opens a socket or a file, or knows PAM's handle: it asks a node. The steps, as in the
README: (1) how many jobs has the user here? (2, 3) which of several does the login come from?
(4) nobody knows: action_unknown. (5) adopt, or in the account phase leave that to a session line
that is certain to come. (6) hand over what belongs to the job. (7) in the session phase: adopt, or
is it still there? Where a job has just ended, all is decided anew, once.

An exception that nobody has thought of counts for the step that it happens in, so the option that
governs this step decides.
"""

from __future__ import annotations

from slurm_adopt.slurm.errors import (
    MistakeError,
    SetupError,
    SlurmAdoptError,
    SuspendedError,
    UnsettledError,
)

from .adoption import Choice
from .outcome import ACTION_CODES, AUTO, AUTO_MEANS, SITUATIONS, STRICTEST, Outcome

SHOWN = 20  # jobs that a line in the log lists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Protocol, TypeVar, Union

    from .adoption import Adoption
    from .login import Login
    from .options import Options

    class JobLike(Protocol):
        """One of the user's jobs, as far as the engine looks at it."""

        job_id: int
        trouble: str  # why its stepd has not answered when the jobs were counted, if it has not

        @property
        def started(self) -> int:
            """When its extern step was started here, on any clock that tells which is later."""

    Before = Union[Outcome, Adoption, Choice, None]
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
    outcome = not_ours(login, options) or _among_jobs(login, options, node)
    return spare_root(login, outcome)


def decide_session(login: Login, options: Options, node: Node[Job], before: Before) -> Outcome:
    """Return what becomes of the session.

    `before` is what the account phase came to for this very process: its outcome, or adoption or
    choice alone where another process has left word of it, or None where nothing is known. Then
    all is decided here.
    """
    if outcome := not_ours(login, options):
        return outcome
    outcome = spare_root(login, _after(before, login, options, node))
    outcome.withdrawn = _set_for(before, outcome).difference(outcome.environment)
    return outcome


def _after(before: Before, login: Login, options: Options, node: Node[Job]) -> Outcome:
    told = _told(before)
    if isinstance(told, Choice):
        return _bring(told, login, options, node)
    if told is not None:
        return _keep(told, login, options, node)
    if isinstance(before, Outcome):
        return _as_before(before)
    return _among_jobs(login, options, node)


def _told(before: Before) -> Adoption | Choice | None:
    return before.adoption or before.choice if isinstance(before, Outcome) else before


def _set_for(before: Before, now: Outcome) -> frozenset[str]:
    """Return the variables that the account phase has set for a job that it is not after all."""
    told = _told(before)
    if told is None or (now.adoption and now.adoption.job_id == told.job_id):
        return frozenset()
    return frozenset(told.environment)


def _bring(choice: Choice, login: Login, options: Options, node: Node[Job]) -> Outcome:
    """Adopt into the job that the account phase has chosen; decide anew if that has ended."""
    job_id = choice.job_id
    try:
        found = _step(lambda: node.jobs(_uid(login), job_id))
    except SlurmAdoptError as error:
        text = f"job {job_id}, which the account phase chose: {error}"
        return governed("adopt failure", options, text)
    if not found:
        return _no_less(_among_jobs(login, options, node), job_id)
    try:
        outcome = _adopt(login, options, node, found[0], choice.how)
    except _GoneError as gone:
        outcome = _no_less(_anew(gone, login, options, node), job_id)
    return outcome


def _as_before(before: Outcome) -> Outcome:
    """Repeat an outcome without adoption; its text is in the log, and shown, already."""
    return Outcome(SITUATIONS["as before"], before.code, f"as in the account phase: {before.text}")


def _keep(adoption: Adoption, login: Login, options: Options, node: Node[Job]) -> Outcome:
    job_id = adoption.job_id
    try:
        kept = _step(lambda: node.keep(adoption))
    except SuspendedError as error:
        return governed("job suspended", options, f"job {job_id}: {error}")
    except SlurmAdoptError as error:
        fresh = _without(job_id, login, node)
        if fresh is None:
            text = f"job {job_id}, which the account phase adopted into: {error}"
            return governed("adopt failure", options, text)
        return _no_less(_decided(fresh, login, options, node), job_id)
    if kept.written:
        return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", f"put back into job {job_id}", kept)
    return Outcome(SITUATIONS["still adopted"], "PAM_SUCCESS", f"still in job {job_id}", kept)


def _no_less(outcome: Outcome, job_id: int) -> Outcome:
    """Refuse who would be left to the others of the stack, after the job that let the user in.

    Those have decided, or by a `sufficient` line were not asked, while the user had a job.
    """
    if outcome.code != "PAM_IGNORE":
        return outcome
    text = f"{outcome.text}; refused, since the account phase let the user in for job {job_id}"
    return Outcome(SITUATIONS[outcome.situation], "PAM_PERM_DENIED", text)


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


def _step(ask: Callable[[], Found]) -> Found:
    """Ask the node; MistakeError for an exception that it is not meant to raise."""
    try:
        return ask()
    except SlurmAdoptError:
        raise
    except Exception as error:
        raise MistakeError(our_mistake(error)) from error


def our_mistake(error: Exception) -> str:
    """Name the place of an unexpected exception, for a bug report."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return f"unexpected {type(error).__name__}: {str(error)[:200]} at {where} (please report this)"


def _uid(login: Login) -> int:
    """Return the uid of a login that is ours; one that is not known is never root's."""
    if login.uid is None:
        raise SetupError(f"user {login.user} is not known on this host")
    return login.uid


def _among_jobs(login: Login, options: Options, node: Node[Job]) -> Outcome:
    try:
        uid = _uid(login)
        jobs = _step(lambda: node.jobs(uid) or node.awaited_jobs(uid))
    except SlurmAdoptError as error:
        return undecided(options, str(error), lambda: node.runs_slurm)
    return _decided(jobs, login, options, node)


def _decided(jobs: list[Job], login: Login, options: Options, node: Node[Job]) -> Outcome:
    try:
        outcome = _into_one_of(jobs, login, options, node)
    except _GoneError as gone:
        jobs, outcome = gone.jobs, _anew(gone, login, options, node)
    outcome.jobs = [job.job_id for job in jobs]
    return outcome


def _anew(gone: _GoneError, login: Login, options: Options, node: Node[Job]) -> Outcome:
    """Decide once more, by the jobs that are left."""
    try:
        outcome = _into_one_of(gone.jobs, login, options, node)
    except _GoneError as again:
        outcome = governed("adopt failure", options, str(again))
    outcome.text = f"{outcome.text}; decided again, since {gone}"
    return outcome


class _GoneError(Exception):
    """The job to adopt into has ended; `jobs` are those that a fresh look shows."""

    def __init__(self, reason: str, jobs: list[Any]) -> None:
        super().__init__(reason)
        self.jobs = jobs


def _into(job: Job, login: Login, node: Node[Job], how: str) -> Outcome:
    """Adopt, or see that the session line can; `how`: why into this job.

    SlurmAdoptError if that fails, _GoneError if it does since the job has ended.
    """
    try:
        if _step(lambda: node.defers):
            _step(lambda: node.look(job))
            choice = Choice(job.job_id, _uid(login), how)
            _step(lambda: node.tell(choice))
            return _chosen(choice)
        return _adopted(login, _step(lambda: node.adopt(login.pid, job)), how)
    except SuspendedError:
        raise
    except SlurmAdoptError as error:
        fresh = None if job.trouble else _without(job.job_id, login, node)
        if fresh is None:
            raise
        raise _GoneError(f"job {job.job_id} has ended: {error}", fresh) from None


def _without(job_id: int, login: Login, node: Node[Job]) -> list[Job] | None:
    """Look again; return the user's jobs if that one is not among them any more, else None."""
    try:
        fresh = _step(lambda: node.jobs(_uid(login)))
    except SlurmAdoptError:
        return None
    there = job_id in node.silent or any(job.job_id == job_id for job in fresh)
    return None if there else fresh


def _into_one_of(jobs: list[Job], login: Login, options: Options, node: Node[Job]) -> Outcome:
    if not jobs:
        return governed("no jobs", options, "no job on this node")
    if len(jobs) == 1 and options.on("single_job_skip_rpc"):
        return _adopt(login, options, node, jobs[0], "the only job")
    return _by_source(login, options, node, jobs)


def _by_source(login: Login, options: Options, node: Node[Job], jobs: list[Job]) -> Outcome:
    """Take the job that the login comes from, else the only one, else see action_unknown.

    What the source host says selects among the user's jobs and is worth nothing beyond that.
    """
    named, how, remark = _hinted(login, jobs) or _named(login, node, jobs)
    if named is not None:
        try:
            return _into(named, login, node, how)
        except SlurmAdoptError as error:
            remark = f"the login comes from job {named.job_id}, but {error}"
            if len(jobs) == 1 or (_settles(error) and options["action_unknown"] == "newest"):
                return _failed(error, options, remark)
    if len(jobs) == 1:
        return _adopt(login, options, node, jobs[0], f"the only job; {remark}")
    return _unknown(login, options, node, [job for job in jobs if job is not named], remark)


def _hinted(login: Login, jobs: list[Job]) -> tuple[Job, str, str] | None:
    """Return the user's job that the account phase has left in the PAM environment, if it did."""
    for job in jobs:
        if str(job.job_id) == login.hint:
            return job, "SLURM_JOB_ID of the PAM environment", ""
    return None


def _named(login: Login, node: Node[Job], jobs: list[Job]) -> tuple[Job | None, str, str]:
    """Return the user's job that the source host named, and how; or None and a remark."""
    try:
        job_id = _step(lambda: node.source_job(login, jobs))
    except SlurmAdoptError as error:
        return None, "", str(error)
    if job_id is None:
        return None, "", "the source host knows no job for this connection"
    for job in jobs:
        if job.job_id == job_id:
            return job, "the job it comes from", ""
    return None, "", f"the source host named job {job_id}, which is not one of the user's jobs here"


def _unknown(
    login: Login, options: Options, node: Node[Job], jobs: list[Job], remark: str
) -> Outcome:
    """Answer by action_unknown; newest is the job whose extern step was started last here.

    One that takes no login now, being suspended, comes after all others.
    """
    if options["action_unknown"] == "newest":
        try:
            newest, how = _step(lambda: _newest(jobs, node))
        except SlurmAdoptError as error:
            return governed("adopt failure", options, f"no job chosen: {error}; {remark}")
        return _adopt(login, options, node, newest, f"{how}; {remark}")
    numbers = [str(job.job_id) for job in jobs]
    if len(numbers) > SHOWN:
        numbers[SHOWN:] = [f"and {len(numbers) - SHOWN} more"]
    return governed("unknown job", options, f"jobs {' '.join(numbers)}; {remark}")


def _newest(jobs: list[Job], node: Node[Job]) -> tuple[Job, str]:
    """Return the newest that is not suspended, if there is one, and what to call it."""
    suspended = [job for job in jobs if node.suspended(job)]
    running = [job for job in jobs if job not in suspended]
    newest = max(running or jobs, key=lambda job: (job.started, job.job_id))
    but = f", not counting {len(suspended)} suspended" if running and suspended else ""
    return newest, f"the newest of {len(jobs)}{but}"


def _adopt(login: Login, options: Options, node: Node[Job], job: Job, how: str) -> Outcome:
    try:
        return _into(job, login, node, how)
    except SlurmAdoptError as error:
        return _failed(error, options, f"job {job.job_id} ({how}): {error}")


def _failed(error: SlurmAdoptError, options: Options, text: str) -> Outcome:
    name = "job suspended" if isinstance(error, SuspendedError) else "adopt failure"
    return governed(name, options, text)


def _settles(error: SlurmAdoptError) -> bool:
    """Say whether a stepd may have the process, or had it: then no second one is asked."""
    return isinstance(error, UnsettledError) or getattr(error, "taken", False)


def _chosen(choice: Choice) -> Outcome:
    text = f"the session line will adopt into job {choice.job_id} ({choice.how})"
    return Outcome(SITUATIONS["chosen"], "PAM_SUCCESS", text, choice=choice)


def _adopted(login: Login, adoption: Adoption, how: str) -> Outcome:
    text = f"adopted into job {adoption.job_id} ({how})"
    if adoption.pid != login.pid:
        text = f"process {adoption.pid}, which becomes the session, was {text}"
    return Outcome(SITUATIONS["adopted"], "PAM_SUCCESS", text, adoption)


def _fixed(name: str, text: str) -> Outcome:
    row = SITUATIONS[name]
    return Outcome(row, row.code, f"{name}: {text}")


def governed(name: str, options: Options, text: str) -> Outcome:
    """Return the outcome that the situation's option asks for; the strictest for an odd value."""
    row = SITUATIONS[name]
    action = options[row.option]
    return Outcome(
        row, ACTION_CODES.get(action, STRICTEST), f"{name}: {text}; {row.option}={action}"
    )


def undecided(options: Options, text: str, runs_slurm: Callable[[], bool]) -> Outcome:
    """Return the outcome where something keeps us from deciding; auto asks whether Slurm runs here.

    Where that cannot be told, it is taken to run.
    """
    row = SITUATIONS["generic failure"]
    if options[row.option] != AUTO:
        return governed(row.name, options, text)
    try:
        runs = runs_slurm()
    except Exception:  # noqa: BLE001 - this is no time for another failure
        runs = True
    action = AUTO_MEANS[runs]
    why = f"{action}, since {'a' if runs else 'no'} slurmd or slurmstepd runs here as root"
    said = f"{row.name}: {text}; {row.option}={AUTO} ({why})"
    return Outcome(row, ACTION_CODES[action], said)
