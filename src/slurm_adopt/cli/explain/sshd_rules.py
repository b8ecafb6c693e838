"""What sshd itself makes of a login: whom it refuses by name or group, and whether it asks PAM."""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.sshd.sshd_settings import SettingsError, place, settings, sshds

if TYPE_CHECKING:
    from slurm_adopt.cli.checks.sshd.sshd_settings import Sshd

    Rule = tuple[str, tuple[str, int]]  # in words, and where it stands

# sshd_config(5), in sshd's order: its setting, whether a match refuses, and what is looked at
_LISTS = (
    ("DenyUsers", True, "users"),
    ("AllowUsers", False, "users"),
    ("DenyGroups", True, "groups"),
    ("AllowGroups", False, "groups"),
)


def of(user: str, service: str) -> tuple[Rule | None, Rule | None]:
    """Return the rule that refuses the user, and the one by which PAM is not asked.

    None where there is none, or where the sshds of this host differ or do not say.
    """
    refusing, without_pam = [], []
    try:
        for sshd in sshds() if os.geteuid() == 0 else ():
            said = settings(sshd, user)
            if said.get("pamservicename", os.path.basename(sshd.program)) == service:
                refusing.append(_refusing(sshd, said, user))
                off = said.get("usepam") == "no"
                without_pam.append(
                    ("sshd does not ask PAM: UsePAM no", place(sshd.config, "UsePAM", "no"))
                    if off
                    else None
                )
    except SettingsError:
        return None, None
    return (
        refusing[0] if refusing and all(refusing) else None,
        without_pam[0] if without_pam and all(without_pam) else None,
    )


def _refusing(sshd: Sshd, said: dict[str, str], user: str) -> Rule | None:
    names = {"users": [user], "groups": _groups(user)}
    for setting, denies, of_what in _LISTS:
        value = said.get(setting.lower(), "")
        patterns = value.split()
        if not patterns or any(sign in value for sign in "@!"):  # of hosts, or negated: not known
            continue
        matches = any(
            fnmatch.fnmatchcase(name, pattern) for name in names[of_what] for pattern in patterns
        )
        if matches == denies:
            return f"{setting} of sshd", place(sshd.config, setting, value)
    if user == "root" and said.get("permitrootlogin") == "no":
        return "PermitRootLogin no", place(sshd.config, "PermitRootLogin", "no")
    return None


def _groups(user: str) -> list[str]:
    try:
        gids = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except (KeyError, OSError):
        return []
    return [one.gr_name for one in grp.getgrall() if one.gr_gid in gids]
