"""The Debian package in fresh roots of each suite, where Python changes, and on other clusters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster.cells import CELLS
from tests.cluster.harness import guide, pam
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.suites import SUITES, Suite
from tests.cluster.scenarios import deb as scenarios
from tests.cluster.scenarios import login_image
from tests.cluster.scenarios.deb import FRONTS, LIB, LINES, PACKAGE, assert_byte_code, put, sh
from tests.conftest import show_logs_of
from tests.dev import deb
from tests.packages.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OF_SUITE = {name: SUITES[name].python for name in ("bookworm", "trixie", "sid")}

# A root folder with sshd's PAM files and without any Python; and one that packages are built in.
FRESH = {name: Suite(name, ("openssh-server", "pamtester"), script=SUITES[name].script)
         for name in OF_SUITE}  # fmt: skip
BUILD = {name: Suite(name, deb.BUILD.packages, script=SUITES[name].script) for name in OF_SUITE}

RECOMMENDED = "echo 'APT::Install-Recommends \"true\";' >/etc/apt/apt.conf.d/99;"  # as by default
MADE = f"find {LIB} '(' -name '*.pyc' -o -name '*.image*' ')'"
DELETE = f"{MADE} -delete"
OURS_LEFT = "find / -xdev -name '*slurm[-_]adopt*' ! -path '/tmp/*' ! -path '/etc/apt/*'"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package of this checkout."""
    with Root(deb.BUILD) as root:
        return deb.build(tmp_path_factory.mktemp("deb"), root)


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Iterator[Root]:
    """Return a fresh root of a suite, with the lists of its packages and a user."""
    with Root(FRESH[request.param]) as root:
        sh(root, "apt-get -q update; useradd --create-home alice")
        yield root


def login(root: Root, user: str) -> tuple[int, str]:
    """Have PAM take a user through sshd's account and session phases; return status and text."""
    argv = ["pamtester", "sshd", user, "acct_mgmt", "open_session"]
    done = root.run(argv, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("fresh", OF_SUITE, indirect=True)
def test_fresh(fresh: Root, package: Path) -> None:
    """Have apt bring what it needs; it goes without a trace but for what it needed."""
    assert "python3" not in sh(fresh, "ls /usr/bin")
    sh(fresh, scenarios.FOR_PAM_EXEC)
    before = sh(fresh, "cd /etc/pam.d; sha256sum *")
    put(fresh, package)
    fresh.write("etc/apt/apt.conf.d/yes", 'APT::Get::Assume-Yes "true";\n')
    (install,) = guide.commands("debian-package", "Install it")
    sh(fresh, f"cd /tmp; {RECOMMENDED} {install}")
    assert_byte_code(fresh, f"python{OF_SUITE[fresh.suite.name]}")
    assert sh(fresh, "cd /etc/pam.d; sha256sum *") == before
    for command in (
        "slurm-adopt --version",
        "slurm-adopt check || test $? -le 2",
        "slurm-adopt sessions",
    ):
        assert "Traceback" not in sh(fresh, command)

    # A node without Slurm: with these options nobody but root gets in.
    for front in FRONTS:
        sh(fresh, f"slurm-adopt install --front={front}")
        assert login(fresh, "root")[0] == 0
        status, said = login(fresh, "alice")
        assert status != 0
        assert "No Slurm jobs found on node." in said

    fresh.write("etc/pam.d/sshd~", "\n".join((*LINES, "")))  # as an editor leaves one
    purge = guide.command("debian-package", "purge")
    assert "is not removed" in sh(fresh, purge, check=False)
    assert login(fresh, "root")[0] == 0
    uninstall, purge = guide.commands("debian-package", "Remove it")
    sh(fresh, uninstall)
    assert sh(fresh, "rm /etc/pam.d/sshd~; cd /etc/pam.d; sha256sum *") == before
    fresh.write("etc/pam.d/sshd~", "\n".join((*LINES, "")))
    fresh.write("etc/slurm/epilog.d/a", f"#!/bin/sh\ncd {LIB}/src && exec python3 -m a\n", 0o755)
    said = sh(fresh, purge)
    assert "WARNING: these files of Slurm's name this package" in said
    assert "/etc/slurm/epilog.d/a" in said
    sh(fresh, "rm /etc/pam.d/sshd~")
    assert sh(fresh, OURS_LEFT) == ""
    assert sh(fresh, "cd /etc/pam.d; sha256sum *") == before


@pytest.mark.parametrize("fresh", OF_SUITE, indirect=True)
def test_without_what_is_recommended(fresh: Root, package: Path) -> None:
    """Without pam_python the byte code is for python3, where pam_exec runs; later for both."""
    python = f"python{OF_SUITE[fresh.suite.name]}"
    sh(fresh, f"apt-get -qy install {put(fresh, package)}")
    there = sh(fresh, "dpkg-query -W -f '${Package}\\n'").split()
    assert not {"libpam-python", "python3-rich", "python3-pyroute2"} & {*there}
    assert_byte_code(fresh, python)
    assert "Traceback" not in sh(fresh, "slurm-adopt --version; slurm-adopt check || test $? -le 2")

    # pam_python comes: a trigger of dpkg's. It goes, with lines that name it: dpkg's user is told.
    sh(fresh, f"{DELETE}; apt-get -qy install libpam-python")
    assert_byte_code(fresh, python)
    fresh.write("etc/pam.d/sshd", "\n".join((*LINES, "")))
    said = sh(fresh, "apt-get -qy remove libpam-python")
    assert "PAM refuses everybody but root: pam_python.so is gone" in said
    assert all(f"/etc/pam.d/sshd:{line}" in said for line in LINES if LIB in line)
    assert login(fresh, "root")[0] == 0

    # python3 changes, as its maintainer scripts tell.
    sh(fresh, DELETE)
    hook = "/usr/share/python3/runtime.d/slurm-adopt.rtupdate"
    sh(fresh, f"{hook} pre-rtupdate python3.0 {python}")
    assert sh(fresh, MADE) == ""
    sh(fresh, f"{hook} rtupdate python3.0 {python}")
    assert_byte_code(fresh, python)

    # The lines name a checkout now: what its `install` has kept is not the package's to remove.
    fresh.write("etc/pam.d/sshd", "\n".join((*LINES, "")).replace(LIB, "/opt/slurm_adopt"))
    fresh.write("var/lib/slurm_adopt/install/sshd.json", "kept")
    sh(fresh, "apt-get -qy purge slurm-adopt")
    assert fresh.read("var/lib/slurm_adopt/install/sshd.json") == "kept"


@pytest.mark.parametrize("fresh", ["bookworm"], indirect=True)
def test_python_changes(fresh: Root, package: Path) -> None:
    """From Debian 12 to 13 piece by piece: pam_python and python3 are of two releases meanwhile."""
    old, new = "python3.11", "python3.13"
    sh(fresh, f"{RECOMMENDED} apt-get -qy install {put(fresh, package)}")
    assert_byte_code(fresh, old)
    mirror = sh(fresh, "apt-get indextargets --format '$(REPO_URI)' | head -n 1").strip()
    fresh.write("etc/apt/sources.list.d/trixie.list", f"deb {mirror} trixie main\n")
    fresh.write("etc/apt/apt.conf.d/release", 'APT::Default-Release "bookworm";\n')
    sh(fresh, "apt-get -q update; apt-get -qy install -t trixie python3 python3-click")
    assert_byte_code(fresh, old, new)

    said = sh(fresh, f"apt-get -qy remove {old}-minimal")
    assert f"pam_python.so runs {old}, and there is no /usr/bin/{old}" in said
    sh(fresh, f"find {LIB} -name '*.cpython-311.pyc' -delete")
    assert f"until {old}-minimal is installed" in sh(fresh, f"{LIB}/byte-compile")
    # That Python may come back, and the image is of these sources: unlike one that is of others.
    assert len(login_image.entries(fresh, PACKAGE)) == 2
    sh(fresh, f"touch {PACKAGE}/__init__.py; {LIB}/byte-compile")
    assert_byte_code(fresh, new)
    sh(fresh, f"apt-get -qy install {old}-minimal")
    assert_byte_code(fresh, old, new)

    sh(fresh, "apt-get -qy install -t trixie libpam-python")
    assert_byte_code(fresh, new)
    assert "Traceback" not in sh(fresh, "slurm-adopt --version")


@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_built_there(suite: str, tmp_path: Path) -> None:
    """Newer tools build the same files, and a newer lintian says nothing of them either."""
    with Root(BUILD[suite]) as root:
        scenarios.contents(deb.build(tmp_path, root))
        assert deb.lint(root) == ""


@pytest.mark.parametrize("cell", ["trixie", "sid"])
def test_on_a_node(request: pytest.FixtureRequest, cell: str, package: Path) -> None:
    """The life that test_deb.py plays on bookworm's cluster, with other releases of all."""
    found = CELLS[cell]
    with Cluster(f"deb-{cell}-{os.getpid()}", found.settings, roots=found.roots) as cluster:
        show_logs_of(request.config, cluster)
        cluster.pam(pam.with_module())
        scenarios.life(cluster, package)
