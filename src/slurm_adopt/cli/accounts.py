"""Names and uids of users, as this host knows them."""

from __future__ import annotations

import pwd


def uid_of(user: str) -> int | None:
    """Return the uid of a user name; None if this host does not know it."""
    try:
        return pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        return None


def name_of(uid: int, unknown: str = "{}") -> str:
    """Return the name of a uid; its number where it has none, in the words of `unknown`."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return unknown.format(uid)
