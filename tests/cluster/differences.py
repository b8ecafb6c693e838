"""Where we differ from the C module on purpose: each difference, its reason, and its rows.

A row of the comparison that differs and is not here is a defect, and so is a row that is here and
does not differ. The C module of the comparison is Debian's, of Slurm 22.05.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.decisions import STRICT

ANY = ("*",)  # whatever the options are


class Difference(NamedTuple):
    """One deliberate difference."""

    name: str
    theirs: str  # what the C module does
    ours: str
    why: str
    follows: str  # releases of the C module that do as we do
    rows: dict[str, tuple[str, ...]]  # situation -> options; for root's logins `root: SITUATION`


NONE = "none"
# Several jobs, and the source host is asked and does not name one of them.
UNKNOWN = (
    "several jobs, from no job",
    "several jobs, from one elsewhere",
    "several jobs, slurmd refuses",
    "several jobs, slurmd answers an error",
)
NAMED_FAILS = "several jobs, from one that fails"
ROOT_SEVERAL = "root: several jobs, slurmd refuses"


def _values(option: str, *values: str, before: str = "") -> tuple[str, ...]:
    """Return options with these values of one; "" is no option."""
    given = (f"{option}={value}" if value else "" for value in values)
    return tuple(f"{before} {words}".strip() for words in given)


DIFFERENCES = [
    Difference(
        "own jobs only",
        "adopts into the job that the source host names, also if it is another user's",
        "chooses by that answer among the user's own jobs, else by action_unknown",
        "whoever answers at a source address must not lead a login into another user's job",
        NONE,
        {"several jobs, from another user's": ANY},
    ),
    Difference(
        "newest",
        "takes the job whose cgroup changed last, which a build for several slurmd a host, as "
        "Debian's, does not find: the one whose socket readdir gives last; on cgroup v2 the "
        "largest id",
        "takes the job whose extern step was started last here",
        "an adoption must not make an older job look newer, and the choice must be told beforehand",
        "26.05 means to (time of the socket), and takes an arbitrary one",
        {
            **dict.fromkeys(UNKNOWN, _values("action_unknown", "", "newest", "any", "user")),
            "several jobs, slurmd is silent": ("",),
            "several jobs, packets are dropped": ("",),
            "the newest job fails": ANY,
        },
    ),
    Difference(
        "misspelt value",
        "takes the default",
        "takes the strictest value",
        "a typing mistake must not open the door",
        NONE,
        {
            **dict.fromkeys((*UNKNOWN, NAMED_FAILS), _values("action_unknown", "newst")),
            "the only job fails": _values("action_adopt_failure", "alow"),
            "the only job fails, not confined by cgroups": _values("action_adopt_failure", "alow"),
            "node name unknown": _values("action_generic_failure", "alow"),
            "one job, with X11": _values("disable_x11", "yes"),
        },
    ),
    Difference(
        "early releases' words",
        "no longer knows action_unknown=ignore and takes the default, newest",
        "lets the user in without adoption",
        "PAM lines of every generation keep their meaning",
        "15.08.0 to 15.08.2",
        dict.fromkeys((*UNKNOWN, NAMED_FAILS), _values("action_unknown", "ignore")),
    ),
    Difference(
        "ignore_root=0",
        "sets it back to 1 unless action_no_jobs=allow, a value that it does not take",
        "takes root the whole way; whatever is no adoption becomes PAM_IGNORE",
        "the option exists for those who want services to die with a job",
        NONE,
        {
            "root: one job": ANY,
            ROOT_SEVERAL: _values(
                "action_unknown", "", "newest", "any", "user", before="ignore_root=0"
            ),
        },
    ),
    Difference(
        "the only job is taken",
        "with single_job_skip_rpc=0, and nobody who knows, does as action_unknown says",
        "takes the only job",
        "there is nothing to choose",
        "26.05",
        {"one job, asked about": (f"single_job_skip_rpc=0 {STRICT}",)},
    ),
    Difference(
        "no exit",
        "ends the process: sshd breaks the connection off, whatever action_generic_failure says",
        "does as action_generic_failure says",
        "a library must not end sshd, and the option is for this case",
        NONE,
        {"no slurm.conf": ANY},
    ),
    Difference(
        "not knowing is not having",
        "counts no jobs, and does as action_no_jobs says",
        "does as action_generic_failure says, and the log names file and reason",
        "a user with a job must not be told that there is none because a file cannot be read",
        NONE,
        {
            "slurm.conf is no text": ANY,
            "spool directory missing": ANY,
            "spool directory is a file": ANY,
        },
    ),
    Difference(
        "silent when let in",
        "says that no jobs were found to a user whom it lets in",
        "says nothing unless it refuses",
        "the user has nothing to do about it, and the log has it",
        "up to 18.08.3",
        {"node name unknown": _values("action_generic_failure", "", "ignore", "allow", "Allow")},
    ),
    Difference(
        "told why",
        "refuses without a word after the newest job has failed",
        "says the sentence of the only job that fails",
        "a user who is refused is told why",
        "26.05",
        {"several jobs, all fail": _values("action_adopt_failure", "deny")},
    ),
    Difference(
        "verified",
        "believes the stepd",
        "fails to adopt where it cannot read back that the process is in the job",
        "adopted means what the kernel says",
        NONE,
        {"freezer is not mounted": ANY, "/proc is not mounted": ANY},
    ),
    Difference(
        "completed",
        "believes a stepd that says yes and leaves the process outside",
        "writes the process into the job's cgroups and reads it back",
        "a session outside has no limits and outlives the job",
        NONE,
        {"the stepd says yes and does nothing": ANY},
    ),
    Difference(
        "unknown user",
        "returns PAM_SESSION_ERR",
        "returns PAM_USER_UNKNOWN",
        "it is PAM's word for this; the user is refused with either",
        NONE,
        {"unknown user": ANY},
    ),
]  # fmt: skip


class Release(NamedTuple):
    """Something that the releases of the C module do differently among themselves."""

    what: str
    releases: str
    ours: str
    why: str


RELEASES = [
    Release(
        "default of action_adopt_failure",
        "15.08.0 to 15.08.2 document deny; allow since 15.08.3",
        "allow",
        "what all sites have today; the guide says to set deny",
    ),
    Release(
        "default of action_generic_failure",
        "15.08.3 to 17.02 allow; ignore since 17.11",
        "ignore",
        "the same",
    ),
    Release(
        "default of action_unknown",
        "15.08.0 to 15.08.2 any; newest since 15.08.3",
        "newest",
        "it includes any",
    ),
    Release(
        "who is root",
        "up to 18.08 the name root; uid 0 since 19.05",
        "uid 0",
        "names are not rights",
    ),
    Release(
        "other services than sshd",
        "adopted up to 18.08; ignored since 19.05",
        "ignored",
        "sudo and cron run with variables and descriptors of the user's",
    ),
    Release(
        "an option that does not exist",
        "silently ignored before 23.02; logged since",
        "logged with the nearest name",
        "a misspelt option is a mistake",
    ),
    Release(
        "a default given explicitly",
        "logged as unrecognized from 23.02 to 24.11.1 for 1/0 and true/false; fine otherwise",
        "fine",
        "it is right",
    ),
    Release(
        "action_unknown with one job",
        "applied up to 25.11 with single_job_skip_rpc=0; not since 26.05",
        "not applied",
        "there is nothing to choose",
    ),
    Release(
        "text of a failed adoption",
        "failed to adopt process into cgroup, ... up to 25.11; adoption failure since 26.05",
        "that of up to 25.11",
        "it names the option, and sites look for it",
    ),
    Release(
        "DISPLAY, XAUTHORITY, SLURM_JOB_ID",
        "since 17.11, 18.08, 19.05",
        "all three",
        "as today",
    ),
    Release(
        "IPv4 sources on a dual-stack socket",
        "asked about as IPv6 in all releases, which no slurmd knows",
        "asked about as IPv4",
        "it is what the source host knows the connection as",
    ),
]
