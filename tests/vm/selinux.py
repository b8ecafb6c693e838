"""The node with SELinux in enforcing mode, by Debian's own policy, and the module of this project.

The policy module is compiled on this machine, in the node's root folder, and comes in beside the
checkout. `semodule -i` is run in the machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.cluster.harness.config import Settings
from tests.cluster.harness.root import suite_root
from tests.vm.image import NODE, SELINUX, image
from tests.vm.machine import Machine
from tests.vm.node import Node, payload

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.harness.suites import Suite

INSTALLED = "/usr/libexec/slurm-adopt"
KERNEL = "audit=1 audit_backlog_limit=8192 security=selinux selinux=1"

# What came out of the archive has the labels of its directories until now.
LABEL_SCRIPT = """\
restorecon -RF /etc /root /home /opt /usr/libexec /var/spool /var/log /run /dev
chcon -t sshd_key_t /payload/control.pub
"""


def with_selinux(suite: Suite) -> Suite:
    """Return the suite with what a node with SELinux has."""
    return replace(suite, packages=NODE, more=SELINUX)


class Confined(Node):
    """The node; `with Confined(suite) as node:` boots it, enforcing or not."""

    def __init__(
        self, suite: Suite, report: Callable[[str], None] = print, enforcing: bool = True
    ) -> None:
        """Describe the node; a missing image is built."""
        self.settings = Settings()
        content = payload(self.settings)
        content.texts["payload/setup.sh"] += LABEL_SCRIPT
        self.machine = Machine(
            suite.name,
            image(with_selinux(suite), report),
            content,
            kernel=f"{KERNEL} enforcing={enforcing:d}",
        )
