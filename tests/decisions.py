"""The decision table: what becomes of a login, by situation and by the option that governs it.

To look something up: find the situation in SITUATIONS. It is always answered alike, or by an
option; what each value of that option means is in ANSWERS, and what else may stand in the PAM line
for a value (nothing, a misspelt word, a word of an early release) in SPELLINGS. rows() is every
combination of these. The engine's unit test goes through them over a fake node, and
tests/cluster/test_decisions.py over a real one.

Roles stand for jobs: *only* is the user's only job here, *source* the one that the login comes
from, *newest* the one whose extern step was started last here, *chosen* the one that the user has
chosen (slurm-adopt use), *foreign* another user's, *elsewhere* the user's on another node. {only}
in a log line is the number of that job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Answer(NamedTuple):
    """What the service and the user get."""

    code: str  # PAM return code
    shown: str = ""  # to the user
    job: str = ""  # role of the job that the login is adopted into, and SLURM_JOB_ID names
    display: bool = False  # whether DISPLAY and XAUTHORITY are set


ALLOWED = Answer("PAM_SUCCESS")  # without adoption
IGNORED = Answer("PAM_IGNORE")  # the rest of the stack decides
NO_JOBS = "Access denied by pam_slurm_adopt: you have no active jobs on this node"
UNKNOWN = "Access denied by pam_slurm_adopt: unable to determine source job"
FAILED = (
    "Access denied by pam_slurm_adopt: failed to adopt process into cgroup, denying access "
    "because action_adopt_failure=deny"
)
GENERIC = "No Slurm jobs found on node."
SUSPENDED = (
    "Access denied by pam_slurm_adopt: your job on this node is suspended (scancel -s CONT JOBID "
    "resumes what you have stopped), or a cgroup of yours is in the way"
)

DENIED = "PAM_PERM_DENIED"

# What each value of a governing option means.
ANSWERS = {
    "action_no_jobs": {"deny": Answer(DENIED, NO_JOBS), "ignore": IGNORED},
    "action_unknown": {
        "newest": Answer("PAM_SUCCESS", job="newest"),
        "ask": Answer("PAM_SUCCESS", job="newest"),  # where nobody can be asked
        "allow": ALLOWED,
        "deny": Answer(DENIED, UNKNOWN),
    },
    "action_adopt_failure": {"allow": ALLOWED, "deny": Answer(DENIED, FAILED)},
    "action_suspended": {"deny": Answer(DENIED, SUSPENDED), "allow": ALLOWED},
    "action_generic_failure": {
        "auto": Answer(DENIED, GENERIC),  # where root's slurmd runs; else see Situation.auto
        "ignore": IGNORED,
        "allow": ALLOWED,
        "deny": Answer(DENIED, GENERIC),
    },
    "disable_x11": {
        "0": Answer("PAM_SUCCESS", job="only", display=True),
        "1": Answer("PAM_SUCCESS", job="only"),
    },
}

# What stands in the PAM line -> the value that it means. Nothing is the default. A word of an
# early release is named in the log. What is nothing of all this is complained of there and means
# the strictest value.
SPELLINGS = {
    "action_no_jobs": {
        "": "deny", "deny": "deny", "ignore": "ignore", "IGNORE": "ignore",
        "allow": "deny", "ignroe": "deny",
    },
    "action_unknown": {
        "": "newest", "newest": "newest", "ask": "ask", "allow": "allow", "deny": "deny",
        "Allow": "allow", "any": "newest", "user": "newest", "ignore": "allow", "newst": "deny",
    },
    "action_adopt_failure": {
        "": "allow", "allow": "allow", "deny": "deny", "DENY": "deny",
        "ignore": "allow", "alow": "deny",
    },
    "action_suspended": {"": "deny", "deny": "deny", "allow": "allow", "alow": "deny"},
    "action_generic_failure": {
        "": "auto", "auto": "auto", "ignore": "ignore", "allow": "allow", "deny": "deny",
        "Allow": "allow", "alow": "deny",
    },
    "disable_x11": {"": "0", "0": "0", "1": "1", "yes": "1"},
}  # fmt: skip
OLDER = {("action_unknown", "any"), ("action_unknown", "user"), ("action_unknown", "ignore"),
         ("action_adopt_failure", "ignore")}  # fmt: skip


class Situation(NamedTuple):
    """Where a login stands, and what answers it."""

    name: str
    answer: str | Answer  # the governing option, or the answer whatever the options are
    level: str  # syslog level of the line with the decision; "" if there is none
    reason: str = ""  # part of that line: why the option governs, or what was done
    user: str | None = "alice"
    options: str = ""  # that make it this situation, on the PAM line
    auto: Answer | None = None  # what the value auto comes to here, where that is another


def _governed(option: str, level: str, *rows: tuple[str, ...]) -> list[Situation]:
    """Return the situations that an option answers, from (name, reason[, options]) each."""
    return [
        Situation(name, option, level, reason, options=" ".join(options))
        for name, reason, *options in rows
    ]


ONLY = Answer("PAM_SUCCESS", job="only")
SOURCE = Answer("PAM_SUCCESS", job="source")
CHOSEN = Answer("PAM_SUCCESS", job="chosen")
INTO_ONLY = "adopted into job {only} (the only job)"
NOT_THEIRS = "which is not one of the user's jobs here"
LOGIN = "slurmd at 10.78.0.4:6818: "  # what the login node's address answers

# fmt: off
SITUATIONS = [
    # None of this module's business, or nobody to decide about.
    Situation("another service", IGNORED, "debug", "service sshd is not login",
              options="service=login"),
    Situation("no PAM_USER", Answer("PAM_SESSION_ERR"), "err", "PAM_USER is not set", user=None),
    Situation("unknown user", Answer("PAM_USER_UNKNOWN"), "err",
              "user zoe is not known on this host", user="zoe"),
    Situation("root", IGNORED, "", user="root"),
    # Adopted, whatever the options are.
    Situation("one job", ONLY, "info", INTO_ONLY),
    Situation("one job, others elsewhere and of others", ONLY, "info", INTO_ONLY),
    Situation("one job, asked about", ONLY, "info",
              "adopted into job {only} (the only job; " + LOGIN, options="single_job_skip_rpc=0"),
    Situation("several jobs, from one of them", SOURCE, "info",
              "adopted into job {source} (the job it comes from)"),
    # The same with a choice of the user's, where the site has set user_choice.
    Situation("several jobs, one of them chosen", CHOSEN, "info",
              "adopted into job {chosen} (the job that the user has chosen; " + LOGIN,
              options="user_choice=1"),
    Situation("several jobs, one chosen, from another", SOURCE, "info",
              "adopted into job {source} (the job it comes from)", options="user_choice=1"),
    # Adopted, with or without its display.
    Situation("one job, with X11", "disable_x11", "info", INTO_ONLY),
    # Something keeps the module from deciding.
    *_governed(
        "action_generic_failure", "err",
        ("no slurm.conf", "no slurm.conf in any of /etc/slurm/slurm.conf, "),
        ("slurm.conf is no text", "/etc/slurm/slurm.conf is not a text file"),
        ("node name unknown", "cannot tell the node name: "),
        ("spool directory missing",
         "cannot read the spool directory /nowhere: No such file or directory"),
        ("spool directory is a file",
         "cannot read the spool directory /etc/passwd: Not a directory"),
    ),
    # The same on a host that is no compute node: no slurmd or stepd of root's runs there.
    *[
        one._replace(auto=IGNORED)
        for one in _governed(
            "action_generic_failure", "err",
            ("no slurm.conf, no slurmd", "no slurm.conf in any of /etc/slurm/slurm.conf, "),
            ("node name unknown, no slurmd", "cannot tell the node name: "),
        )
    ],
    # No job here.
    *_governed(
        "action_no_jobs", "info",
        ("idle node", "no job on this node"),
        ("jobs of other users only", "no job on this node"),
        ("job on another node only", "no job on this node"),
        ("the only job is ending", "no job on this node"),
    ),
    # Several jobs here, and it is not known which one the login comes from.
    *_governed(
        "action_unknown", "info",
        ("several jobs, from no job", "the source host knows no job for this connection"),
        ("several jobs, from another user's", f"named job {{foreign}}, {NOT_THEIRS}"),
        ("several jobs, from one elsewhere", f"named job {{elsewhere}}, {NOT_THEIRS}"),
        ("several jobs, slurmd refuses", LOGIN + "connection refused"),
        ("several jobs, slurmd is silent", LOGIN, "callerid_timeout=0.3"),
        ("several jobs, packets are dropped", LOGIN, "callerid_timeout=0.3"),
        ("several jobs, slurmd answers an error", LOGIN),
        ("several jobs, nobody is asked", "callerid=0", "callerid=0"),
        ("several jobs, a newer one is suspended", LOGIN + "connection refused"),
        ("several jobs, from one that fails", "comes from job {source}, but "),
    ),
    # The job is known, and the login cannot be brought into it.
    *_governed(
        "action_adopt_failure", "err",
        ("the only job fails", "job {only} (the only job): "),
        ("the newest job fails", "job {newest} (the newest of 2; "),
        ("freezer is not mounted", "no cgroup for freezer, though the configuration "),
        ("/proc is not mounted", "is /proc mounted?"),
    ),
    # The job takes nothing now; action_adopt_failure has no say in it.
    *_governed(
        "action_suspended", "info",
        ("the only job is suspended", "the job is suspended", "action_adopt_failure=allow"),
        ("the only job has a cgroup of the user's", "is a cgroup that uid ",
         "action_adopt_failure=allow"),
        ("several jobs, all suspended", "the job is suspended"),
    ),
    # Where ProctrackType does not use cgroups and nothing else confines by them.
    Situation("one job, not confined by cgroups", ONLY, "info", INTO_ONLY),
    *_governed(
        "action_adopt_failure", "err",
        ("the only job fails, not confined by cgroups", "job {only} (the only job): "),
    ),
]
# fmt: on

# With ignore_root=0 root goes the whole way; whatever is no adoption is PAM_IGNORE.
OF_ROOT = (
    "one job", "idle node", "no slurm.conf", "several jobs, slurmd refuses", "the only job fails",
)  # fmt: skip
SPARED = "root is left to the other modules"


class Row(NamedTuple):
    """One line of the decision table, with nothing left to look up."""

    situation: str
    user: str | None
    options: str
    code: str
    shown: str
    job: str
    display: bool
    level: str
    says: tuple[str, ...]  # parts of the line with the decision
    complaint: str  # part of a line of its own, an error

    def __str__(self) -> str:
        """Name it."""
        who = "root: " if self.user == "root" and self.situation != "root" else ""
        return f"{who}{self.situation} [{self.options or 'defaults'}]"


def rows() -> Iterator[Row]:
    """Yield every combination, the situations in order."""
    for situation in SITUATIONS:
        yield from _rows_of(situation)
        if situation.name in OF_ROOT:
            root = situation._replace(user="root", options="ignore_root=0")
            yield from map(_spared, _rows_of(root))


def _rows_of(situation: Situation) -> Iterator[Row]:
    if isinstance(situation.answer, Answer):
        given = ("", "log_level=debug") if situation.level in ("", "debug") else ("", STRICT)
        for options in given:
            yield _row(situation, options, situation.answer, "")
        return
    option = situation.answer
    for spelling, value in SPELLINGS[option].items():
        answer = ANSWERS[option][value]
        if value == "auto":
            answer = situation.auto or answer
        options = f"{option}={spelling}" if spelling else ""
        yield _row(situation, options, answer, _complaint(option, spelling))


STRICT = (
    "action_no_jobs=deny action_unknown=deny action_adopt_failure=deny action_generic_failure=deny"
)


def _row(situation: Situation, options: str, answer: Answer, complaint: str) -> Row:
    """Put a line together; an adoption that an option led to is an ordinary decision."""
    says: tuple[str, ...] = (situation.reason, f"-> {answer.code} in ")
    if isinstance(situation.answer, str) and not answer.job:
        value = _meant(situation.answer, options.partition("=")[2])
        says = (*says, f"; {situation.answer}={value}")
    if answer.job == "newest":
        says = (*says, "adopted into job {newest} (the newest of ")
    level = situation.level
    if level == "debug" and "log_level=debug" not in options:
        level = ""
    both = f"{situation.options} {options}".strip()
    return Row(situation.name, situation.user, both, *answer, level, says, complaint)


def _meant(option: str, spelling: str) -> str:
    return SPELLINGS[option][spelling]


def _complaint(option: str, spelling: str) -> str:
    if spelling.lower() in {*ANSWERS[option], ""}:
        return ""
    if (option, spelling) in OLDER:
        today = _meant(option, spelling)
        return f"{option}={spelling} is a value of an early release; it now means {today}"
    strictest = _meant(option, spelling)
    return f"unrecognized {option}={spelling}, setting to '{strictest}', the strictest"


def _spared(row: Row) -> Row:
    """Return the row as root has it."""
    if row.job or row.code == "PAM_IGNORE":
        return row
    says = tuple(part.replace(f"-> {row.code}", "-> PAM_IGNORE") for part in row.says)
    return row._replace(code="PAM_IGNORE", shown="", level="err", says=(*says, SPARED))
