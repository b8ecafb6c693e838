"""What each situation comes to: the table situation -> (governing option, message, log level).

PAM codes are written as their names in <security/_pam_types.h>; the bridge turns them into numbers.
Texts for the user are those of the C module, word for word: sites look for them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .adoption import Adoption, Choice

ACTION_CODES = {  # value of an action_* option -> PAM code
    "allow": "PAM_SUCCESS",
    "deny": "PAM_PERM_DENIED",
    "ignore": "PAM_IGNORE",
}
AUTO = "auto"  # as action_generic_failure: one of those above, by whether this is a compute node
AUTO_MEANS = {True: "deny", False: "ignore"}

STRICTEST = "PAM_PERM_DENIED"  # for a value that the parser knows and this table does not
REFUSALS = frozenset({"PAM_PERM_DENIED", "PAM_SESSION_ERR", "PAM_USER_UNKNOWN"})


class Situation:
    """One row: where the login stands, and which option or fixed PAM code answers it."""

    __slots__ = ("code", "level", "message", "name", "option", "when")

    def __init__(
        self, name: str, option: str, code: str, level: str, when: str, message: str = ""
    ) -> None:
        """`option` or `code` is empty; `message` is shown to a user who is refused."""
        self.name = name
        self.when = when
        self.option = option
        self.code = code
        self.level = level
        self.message = message


_DENIED = "Access denied by pam_slurm_adopt: "

# fmt: off
SITUATIONS = {row.name: row for row in (
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
              "several jobs, and the source host did not name one of them, or the one it named "
              "could not be adopted into",
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
              "in the session phase: the account phase has let the user in without adoption, or "
              "the stack has against its answer; that is given again"),
    Situation("root spared",     "",                       "PAM_IGNORE",       "error",
              "with ignore_root=0, where root is not adopted, whatever the options say"),
)}
# fmt: on


class Outcome:
    """The answer to one login."""

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
        code: str,
        text: str,
        adoption: Adoption | None = None,
        choice: Choice | None = None,
    ) -> None:
        """`text` is for the log; `adoption` is what the session was brought into, if it was.

        `choice` is the job that the session line is to bring it into, in the account phase.
        `jobs`, the ids of the user's jobs here, is for a site's own message; `withdrawn` names the
        variables that the account phase has set for a job that it is not. The engine sets both.
        """
        self.situation = situation.name
        self.code = code
        self.level = situation.level
        self.message = situation.message if code in REFUSALS else ""
        self.text = text
        self.adoption = adoption
        self.choice = choice
        self.jobs: list[int] = []
        self.withdrawn: frozenset[str] = frozenset()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the session gets by it."""
        found = self.adoption or self.choice
        return found.environment if found else {}
