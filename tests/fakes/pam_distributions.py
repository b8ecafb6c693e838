"""PAM files as distributions ship them, for sshd and what it includes.

Debian's sshd is that of docs/examples without our lines. The others are put together here as
authselect's templates and public posts show them.
"""

from __future__ import annotations

import re
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
Files = dict[str, str]

COMMENTS = {
    "account": "# slurm_adopt: everybody but root needs a job here. In front of the include, which "
    "may end this phase.",
    "session": "# slurm_adopt: the last session lines, behind whatever may move the session out of "
    "its job.",
}
_OURS = r"# slurm_adopt: .*\n(?:account|session) \[.*\n(?:account|session) required pam_python.*\n"


def example(name: str) -> str:
    """Return a file of docs/examples, which has our lines."""
    return (EXAMPLES / name).read_text()


def stock(name: str) -> str:
    """Return an example as the distribution ships it."""
    text, count = re.subn(rf"{_OURS}\n|(?<=\n)\n{_OURS}|{_OURS}", "", example(name))
    assert count == 2
    return text


# Debian and Ubuntu

COMMON_AUTH = "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\n"
COMMON_ACCOUNT = """\
# here are the per-package modules (the "Primary" block)
account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so\x20
account\trequisite\t\t\tpam_deny.so
account\trequired\t\t\tpam_permit.so
"""
COMMON_SESSION = """\
session\t[default=1]\t\t\tpam_permit.so
session\trequisite\t\t\tpam_deny.so
session\trequired\t\t\tpam_permit.so
session\trequired\tpam_unix.so\x20
"""
ACCOUNT_SSSD = """\
account\tsufficient\t\t\tpam_localuser.so\x20
account\t[default=bad success=ok user_unknown=ignore]\tpam_sss.so\x20
"""
SESSION_MORE = """\
session\toptional\t\t\tpam_sss.so\x20
session\toptional\tpam_systemd.so\x20
session\toptional\t\t\tpam_mkhomedir.so\x20
"""
CRON = """\
@include common-auth

# Sets the loginuid process attribute
session    required     pam_loginuid.so
session       required   pam_env.so envfile=/etc/default/locale

@include common-account
@include common-session-noninteractive\x20

# Sets up user limits
session    required   pam_limits.so

"""


def debian(sshd: str, *, sssd: bool = False) -> Files:
    """Return the files of Debian or Ubuntu."""
    return {
        "sshd": sshd,
        "cron": CRON,
        "common-auth": COMMON_AUTH,
        "common-account": COMMON_ACCOUNT + (ACCOUNT_SSSD if sssd else ""),
        "common-session": COMMON_SESSION + (SESSION_MORE if sssd else ""),
        "common-session-noninteractive": COMMON_SESSION,
        "common-password": "password requisite pam_deny.so\n",
    }


def sid(sshd: str) -> str:
    """Return Debian's sshd with the include of common-session behind pam_selinux's second line."""
    lines = sshd.split("\n")
    opens = next(line for line in lines if line.endswith("pam_selinux.so open"))
    lines.remove(opens)
    lines.insert(lines.index("@include common-session"), opens)
    return "\n".join(lines)


# RHEL and its kin: authselect

FEATURES = (
    "with-pamaccess",
    "with-faillock",
    "with-files-access-provider",
    "with-ecryptfs",
    "with-mkhomedir",
)
# (line, the feature it is there for, or with a "-" in front of that the one that takes it out)
_ACCOUNT = {
    "sssd": [
        ("required pam_access.so", "with-pamaccess"),
        ("required pam_faillock.so", "with-faillock"),
        ("required pam_unix.so", ""),
        ("sufficient pam_localuser.so", "-with-files-access-provider"),
        ("sufficient pam_usertype.so issystem", ""),
        ("[default=bad success=ok user_unknown=ignore] pam_sss.so", ""),
        ("required pam_permit.so", ""),
    ],
    "local": [
        ("required pam_access.so", "with-pamaccess"),
        ("required pam_faillock.so", "with-faillock"),
        ("required pam_unix.so", ""),
    ],
}
_ACCOUNT["minimal"] = _ACCOUNT["local"]
_ACCOUNT["winbind"] = [
    (line.replace("pam_sss.so", "pam_winbind.so"), feature) for line, feature in _ACCOUNT["sssd"]
]
PROFILES = tuple(_ACCOUNT)
_SESSION = [
    ("session     optional      pam_keyinit.so revoke", ""),
    ("session     required      pam_limits.so", ""),
    ("session     optional      pam_ecryptfs.so unwrap", "with-ecryptfs"),
    ("-session    optional      pam_systemd.so", ""),
    ("session     optional      pam_oddjob_mkhomedir.so", "with-mkhomedir"),
    ("session     [success=1 default=ignore] pam_succeed_if.so service in crond quiet use_uid", ""),
    ("session     required      pam_unix.so", ""),
]
POSTLOGIN = """\
session     optional                   pam_umask.so silent
session     [success=1 default=ignore] pam_succeed_if.so service !~ gdm* service !~ su* quiet
session     [default=1]                pam_lastlog.so nowtmp showfailed
session     optional                   pam_lastlog.so silent noupdate showfailed
"""


def password_auth(profile: str, features: tuple[str, ...] = ()) -> str:
    """Return what authselect makes of a profile."""
    account = [(f"account     {line}", feature) for line, feature in _ACCOUNT[profile]]
    lines = [line for line, feature in (*account, *_SESSION) if _is_there(feature, features)]
    if profile in ("sssd", "winbind"):
        module = "pam_sss.so" if profile == "sssd" else "pam_winbind.so"
        lines.append(f"session     optional      {module}")
    auth = "auth        required      pam_env.so\nauth        sufficient    pam_unix.so nullok\n"
    return f"# Generated by authselect\n{auth}" + "".join(f"{line}\n" for line in lines)


def _is_there(feature: str, features: tuple[str, ...]) -> bool:
    return feature.lstrip("-") not in features if feature[:1] == "-" else feature in ("", *features)


def rhel(profile: str = "sssd", features: tuple[str, ...] = ()) -> Files:
    """Return the files of RHEL 9, and of 8 and 10."""
    return {
        "sshd": stock("sshd.rhel9"),
        "password-auth": password_auth(profile, features),
        "postlogin": POSTLOGIN,
    }


# SUSE

SUSE = {
    "sshd": """\
#%PAM-1.0
auth        requisite   pam_nologin.so
auth        include     common-auth
account     requisite   pam_nologin.so
account     include     common-account
password    include     common-password
session     required    pam_loginuid.so
session     include     common-session
session     optional    pam_lastlog.so   silent noupdate showfailed
session     optional    pam_keyinit.so   force revoke
""",
    "common-auth": "auth required pam_env.so\nauth required pam_unix.so try_first_pass\n",
    "common-account": "account required pam_unix.so try_first_pass\n",
    "common-password": "password required pam_unix.so nullok shadow try_first_pass\n",
    "common-session": """\
session optional pam_systemd.so
session required pam_limits.so
session required pam_unix.so try_first_pass
session optional pam_umask.so
session optional pam_env.so
""",
}


def every() -> dict[str, Files]:
    """Return the files of the distributions by their names; of authselect with each feature."""
    debian12, debian13 = stock("sshd.debian12"), stock("sshd.debian13")
    found = {
        "debian12": debian(debian12),
        "debian13": debian(debian13),
        "debian12 sssd": debian(debian12, sssd=True),
        "sid": debian(sid(debian13), sssd=True),
        "suse": SUSE,
    }
    for profile in PROFILES:
        for features in ((), *((feature,) for feature in FEATURES), FEATURES):
            found[" ".join((profile, *features))] = rhel(profile, features)
    return found
