"""PAM stacks of sshd for the compute nodes; the documented ones are here word for word."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.host import Host

C_MODULE = "account required pam_slurm_adopt.so"
OURS = "account required pam_python.so /opt/slurm_adopt/pam/pam_slurm_adopt.py"

# uid 0 skips the next line: a missing script or a stack of one PAM_IGNORE would refuse even root.
ROOT_GUARD = "account [success=1 default=ignore] pam_succeed_if.so quiet uid eq 0"

# The second half, at the end of the session phase.
SESSION = OURS.replace("account", "session")
SESSION_GUARD = ROOT_GUARD.replace("account", "session")

PASSWORD_AUTH = """\
account required pam_unix.so
account sufficient pam_localuser.so
account required pam_permit.so
"""


def stack(*account: str) -> list[str]:
    """Return Debian's stack for sshd with these lines before its include in the account phase."""
    return _around("account required pam_nologin.so", *account, "@include common-account")


def with_module(*options: str, line: str = OURS) -> list[str]:
    """Return the stack that adopts: the guard for root, then the module with its options."""
    return stack(*_guarded(line, options))


def session_lines(*options: str) -> list[str]:
    """Return the lines of the session phase."""
    return [SESSION_GUARD, " ".join((SESSION, *options))]


def _with_session(account: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Return the same stack with the session lines at its end."""
    return lambda *options: [*account(*options), *session_lines(*options)]


both = _with_session(with_module)


def before_include(*options: str, line: str = OURS) -> list[str]:
    """Return the stack as on RHEL, where `include password-auth` may end the whole chain."""
    return _around(
        "account required pam_nologin.so",
        *_guarded(line, options),
        "account include password-auth",
    )


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


def revealing(line: str, phase: str = "account") -> list[str]:
    """Return a stack whose result tells what the module of one line returned.

    PAM_IGNORE alone would look like a refusal. In the account and session phases it gives IGNORED
    here and any other code gives itself; in others it gives PAM_SUCCESS, and PAM_SUCCESS a refusal.
    """
    module = line.removeprefix("account required ")
    if phase not in _OTHERWISE:
        return [f"{phase} [ignore=ignore default=die] {module}", f"{phase} required pam_permit.so"]
    return [f"{phase} [success=done ignore=ignore default=die] {module}", _OTHERWISE[phase]]


DOCUMENTED = {
    "debian": both,
    "rhel": _with_session(before_include),
    "alone": _with_session(alone),
    "account line only": with_module,
}


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


# Stacks of the administrator's guide: ours beside other modules that decide.
UNKNOWN_IGNORED = "success=ok new_authtok_reqd=ok ignore=ignore module_unknown=ignore default=bad"
ADMINS_GUARD = "session [success=2 default=ignore] pam_succeed_if.so quiet user ingroup wheel"
ADMINS_CONF = "+:root:ALL\n+:(wheel):ALL\n-:ALL:ALL\n"


def access_after(*options: str) -> list[str]:
    """Return the stack in which pam_access decides about those who have no job here."""
    ours = OURS.replace("required", "sufficient")
    options = ("action_no_jobs=ignore", *options)
    lines = stack(" ".join((ours, *options)), "account required pam_access.so")
    return [*lines, *session_lines(*options)]


def access_first(*options: str) -> list[str]:
    """Return the stack in which administrators get in, without adoption, before ours is asked."""
    admins = "account sufficient pam_access.so accessfile=/etc/security/admins.conf"
    return [*stack(admins, *_guarded(OURS, options)), ADMINS_GUARD, *session_lines(*options)]


def listfile(*options: str) -> list[str]:
    """Return the stack in which a list keeps users out before anything is adopted."""
    denied = "account required pam_listfile.so item=user sense=deny file=/etc/denied onerr=succeed"
    requisite = denied.replace("required", "requisite")
    return [*stack(requisite, *_guarded(OURS, options)), *session_lines(*options)]


def where_installed(*options: str) -> list[str]:
    """Return the stack that leaves ours out where pam_python is not installed."""
    account, session = (
        " ".join((line.replace(f"{phase} required", f"-{phase} [{UNKNOWN_IGNORED}]"), *options))
        for phase, line in (("account", OURS), ("session", SESSION))
    )
    return [*stack(ROOT_GUARD, account), SESSION_GUARD, session]


GUIDE = {
    "access after": access_after,
    "access first": access_first,
    "listfile": listfile,
    "where installed": where_installed,
}


@contextlib.contextmanager
def guide_s_files(node: Host) -> Iterator[None]:
    """Give a node what the stacks of GUIDE read: carol is an administrator, bob is denied."""
    node.run(["sh", "-ec", "groupadd -f wheel; usermod -aG wheel carol"])
    usual = node.read("etc/security/access.conf")
    node.write("etc/security/access.conf", ADMINS_CONF)
    node.write("etc/security/admins.conf", ADMINS_CONF)
    node.write("etc/denied", "bob\n")
    yield
    node.write("etc/security/access.conf", usual)
    node.run(["rm", "-f", "/etc/denied", "/etc/security/admins.conf"])
