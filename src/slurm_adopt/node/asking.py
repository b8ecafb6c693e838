"""The question which of several jobs a login is for (action_unknown=ask).

It is one prompt, with the list in its text: where nobody can be asked nothing is shown then. What
is typed may be anything, a password that a program has typed as well: it is never logged. How long
the user takes is for the service to bound, as for a password: sshd ends it by LoginGraceTime.
"""

from __future__ import annotations

from time import localtime, strftime

from slurm_adopt.slurm.digits import number
from slurm_adopt.slurm.errors import PeerError

from .jobs import UNKNOWN
from .user_choice import started_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

    from .jobs import Job

    # Shows a text and returns what was typed; None where nobody can be asked.
    Converse = Callable[[str], Optional[str]]
    # What jobs are called, by job id, as far as it is known.
    NamesOf = Callable[["list[Job]"], "dict[int, str]"]

TRIES = 3
SHOWN = 20  # jobs, the newest ones
WIDEST = 32  # characters of a name


def ask(jobs: list[Job], newest: Job, converse: Converse, names_of: NamesOf) -> int | None:
    """Return the job id that the user answers; an empty answer is the newest.

    None where nobody can be asked. PeerError where no answer names one of the jobs.
    """
    text = question = _question(jobs, newest, names_of)
    for tried in range(TRIES):
        said = converse(text)
        if said is None:
            if tried:
                raise PeerError("the user has not answered which job")
            return None
        job_id = number(said.strip()) if said.strip() else newest.job_id
        if any(job.job_id == job_id for job in jobs):
            return job_id
        text = f"That is none of these jobs.\n{question}"
    raise PeerError(f"the user has named none of the jobs in {TRIES} answers")


def _question(jobs: list[Job], newest: Job, names_of: NamesOf) -> str:
    listed = sorted(jobs, key=lambda job: (job.started, job.job_id))[-SHOWN:]
    names = {job_id: name[:WIDEST] for job_id, name in names_of(listed).items()}
    wide = max(len(str(job.job_id)) for job in listed), max(map(len, names.values()), default=-2)
    lines = []
    for job in listed:
        name = names.get(job.job_id, "").ljust(wide[1] + 2)
        lines.append(f"  {job.job_id:>{wide[0]}}  {name}{_since(job)}".rstrip())
    if len(jobs) > SHOWN:
        lines.insert(0, f"  and {len(jobs) - SHOWN} older ones")
    heading = "You have several jobs on this node:"
    last = f"Which one is this login for? [{newest.job_id}] "
    return "\n".join([heading, *lines, last])


def _since(job: Job) -> str:
    if job.started == UNKNOWN:
        return ""
    return f"since {strftime('%Y-%m-%d %H:%M', localtime(started_at(job)))}"
