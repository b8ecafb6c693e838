"""`./dev deb`: the Debian package, built in a root folder of its own and seen by lintian."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.cluster.harness.suites import Suite
from tests.dev import packages
from tests.packages.root import Root

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

BUILD = Suite(packages=("build-essential", "debhelper", "dh-python", "lintian"))
PLACE = "build"  # in the root folder
LINTIAN = ("lintian", "--allow-root", "--display-info", "--pedantic")


def make(console: Console) -> int:
    """Build the package into dist/ and print what lintian says; return the exit status."""
    with Root(BUILD) as root:
        path = build(packages.DIST, root)
        said = lint(root)
    console.print(f"built {path}", soft_wrap=True)
    console.print(said or "lintian says nothing", markup=False)
    return 1 if said else 0


def build(target: Path, root: Root) -> Path:
    """Build the package of the files as they are now; return its path in `target`.

    All times in it are that of debian/changelog, so two builds of the same files are equal. What
    the build has said is beside it, as `*.build`.
    """
    folder = root.path / PLACE
    shutil.rmtree(folder, ignore_errors=True)
    packages.copy_sources(folder / "source")
    argv = ["env", "-C", f"/{PLACE}/source", "dpkg-buildpackage", "--build=binary", "--no-sign"]
    log = root.run(argv, timeout=600).stdout
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy(path, target)
    (deb,) = (target / path.name for path in folder.glob("*.deb"))
    deb.with_suffix(".build").write_text(log)
    return deb


def lint(root: Root) -> str:
    """Return what lintian says of the package that was built last in this root; "" is clean."""
    return root.sh(f"cd /{PLACE}; {' '.join(LINTIAN)} *.changes || true").strip()
