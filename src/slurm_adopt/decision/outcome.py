"""What each situation comes to: the table situation -> (governing option, message, log level).

PAM codes are written as their names in <security/_pam_types.h>; the front turns them into numbers.
Texts for the user are those of the C module, word for word: sites look for them.

ACTIONS has what each value of an action_* option does. A value that the parser knows and this table
does not is the strictest: it opens no door.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Literal

    from .adoption import Adoption, Choice
    from .options import Governing, Options

    Code = Literal[
        "PAM_SUCCESS", "PAM_PERM_DENIED", "PAM_IGNORE", "PAM_SESSION_ERR", "PAM_USER_UNKNOWN"
    ]
    # How a value acts: its PAM code is the answer; the newest job is adopted into; the user is
    # asked; this host tells.
    Does = Literal["answer", "newest", "ask", "auto"]
    Fixed = Literal["root", "other service", "no user", "unknown user", "root spared"]
    Governed = Literal[
        "generic failure", "no jobs", "unknown job", "adopt failure", "job suspended"
    ]
    SituationName = Literal[Fixed, Governed, "chosen", "adopted", "still adopted", "as before"]

ACTION_CODES: dict[str, Code] = {  # the words of values that are an answer -> PAM code
    "allow": "PAM_SUCCESS",
    "deny": "PAM_PERM_DENIED",
    "ignore": "PAM_IGNORE",
}
AUTO = "auto"  # as action_generic_failure: one of those above, by whether this is a compute node
AUTO_MEANS = {True: "deny", False: "ignore"}

STRICTEST: Code = "PAM_PERM_DENIED"


class Action:
    """What one value of an action_* option does."""

    __slots__ = ("code", "does", "text")

    def __init__(self, does: Does, code: Code, text: str = "") -> None:
        """`code` is the answer where nothing else comes of it; `text`: for the man page."""
        self.does: Final = does
        self.code: Final = code
        self.text: Final = text or code


_ALLOW = Action("answer", ACTION_CODES["allow"])
_DENY = Action("answer", ACTION_CODES["deny"])
_IGNORE = Action("answer", ACTION_CODES["ignore"])
_NEWEST = Action("newest", STRICTEST, "adopted into the newest job")
_ASK = Action(
    "ask",
    STRICTEST,
    "adopted into the job that the user answers; into the newest where nobody can be asked; "
    f"{STRICTEST} without a valid answer",
)
_AUTO = Action(
    "auto",
    STRICTEST,
    f"{ACTION_CODES[AUTO_MEANS[True]]} where a slurmd or slurmstepd of root's runs, "
    f"else {ACTION_CODES[AUTO_MEANS[False]]}",
)

# fmt: off
ACTIONS: dict[Governing, dict[str, Action]] = {
    "action_no_jobs":         {"deny": _DENY, "ignore": _IGNORE},
    "action_unknown":         {"newest": _NEWEST, "ask": _ASK, "allow": _ALLOW, "deny": _DENY},
    "action_adopt_failure":   {"allow": _ALLOW, "deny": _DENY},
    "action_generic_failure": {AUTO: _AUTO, "ignore": _IGNORE, "allow": _ALLOW, "deny": _DENY},
    "action_suspended":       {"deny": _DENY, "allow": _ALLOW},
}
# fmt: on


def action_of(options: Options, name: Governing) -> Action:
    """Return what the value of an option does; the strictest for a value that is not known here."""
    return ACTIONS[name].get(options[name], _DENY)


REFUSALS = frozenset({"PAM_PERM_DENIED", "PAM_SESSION_ERR", "PAM_USER_UNKNOWN"})


class Situation:
    """One row: where the login stands, and which option or fixed PAM code answers it."""

    __slots__ = ("code", "level", "message", "name", "option", "when")

    def __init__(
        self,
        name: SituationName,
        option: Governing | Literal[""],
        code: Code | Literal["", "the same again"],
        level: str,
        when: str,
        message: str = "",
    ) -> None:
        """`option` or `code` is empty; `message` is shown to a user who is refused."""
        self.name: Final = name
        self.when: Final = when
        self.option: Final = option
        self.code: Final = code
        self.level: Final = level
        self.message: Final = message


_DENIED = "Access denied by pam_slurm_adopt: "
# Behind the text of "unknown job" with user_choice=1: a user who is refused has srun.
CHOOSE = "; choose one of your jobs first: srun --jobid=JOBID --overlap slurm-adopt use this"

# fmt: off
SITUATIONS: dict[SituationName, Situation] = {row.name: row for row in (
    # name               governing option          fixed code          log;  when; text if refused
    Situation("root",            "",                       "PAM_IGNORE",       "debug",
              "uid 0 logs in, and ignore_root is 1"),
    Situation("other service",   "",                       "PAM_IGNORE",       "debug",
              "the PAM service is not the one that the option service names (level info where the "
              "program is OpenSSH's sshd)"),
    Situation("no user",         "",                       "PAM_SESSION_ERR",  "error",
              "the service did not say who logs in"),
    Situation("unknown user",    "",                       "PAM_USER_UNKNOWN", "error",
              "this host does not know the user"),
    Situation("generic failure", "action_generic_failure", "",                 "error",
              "the user's jobs on this node cannot be told: no slurm.conf, no spool directory, "
              "node name unknown, a mistake in this module",
              "No Slurm jobs found on node."),
    Situation("no jobs",         "action_no_jobs",         "",                 "info",
              "the user has no job with an extern step on this node",
              _DENIED + "you have no active jobs on this node"),
    Situation("unknown job",     "action_unknown",         "",                 "info",
              "several jobs, and neither the source host nor the user (user_choice) has named one "
              "of them, or the one that is named could not be adopted into",
              _DENIED + "unable to determine source job"),
    Situation("adopt failure",   "action_adopt_failure",   "",                 "error",
              "the stepd did not take the process, or the kernel shows it outside the job",
              _DENIED + "failed to adopt process into cgroup, denying access because "
              "action_adopt_failure=deny"),
    Situation("job suspended",   "action_suspended",       "",                 "info",
              "the job is suspended, so that what is put into it stops; or a cgroup that the user "
              "has made is where Slurm's own was expected",
              _DENIED + "your job on this node is suspended (scancel -s CONT JOBID resumes what "
              "you have stopped), or a cgroup of yours is in the way"),
    Situation("chosen",          "",                       "PAM_SUCCESS",      "info",
              "in the account phase: the job would take the login, and a session line of this "
              "module is certain to come: that one adopts"),
    Situation("adopted",         "",                       "PAM_SUCCESS",      "info",
              "the kernel shows the process in the job"),
    Situation("still adopted",   "",                       "PAM_SUCCESS",      "info",
              "in the session phase: the kernel shows the process still in the job that the "
              "account phase has adopted it into"),
    Situation("as before",       "",                       "the same again",   "info",
              "in the session phase: the account phase has answered without an adoption, and other "
              "modules may have let the user in; that answer is given again"),
    Situation("root spared",     "",                       "PAM_IGNORE",       "error",
              "with ignore_root=0, where root is not adopted, whatever the options say"),
)}
# fmt: on


class Outcome:
    """The answer to one login. It does not change: but() returns a changed copy."""

    __slots__ = (
        "adoption",
        "choice",
        "code",
        "jobs",
        "level",
        "message",
        "situation",
        "text",
        "withdrawn",
    )

    def __init__(
        self,
        situation: Situation,
        code: Code,
        text: str,
        adoption: Adoption | None = None,
        choice: Choice | None = None,
    ) -> None:
        """`text` is for the log; `adoption` is what the session was brought into, if it was.

        `choice` is the job that the session line is to bring it into, in the account phase.
        """
        self.situation: Final = situation.name
        self.code: Final = code
        self.level: Final = situation.level
        self.message: Final = situation.message if code in REFUSALS else ""
        self.text: Final = text
        self.adoption: Final = adoption
        self.choice: Final = choice
        self.jobs: Final[tuple[int, ...]] = ()
        self.withdrawn: Final[frozenset[str]] = frozenset()

    def but(
        self,
        *,
        text: str | None = None,
        level: str | None = None,
        message: str | None = None,
        jobs: tuple[int, ...] | None = None,
        withdrawn: frozenset[str] | None = None,
    ) -> Outcome:
        """Return the same answer with these changes.

        `message`: what a user who is refused is told. `jobs`: the ids of the user's jobs here, for
        a site's own message. `withdrawn`: the names of
        the variables that the account phase has set for a job that it is not.
        """
        changes = {
            "text": text,
            "level": level,
            "message": message,
            "jobs": jobs,
            "withdrawn": withdrawn,
        }
        copy = object.__new__(Outcome)
        for name in self.__slots__:
            change = changes.get(name)
            setattr(copy, name, getattr(self, name) if change is None else change)
        return copy

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the session gets by it."""
        found = self.adoption or self.choice
        return found.environment if found else {}
