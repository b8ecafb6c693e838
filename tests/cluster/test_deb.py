"""The Debian package: what is in it, that two builds are equal, and its life on a node."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.host import CHECKOUT
from tests.cluster.scenarios import deb as scenarios
from tests.dev import deb, packages
from tests.packages.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.harness.cluster import Cluster

SUITES_TOO = [deb.BUILD]  # root folders that it wants beside the cluster's
SCRIPT, DATA = "-rwxr-xr-x", "-rw-r--r--"
LIB, SHARE = scenarios.LIB, "/usr/share"

# Beside the sources, the documentation and what is in contrib.
EXPECTED = {
    "/usr/bin/slurm-adopt": "../libexec/slurm-adopt/bin/slurm-adopt",
    f"{LIB}/bin/slurm-adopt": SCRIPT,
    f"{LIB}/byte-compile": SCRIPT,
    f"{LIB}/pam/pam_slurm_adopt.py": DATA,
    f"{LIB}/pam/pam_slurm_adopt_exec": SCRIPT,
    f"{SHARE}/bash-completion/completions/slurm-adopt": DATA,
    f"{SHARE}/fish/vendor_completions.d/slurm-adopt.fish": DATA,
    f"{SHARE}/zsh/vendor-completions/_slurm-adopt": DATA,
    f"{SHARE}/lintian/overrides/slurm-adopt": DATA,
    f"{SHARE}/man/man1/slurm-adopt.1.gz": DATA,
    f"{SHARE}/man/man8/slurm_adopt.8.gz": DATA,
    f"{SHARE}/python3/runtime.d/slurm-adopt.rtupdate": SCRIPT,
}


@pytest.fixture(scope="module")
def root() -> Iterator[Root]:
    """Return the root folder that packages are built in."""
    with Root(deb.BUILD) as root:
        yield root


@pytest.fixture(scope="module")
def package(root: Root, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package of this checkout."""
    return deb.build(tmp_path_factory.mktemp("deb"), root)


def test_what_is_in_it(package: Path) -> None:
    found = scenarios.contents(package)
    src, contrib = CHECKOUT / "src", CHECKOUT / "contrib"
    sources = {f"{LIB}/src/{path.relative_to(src)}": DATA for path in src.rglob("*.py")}
    data = {
        f"{SHARE}/slurm-adopt/{path.relative_to(contrib)}": SCRIPT
        if os.access(path, os.X_OK)
        else DATA
        for path in contrib.rglob("*")
        if path.is_file() and path.parent.name != "completion"
    }
    docs = {path: mode for path, mode in found.items() if path.startswith(f"{SHARE}/doc/")}
    assert {path: mode for path, mode in found.items() if path not in docs} == {
        **EXPECTED,
        **sources,
        **data,
    }
    assert {*docs.values()} == {DATA}
    pages = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "docs").rglob("*.md")}
    readmes = {"README.Debian", "README.md", "copyright", "changelog.gz", "changelog.Debian.gz"}
    assert {f"{SHARE}/doc/slurm-adopt/{name}" for name in pages | readmes} <= {*docs}


def test_two_builds_are_equal(root: Root, package: Path, tmp_path: Path) -> None:
    """At another time, by somebody with another umask; and lintian says nothing of it."""
    usual = os.umask(0o077)
    try:
        again = deb.build(tmp_path, root)
    finally:
        os.umask(usual)
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (package, again))
    assert first == second
    assert deb.lint(root) == ""


def test_its_version() -> None:
    """debian/changelog begins with the version of the sources."""
    head = (CHECKOUT / "debian/changelog").read_text().partition("\n")[0]
    found = re.match(r"slurm-adopt \(([0-9.]+)-[0-9]+\) ", head)
    assert found
    assert found[1] == packages.version()


def test_its_life_on_a_node(cluster: Cluster, package: Path) -> None:
    scenarios.life(cluster, package)
