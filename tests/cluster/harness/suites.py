"""Debian suites as data: which Slurm they have, and what is special about their root folders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

RECIPE = 1  # raise it when the steps in root.py change what they build

# fmt: off
PACKAGES = (
    "slurmctld", "slurmd", "slurm-client", "munge",
    "openssh-server", "openssh-client",
    "libpam-python", "libpam-slurm-adopt", "pamtester", "python3", "python3-psutil",
    "python3-click", "python3-pyroute2", "python3-rich",
    "iproute2", "libfaketime", "nftables", "procps", "rsync", "strace", "tini", "xauth",
)
USED = ("at", "cron", "podman", "crun", "uidmap", "busybox-static")  # by recipes of the guide
NEWER = (*PACKAGES, "passwd", "sackd")  # apt does not depend on adduser, with passwd, any more
OLDER = tuple(name for name in PACKAGES if name != "libpam-python")  # there it is Python 2.7
# fmt: on

APT_CONF = """\
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Dpkg::Use-Pty "0";
"""


@dataclass(frozen=True)
class Suite:
    """What goes into a root folder, and which Slurm comes with it."""

    name: str = "bookworm"
    packages: tuple[str, ...] = PACKAGES
    mirror: str | None = None  # None: as the machine's own apt, else debootstrap's default
    slurm: str = "22.05"
    python: str = "3.11"  # that of libpam-python; "" where there is none to use
    unified: bool = True  # whether this Slurm knows cgroup v2
    script: str = ""  # debootstrap's, where it may not know the suite's name
    more: tuple[str, ...] = ()  # packages put into a copy of the root folder without them

    @property
    def base(self) -> Suite | None:
        """The suite whose root folder is copied; None where it is made from nothing."""
        return replace(self, more=()) if self.more else None

    @property
    def key(self) -> str:
        """Hash of everything that decides what is in the folder."""
        recipe = repr((RECIPE, self.name, sorted(self.packages), APT_CONF, *sorted(self.more)))
        return hashlib.sha256(recipe.encode()).hexdigest()[:12]


# fmt: off
SUITES = {
    suite.name: suite
    for suite in (
        Suite("bullseye", OLDER, slurm="20.11", python="", unified=False),
        Suite("bookworm", (*PACKAGES, *USED)),
        Suite("trixie",   NEWER, slurm="24.11", python="3.13"),
        Suite("sid",      NEWER, slurm="26.05", python="3.14", script="sid"),
    )
}
# fmt: on

BOOKWORM = SUITES["bookworm"]

# With what starts programs in a job's session (programs.py); apart, since it is 110 MB more.
LAUNCHERS = ("mpich", "openmpi-bin")
WITH_LAUNCHERS = replace(BOOKWORM, more=LAUNCHERS)

# With other shells than bash and dash (test_job_id_by_shell.py), and with what configures hosts
# (test_ansible.py), and sudo (test_steering.py).
MORE = ("ansible-core", "git", "ksh93u+m", "mksh", "python3-apt", "sudo", "tcsh", "zsh")
WITH_MORE = replace(BOOKWORM, more=MORE)


def with_valgrind(suite: Suite) -> Suite:
    """Return a suite with what counts instructions (bench)."""
    return replace(suite, more=("valgrind",))


WITH_VALGRIND = with_valgrind(BOOKWORM)
