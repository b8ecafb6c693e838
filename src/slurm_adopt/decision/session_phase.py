"""The decision of the session phase: adopt, or see that the login is still in its job.

The account phase has decided before, as a rule: what it came to is kept, adopted into, or decided
again by engine.py where the job has ended since.
"""

from __future__ import annotations

from slurm_adopt.slurm.errors import SUSPENDED, SlurmAdoptError

from .adoption import Choice
from .engine import (
    GoneError,
    adopt_into,
    among_jobs,
    check_own,
    decide_again,
    decide_among,
    governed,
    jobs_without,
    not_ours,
    spare_root,
    step,
    uid_of,
)
from .outcome import SITUATIONS, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    from .adoption import Adoption
    from .engine import Job, Node
    from .login import Login
    from .options import Options

    Before = Union[Outcome, Adoption, Choice, None]


def decide_session(login: Login, options: Options, node: Node[Job], before: Before) -> Outcome:
    """Return what becomes of the session.

    `before` is what the account phase came to for this very process: its outcome, or adoption or
    choice alone where another process has left word of it, or None where nothing is known. Then
    all is decided here.
    """
    if outcome := not_ours(login, options):
        return outcome
    before = _own(before, login)
    outcome = spare_root(login, _after(before, login, options, node))
    return outcome.but(withdrawn=_set_for(before, outcome).difference(outcome.environment))


def _after(before: Before, login: Login, options: Options, node: Node[Job]) -> Outcome:
    told = _told(before)
    if isinstance(told, Choice):
        return _bring(told, login, options, node)
    if told is not None:
        return _keep(told, login, options, node)
    if isinstance(before, Outcome):
        return _as_before(before)
    return among_jobs(login, options, node)


def broken_off(outcome: Outcome, login: Login, before: Before) -> Outcome:
    """Return the outcome where an exception has ended the decision: as for any job that is lost."""
    before = _own(before, login)
    told = _told(before)
    if told is None or not SITUATIONS[outcome.situation].option:
        return outcome
    return _no_less(outcome, told.job_id).but(withdrawn=_set_for(before, outcome))


def _own(before: Before, login: Login) -> Before:
    """Return what is known, if it is about a job of this user; else nothing is known."""
    told = _told(before)
    return before if told is None or told.uid == login.uid else None


def _told(before: Before) -> Adoption | Choice | None:
    return before.adoption or before.choice if isinstance(before, Outcome) else before


def _set_for(before: Before, now: Outcome) -> frozenset[str]:
    """Return the variables that the account phase has set for a job that it is not after all."""
    told = _told(before)
    if told is None or (now.adoption and now.adoption.job_id == told.job_id):
        return frozenset()
    return frozenset(told.environment)


def _bring(choice: Choice, login: Login, options: Options, node: Node[Job]) -> Outcome:
    """Adopt into the job that the account phase has chosen; decide again if that has ended."""
    job_id = choice.job_id
    try:
        found = step(lambda: node.jobs(uid_of(login), job_id))
    except SlurmAdoptError as error:
        text = f"job {job_id}, which the account phase chose: {error}"
        return governed("adopt failure", options, text)
    if not found:
        return _no_less(among_jobs(login, options, node), job_id)
    try:
        outcome = adopt_into(login, options, node, found[0], choice.how)
    except GoneError as gone:
        outcome = _no_less(decide_again(gone, login, options, node), job_id)
    return outcome


def _as_before(before: Outcome) -> Outcome:
    """Repeat an outcome without adoption; its text is in the log, and shown, already."""
    return Outcome(SITUATIONS["as before"], before.code, f"as in the account phase: {before.text}")


def _keep(adoption: Adoption, login: Login, options: Options, node: Node[Job]) -> Outcome:
    job_id = adoption.job_id
    try:
        kept = step(lambda: node.keep(adoption))
        check_own(kept, job_id, uid_of(login))
    except SlurmAdoptError as error:
        if error.kind == SUSPENDED:
            return governed("job suspended", options, f"job {job_id}: {error}")
        fresh = jobs_without(job_id, login, node)
        if fresh is None:
            text = f"job {job_id}, which the account phase adopted into: {error}"
            return governed("adopt failure", options, text)
        return _no_less(decide_among(fresh, login, options, node), job_id)
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
