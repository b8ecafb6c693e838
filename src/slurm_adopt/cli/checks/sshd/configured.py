"""sshd: what it has to be set to for this module, and what else bears on logins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.finding import Check, error, ok, skipped, warning
from slurm_adopt.cli.checks.pam.ways_in import free
from slurm_adopt.cli.deadlines import SLOW
from slurm_adopt.cli.verdict.fronts import is_exec
from slurm_adopt.decision.outcome import action_of
from slurm_adopt.time_limits import COUNTED

from .sshd_settings import SettingsError, place, settings, sshds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host

    from .sshd_settings import Sshd

    Settings = dict[str, str]

SSHD = "sshd"
NOBODY = "nobody"  # for a user about whom nothing is said
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
ASKING = "keyboard-interactive"  # the method that has a conversation in the account phase
METHODS = {
    "pubkeyauthentication": "publickey",
    "passwordauthentication": "password",
    "kbdinteractiveauthentication": ASKING,
    "challengeresponseauthentication": ASKING,
    "gssapiauthentication": "gssapi-with-mic",
    "hostbasedauthentication": "hostbased",
}
FEW = 10  # unfinished logins


def found_(host: Host) -> Iterator[Seen]:
    """Tell which sshd is there, and whether its configuration can be read."""
    there = _sshds(host)
    if not there:
        yield skipped("there is no sshd on this host")
    for sshd in there:
        said, why = _settings(host, sshd)
        if said:
            runs = "is running" if sshd.listens else "is installed, and does not run by itself"
            yield ok(f"{sshd.program} {runs}", " ".join(sshd.options), sshd.config)
        elif not host.is_root:
            yield skipped("only root can ask sshd for its settings")
        elif sshd.listens:
            yield error("sshd does not take its configuration", why, sshd.config)
        else:
            yield skipped("no sshd runs, and the installed one says no settings", why)


def _of_each(
    look: Callable[[Host, Sshd, Settings], Iterator[Seen]],
) -> Callable[[Host], Iterator[Seen]]:
    """Make a look at the settings of one sshd one at each."""

    def looks(host: Host) -> Iterator[Seen]:
        if not _is_sshd_s(host):
            yield skipped(f"{host.service} is no service of sshd's")
            return
        looked = False
        for sshd in _sshds(host):
            said, _ = _settings(host, sshd)
            if said:
                looked = True
                yield from look(host, sshd, said)
        if not looked:
            yield skipped("the settings of sshd are not known")

    return looks


@_of_each
def uses_pam(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:  # noqa: ARG001
    """Tell whether sshd asks PAM."""
    if said.get("usepam") == "yes":
        yield ok("sshd asks PAM (UsePAM yes)", "", *_place(sshd, said, "UsePAM"))
    else:
        where = _place(sshd, said, "UsePAM")
        yield error("sshd does not ask PAM: UsePAM no", "", *where)


@_of_each
def service(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:
    """Tell by which name sshd asks PAM."""
    name = _service(sshd, said)
    where = _place(sshd, said, "PAMServiceName")
    if name != host.service:
        found = f"this check is about {host.service}"
        yield error(f"sshd asks PAM as the service {name}", found, *where)
    else:
        yield ok(f"sshd asks PAM as the service {name}")


@_of_each
def methods(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:
    """Tell by which methods users may log in."""
    names = _methods(said)
    if not names:
        yield warning("sshd takes no method of authentication", "", sshd.config)
        return
    if _asks(host) and ASKING not in names:
        found = "it is newest with all other methods"
        where = _place(sshd, said, "KbdInteractiveAuthentication")
        yield warning(f"action_unknown=ask asks nobody: sshd takes no {ASKING}", found, *where)
    ports = said.get("port", "22").split()
    by_port = [_settings(host, sshd, port=port)[0].get("authenticationmethods") for port in ports]
    chains = dict.fromkeys(chain for chain in by_port if chain not in (None, "any"))
    found = f"AuthenticationMethods {'; '.join(map(str, chains))}" if chains else ""
    yield ok(f"sshd takes {', '.join(names)}", found, sshd.config)


@_of_each
def root_by_ssh(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:
    """Tell whether somebody can mend by ssh a node that locks users out."""
    said = _settings(host, sshd, "root")[0]
    of_root = said.get("permitrootlogin", "")
    where = _place(sshd, said, "PermitRootLogin")
    people = [name for name in free(host)[0] if name != "root"]
    if of_root == "no" and people:
        yield ok(f"root may not log in by ssh, but without a job: {', '.join(people)}", "", *where)
    elif of_root == "no":
        title = "where users are locked out, only the console is left: PermitRootLogin no"
        yield warning(title, "", *where)
    else:
        yield ok(f"root may log in by ssh: PermitRootLogin {of_root}", "", *where)


@_of_each
def grace(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:
    """Tell whether a login has the time that the module may take."""
    seconds = _seconds(said.get("logingracetime", "120"))
    where = _place(sshd, said, "LoginGraceTime")
    wanted = COUNTED.last + sum(
        host.options.seconds(name) for name in ("wait_for_job", "callerid_timeout")
    )
    if seconds == 0:
        found = "so does each question of action_unknown=ask without an answer"
        title = "a login that hangs holds its slot for good: LoginGraceTime 0"
        yield warning(title, found if _asks(host) else "", *where)
    elif seconds < wanted:
        found = f"the module may take {wanted:g} s to count the jobs of a user, and to choose one"
        yield warning(f"LoginGraceTime is {seconds} s, which may be too short", found, *where)
    else:
        yield ok(f"LoginGraceTime is {seconds} s", f"at least {wanted:g} s are wanted", *where)


@_of_each
def startups(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:  # noqa: ARG001
    """Tell how many logins may be unfinished at a time."""
    value = said.get("maxstartups", "10:30:100")
    begin, _, rest = value.partition(":")
    full = rest.rpartition(":")[2] or begin
    where = _place(sshd, said, "MaxStartups")
    if full.isdecimal() and int(full) <= FEW:
        yield warning(f"sshd takes only {full} unfinished logins at the same time", value, *where)
    elif begin == full:
        title = f"sshd takes {full} unfinished logins at the same time"
        yield ok(title, f"MaxStartups {value}", *where)
    else:
        title = f"sshd takes {begin} unfinished logins at the same time, and up to {full} by chance"
        yield ok(title, f"MaxStartups {value}", *where)


@_of_each
def penalties(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:  # noqa: ARG001
    """Tell whether refused logins of one user keep others out."""
    value = said.get("persourcepenalties")
    exempt = said.get("persourcepenaltyexemptlist", "none")
    where = _place(sshd, said, "PerSourcePenalties")
    if value is None:
        yield ok("this sshd has no penalties for refused logins")
    elif value == "no":
        yield ok("sshd has no penalties: PerSourcePenalties no", "", *where)
    elif exempt not in ("none", ""):
        where = _place(sshd, said, "PerSourcePenaltyExemptList")
        yield ok("some addresses are exempt from sshd's penalties", exempt, *where)
    elif re.search(r"\bauthfail:0(\.0+)?(?!\S)", value):
        yield ok("a refused login costs no penalty: authfail:0", "", *where)
    else:
        title = "refused logins of one user block all users of a login node"
        yield warning(title, f"PerSourcePenalties {value}", *where)


@_of_each
def user_environment(host: Host, sshd: Sshd, said: Settings) -> Iterator[Seen]:  # noqa: ARG001
    """Tell whether users give their sessions variables before anything of theirs runs."""
    value = said.get("permituserenvironment", "no")
    where = _place(sshd, said, "PermitUserEnvironment")
    if value == "no":
        yield ok("users' files set no variables of a session (PermitUserEnvironment no)")
    else:
        yield warning(f"users' files set variables: PermitUserEnvironment {value}", "", *where)


def several(host: Host) -> Iterator[Seen]:
    """Tell whether sshds with other programs, options or files listen here."""
    there = [sshd for sshd in _sshds(host) if sshd.listens]
    if len(there) < 2:
        yield ok("no two sshds with different settings run on this host")
        return
    for sshd in there[1:]:
        found = " ".join((sshd.program, *sshd.options))
        yield warning(f"{len(there)} sshds with different settings run", found, sshd.config)


# What these share


def _sshds(host: Host) -> list[Sshd]:
    return host.once("sshds", sshds)


def _service(sshd: Sshd, said: Settings) -> str:
    """Return the PAM service that an sshd asks: before OpenSSH 9.8 the name of its program."""
    return said.get("pamservicename") or sshd.program.rpartition("/")[2]


def _is_sshd_s(host: Host) -> bool:
    """Say whether the service is the usual one of sshd, or that of one here."""
    names = {_service(sshd, _settings(host, sshd)[0]) for sshd in _sshds(host)}
    return host.service == SSHD or host.service in names


def _settings(host: Host, sshd: Sshd, user: str = "", port: str = "22") -> tuple[Settings, str]:
    """Return the settings for a user's login; {} and why not, where sshd does not say them."""
    if not host.is_root:
        return {}, "only root can ask sshd"
    user = user or next(iter(host.users), NOBODY)
    try:
        look = lambda: settings(sshd, user, port)  # noqa: E731
        return host.once(f"sshd -T {sshd} {user} {port}", look), ""
    except SettingsError as wrong:
        return {}, str(wrong)


def _place(sshd: Sshd, said: Settings, name: str) -> tuple[str, int]:
    return place(sshd.config, name, said.get(name.lower(), ""))


def _asks(host: Host) -> bool:
    """Say whether users are asked for a job; by pam_exec they cannot be."""
    if any(map(is_exec, host.our_lines("account")[:1])):
        return False
    return action_of(host.options, "action_unknown").does == "ask"


def _methods(said: Settings) -> list[str]:
    return list(dict.fromkeys(METHODS[name] for name in METHODS if said.get(name) == "yes"))


def _seconds(text: str) -> int:
    """Return a time of sshd's in seconds (sshd_config(5), TIME FORMATS)."""
    parts = re.findall(r"(\d+)([smhdw]?)", text.lower())
    return sum(int(number) * UNITS[unit or "s"] for number, unit in parts)


CHECKS = (
    Check(
        "SA701",
        SSHD,
        "sshd takes its configuration",
        found_,
        expected="sshd -T prints the settings of sshd.",
        why="An sshd that does not take its configuration does not start again. Nobody can then "
        "log in, root neither.",
        fix="Correct what is named, and run sshd -t before sshd is restarted.",
        seconds=SLOW,
    ),
    Check(
        "SA702",
        SSHD,
        "sshd asks PAM",
        uses_pam,
        expected="UsePAM is yes.",
        why="Without PAM this module is never asked: everybody with a key gets in.",
        fix="Set UsePAM yes in sshd_config, and reload sshd.",
        seconds=SLOW,
    ),
    Check(
        "SA703",
        SSHD,
        "the PAM service of sshd",
        service,
        expected="sshd asks the PAM service that this check is about, which is sshd by default.",
        why="sshd asks the PAM stack of this name. Lines in another one count for nothing. The "
        "module answers one service alone, that of the option service.",
        fix="Put the lines into the file of that service, with service=NAME, and run the check "
        "with --service NAME. Or take PAMServiceName out of sshd_config.",
        seconds=SLOW,
    ),
    Check(
        "SA704",
        SSHD,
        "methods of authentication",
        methods,
        expected="sshd takes at least one method of authentication, and keyboard-interactive where "
        "action_unknown is ask.",
        why="All methods come to the same job. With keyboard-interactive the account phase runs "
        "in another process than the session, and with it alone users can be asked for a job.",
        fix="Switch on one of the methods in sshd_config; for the question "
        "KbdInteractiveAuthentication.",
        seconds=SLOW,
    ),
    Check(
        "SA705",
        SSHD,
        "a way in where users are locked out",
        root_by_ssh,
        expected="Root, or administrators who need no job, may log in by ssh.",
        why="Where something is broken the module refuses users. Somebody has to be able to log "
        "in and mend it.",
        fix="Set PermitRootLogin prohibit-password in sshd_config, or let a group of "
        "administrators in without a job: docs/how-to/administrators.md.",
        seconds=SLOW,
    ),
    Check(
        "SA706",
        SSHD,
        "LoginGraceTime",
        grace,
        expected="LoginGraceTime is not 0, and longer than the module may take to count jobs and "
        "to ask the source host.",
        why="sshd ends a login that takes longer, with no word of this module. With 0 a login "
        "that hangs is never ended, and enough of these keep everybody out.",
        fix="Set LoginGraceTime to the default of 120, or make wait_for_job and callerid_timeout "
        "shorter.",
        seconds=SLOW,
    ),
    Check(
        "SA707",
        SSHD,
        "MaxStartups",
        startups,
        expected="sshd takes more unfinished logins than a few.",
        why="A launcher such as mpirun opens many logins at the same moment. sshd drops those "
        "above this number.",
        fix="Set MaxStartups in sshd_config to what a launcher opens on one node, such as 1000: "
        "docs/how-to/launchers.md.",
        seconds=SLOW,
    ),
    Check(
        "SA708",
        SSHD,
        "penalties for refused logins",
        penalties,
        expected="PerSourcePenaltyExemptList has the login nodes, or PerSourcePenalties has "
        "authfail:0.",
        why="OpenSSH 9.8 and later adds up penalties by address. Four refused logins of one user "
        "block everybody on that login node for 20 s, root too.",
        fix="Set PerSourcePenaltyExemptList in sshd_config: docs/how-to/penalties.md.",
        seconds=SLOW,
    ),
    Check(
        "SA709",
        SSHD,
        "users' files set no variables",
        user_environment,
        expected="PermitUserEnvironment is no, which is the default.",
        why="Users then set variables such as LD_PRELOAD and SLURM_JOB_ID for what sshd starts, "
        "and so may go around a ForceCommand.",
        fix="Set PermitUserEnvironment no in sshd_config.",
        seconds=SLOW,
    ),
    Check(
        "SA710",
        SSHD,
        "one kind of sshd",
        several,
        expected="One sshd runs, or several with the same options and the same file.",
        why="Each sshd has to ask PAM, and a stack with this module's lines. A second one is "
        "easily forgotten.",
        fix="Look at the findings about each, or stop the one that is not needed.",
        seconds=SLOW,
    ),
)
