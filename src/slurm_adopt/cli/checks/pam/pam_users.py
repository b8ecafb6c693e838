"""Whom a line of a PAM stack is about, and what the lines return for a user."""

from __future__ import annotations

import fnmatch
import grp
import operator
import os
import pwd
from contextlib import suppress
from typing import TYPE_CHECKING, Callable

from slurm_adopt.node.pam_stack import FLAGS, is_of_user

from .pam_modules import is_missing
from .pam_runs import RETURNS, anything, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_adopt.node.pam_files import Line

SUCCEED_IF = "pam_succeed_if.so"

# Who is meant where one of these modules says yes.
WHO = {
    "pam_localuser.so": "users of /etc/passwd",
    "pam_usertype.so": "system users",
    "pam_access.so": "those whom access.conf allows",
    "pam_listfile.so": "those whom a list of pam_listfile names",
    "pam_rhosts.so": "those whom their rhosts files let in",
}
# Lines of these modules in front of ours are there to let somebody go by.
MEANT = ("pam_listfile.so",)

# pam_succeed_if(8)
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "=~": fnmatch.fnmatchcase,
    "!~": lambda has, given: not fnmatch.fnmatchcase(has, given),
    "in": lambda has, given: has in given.split(":"),
    "notin": lambda has, given: has not in given.split(":"),
}
_NUMBERS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "<": operator.lt,
    "le": operator.le,
    "<=": operator.le,
    "gt": operator.gt,
    ">": operator.gt,
    "ge": operator.ge,
    ">=": operator.ge,
}

# What some modules return, where that is not a success, to those whom they let in.
ALWAYS = {
    "pam_deny.so": ("auth_err",),
    "pam_warn.so": ("ignore",),
    "pam_nologin.so": ("ignore",),
    "pam_sepermit.so": ("ignore",),
    "pam_unix.so": ("success",),
}
NOLOGIN = ("/var/run/nologin", "/etc/nologin")  # pam_nologin(8), in this order
ACCOUNTS = "/etc/passwd"
UID_MIN = 1000  # of regular users, as login.defs(5) has it by default
PEOPLE = (5000, 1_000_000)  # what regular users' uids may be
_REFUSES = ("bad", "die")


def who(line: Line, value: str) -> str:
    """Say whom a line lets by with a value."""
    if value == "new_authtok_reqd":
        return "users whose password has expired"
    if name_of(line) == SUCCEED_IF:
        return _who_succeeds(line, value)
    if value == "success":
        return WHO.get(name_of(line), f"users for whom {name_of(line)} says yes")
    return f"users for whom {name_of(line)} returns {value}"


def is_meant(line: Line) -> bool:
    """Say whether a line in front of ours is there to let somebody go by, and not all users."""
    if name_of(line) in MEANT:
        return True
    return is_of_user(line) and not all(_lets_by(line, uid) for uid in PEOPLE)


def _lets_by(line: Line, uid: int) -> bool:
    """Say whether a line of pam_succeed_if says yes to a user of no group, and of an odd name."""
    words = [word for word in line.arguments if word not in FLAGS]
    for subject, test, given in zip(words[::3], words[1::3], words[2::3]):
        if test in ("ingroup", "notingroup"):
            holds: bool | None = test == "notingroup"
        elif subject in ("user", "uid", "gid"):
            has = "\0" if subject == "user" else str(uid)
            holds = _compare(has, test, given)
        else:
            holds = None
        if not holds:
            return False
    return True


def _who_succeeds(line: Line, value: str) -> str:
    condition = " ".join(word for word in line.arguments if word not in FLAGS)
    words = condition.split()
    if value != "success":
        return f"users who are not '{condition}'"
    if condition in ("uid eq 0", "uid = 0", "user = root", "uid < 1", "user = root uid = 0"):
        return "root"
    if len(words) == 3 and words[:2] == ["user", "ingroup"]:
        return f"members of group {words[2]}"
    if len(words) == 3 and words[0] == "user" and words[1] in ("=", "in"):
        return f"user {words[2]}" if words[1] == "=" else f"users {words[2]}"
    return f"users who are '{condition}'"


def of_root(service: str) -> Callable[[Line], Iterable[str]]:
    """Return what lines return for root; the other modules let root in."""

    def returns(line: Line) -> Iterable[str]:
        if name_of(line) == SUCCEED_IF:
            return _succeeds(line, "root", 0, service)
        if name_of(line) == "pam_usertype.so":
            return ("success",) if "issystem" in line.arguments else ("auth_err",)
        return ALWAYS.get(name_of(line), ("success",))

    return returns


def of_user(user: str, uid: int, service: str) -> Callable[[Line], Iterable[str]]:
    """Return what lines return for a user of this host.

    Of modules that are not known here: those whose failure would refuse let the user in, and of
    those that choose between ways either may be.
    """

    def returns(line: Line) -> Iterable[str]:
        name = name_of(line)
        if is_missing(line):
            return ("module_unknown",)
        if name == SUCCEED_IF:
            return _succeeds(line, user, uid, service)
        if name in _KNOWN:
            return (_KNOWN[name](line, user, uid),)
        refuses = line.actions["default"] in _REFUSES
        one = ALWAYS.get(name, ("success",))
        return one if refuses or name in (*ALWAYS, *RETURNS) else ("success", "perm_denied")

    return returns


def _of_localuser(line: Line, user: str, uid: int) -> str:  # noqa: ARG001
    path = next((word[5:] for word in line.arguments if word.startswith("file=")), ACCOUNTS)
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:
        if any(text.startswith(f"{user}:") for text in file):
            return "success"
    return "perm_denied"


def _of_usertype(line: Line, user: str, uid: int) -> str:  # noqa: ARG001
    return "success" if (uid < UID_MIN) == ("issystem" in line.arguments) else "auth_err"


def _of_nologin(line: Line, user: str, uid: int) -> str:  # noqa: ARG001
    given = [word[5:] for word in line.arguments if word.startswith("file=")]
    return "auth_err" if uid and any(map(os.path.exists, given or NOLOGIN)) else "ignore"


_KNOWN = {
    "pam_localuser.so": _of_localuser,
    "pam_usertype.so": _of_usertype,
    "pam_nologin.so": _of_nologin,
}


def _succeeds(line: Line, user: str, uid: int, service: str) -> tuple[str, ...]:
    """Return what pam_succeed_if says of a user; both where that is not known."""
    words = [word for word in line.arguments if word not in FLAGS]
    if uid and "use_uid" in words:  # it asks about the process, which is root's at a login
        return tuple(anything(line))
    words = [word for word in words if word != "use_uid"]
    conditions = list(zip(words[::3], words[1::3], words[2::3]))
    if not conditions or len(words) % 3:
        return ("service_err",)
    known = [_holds(*each, user, uid, service) for each in conditions]
    if False in known:
        return ("auth_err",)
    return tuple(anything(line)) if None in known else ("success",)


def _holds(subject: str, test: str, given: str, user: str, uid: int, service: str) -> bool | None:
    """Say whether a condition holds for a user; None if that is not known here."""
    try:
        gid = pwd.getpwnam(user).pw_gid
        if test in ("ingroup", "notingroup"):
            groups = {grp.getgrgid(one).gr_name for one in os.getgrouplist(user, gid)}
            return groups.isdisjoint(given.split(":")) == (test == "notingroup")
    except (KeyError, OSError):
        return None
    of_user = {"user": user, "uid": str(uid), "gid": str(gid), "service": service}
    has = of_user.get(subject)
    return None if has is None else _compare(has, test, given)


def _compare(has: str, test: str, given: str) -> bool | None:
    """Say what a test of pam_succeed_if comes to; None if that is not known here."""
    if test in _TEXTS:
        return _TEXTS[test](has, given)
    if test in _NUMBERS and has.isdecimal() and given.isdecimal():
        return bool(_NUMBERS[test](int(has), int(given)))
    return None
