"""Options of the PAM line: one table that the parser, the man page, the README and the tests read.

An option is an argument `name=value`. Names and listed values match regardless of case. An unknown
name is complained of and ignored; an unknown value is complained of and means the value of the
column `strictest`, so that a typing mistake never opens the door. Complaints go to the log.
`older` has values of early releases, 15.08.0 to 15.08.3, and what they mean today; they keep
working.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Literal

    Governing = Literal[
        "action_no_jobs",
        "action_unknown",
        "action_adopt_failure",
        "action_generic_failure",
        "action_suspended",
    ]
    Switch = Literal[
        "ignore_root",
        "single_job_skip_rpc",
        "disable_x11",
        "join_container",
        "callerid",
        "user_choice",
        "runtime_dir",
        "welcome",
        "job_limits",
        "reference",
        "ignore_passes",
    ]
    Time = Literal["callerid_timeout", "wait_for_job"]
    Text = Literal["service", "nodename", "log_level", "job_env", "message", "slurm_conf"]
    Name = Literal[Governing, Switch, Time, Text]

# Levels of SlurmdDebug in their order (slurm.conf(5)); the index is the number an option may give.
LOG_LEVELS = (
    "quiet",
    "fatal",
    "error",
    "info",
    "verbose",
    "debug",
    "debug2",
    "debug3",
    "debug4",
    "debug5",
)

WORD = "a word"
PATH = "an absolute path"
SECONDS = "seconds from 0.1 to 30"
WAIT = "seconds from 0 to 60"
VARIABLES = "names of the manual page's table with commas between, or all"
LEVEL = "a level"
LONG = 800  # characters of all arguments; Linux-PAM before 1.6 cuts lines at 1023, without a word


class Option:
    """One row: `values` lists what may be given, or is one of the kinds above."""

    __slots__ = ("default", "name", "older", "since", "strictest", "text", "values")

    def __init__(
        self,
        name: Name,
        values: tuple[str, ...] | str,
        default: str,
        strictest: str,
        since: str,
        text: str,
        older: dict[str, str] | None = None,
    ) -> None:
        """`since` is the release of the C module that introduced the option, or "" for ours."""
        self.name: Final = name
        self.values: Final = values
        self.default: Final = default
        self.strictest: Final = strictest
        self.since: Final = since
        self.text: Final = text
        self.older: Final = older or {}


# fmt: off
OPTIONS = (
    #       name                      values                       default   strictest  C since
    Option("action_no_jobs",         ("deny", "ignore"),           "deny",   "deny",    "15.08.3",
           "What to do when the user has no job on this node. Only jobs with an extern step count. "
           "ignore leaves the decision to the other modules of the stack."),
    Option("action_unknown",         ("newest", "ask", "allow", "deny"), "newest", "deny", "15.08",
           "What to do when the user has several jobs here and it is not known which one the "
           "login comes from. newest adopts into the job whose extern step was started last on "
           "this node; that job may end before the one the user meant. ask asks the user which of "
           "the jobs, where the service can ask in the account phase (keyboard-interactive of ssh, "
           "login, su); elsewhere, and run by pam_exec, it is newest. Three answers that name none "
           "of the jobs are a refusal. allow lets the user in without adoption.",
           older={"any": "newest", "user": "newest", "ignore": "allow"}),
    Option("action_adopt_failure",   ("allow", "deny"),            "allow",  "deny",    "15.08",
           "What to do when the login could not be brought into the job, or that could not be "
           "verified. allow lets the user in without limits. Production systems should set deny.",
           older={"ignore": "allow"}),
    Option("action_generic_failure", ("auto", "ignore", "allow", "deny"), "auto", "deny", "15.08.3",
           "What to do when something keeps this module from deciding at all: no slurm.conf, no "
           "spool directory, node name unknown, a mistake in this module. auto means deny on a "
           "host where a slurmd or slurmstepd of root's runs, and ignore on any other. ignore "
           "leaves the decision to the other modules of the stack. Production systems should set "
           "deny."),
    Option("action_suspended",       ("deny", "allow"),            "deny",   "deny",    "",
           "What to do when the job is suspended (scancel -s STOP, scontrol suspend, preemption), "
           "so that whatever is put into it stops, or when a cgroup that the user has made is in "
           "the place of one of Slurm's. Users can bring that about at will: allow lets them in "
           "without limits whenever they like. action_adopt_failure has no say in it."),
    Option("ignore_root",            ("1", "0"),                   "1",      "1",       "15.08",
           "1: logins of uid 0 are answered with PAM_IGNORE before any file is read. 0: root is "
           "adopted like a user, but whatever is no adoption becomes PAM_IGNORE; what root then "
           "starts, services included, is limited by the job and dies with it."),
    Option("service",                WORD,                         "sshd",   "sshd",    "19.05",
           "The PAM service this module is for, exactly as written; * means any. All others are "
           "answered with PAM_IGNORE."),
    Option("nodename",               WORD,                         "",       "",        "15.08.4",
           "The NodeName of this node, where it cannot be told from the host name or an alias of "
           "it: several slurmd on one host, or a NodeHostname that is not the host's."),
    Option("single_job_skip_rpc",    ("1", "0"),                   "1",      "1",       "15.08",
           "0: the host that the login comes from is asked also when the user has only one job "
           "here. If it does not know, the only job is taken."),
    Option("disable_x11",            ("0", "1"),                   "0",      "1",       "17.11",
           "1: DISPLAY and XAUTHORITY are left as they are, for sites that want ssh -X to work in "
           "jobs with X11. Run by pam_exec, the module always leaves them."),
    Option("join_container",         ("true", "false"),            "true",   "true",    "20.11.5",
           "Whether to enter the job's namespaces, all of them or none: in the session phase where "
           "the service has a session line of this module, else in the account phase. Where that "
           "fails the login could not be brought into the job: see action_adopt_failure. false: "
           "the session sees the node's own /tmp. Run by pam_exec, the module can enter none: set "
           "false there."),
    Option("log_level",              LEVEL,                        "info",   "info",    "15.08",
           "How much to log to the syslog facility authpriv: " + " ".join(LOG_LEVELS) + ", or 0 to "
           "9 in this order. info has one line for each decision, debug each step on the way."),
    Option("callerid",               ("1", "0"),                   "1",      "1",       "",
           "0: the host that the login comes from is never asked."),
    Option("callerid_timeout",       SECONDS,                      "2",      "2",       "",
           "How long asking the source host may take in all, in seconds from 0.1 to 30; at most "
           "one of these seconds goes into connecting to each slurmd there."),
    Option("user_choice",            ("0", "1"),                   "0",      "0",       "",
           "1: where the user has several jobs here and the source host names none of them, the "
           "login goes to the one that the user has chosen with the command slurm-adopt use. The "
           "choice selects among the user's jobs on this node, and counts as long as that job "
           "runs here. Without one, action_unknown decides."),
    Option("wait_for_job",           WAIT,                         "0",      "0",       "",
           "Seconds, from 0 to 60, to wait for the extern step where a job of the user is just "
           "being set up on this node: its prolog, or another step of it, shows that. Without such "
           "a sign nobody waits."),
    Option("runtime_dir",            ("none", "job"),              "none",   "none",    "",
           "job: make a directory for the job and the user, mode 0700, and set XDG_RUNTIME_DIR to "
           "it, for nodes without pam_systemd. A later login with this option removes it once the "
           "job is gone; at the job's end Slurm's Epilog can do so (see FILES). Run by pam_exec, "
           "the module makes none."),
    Option("welcome",                ("0", "1"),                   "0",      "0",       "",
           "1: the session line tells a user who logs in for a shell which job the session is part "
           "of. Commands, scp, sftp and rsync are shown nothing."),
    Option("job_env",                VARIABLES,            "SLURM_JOB_ID",   "SLURM_JOB_ID", "",
           "Which variables of the job the session gets, beside SLURM_JOB_ID and those of X11: "
           "names that the section ENVIRONMENT lists with commas between. all stands for those but "
           "the ones that the list has only by name (all,SLURM_NTASKS). What the job does not "
           "show, or shows in another form than the list says, is left out, and so is what belongs "
           "to it. Run by pam_exec, the module sets no variable at all."),
    Option("job_limits",             ("0", "1"),                   "0",      "1",       "",
           "1: the session line gives the session the resource limits (ulimit) of a process of "
           "the job, but for CPU time and file size; never above the hard limits that it had, and "
           "never below what sshd needs. The account line sets none: pam_limits comes after it."),
    Option("message",                PATH,                         "",       "",        "",
           "A file of at most 4096 bytes with the site's own words for a user who is refused. %u "
           "is the user, %h the host, %j the user's jobs here, %m this module's own sentence, %r "
           "the reference."),
    Option("reference",              ("0", "1"),                   "0",      "0",       "",
           "1: each login gets a reference of four letters and digits. It stands in the login's "
           "lines in the log, and behind the sentence that a refused user is shown: (ref 4F7K). A "
           "site's own message has it as %r."),
    Option("ignore_passes",          ("1", "0"),                   "1",      "0",       "",
           "Of the pam_exec front alone, which has no PAM_IGNORE. 1: where this manual page says "
           "PAM_IGNORE the script's exit status is 0, as it has to be on a line that is required. "
           "0: it is 1, but for root, as it has to be on one that is sufficient."),
    Option("slurm_conf",             PATH,                         "",       "",        "",
           "Where slurm.conf is, where it is in none of the usual places and is not what root's "
           "running slurmd was started with. The login's variable SLURM_CONF is not read."),
)
# fmt: on

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}
_DEFAULTS: dict[str, str] = {option.name: option.default for option in OPTIONS}

# What the values of the options that are on or off mean; those of action_* are in outcome.ACTIONS.
# A value that its row of OPTIONS has and this table has not means the strictest.
# fmt: off
SWITCHES: dict[Switch, dict[str, bool]] = {
    "ignore_root":         {"1": True, "0": False},
    "single_job_skip_rpc": {"1": True, "0": False},
    "disable_x11":         {"1": True, "0": False},
    "join_container":      {"true": True, "false": False},
    "callerid":            {"1": True, "0": False},
    "user_choice":         {"1": True, "0": False},
    "runtime_dir":         {"job": True, "none": False},
    "welcome":             {"1": True, "0": False},
    "job_limits":          {"1": True, "0": False},
    "reference":           {"1": True, "0": False},
    "ignore_passes":       {"1": True, "0": False},
}
# fmt: on

# What a login comes to does not depend on these: what is logged, shown, and given to a session.
ASIDE = frozenset({
    "log_level", "message", "disable_x11", "job_env", "job_limits", "runtime_dir", "reference",
    "welcome",
})  # fmt: skip


class Options:
    """The value of every option as text, and typed views of those that are not words."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        """`values` may leave out what has its default."""
        self._values: dict[str, str] = {**_DEFAULTS, **values}

    def __getitem__(self, name: Name) -> str:
        """Return the value of an option as text."""
        return self._values[name]

    def on(self, name: Switch) -> bool:
        """Return whether an option is on; a value that SWITCHES does not know is the strictest."""
        means = SWITCHES[name]
        value = self._values[name]
        return means[value if value in means else BY_NAME[name].strictest]

    def differing(self, other: Options) -> list[str]:
        """Return the options that decide about a login and have another value there."""
        if self._values == other._values:
            return []
        names = self._values.keys() - ASIDE
        return sorted(name for name in names if self._values[name] != other._values[name])

    @property
    def log_level(self) -> int:
        """Index into LOG_LEVELS."""
        value = self._values["log_level"]
        return int(value) if value.isdecimal() else LOG_LEVELS.index(value)

    def seconds(self, name: Time) -> float:
        """Return the value of an option that is a time."""
        return float(self._values[name])


def parse(arguments: list[str]) -> tuple[Options, list[str]]:
    """Read the arguments of the PAM line; return the options and one complaint per mistake."""
    values: dict[str, str] = {}
    complaints: list[str] = []
    if (length := sum(map(len, arguments))) > LONG:
        complaints.append(
            f"the options are {length} characters long: PAM may have cut the line short and "
            "lost the rest; make the line shorter than 1000 characters"
        )
    for argument in arguments:
        name, equals, given = argument.partition("=")
        option = BY_NAME.get(name.lower())
        if option is None or not equals:
            complaints.append(_unknown(argument))
            continue
        today = option.older.get(given.lower())
        if today is not None:
            complaints.append(
                f"{option.name}={given} is a value of an early release; it now means {today}"
            )
        value = _valid(option, today or given)
        if value is None:
            value = option.strictest
            complaints.append(_bad_value(option, given, value))
        if values.get(option.name, value) != value:
            complaints.append(
                f"{option.name} is given more than once; the last value counts: '{value}'"
            )
        values[option.name] = value
    return Options(values), complaints


def _valid(option: Option, given: str) -> str | None:
    """Return the value in the table's own spelling; None if it is not one of the table's."""
    if isinstance(option.values, tuple):
        return given.lower() if given.lower() in option.values else None
    if option.values == LEVEL:
        return _level(given.lower())
    if option.values in _TIMES:
        return given if _is_seconds(given, *_TIMES[str(option.values)]) else None
    if option.values == VARIABLES:
        from .variables import spelled

        return spelled(given)
    if option.values == PATH:
        return given if given.startswith("/") and given.isprintable() else None
    is_word = given.isprintable() and given and " " not in given and "/" not in given
    return given if is_word else None


def _level(given: str) -> str | None:
    if given.isdecimal() and given.isascii():
        return given if len(given) == 1 else None
    return given if given in LOG_LEVELS else None


_DIGITS = frozenset("0123456789.")
_TIMES = {SECONDS: (0.1, 30.0), WAIT: (0.0, 60.0)}


def _is_seconds(given: str, least: float, most: float) -> bool:
    """Say whether this is a number in plain digits: float() takes 1_0, 1e0, nan and blanks, too."""
    try:
        return _DIGITS.issuperset(given) and least <= float(given) <= most
    except ValueError:
        return False


def _unknown(argument: str) -> str:
    from difflib import get_close_matches

    name = argument.partition("=")[0][:64]
    near = get_close_matches(name.lower(), list(BY_NAME), n=1)
    hint = f"; did you mean {near[0]}=?" if near else ""
    return f"ignoring unrecognized option '{argument[:128]}'{hint}"


def _bad_value(option: Option, given: str, value: str) -> str:
    allowed = option.values if isinstance(option.values, str) else " or ".join(option.values)
    return (
        f"unrecognized {option.name}={given[:128]}, setting to '{value}', the strictest "
        f"(it takes {allowed})"
    )
