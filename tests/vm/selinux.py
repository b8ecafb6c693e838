"""The node with Debian's SELinux in enforcing mode, and what its kernel has denied.

The machine is set up in permissive mode: ssh-keygen may not write root's keys from a boot script.
It is enforcing before sshd and Slurm are started.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tests.cluster.harness import pam
from tests.cluster.harness.config import Settings
from tests.cluster.harness.setup import MODULE_DIR
from tests.vm.image import NODE, SELINUX, image
from tests.vm.machine import Machine
from tests.vm.node import Node, payload
from tests.vm.payload import PLACES, checkout

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.harness.suites import Suite

INSTALLED = "/usr/libexec/slurm-adopt"
KERNEL = "audit=1 audit_backlog_limit=8192 security=selinux selinux=1 enforcing=0"
AUDIT_LOG = "/var/log/audit/audit.log"

# sshd's ports other than 22; labels of what came out of the archive.
SETUP_SCRIPT = f"""\
cp -a {MODULE_DIR} {INSTALLED}
/usr/bin/python3 -I {INSTALLED}/src/slurm_adopt/login_image.py
setsebool sshd_port_forwarding on
restorecon -RF /etc /root /home /opt /usr/libexec /var/spool /var/log
chcon -R -t usr_t /checkout
chcon -t sshd_key_t /payload/control.pub
setenforce 1
"""

FRONTS = {"pam_python": pam.both_lines, "pam_exec": pam.both_by_pam_exec}


class Denied(NamedTuple):
    """What one AVC message says."""

    permission: str
    source: str  # type of the process
    target: str  # type
    kind: str  # class


AVC = re.compile(
    r"avc:  denied  \{ (.+?) \} .* scontext=[^:]+:[^:]+:(\w+)\S* tcontext=[^:]+:[^:]+:(\w+)\S*"
    r" tclass=(\w+)"
)


def with_selinux(suite: Suite) -> Suite:
    """Return the suite with what a node with SELinux has."""
    return replace(suite, packages=NODE, more=SELINUX)


class Confined(Node):
    """The node; `with Confined(suite) as node:` boots it."""

    def __init__(self, suite: Suite, report: Callable[[str], None] = print) -> None:
        """Describe the node; a missing image is built."""
        self.settings = Settings()
        content = payload(self.settings)
        content.texts["payload/setup.sh"] += SETUP_SCRIPT
        content.folders.update(checkout(*PLACES, "bin", "packaging/selinux"))
        disk = image(with_selinux(suite), report)
        self.machine = Machine(suite.name, disk, content, kernel=KERNEL)

    def use(self, front: str, *options: str, session: bool = True, confined: bool = False) -> None:
        """Have a front in sshd's stack, as a package installs it.

        `confined`: with the lines for confined users around that of the session.
        """
        account, ours = FRONTS[front](*pam.PRODUCTION, *options)
        if confined:
            ours = [pam.CONFINED[0], *ours, pam.CONFINED[1]]
        lines = [
            "@include common-auth",
            "account required pam_nologin.so",
            *account,
            "@include common-account",
            "session required pam_selinux.so close",
            "session required pam_loginuid.so",
            "@include common-session",
            "session required pam_limits.so",
            "session required pam_selinux.so open",
            *(ours if session else ()),
            "@include common-password",
        ]
        self.pam([line.replace(MODULE_DIR, INSTALLED) for line in lines])

    def context(self, program: str) -> str:
        """Return the type in which the oldest process of this name runs."""
        script = 'cat "/proc/$(pgrep -o "$1")/attr/current"'
        return self.machine.sh(script, program).split(":")[2]

    def audited(self) -> int:
        """Return the present end of the audit log."""
        return int(self.machine.sh(f"wc -c <{AUDIT_LOG}"))

    def denied(self, since: int) -> set[Denied]:
        """Return what was denied to sshd and to what it has started, after `audited`."""
        script = f'sleep 1; tail -c +{since + 1} {AUDIT_LOG} | grep -a "avc:  denied"'
        lines = self.machine.sh(script, check=False).splitlines()
        found = set()
        for line in lines:
            if match := AVC.search(line):
                permissions, source, target, kind = match.groups()
                found |= {Denied(one, source, target, kind) for one in permissions.split()}
        return {one for one in found if one.source == "sshd_t" or "slurm_adopt" in one.target}
