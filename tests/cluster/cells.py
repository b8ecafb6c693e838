"""The cells of the matrix: which releases of Slurm meet which sshd and Python, and how.

A new release of Slurm is a row in suites.py, one in config.DIALECTS if it wants other words, and
its cells here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.harness import cgroups
from tests.cluster.harness.cluster import Roots
from tests.cluster.harness.config import NODES, Settings
from tests.cluster.harness.suites import BOOKWORM, SUITES, Suite
from tests.cluster.scenarios import (
    axes,
    basic,
    credentials,
    elsewhere,
    expired,
    flags,
    job_namespaces,
    login_methods,
    of_job,
    penalties,
    prologs,
    pythons,
    services,
    sound,
    stock,
    uses,
    x11,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.cluster.harness.cluster import Cluster

TESTS = Path(__file__).with_name("test_matrix.py")
HOSTS = ("ctl", "n1", "n2", "login")

OLD, TRIXIE, SID = SUITES["bullseye"], SUITES["trixie"], SUITES["sid"]


@dataclass(frozen=True)
class Cell:
    """One cell: a cluster, and what is played on it."""

    name: str
    roots: Mapping[str, Roots]
    scenarios: tuple[Callable[[Cluster], None], ...] = basic.EVERYWHERE
    settings: Settings = field(default_factory=Settings)
    limit = 1800  # seconds; some 60 on two idle cores

    @property
    def suites(self) -> list[Suite]:
        """The suites whose root folders it needs."""
        found = (s for roots in self.roots.values() for s in (roots.slurm, roots.sshd) if s)
        return list(dict.fromkeys(found))

    @property
    def slurm(self) -> str:
        """The releases of Slurm in it."""
        return ", ".join(sorted({roots.slurm.slurm for roots in self.roots.values()}))

    @property
    def python(self) -> str:
        """The Python in the nodes' sshd."""
        nodes = (self.roots[name] for name in NODES)
        return ", ".join(sorted({(roots.sshd or roots.slurm).python for roots in nodes}))

    @property
    def where(self) -> str:
        """Which cgroups, and what it runs in."""
        return f"{'v2' if cgroups.unified() else 'v1'}, namespaces"

    @property
    def arguments(self) -> list[str]:
        """What pytest runs."""
        return [str(TESTS), f"--cells={self.name}"]

    def needs(self) -> str:
        """Return what this machine lacks for it."""
        fits = not cgroups.unified() or all(suite.unified for suite in self.suites)
        return "" if fits else "needs a machine with cgroup v1"


def _all(slurm: Suite, sshd: Suite | None = None) -> dict[str, Roots]:
    return dict.fromkeys(HOSTS, Roots(slurm, sshd))


def _mixed(older: Suite, newer: Suite) -> dict[str, Roots]:
    """Return hosts of two releases; srun's messages would not be understood by an older slurmd."""
    return _all(newer) | {"n1": Roots(older, newer), "login": Roots(older)}


AUTH_SLURM = Settings(
    slurm_conf="AuthType=auth/slurm\nCredType=auth/slurm\n",
    slurm_key="a secret of 32 bytes or longer\n",
    sackd=("login",),  # where no daemon of Slurm's has a sack socket
)
BASIC = basic.EVERYWHERE
SOME = (*BASIC, axes.over_ipv6, axes.configless, *credentials.SLURM, sound.nothing_is_wrong)
ALL = (
    *BASIC,
    *axes.EVERYWHERE,
    *elsewhere.EVERYWHERE,
    *login_methods.EVERYWHERE,
    *of_job.EVERYWHERE,
    *credentials.MUNGE,
    prologs.during_the_prolog,
    pythons.own_python,
    *flags.OF_ALL,
    sound.nothing_is_wrong,
)
NATIVE = (
    *ALL,
    *uses.EVERYWHERE,
    *expired.EVERYWHERE,
    stock.stock_file,
    sound.as_installed_by_the_guide,
    axes.own_ports,
    axes.several_slurmd,
    job_namespaces.private_namespaces,
    x11.x11_of_the_job,
)
NEWER = (*NATIVE, flags.limits_of_the_stepd, penalties.a_shared_source, services.another_service)
MIXED = (*BASIC, credentials.blocked_hashes, sound.nothing_is_wrong, axes.upgrade)

# fmt: off
CELLS = {
    cell.name: cell
    for cell in (
        # Slurm, sshd and Python of one suite
        Cell("bookworm",    _all(BOOKWORM), NATIVE),
        Cell("trixie",      _all(TRIXIE),   NEWER),
        Cell("sid",         _all(SID),      (*NEWER, flags.prolog_run_in_job)),
        # Slurm of one suite, our module under bookworm's sshd
        Cell("20.11",       _all(OLD, BOOKWORM), (*ALL, axes.own_ports_of_20_11)),
        Cell("24.11",       _all(TRIXIE, BOOKWORM)),
        Cell("26.05",       _all(SID, BOOKWORM)),
        # auth/slurm in the place of munge
        Cell("24.11-auth-slurm", _all(TRIXIE), SOME, AUTH_SLURM),
        Cell("26.05-auth-slurm", _all(SID),    SOME, AUTH_SLURM),
        # n1 and the commands are older than the others; n1 is upgraded while a job runs
        Cell("20.11-22.05", _mixed(OLD, BOOKWORM), MIXED),
        Cell("24.11-26.05", _mixed(TRIXIE, SID),   MIXED),
    )
}
# fmt: on

# What `./dev test` runs, beside the tests on bookworm's cluster: these cells, and of them these
# scenarios. `./dev matrix` plays all of all.
DEFAULT = ("trixie",)
IN_SHORT = (
    *BASIC,
    *login_methods.EVERYWHERE,
    *of_job.EVERYWHERE,
    *expired.EVERYWHERE,
    stock.stock_file,
    penalties.a_shared_source,
    services.another_service,
    sound.nothing_is_wrong,
    sound.as_installed_by_the_guide,
    axes.configless,
    prologs.during_the_prolog,
    pythons.own_python,
    job_namespaces.private_namespaces,
)


def chosen(names: str) -> list[tuple[Cell, Callable[[Cluster], None]]]:
    """Return cells, by name with commas between, with their scenarios; for "" what is in short."""
    if names:
        return [
            (cell, one)
            for cell in map(CELLS.__getitem__, names.split(","))
            for one in cell.scenarios
        ]
    cells = [CELLS[name] for name in DEFAULT]
    return [(cell, one) for cell in cells for one in cell.scenarios if one in IN_SHORT]
