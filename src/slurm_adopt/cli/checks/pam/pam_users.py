"""Whom a line of a PAM stack is about, and what the lines return for root."""

from __future__ import annotations

import fnmatch
import grp
import operator
import os
from typing import TYPE_CHECKING, Callable

from slurm_adopt.node.pam_stack import FLAGS, is_of_user

from .pam_runs import anything, name_of

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

# What some modules return for root where nothing is wrong.
OF_ROOT = {
    "pam_deny.so": ("auth_err",),
    "pam_warn.so": ("ignore",),
    "pam_nologin.so": ("ignore",),
    "pam_sepermit.so": ("ignore",),
}


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
    """Say whether a line in front of ours is there to let somebody go by."""
    return name_of(line) in MEANT or is_of_user(line)


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
            return _for_root(line, service)
        if name_of(line) == "pam_usertype.so":
            return ("success",) if "issystem" in line.arguments else ("auth_err",)
        return OF_ROOT.get(name_of(line), ("success",))

    return returns


def _for_root(line: Line, service: str) -> tuple[str, ...]:
    """Return what pam_succeed_if says of root; both where that is not known."""
    words = [word for word in line.arguments if word not in FLAGS and word != "use_uid"]
    conditions = list(zip(words[::3], words[1::3], words[2::3]))
    if not conditions or len(words) % 3:
        return ("service_err",)
    known = [_holds(*each, service) for each in conditions]
    if False in known:
        return ("auth_err",)
    return tuple(anything(line)) if None in known else ("success",)


def _holds(subject: str, test: str, given: str, service: str) -> bool | None:
    """Say whether a condition holds for root; None if that is not known here."""
    if test in ("ingroup", "notingroup"):
        try:
            groups = {grp.getgrgid(gid).gr_name for gid in os.getgrouplist("root", 0)}
        except (KeyError, OSError):
            return None
        return groups.isdisjoint(given.split(":")) == (test == "notingroup")
    has = {"user": "root", "uid": "0", "gid": "0", "service": service}.get(subject)
    if has is None:
        return None
    if test in _TEXTS:
        return _TEXTS[test](has, given)
    if test in _NUMBERS and has.isdecimal() and given.isdecimal():
        return bool(_NUMBERS[test](int(has), int(given)))
    return None
