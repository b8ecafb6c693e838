"""Where we differ from the C module on purpose: each difference, its reason, and its rows.

A row of the comparison that differs and is not here is a defect, and so is a row that is here and
does not differ, or in which the C module does not do what stands here. The C module of the
comparison is Debian's, of Slurm 22.05. Behind that, where its releases differ among themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.cluster.scenarios.affinity import BOUND_STAYS_BOUND
from tests.decisions import DENIED, FAILED, GENERIC, NO_JOBS, STRICT
from tests.decisions import UNKNOWN as NO_SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY = "*"  # whatever the options are

T = TypeVar("T")
Rows = dict[str, dict[str, T]]  # situation, for root's logins `root: SITUATION` -> options -> what


class Did(NamedTuple):
    """What a module does in a row."""

    code: str  # that it returns, or how it ends the process
    job: str = ""  # role of the job that it adopts into, as it says itself
    said: str = ""  # to the user
    namespace: str = ""  # whose mounts the process then has: a job's, by role, or NODE's
    cpus: str = ""  # that it may then use, with commas between

    def __str__(self) -> str:
        """Put it in a few words."""
        return ", ".join(filter(None, self))


class Difference(NamedTuple):
    """One deliberate difference."""

    name: str
    theirs: str  # what the C module does
    ours: str
    why: str
    follows: str  # releases of the C module that do as we do
    rows: Rows[Did]
    alone: str = ""  # situation of the decision table that is tried on ours only


NONE = "none"
NODE = "the node"
# Several jobs, and the source host is asked and does not name one of them.
UNKNOWN = (
    "several jobs, from no job",
    "several jobs, from one elsewhere",
    "several jobs, slurmd refuses",
    "several jobs, slurmd answers an error",
)
SLOW = ("several jobs, slurmd is silent", "several jobs, packets are dropped")
NAMED_FAILS = "several jobs, from one that fails"
ONLY_FAILS = ("the only job fails", "the only job fails, not confined by cgroups")
ROOT_SEVERAL = "root: several jobs, slurmd refuses"

LET_IN = Did("PAM_SUCCESS")
INTO_ONLY = Did("PAM_SUCCESS", "only")
INTO_OLDER = Did("PAM_SUCCESS", "source")
INTO_NEWEST = Did("PAM_SUCCESS", "newest")
IGNORED = Did("PAM_IGNORE")


def _each(
    what: T, situations: Iterable[str], option: str = "", *values: str, before: str = ""
) -> Rows[T]:
    """Return these situations with these values of an option, or any option; "" is no option."""
    given = (f"{option}={value}" if value else "" for value in values)
    options = [f"{before} {words}".strip() for words in given] if option else [ANY]
    return {situation: dict.fromkeys(options, what) for situation in situations}


def _all(*lists: Rows[T]) -> Rows[T]:
    """Return several lists as one."""
    rows: Rows[T] = {}
    for one in lists:
        for situation, options in one.items():
            rows.setdefault(situation, {}).update(options)
    return rows


CPUS = [
    Difference(
        "CPUs of the job",
        "leaves the session with the CPUs that sshd is bound to, from Linux 6.2 on",
        "binds it to all CPUs of the job, where ConstrainCores confines that",
        "it is what srun gives",
        NONE,
        _each(Did("PAM_SUCCESS", "only", cpus="0"), ["one job, sshd is bound to a CPU"]),
    )
] if BOUND_STAYS_BOUND else []  # fmt: skip

DIFFERENCES = [
    Difference(
        "own jobs only",
        "adopts into the job that the source host names, also if it is another user's",
        "chooses by that answer among the user's own jobs, else by action_unknown",
        "whoever answers at a source address must not lead a login into another user's job",
        NONE,
        {},
        alone="several jobs, from another user's",
    ),
    Difference(
        "own addresses",
        "asks at the address that the login comes from: a slurmd without EnableIPv6 is not at ::1",
        "asks the slurmd of its own host where that listens",
        "a login from a job to its own node comes from that job, by whatever address",
        NONE,
        _each(Did(DENIED, "", NO_SOURCE), ["several jobs, from one of them by ::1"],
              "action_unknown", "deny"),
    ),
    Difference(
        "newest",
        "takes the job whose cgroup changed last, which a build for several slurmd a host, as "
        "Debian's, does not find: the one whose socket readdir gives last; on cgroup v2 the "
        "largest id",
        "takes the job whose extern step was started last here",
        "an adoption must not make an older job look newer, and the choice must be told beforehand",
        "26.05 means to (time of the socket), and takes an arbitrary one",
        _all(
            _each(INTO_OLDER, UNKNOWN, "action_unknown", "", "newest", "any", "user"),
            _each(INTO_OLDER, SLOW, "action_unknown", ""),
            _each(INTO_OLDER, ["the newest job fails"]),
        ),
    ),
    Difference(
        "users choose",
        "has no such option, and takes the newest",
        "takes the job that the user has chosen, where user_choice=1 is set",
        "a user who has several jobs knows which one is meant",
        NONE,
        {},
        alone="several jobs, one of them chosen",
    ),
    Difference(
        "users are asked",
        "does not know action_unknown=ask and takes the default, newest",
        "asks the user; the newest, which may be another one, where nobody can be asked",
        "the same",
        NONE,
        _each(INTO_OLDER, UNKNOWN, "action_unknown", "ask"),
    ),
    Difference(
        "suspended takes nothing",
        "has the process put into the frozen job: it stops, and root's sshd with it",
        "refuses by action_suspended, whatever action_adopt_failure says",
        "a user must not stop sshd's processes, nor come in without limits at will",
        NONE,
        {},
        alone="the only job is suspended",
    ),
    Difference(
        "all suspended",
        "the same with several jobs",
        "refuses by action_suspended",
        "as with one job",
        NONE,
        {},
        alone="several jobs, all suspended",
    ),
    Difference(
        "newest that runs",
        "the newest may be one that is suspended",
        "a job that is suspended comes after all others",
        "it takes no login, and another of the user's does",
        NONE,
        {},
        alone="several jobs, a newer one is suspended",
    ),
    Difference(
        "cgroups of users",
        "has the process put into a cgroup that the user has made in the place of one of Slurm's",
        "refuses by action_suspended",
        "who makes a cgroup sets its limits, and may stop what is in it",
        NONE,
        {},
        alone="the only job has a cgroup of the user's",
    ),
    Difference(
        "ending is over",
        "counts a job that is ending, and fails to adopt: action_adopt_failure decides, and its "
        "default lets the user in without adoption",
        "does not count it: without another job action_no_jobs decides",
        "a job that ends has no place for a login, and the user must not stay when it is gone",
        NONE,
        _all(
            _each(LET_IN, ["the only job is ending"]),
            _each(Did(DENIED, "", FAILED), ["the only job is ending"],
                  "action_adopt_failure", "deny"),
        ),
    ),
    Difference(
        "misspelt value",
        "takes the value that the word begins with (ignorex: ignore), else the default",
        "takes the strictest value, and logs it",
        "a typing mistake must not open the door",
        NONE,
        _all(
            _each(INTO_OLDER, UNKNOWN, "action_unknown", "newst"),
            _each(INTO_NEWEST, [NAMED_FAILS], "action_unknown", "newst"),
            _each(LET_IN, ONLY_FAILS, "action_adopt_failure", "alow"),
            _each(Did("PAM_IGNORE", "", GENERIC), ["node name unknown"],
                  "action_generic_failure", "alow", "ignored"),
            _each(Did("PAM_IGNORE", "", GENERIC), ["node name unknown, no slurmd"],
                  "action_generic_failure", "alow"),
            _each(INTO_ONLY, ["one job, with X11"], "disable_x11", "yes", "0x"),
            _each(IGNORED, ["idle node"], "action_no_jobs", "ignorex"),
            _each(LET_IN, ["several jobs, slurmd refuses"], "action_unknown", "allowed"),
            _each(INTO_OLDER, ["several jobs, slurmd refuses"], "action_unknown", "newest1"),
            _each(LET_IN, ["the only job fails"], "action_adopt_failure", "allowed"),
            _each(Did("PAM_SUCCESS", "", GENERIC), ["node name unknown"],
                  "action_generic_failure", "allowed"),
        ),
    ),
    Difference(
        "early releases' words",
        "no longer knows action_unknown=ignore and takes the default, newest",
        "lets the user in without adoption",
        "PAM lines of every generation keep their meaning",
        "15.08.0 to 15.08.2",
        _all(
            _each(INTO_OLDER, UNKNOWN, "action_unknown", "ignore"),
            _each(INTO_NEWEST, [NAMED_FAILS], "action_unknown", "ignore"),
        ),
    ),
    Difference(
        "ignore_root=0",
        "sets it back to 1 unless action_no_jobs=allow, a value that it does not take",
        "takes root the whole way; whatever is no adoption becomes PAM_IGNORE",
        "the option exists for those who want services to die with a job",
        NONE,
        _all(
            _each(IGNORED, ["root: one job"]),
            _each(IGNORED, [ROOT_SEVERAL], "action_unknown", "", "newest", "ask", "any", "user",
                  before="ignore_root=0"),
        ),
    ),
    Difference(
        "the only job is taken",
        "with single_job_skip_rpc=0, and nobody who knows, does as action_unknown says",
        "takes the only job",
        "there is nothing to choose",
        "26.05",
        {"one job, asked about": {f"single_job_skip_rpc=0 {STRICT}": Did(DENIED, "", NO_SOURCE)}},
    ),
    Difference(
        "no exit",
        "ends the process: sshd breaks the connection off, whatever action_generic_failure says",
        "does as action_generic_failure says",
        "a library must not end sshd, and the option is for this case",
        NONE,
        _each(Did("exit 1"), ["no slurm.conf", "no slurm.conf, no slurmd"]),
    ),
    Difference(
        "not knowing is not having",
        "counts no jobs, and does as action_no_jobs says",
        "does as action_generic_failure says, and the log names file and reason",
        "a user with a job must not be told that there is none because a file cannot be read",
        NONE,
        _each(
            Did(DENIED, "", NO_JOBS),
            ["slurm.conf is no text", "spool directory missing", "spool directory is a file"],
        ),
    ),
    Difference(
        "silent when let in",
        "says that no jobs were found to a user whom it lets in",
        "says nothing unless it refuses",
        "the user has nothing to do about it, and the log has it",
        "up to 18.08.3",
        _all(
            _each(Did("PAM_IGNORE", "", GENERIC), ["node name unknown"],
                  "action_generic_failure", "ignore"),
            _each(Did("PAM_IGNORE", "", GENERIC), ["node name unknown, no slurmd"],
                  "action_generic_failure", "", "auto", "ignore"),
            _each(Did("PAM_SUCCESS", "", GENERIC),
                  ["node name unknown", "node name unknown, no slurmd"],
                  "action_generic_failure", "allow", "Allow"),
        ),
    ),
    Difference(
        "a compute node is not open",
        "leaves the decision to the rest of the stack, which lets in everybody",
        "refuses by default where a slurmd or slurmstepd of root's runs",
        "the default is for hosts that are no compute nodes; on a node it lets in who has no job",
        NONE,
        _each(Did("PAM_IGNORE", "", GENERIC), ["node name unknown"],
              "action_generic_failure", "", "auto"),
    ),
    Difference(
        "told why",
        "refuses without a word after the newest job has failed",
        "says the sentence of the only job that fails",
        "a user who is refused is told why",
        "26.05",
        _each(Did(DENIED), ["several jobs, all fail"], "action_adopt_failure", "deny"),
    ),
    Difference(
        "verified",
        "believes the stepd",
        "fails to adopt where it cannot read back that the process is in the job",
        "adopted means what the kernel says",
        NONE,
        _each(INTO_ONLY, ["freezer is not mounted", "/proc is not mounted"]),
    ),
    Difference(
        "completed",
        "believes a stepd that says yes and leaves the process outside",
        "writes the process into the job's cgroups and reads it back",
        "a session outside has no limits and outlives the job",
        NONE,
        _each(INTO_ONLY, ["the stepd says yes and does nothing"]),
    ),
    Difference(
        "a namespace is no adoption",
        "takes a job's namespace that it could enter for an adoption that failed",
        "does as action_adopt_failure says, and enters nothing",
        "a session with the job's /tmp and without its limits is not in the job",
        "up to 20.11.4; since 23.02",
        _each(Did("PAM_SUCCESS", namespace="only"), ["the only job fails, with namespaces"],
              "action_adopt_failure", "", "allow", "deny"),
    ),
    *CPUS,
    Difference(
        "unknown user",
        "returns PAM_SESSION_ERR",
        "returns PAM_USER_UNKNOWN",
        "it is PAM's word for this; the user is refused with either",
        NONE,
        _each(Did("PAM_SESSION_ERR"), ["unknown user"]),
    ),
]  # fmt: skip


# What ours does in the situations that the decision table does not have.
OURS = _all(
    _each(Did("PAM_SUCCESS", "source"), ["several jobs, from one with X11"]),
    _each(Did("PAM_SUCCESS", "only", cpus="0,1"), ["one job, sshd is bound to a CPU"]),
    _each(INTO_OLDER, ["several jobs, from one of them by ::1"]),
    _each(Did("PAM_SUCCESS", "only", namespace=NODE), ["the stepd says yes and does nothing"]),
    _each(Did(DENIED, "", FAILED), ["several jobs, all fail"], "action_adopt_failure", "deny"),
    _each(Did("PAM_SUCCESS", "only", namespace="only"), ["one job, with namespaces"],
          "join_container", "", "true"),
    _each(Did("PAM_SUCCESS", "only", namespace=NODE), ["one job, with namespaces"],
          "join_container", "false"),
    _each(Did("PAM_SUCCESS", namespace=NODE), ["the only job fails, with namespaces"],
          "action_adopt_failure", "", "allow"),
    _each(Did(DENIED, "", FAILED, NODE), ["the only job fails, with namespaces"],
          "action_adopt_failure", "deny"),
)  # fmt: skip


class Release(NamedTuple):
    """Something that the releases of the C module do differently among themselves."""

    what: str
    releases: str
    ours: str
    why: str
    rows: Rows[bool]  # of the comparison that it is about


_BY_OPTION = ("one job", "idle node", "several jobs, from one of them")
_GENERIC = ("no slurm.conf", "slurm.conf is no text", "node name unknown",
            "spool directory missing", "spool directory is a file", "no slurm.conf, no slurmd",
            "node name unknown, no slurmd")  # fmt: skip
_PRIVATE = ("one job, with namespaces", "the only job fails, with namespaces")

RELEASES = [
    Release(
        "default of action_adopt_failure",
        "15.08.0 to 15.08.2 document deny; allow since 15.08.3",
        "allow",
        "what all sites have today; the guide says to set deny",
        _each(True, (*ONLY_FAILS, "several jobs, all fail", "the only job fails, with namespaces"),
              "action_adopt_failure", ""),
    ),
    Release(
        "whether action_adopt_failure has an effect",
        "documented since 15.08, parsed since 17.11.10 and 18.08.1: allow before",
        "as said",
        "it is what the line says",
        _each(True, (*ONLY_FAILS, "several jobs, all fail"), "action_adopt_failure", "deny"),
    ),
    Release(
        "default of action_generic_failure",
        "15.08.3 to 17.02 allow; ignore since 17.11",
        "auto: deny on a compute node, ignore elsewhere",
        "who has no job shall not come in because a file cannot be read",
        _each(True, _GENERIC, "action_generic_failure", ""),
    ),
    Release(
        "default of action_unknown",
        "15.08.0 to 15.08.2 any; newest since 15.08.3",
        "newest",
        "it includes any",
        _each(True, (*UNKNOWN, *SLOW, NAMED_FAILS), "action_unknown", ""),
    ),
    Release(
        "who is root",
        "up to 18.08 the name root; uid 0 since 19.05",
        "uid 0",
        "names are not rights",
        _each(True, ["root"]),
    ),
    Release(
        "unknown user or root first",
        "up to 18.08 root is asked about first; since 19.05 whether the user is known",
        "root first, by uid",
        "no user is both: only a root that the host does not know is answered otherwise",
        _each(True, ["unknown user", "root"]),
    ),
    Release(
        "other services than sshd",
        "adopted up to 18.08; ignored since 19.05",
        "ignored",
        "sudo and cron run with variables and descriptors of the user's",
        _each(True, ["another service"]),
    ),
    Release(
        "an option that does not exist",
        "silently ignored before 23.02; logged since",
        "logged with the nearest name",
        "a misspelt option is a mistake",
        {name: {"action_nojobs=ignore": True, "action_no_jobs": True} for name in _BY_OPTION},
    ),
    Release(
        "a default given explicitly",
        "logged as unrecognized from 23.02 to 24.11.1 for 1/0 and true/false; fine otherwise",
        "fine",
        "it is right",
        {name: {"ignore_root=1": True, "single_job_skip_rpc=1": True, "disable_x11=0": True,
                "join_container=true": True} for name in _BY_OPTION},
    ),
    Release(
        "action_unknown with one job",
        "applied up to 25.11 with single_job_skip_rpc=0; not since 26.05",
        "not applied",
        "there is nothing to choose",
        _each(True, ["one job, asked about"]),
    ),
    Release(
        "text of a failed adoption",
        "failed to adopt process into cgroup, ... up to 25.11; adoption failure since 26.05",
        "that of up to 25.11",
        "it names the option, and sites look for it",
        _each(True, (*ONLY_FAILS, "several jobs, all fail"), "action_adopt_failure", "deny"),
    ),
    Release(
        "DISPLAY, XAUTHORITY, SLURM_JOB_ID",
        "since 17.11, 18.08, 19.05",
        "all three",
        "as today",
        _each(True, ["one job, with X11", "several jobs, from one with X11"]),
    ),
    Release(
        "a job's namespace",
        "entered since 20.11.5; if that succeeds after a failed adoption, this counts as adopted "
        "from 20.11.5 to 22.05; if it fails, so has the adoption from 23.02 to 25.05; since "
        "25.11.1 that is only logged",
        "entered after an adoption only, and an adoption failure if that fails",
        "a session is in the job with all that belongs to it, or it is not",
        _each(True, _PRIVATE),
    ),
    Release(
        "nodename and the source host's answer",
        "up to 25.11 the job that it names is looked for under the NodeName that is guessed; under "
        "nodename since 26.05",
        "under nodename",
        "it is this node's name",
        _each(True, ["several jobs, from one of them"], "nodename", "n1", "n9"),
    ),
    Release(
        "IPv4 sources on a dual-stack socket",
        "asked about as IPv6 in all releases, which no slurmd knows; here sshd has a socket for "
        "each",
        "asked about as IPv4",
        "it is what the source host knows the connection as",
        _each(True, ["several jobs, from one of them"]),
    ),
]  # fmt: skip
