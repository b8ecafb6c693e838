"""sshd's PAM files as distributions ship them, ours put in; and docs/examples, which is that.

Debian's are read from the roots of the suites. RHEL's are here as authselect writes them (profile
sssd). What Debian has no module for, or no server, is pam_permit.so or pam_deny.so there: LACKS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.landing import COMMAND, job_of
from tests.cluster.harness.login import METHODS
from tests.cluster.harness.pam import PRODUCTION, both_lines
from tests.cluster.harness.root import root_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.cluster.harness.cluster import Cluster
    from tests.cluster.harness.host import Host
    from tests.cluster.harness.pam import Lines
    from tests.cluster.harness.suites import Suite
    from tests.packages.root import Root

EXAMPLES = CHECKOUT / "docs/examples"
EXAMPLE_OF = {"bookworm": "sshd.debian12", "trixie": "sshd.debian13"}  # suite -> file
RHEL = "sshd.rhel9"
OUR_COMMENT = "# slurm_adopt: "

PASSWORD_AUTH = """\
auth        required                                     pam_env.so
auth        required                                     pam_faildelay.so delay=2000000
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        [default=1 ignore=ignore success=ok]         pam_localuser.so
auth        sufficient                                   pam_unix.so nullok
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        sufficient                                   pam_sss.so forward_pass
auth        required                                     pam_deny.so

account     required                                     pam_unix.so
account     sufficient                                   pam_localuser.so
account     sufficient                                   pam_usertype.so issystem
account     [default=bad success=ok user_unknown=ignore] pam_sss.so
account     required                                     pam_permit.so

password    requisite                                    pam_pwquality.so local_users_only
password    sufficient                                   pam_unix.so yescrypt shadow nullok
password    [success=1 default=ignore]                   pam_localuser.so
password    sufficient                                   pam_sss.so use_authtok
password    required                                     pam_deny.so

session     optional                                     pam_keyinit.so revoke
session     required                                     pam_limits.so
-session    optional                                     pam_systemd.so
session     [success=1 default=ignore]                   pam_succeed_if.so service in crond quiet
session     required                                     pam_unix.so
session     optional                                     pam_sss.so
"""
POSTLOGIN = """\
session     optional                   pam_umask.so silent
session     [success=1 default=ignore] pam_succeed_if.so service !~ gdm* service !~ su* quiet
session     [default=1]                pam_lastlog.so nowtmp showfailed
session     optional                   pam_lastlog.so silent noupdate showfailed
"""
LACKS = {  # phase -> module that stands in its place
    "auth": "pam_deny.so",
    "account": "pam_permit.so",
    "password": "pam_permit.so",
    "session": "pam_permit.so",
}
_INCLUDE = re.compile(r"@include\s+common-account|account\s+include\s")
_SESSION = re.compile(r"-?session\s|@include\s+common-session")
_MODULE = re.compile(r"\bpam_\w+\.so\b")


def suite_of(cluster: Cluster) -> Suite:
    """Return the suite of n1's sshd."""
    roots = cluster.roots["n1"]
    return roots.sshd or roots.slurm


def debian(suite: Suite) -> str:
    """Return the file that a suite's openssh-server ships."""
    return (root_path(suite) / "etc/pam.d/sshd").read_text()


def rhel() -> str:
    """Return RHEL's file."""
    return without_ours((EXAMPLES / RHEL).read_text())


def without_ours(example: str) -> str:
    """Return a file of docs/examples as it was before ours were put in.

    In Debian's files an empty line follows them.
    """
    lines = example.splitlines(keepends=True)
    kept: list[str] = []
    while lines:
        line = lines.pop(0)
        if not line.startswith(OUR_COMMENT):
            kept.append(line)
            continue
        del lines[:2]
        if lines[:1] == ["\n"]:
            del lines[0]
    return "".join(kept)


def with_lines(stock: str, lines: Lines) -> list[str]:
    """Put lines where README says: before the account phase's include; behind all of session's."""
    account, session = lines
    found = stock.splitlines()
    include = next(n for n, line in enumerate(found) if _INCLUDE.match(line))
    last = max(n for n, line in enumerate(found) if _SESSION.match(line)) + 1
    return [*found[:include], *account, *found[include:last], *session, *found[last:]]


def behind_the_include(stock: str, lines: Lines) -> list[str]:
    """Put the account lines behind the include: where they must not be."""
    account, session = lines
    found = with_lines(stock, ([], session))
    include = next(n for n, line in enumerate(found) if _INCLUDE.match(line)) + 1
    return [*found[:include], *account, *found[include:]]


def fitted(node: Host | Root, text: str) -> str:
    """Return a PAM file with LACKS in the place of modules that a node has not got."""
    security = [*(node.root / "usr/lib").glob("*-linux-gnu*/security/*.so")]
    security += (node.root / "usr/lib/security").glob("*.so")
    there = {path.name for path in security}

    def fit(line: str) -> str:
        module = _MODULE.search(line)
        optional = line.startswith("-")
        if not module or module.group() in there or optional or line.startswith("#"):
            return line
        return line[: module.start()] + LACKS[line.split(maxsplit=1)[0]]

    return "".join(f"{fit(line)}\n" for line in text.splitlines())


def write_rhel_s(node: Host) -> None:
    """Write the files that RHEL's includes."""
    node.pam("password-auth", fitted(node, PASSWORD_AUTH))
    node.pam("postlogin", fitted(node, POSTLOGIN))


STOCKS: dict[str, Callable[[Cluster], str]] = {
    "debian": lambda cluster: debian(suite_of(cluster)),
    "rhel": lambda cluster: fitted(cluster.n1, rhel()),
}


def use(cluster: Cluster, lines: Sequence[str]) -> None:
    """Have sshd on n1 use a stack; what RHEL's includes is there."""
    write_rhel_s(cluster.n1)
    cluster.n1.pam("sshd", lines)


def logins_with(cluster: Cluster, text: str) -> None:
    """Log in with a file: users without a job stay out, with one they are in it; root gets in."""
    use(cluster, fitted(cluster.n1, text).splitlines())

    def login(user: str, method: str) -> tuple[int, int | None]:
        result = cluster.ssh(user, command=COMMAND, method=method)
        return result.rc, job_of(cluster.n1, result.out)

    assert [login("alice", method) for method in METHODS] == [(255, None)] * len(METHODS)
    assert login("root", METHODS[0]) == (0, None)
    job = cluster.submit("alice")
    assert [login("alice", method) for method in METHODS] == [(0, job)] * len(METHODS)
    assert login("root", METHODS[0]) == (0, None)


def with_ours(suite: Suite) -> str:
    """Return the file of docs/examples for a suite, or the suite's own with our lines."""
    if suite.name in EXAMPLE_OF:
        return (EXAMPLES / EXAMPLE_OF[suite.name]).read_text()
    return "\n".join((*with_lines(debian(suite), both_lines(*PRODUCTION)), ""))


def stock_file(cluster: Cluster) -> None:
    """Log in with that file."""
    logins_with(cluster, with_ours(suite_of(cluster)))
