"""PAM stacks of sshd for the compute nodes; the documented ones are here word for word."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.harness.host import Host

C_MODULE = "account required pam_slurm_adopt.so"
OURS = "account required pam_python.so /opt/slurm_adopt/pam/pam_slurm_adopt.py"

# By pam_exec, where there is no pam_python.
EXEC = "account required pam_exec.so quiet stdout /opt/slurm_adopt/pam/pam_slurm_adopt_exec"

FRONTS = ("pam_python", "pam_exec")
_by_pam_exec = False


def use_front(name: str) -> None:
    """Have all stacks that are written from now on run the module by this front of it."""
    global _by_pam_exec  # noqa: PLW0603 - a choice for the whole run, as pytest's --front makes it
    _by_pam_exec = FRONTS.index(name) == 1


@contextlib.contextmanager
def front(name: str) -> Iterator[None]:
    """Have the stacks that are written in a `with` block run the module by a front of it."""
    before = FRONTS[_by_pam_exec]
    use_front(name)
    try:
        yield
    finally:
        use_front(before)


def sets_variables() -> bool:
    """Say whether the front that is in use sets variables of the session."""
    return not _by_pam_exec


def by_front(text: str) -> str:
    """Return a stack with the lines of the front that is in use."""
    ours, instead = (line.removeprefix("account required ") for line in (OURS, EXEC))
    return text.replace(ours, instead) if _by_pam_exec else text


PRODUCTION = ("action_adopt_failure=deny", "action_generic_failure=deny")

# Around the session line of pam_exec, where SELinux confines users: docs/how-to/selinux.md.
CONFINED = ("session required pam_selinux.so restore", "session required pam_selinux.so open")

# uid 0 skips the next line: a missing script or a stack of one PAM_IGNORE would refuse even root.
ROOT_GUARD = "account [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"

# The second half, at the end of the session phase.
SESSION = OURS.replace("account", "session")
SESSION_GUARD = ROOT_GUARD.replace("account", "session")


def stack(*account: str) -> list[str]:
    """Return Debian's stack for sshd with these lines before its include in the account phase."""
    return _around("account required pam_nologin.so", *account, "@include common-account")


def with_module(*options: str, line: str = OURS) -> list[str]:
    """Return the stack that adopts: the guard for root, then the module with its options."""
    return stack(*_guarded(line, options))


def session_lines(*options: str) -> list[str]:
    """Return the lines of the session phase."""
    return [SESSION_GUARD, " ".join((SESSION, *options))]


Lines = tuple[list[str], list[str]]  # of the account phase, and of the session phase
Printed = Callable[..., Lines]  # from options
Stack = Callable[..., list[str]]  # the same, of a whole stack


def both_lines(*options: str) -> Lines:
    """Return the lines of both phases."""
    return _guarded(OURS, options), session_lines(*options)


def both_by_pam_exec(*options: str) -> Lines:
    """Return the lines of both phases for the pam_exec front."""
    session = EXEC.replace("account", "session")
    return _guarded(EXEC, options), [SESSION_GUARD, " ".join((session, *options))]


def account_line_only(*options: str) -> Lines:
    """Return the lines of the account phase alone."""
    return _guarded(OURS, options), []


def _in_debian_s(lines: Printed) -> Callable[..., list[str]]:
    """Return Debian's stack with these lines in it."""

    def in_stack(*options: str) -> list[str]:
        account, session = lines(*options)
        return [*stack(*account), *session]

    return in_stack


both = _in_debian_s(both_lines)


def alone(*options: str, line: str = OURS) -> list[str]:
    """Return a stack whose account phase has nothing else in it."""
    guard = ROOT_GUARD.replace("[success=1 default=ignore]", "sufficient")
    return _around(guard, " ".join((line, *options)))


# What tells PAM_IGNORE apart: a line that is silent and returns a code that ours never does.
_OTHERWISE = {
    "account": "account required pam_deny.so",
    "session": "session required pam_exec.so quiet quiet_log /bin/false",
}
IGNORED = {"account": 7, "session": 4}  # PAM_AUTH_ERR, PAM_SYSTEM_ERR (<security/_pam_types.h>)


def never_ignores(line: str) -> bool:
    """Say whether the module of a line never returns PAM_IGNORE, as pam_exec."""
    return "pam_exec.so" in line


def revealing(line: str, phase: str = "account") -> list[str]:
    """Return a stack whose result tells what the module of one line returned.

    PAM_IGNORE alone would look like a refusal. In the account and session phases it gives IGNORED
    here and any other code gives itself; in others it gives PAM_SUCCESS, and PAM_SUCCESS a refusal.
    """
    module = line.removeprefix("account required ")
    if never_ignores(line):
        return [f"{phase} required {module}"]
    if phase not in _OTHERWISE:
        return [f"{phase} [ignore=ignore default=die] {module}", f"{phase} required pam_permit.so"]
    return [f"{phase} [success=done ignore=ignore default=die] {module}", _OTHERWISE[phase]]


def alone_and_session(*options: str) -> list[str]:
    """Return the same stack with the session lines at its end."""
    return [*alone(*options), *session_lines(*options)]


DOCUMENTED: dict[str, Callable[..., list[str]]] = {
    "both": both,
    "alone": alone_and_session,
    "account line only": with_module,
    "by pam_exec": _in_debian_s(both_by_pam_exec),
}


by_pam_exec = DOCUMENTED["by pam_exec"]


def _guarded(line: str, options: tuple[str, ...]) -> list[str]:
    return [ROOT_GUARD, " ".join((line, *options))]


def _around(*account: str) -> list[str]:
    return [
        "@include common-auth",
        *account,
        "session required pam_loginuid.so",
        "session optional pam_keyinit.so force revoke",
        "@include common-session",
        "session required pam_limits.so",
        "session required pam_env.so",
        "@include common-password",
    ]


# Lines of the administrator's guide: ours beside other modules that decide.
UNKNOWN_IGNORED = "success=ok new_authtok_reqd=ok ignore=ignore module_unknown=ignore default=bad"
ADMINS = "account [success=2 default=ignore] pam_succeed_if.so quiet user ingroup wheel"
SESSION_ADMINS = ADMINS.replace("account", "session")
DENIED = "account requisite pam_listfile.so item=user sense=deny file=/etc/denied onerr=succeed"


def administrators(*options: str) -> Lines:
    """Return the lines that administrators jump over, as root does."""
    account, session = both_lines(*options)
    return [ADMINS, *account], [SESSION_ADMINS, *session]


def listfile(*options: str) -> Lines:
    """Return the lines by which a list keeps users out before anything is adopted."""
    account, session = both_lines(*options)
    return [DENIED, *account], session


def where_installed(*options: str) -> Lines:
    """Return the lines that leave ours out where pam_python is not installed."""
    account, session = (
        " ".join((line.replace(f"{phase} required", f"-{phase} [{UNKNOWN_IGNORED}]"), *options))
        for phase, line in (("account", OURS), ("session", SESSION))
    )
    return [ROOT_GUARD, account], [SESSION_GUARD, session]


# Those for at and cron.
SYSTEM_GUARD = ROOT_GUARD.replace("uid eq 0", "uid < 1000")


def at_or_cron(service: str) -> Lines:
    """Return the lines that bring what a service runs for users into their jobs."""
    options = " ".join((f"service={service}", *PRODUCTION))
    session = SYSTEM_GUARD.replace("account", "session")
    return [SYSTEM_GUARD, f"{OURS} {options}"], [session, f"{SESSION} {options}"]


# What README and guide print for a stack that has other account lines.
PRINTED: dict[str, Printed] = {
    "both": both_lines,
    "account line only": account_line_only,
    "administrators": administrators,
    "listfile": listfile,
    "where installed": where_installed,
}
GUIDE = {
    name: _in_debian_s(lines)
    for name, lines in PRINTED.items()
    if lines not in (both_lines, account_line_only)
}


def others_decide(*options: str) -> list[str]:
    """Return a stack in which pam_access decides about those who have no job here."""
    options = ("action_no_jobs=ignore", *options)
    account, session = both_lines(*options)
    ours = account[-1].replace("required", "[success=1 ignore=ignore default=bad]")
    return [*stack(ROOT_GUARD, ours, "account required pam_access.so"), *session]


@contextlib.contextmanager
def guide_s_files(node: Host) -> Iterator[None]:
    """Give a node what the lines of GUIDE read: carol is an administrator, bob is denied."""
    node.run(["sh", "-ec", "groupadd -f wheel; usermod -aG wheel carol"])
    usual = node.read("etc/security/access.conf")
    node.write("etc/security/access.conf", "+:root:ALL\n+:(wheel):ALL\n-:ALL:ALL\n")
    node.write("etc/denied", "bob\n")
    yield
    node.write("etc/security/access.conf", usual)
    node.run(["rm", "-f", "/etc/denied"])
