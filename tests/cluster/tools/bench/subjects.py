"""What is measured: PAM lines of our module by either front, and those that it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.cluster.harness import pam

if TYPE_CHECKING:
    from tests.cluster.harness.host import Host

EMPTY_SCRIPT = """\
def pam_sm_acct_mgmt(pamh, flags, argv):
    return pamh.PAM_SUCCESS
pam_sm_open_session = pam_sm_acct_mgmt
"""
# The same by pam_exec: an interpreter of its own, which ends at once.
EMPTY_PROGRAM = """\
#!/usr/bin/python3 -IS
import os
os._exit(0)
"""
EMPTY = "account required pam_python.so /opt/empty.py"
EMPTY_EXEC = "account required pam_exec.so quiet stdout /opt/empty"
PERMIT = "account required pam_permit.so"
EVERY = " service=* join_container=false"

# pamtester by the name of OpenSSH's program: the account phase leaves the adoption to the session
# line, as it does in a login.
AS_SSHD = "/opt/bench/sshd"

# A service that tells where its login is in the end, by what pam_exec runs in it: for one login
# before those that are measured.
TOLD = "/run/bench.told"
TELLING = "/opt/bench/tell"
TELL = f"account optional pam_exec.so quiet {TELLING}"
TELLER = f"""\
#!/bin/sh
cat /proc/$PPID/cgroup >{TOLD}/$PAM_SERVICE
"""
BOTH, ACCOUNT = ("acct_mgmt", "open_session"), ("acct_mgmt",)


class Subject(NamedTuple):
    """Its line of the account phase; that of the session phase, None for the same module's."""

    line: str
    session: str | None = None
    decides: bool = False  # whether it looks at the user's jobs


NO_LINE = PERMIT.replace("account", "session")  # for what has none in the session phase

# As the report and the JSON name them.
SUBJECTS = {
    "permit": Subject(PERMIT, NO_LINE),
    "C": Subject(f"{pam.C_MODULE} service=*", NO_LINE, decides=True),
    "empty": Subject(EMPTY),
    "ours": Subject(pam.OURS + EVERY, decides=True),
    "empty by pam_exec": Subject(EMPTY_EXEC),
    "ours by pam_exec": Subject(pam.EXEC + EVERY, decides=True),
}
TITLES = {
    "permit": "permit",
    "C": "C",
    "empty": "empty",
    "ours": "ours",
    "empty by pam_exec": "empty, exec",
    "ours by pam_exec": "ours, exec",
}


class Front(NamedTuple):
    """One of the two ways in which the module runs, and what it is compared with."""

    name: str
    ours: str
    empty: str


FRONTS = (
    Front("pam_python", "ours", "empty"),
    Front("pam_exec", "ours by pam_exec", "empty by pam_exec"),
)


def prepare(node: Host, lines: dict[str, Subject] | None = None) -> None:
    """Write a PAM service for each subject, the empty scripts, and pamtester as sshd."""
    node.write("opt/empty.py", EMPTY_SCRIPT)
    node.write("opt/empty", EMPTY_PROGRAM, 0o755)
    node.run(["install", "-D", "/usr/bin/pamtester", AS_SSHD])
    node.write(TELLING, TELLER, 0o755)
    for name, subject in (lines or SUBJECTS).items():
        again = subject.line.replace("account", "session", 1)
        both = [subject.line, subject.session or again]
        node.pam(service(name), both)
        node.pam(service(name, alone=True), both[:1])
        tell = [TELL, TELL.replace("account", "session")]
        node.pam(service(name, telling=True), [*both, *tell])
        node.pam(service(name, alone=True, telling=True), [*both[:1], *tell])


def service(name: str, *, alone: bool = False, telling: bool = False) -> str:
    """Return the PAM service of a subject; `alone`: without a session line of it."""
    kind = f"bench{'-alone' if alone else ''}{'-telling' if telling else ''}"
    return f"{kind}-{name.replace(' ', '-').lower()}"


def command(
    name: str,
    phases: tuple[str, ...] = BOTH,
    *,
    alone: bool = False,
    telling: bool = False,
    user: str = "alice",
) -> list[str]:
    """Return what runs the phases of a subject for a user, once."""
    return [AS_SSHD, service(name, alone=alone, telling=telling), user, *phases]
