"""One decision as fields, for journald: what they are called, and what is in them.

It is imported where journald listens, and by the command `slurm-adopt logins`.
"""

from __future__ import annotations

from .outcome import SITUATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .login import Login
    from .options import Options
    from .outcome import Outcome

PREFIX = "SLURM_ADOPT_"
LISTED = 90  # jobs: that many ids of ten digits are not cut, see LIMIT in journal.py

# Field, without the prefix, in the order of the page docs/reference/log-fields.md -> what is in it.
FIELDS = {
    "PHASE": "account or session",
    "SERVICE": "the PAM service",
    "USER": "the user's name, as the service gives it",
    "UID": "the user's uid; not there for a user whom the host does not know",
    "SOURCE": "where the login comes from; not there if the service does not say it",
    "PID": "the process that asked the module",
    "SITUATION": "the row of the manual page's table DECISIONS",
    "OUTCOME": "one of the words below",
    "CODE": "what PAM was answered, by its name",
    "JOB_ID": "the job that the login was adopted into, or is to be",
    "HOW": "how that job was chosen",
    "JOBS": "the ids of the user's jobs here, with blanks between, where they were counted; the "
    "first 90 of them",
    "OPTION": "the option that decided, with its value",
    "MSEC": "how many milliseconds the phase took",
    "REF": "the reference, with reference=1",
}

# What a decision came to, in one word -> what that means.
OUTCOMES = {
    "adopted": "the process is in the job",
    "chosen": "the account phase has left the adoption to the session phase",
    "allowed": "the module let the user in, without a job",
    "ignored": "the module left the decision to the others of the stack",
    "refused": "the module refused the user",
}

_IN_JOB = {"adopted": "adopted", "still adopted": "adopted", "chosen": "chosen"}
_BY_CODE = {"PAM_SUCCESS": "allowed", "PAM_IGNORE": "ignored"}


def outcome_of(situation: str, code: str) -> str:
    """Return what a decision came to: a word of OUTCOMES."""
    return _IN_JOB.get(situation) or _BY_CODE.get(code, "refused")


def fields(
    login: Login, outcome: Outcome, options: Options, more: dict[str, str]
) -> dict[str, str]:
    """Return the fields of a decision by their whole names; those that are empty are left out.

    `more`: those that the front knows, which are PHASE, MSEC and REF.
    """
    into = outcome.adoption or outcome.choice
    option = SITUATIONS[outcome.situation].option
    found = {
        "SERVICE": login.service,
        "USER": login.user,
        "UID": "" if login.uid is None else str(login.uid),
        "SOURCE": login.rhost or "",
        "PID": str(login.pid),
        "SITUATION": outcome.situation,
        "OUTCOME": outcome_of(outcome.situation, outcome.code),
        "CODE": outcome.code,
        "JOB_ID": str(into.job_id) if into else "",
        "HOW": into.how if into else "",
        "JOBS": " ".join(map(str, outcome.jobs[:LISTED])),
        "OPTION": f"{option}={options[option]}" if option else "",
        **more,
    }
    return {PREFIX + name: value for name, value in found.items() if value}
