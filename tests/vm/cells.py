"""The cells in virtual machines: which file of tests is played on which Debian.

A machine has that Debian's own kernel, systemd and cgroup v2. What is the same in
tests/cluster/cells.py has the same names here: `./dev matrix` runs both kinds.
"""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.harness.suites import BOOKWORM, SUITES, Suite
from tests.vm.image import NODE, SELINUX, STOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "mke2fs": "e2fsprogs", "ssh": "openssh-client"}

TRIXIE, SID = SUITES["trixie"], SUITES["sid"]


@dataclass(frozen=True)
class Cell:
    """One cell: a machine, and the file of tests that is played on it."""

    name: str
    file: str
    suite: Suite  # of the machine
    packages: Sequence[str] = NODE
    hosts: tuple[Suite, ...] = ()  # of the cluster in namespaces on it; the first is Slurm's
    more: tuple[str, ...] = ()  # packages put into a copy of the machine's root folder
    limit = 7200  # seconds; some 20 minutes on two idle cores

    @property
    def suites(self) -> list[Suite]:
        """The suites whose root folders it needs."""
        machine = replace(self.suite, packages=tuple(self.packages), more=self.more)
        return [machine, *self.hosts]

    @property
    def slurm(self) -> str:
        """The release of Slurm in it."""
        return (*self.hosts, self.suite)[0].slurm

    @property
    def python(self) -> str:
        """The Python in its sshd."""
        return (*self.hosts, self.suite)[0].python

    @property
    def where(self) -> str:
        """Which cgroups, and what it runs in."""
        return "v2, namespaces in a VM" if self.hosts else "v2, VM"

    @property
    def arguments(self) -> list[str]:
        """What pytest runs."""
        return [str(HERE / self.file), "-k", self.name]

    def needs(self) -> str:
        """Return what this machine lacks for it."""
        if platform.machine() != "x86_64":
            return "needs an x86-64 machine"
        missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
        return f"needs {' and '.join(missing)}" if missing else ""


# fmt: off
CELLS = {
    cell.name: cell
    for cell in (
        # cgroup v2 as a site has it
        Cell("v2-24.11",      "test_v2.py",      TRIXIE),
        Cell("v2-26.05",      "test_v2.py",      SID),
        # the session phase, with pam_systemd
        Cell("systemd-252",   "test_session.py", BOOKWORM),
        Cell("systemd-257",   "test_session.py", TRIXIE),
        # the command, on a node as the guide installs it
        Cell("commands-12",   "test_commands.py", BOOKWORM),
        Cell("commands-sid",  "test_commands.py", SID),
        # install --trial, with systemd's timer
        Cell("install-12",    "test_install.py", BOOKWORM),
        # both fronts with SELinux in enforcing mode
        Cell("selinux",       "test_selinux.py", BOOKWORM, more=SELINUX),
        # the demo, and the cluster's tests, on Debian as it comes
        Cell("demo-bookworm", "test_stock.py",   BOOKWORM, STOCK, (BOOKWORM, TRIXIE)),
        Cell("demo-trixie",   "test_stock.py",   TRIXIE,   STOCK, (BOOKWORM, TRIXIE)),
    )
}
# fmt: on

# The suite whose Slurm runs on its own kernel and systemd, by file of tests and cell.
OF_FILE = {
    "test_v2.py": {f"v2-{SUITES[name].slurm}": name for name in ("trixie", "sid")},
    "test_session.py": {"systemd-252": "bookworm", "systemd-257": "trixie"},
    "test_commands.py": {"commands-12": "bookworm", "commands-sid": "sid"},
    "test_install.py": {"install-12": "bookworm"},
    "test_selinux.py": {"selinux": "bookworm"},
}
