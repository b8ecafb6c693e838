"""`./dev rpm`: the packages for RHEL 8, 9 and 10, built by Debian's rpm and seen by rpmlint."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.root import cache_dir, locked
from tests.dev import packages, wheel
from tests.dev.packages import DIST

FOLDER = CHECKOUT / "packaging/rpm"
SPEC = FOLDER / "slurm-adopt.spec"
RELEASES = (8, 9, 10)
TIME_OF_SOURCES = 1_580_601_600  # of all in the sdist, as hatchling has it

# What RHEL's own rpm has set, and what makes two builds equal: no time is in them but the spec's.
MACROS = {
    "source_date_epoch_from_changelog": "1",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "_buildhost": "localhost",
    "module_version": "19",  # of SELinux's policy modules: the newest that RHEL 8 can read
}


class Built(NamedTuple):
    """What is built for one release."""

    package: Path
    selinux: Path
    source: Path


def build(release: int, target: Path = DIST, python: str = "", more: str = "") -> Built:
    """Build from the files as they are now; return where the packages are.

    `python` is the version of another Python than the release has; `more` makes a later package.
    """
    pinned = click()
    top = cache_dir() / "rpmbuild"  # one place for all: its name is in the source package
    with locked(top.with_suffix(".lock")):
        shutil.rmtree(top, ignore_errors=True)
        wheel.build(top / "SOURCES")
        for file in (pinned, SPEC):
            shutil.copy(file, top / "SOURCES")
        for file in (top / "SOURCES").iterdir():  # their times are in it, too
            os.utime(file, (TIME_OF_SOURCES, TIME_OF_SOURCES))
        # Debian's packages are not in rpm's database: what BuildRequires names is never there.
        argv = ["rpmbuild", "-ba", "--nodeps"]
        argv += [*defines(release, python, more), "--define", f"_topdir {top}"]
        run([*argv, str(top / "SOURCES" / SPEC.name)])
        target.mkdir(parents=True, exist_ok=True)
        made = sorted((top / "RPMS").rglob("*.rpm")) + sorted((top / "SRPMS").glob("*.rpm"))
        built = Built(*(Path(shutil.move(file, target / file.name)) for file in made))
        shutil.rmtree(top)
    return built


def defines(release: int, python: str = "", more: str = "") -> list[str]:
    """Return the options by which Debian's rpm is a release of RHEL's."""
    macros = {**MACROS, "rhel": str(release), "dist": f".el{release}{more}"}
    if python:
        macros["adopt_python"] = python
    return [word for name in macros for word in ("--define", f"{name} {macros[name]}")]


def click() -> Path:
    """Return the wheel of click that the spec bundles; it is fetched once, by its hash."""
    folder = cache_dir() / "click"
    pinned = FOLDER / "click.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        argv = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        argv += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(pinned)]
        run([*argv, "--dest", str(folder)])
    version = pinned.read_text().partition("click==")[2].split()[0]
    return folder / f"click-{version}-py3-none-any.whl"


def lint(*files: Path) -> list[str]:
    """Return what rpmlint says of packages and of the spec; [] is clean."""
    argv = ["rpmlint", "-c", str(FOLDER / "rpmlint.toml"), *map(str, (*files, SPEC))]
    said = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert "rpmlint session starts" in said.stdout, said.stderr
    return [line for line in said.stdout.splitlines() if line.startswith(("slurm-adopt", "error"))]


def run(argv: list[str]) -> str:
    """Run a command of rpm's as packages.output() does."""
    home = str(cache_dir() / "rpm")  # Debian's rpm makes a database there
    return packages.output(argv, {**os.environ, "HOME": home})
