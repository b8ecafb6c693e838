"""A fresh root folder with the Python of a release of RHEL, and Debian's rpm to install there.

A stub stands for RHEL's own packages in rpm's database. No Debian has 3.12, which RHEL 8 and 10
have: packages for another Python are installed there.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.harness.suites import SUITES
from tests.dev import rpm
from tests.packages.root import MOUNTS, Root

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.cluster.harness.suites import Suite

HOST = "{}.{}".format(*sys.version_info)  # of /usr/bin/python3 here, of which the tests' is made
NEEDED = ("pam", "grep", "findutils")
NOISE = ("rpm: RPM should not be used", "rpm: However assuming")  # Debian's rpm, at each change


@dataclass(frozen=True)
class Cell:
    """A package, and the root folder that it is installed into."""

    release: int
    python: str
    suite: Suite

    @property
    def compiled(self) -> bool:
        """Whether the machine that builds it has its Python: then the byte code is in it."""
        return self.python == HOST

    @property
    def tag(self) -> str:
        """What stands in the names of its byte code."""
        return "cpython-" + self.python.replace(".", "")


CELLS = {
    f"el{cell.release}, Python {cell.python}": cell
    for cell in (
        Cell(8, HOST, next(suite for suite in SUITES.values() if suite.python == HOST)),
        Cell(9, "3.9", SUITES["bullseye"]),
        Cell(10, "3.14", SUITES["sid"]),
    )
}


def stub_for(top: Path, python: str) -> Path:
    provided = ("/bin/sh", f"/usr/bin/python{python}", f"python(abi) = {python}", *NEEDED)
    return package_of(top, f"rhel-with-python{python}", *provided)


def package_of(top: Path, name: str, *provided: str) -> Path:
    """Build a package without files that provides some names; return where it is."""
    spec = top / f"{name}.spec"
    spec.write_text(f"""\
Name: {name}
Version: 1
Release: 1
Summary: Stands for RHEL
License: MIT
BuildArch: noarch
Provides: {", ".join(provided)}
%description
Stands for RHEL.
%files
""")
    rpm.run(["rpmbuild", "-bb", "--define", f"_topdir {top}", str(spec)])
    return top / f"RPMS/noarch/{name}-1-1.noarch.rpm"


class RpmRoot(Root):
    """A root folder with rpm's database, which the machine's rpm writes.

    Its namespace has the machine's files at their places, and the root folder where it is mounted:
    sqlite would follow /proc/PID/root, and open the machine's own database.
    """

    mounts = MOUNTS.partition("pivot_root")[0] + "echo ready\nexec sleep infinity\n"

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.suite)
        self._inside = f"{self._scratch.name}/root"

    @property
    def path(self) -> Path:
        return super().path / self._inside[1:]

    def run(
        self,
        argv: Sequence[str],
        check: bool = True,
        timeout: float = 300,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return super().run(["chroot", self._inside, *argv], check, timeout, env)

    def rpm(self, *argv: str) -> tuple[int, str]:
        """Run rpm on this root; return its status and what it prints."""
        rpm_here = ("rpm", "--root", self._inside, "--dbpath", "/var/lib/rpm")
        done = super().run([*rpm_here, *argv], check=False)
        lines = [line for line in done.stdout.splitlines() if not line.startswith(NOISE)]
        return done.returncode, "\n".join(lines)

    def install(self, package: Path) -> str:
        """Install a package; return what is said."""
        status, said = self.rpm("-i", str(package))
        assert status == 0, said
        return said


@contextlib.contextmanager
def rpm_root(cell: Cell, stub: Path | None = None) -> Iterator[RpmRoot]:
    """Give the fresh root folder of a cell, with rpm's database and the stub in it."""
    with RpmRoot(cell) as root:
        root.rpm("--initdb")
        root.path.joinpath("usr/share/licenses").mkdir(exist_ok=True)  # of RHEL's filesystem
        if stub:
            root.install(stub)
        yield root
