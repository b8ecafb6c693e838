"""README's install section in fresh roots: its own commands, and they print what it shows.

Debian's are those of each suite. RHEL's are Debian's with a release's Python and with RHEL's PAM
files: Debian's rpm is there in the place of dnf.
"""

from __future__ import annotations

import re
import shutil
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import guide
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.suites import SUITES, Suite
from tests.cluster.scenarios import stock
from tests.cluster.scenarios.deb import FRONTS, LIB, put, sh
from tests.dev import deb, rpm
from tests.packages.root import Root
from tests.packages.rpm_root import CELLS, Cell, rpm_root, stub_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTION = (CHECKOUT / "README.md").read_text().partition("\n## Install\n")[2].partition("\n## ")[0]
# Of each distribution the two commands
ROWS = dict(re.findall(r"^\| ([^|`]+) \| (`[^|]+` \| `[^|]+`) \|", SECTION, re.MULTILINE))
DEBIAN, UBUNTU, RHEL = ROWS
SHOWN_ON_DEBIAN, SHOWN_ON_RHEL = re.findall(
    r"^```\n# slurm-adopt install\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL
)
TRIAL, CONFIRM = re.findall(r"^    (\S.*?) +#", SECTION, re.MULTILINE)
OF_NODE = re.compile(r"^(slurm_adopt: |  SA).*\n", re.MULTILINE)  # no Slurm runs here
TEXT = "No Slurm jobs found on node."  # the package's: no script has it
UNINSTALL = guide.command("uninstall", "slurm-adopt uninstall")

# A root folder with sshd's PAM files and without any Python
FRESH = {name: Suite(name, ("openssh-server", "pamtester"), script=SUITES[name].script)
         for name in ("bookworm", "trixie", "sid")}  # fmt: skip
APT = 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "true";\n'  # the second is the default
OF_CHECKOUT = "/opt/slurm_adopt"


def commands(distribution: str) -> list[str]:
    """Return what the table has typed: to get the module, and to write the lines."""
    return [one.strip("`") for one in ROWS[distribution].split(" | ")]


def assert_shown(said: str, shown: str) -> None:
    """See that the page shows what is said; there "…" is for lines that are left out."""
    parts = [re.escape(OF_NODE.sub("", part)) for part in shown.split("…\n")]
    assert re.fullmatch("(?:.*\n)*?".join(parts), OF_NODE.sub("", said)), said


def assert_decides(root: Root) -> None:
    """See that root gets in, and that a user is refused where nothing is known of Slurm."""
    said = {user: login(root, user) for user in ("root", "alice")}
    assert {user: done[0] for user, done in said.items()} == {"root": True, "alice": False}
    assert TEXT in said["alice"][1]


def login(root: Root, user: str) -> tuple[bool, str]:
    """Have PAM take a user through sshd's account and session phases."""
    argv = ["pamtester", "sshd", user, "acct_mgmt", "open_session"]
    done = root.run(argv, check=False)
    return done.returncode == 0, done.stdout


def files_of_pam(root: Root) -> str:
    return root.sh("cd /etc/pam.d; sha256sum *")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Debian package of this checkout."""
    with Root(deb.BUILD) as root:
        return deb.build(tmp_path_factory.mktemp("deb"), root)


@pytest.fixture
def fresh(request: pytest.FixtureRequest, package: Path) -> Iterator[Root]:
    """Return a fresh root of a suite with the lists of its packages, a user, and the package."""
    with Root(FRESH[request.param]) as root:
        root.write("etc/apt/apt.conf.d/99", APT)
        root.sh("apt-get -q update; useradd --create-home alice")
        put(root, package)
        yield root


def test_ubuntu_s_commands_are_debian_s() -> None:
    assert ROWS[UBUNTU] == ROWS[DEBIAN]


@pytest.mark.parametrize("fresh", FRESH, indirect=True)
def test_debian(fresh: Root) -> None:
    before = files_of_pam(fresh)
    get, write = commands(DEBIAN)
    sh(fresh, f"cd /tmp; {get}")
    assert files_of_pam(fresh) == before
    assert_shown(sh(fresh, write), SHOWN_ON_DEBIAN)
    assert_decides(fresh)
    sh(fresh, UNINSTALL)
    assert files_of_pam(fresh) == before
    assert login(fresh, "alice")[0]

    sh(fresh, "apt-get install at; atd")  # systemd does not run here
    before = files_of_pam(fresh)
    assert "the trial ends at" in sh(fresh, TRIAL)
    assert_decides(fresh)
    assert "confirmed" in sh(fresh, CONFIRM)
    assert_decides(fresh)
    sh(fresh, UNINSTALL)
    assert files_of_pam(fresh) == before


@pytest.mark.parametrize("fresh", ["bookworm"], indirect=True)
def test_debian_12_by_pam_exec(fresh: Root) -> None:
    """Its own file is refused until the page's command has been run."""
    get, write = commands(DEBIAN)
    sh(fresh, f"cd /tmp; {get} libpam-python-")
    before = files_of_pam(fresh)
    assert "user_readenv=1" in sh(fresh, write, check=False)
    assert files_of_pam(fresh) == before
    sh(fresh, guide.command("pam-exec", "user_readenv"))
    before = files_of_pam(fresh)
    assert_shown(sh(fresh, write), SHOWN_ON_RHEL)
    assert_decides(fresh)
    sh(fresh, UNINSTALL)
    assert files_of_pam(fresh) == before


@pytest.mark.parametrize("fresh", ["trixie"], indirect=True)
def test_from_a_checkout_to_the_package(fresh: Root) -> None:
    """The lines get the package's path, and keep their options."""
    sh(fresh, f"cd /tmp; {commands(DEBIAN)[0]}")
    for folder in ("bin", "pam", "src"):
        shutil.copytree(CHECKOUT / folder, fresh.path / OF_CHECKOUT[1:] / folder)
    sh(
        fresh,
        f"chown -R root:root {OF_CHECKOUT}; ln -s {OF_CHECKOUT}/bin/slurm-adopt /usr/local/bin",
    )
    sh(fresh, "slurm-adopt install welcome=1")
    lines = fresh.read("etc/pam.d/sshd")
    assert lines.count(f" {OF_CHECKOUT}/pam/pam_slurm_adopt.py ") == 2
    assert "/usr/bin/slurm-adopt install" in guide.page("upgrade")
    sh(fresh, "/usr/bin/slurm-adopt install")
    assert fresh.read("etc/pam.d/sshd") == lines.replace(OF_CHECKOUT, LIB)
    assert_decides(fresh)


@pytest.fixture(params=CELLS)
def rhel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Cell, Path]:
    """Build the packages of a release."""
    cell = CELLS[request.param]
    folder = tmp_path_factory.mktemp("rpm")
    return cell, rpm.build(cell.release, folder, cell.python).package


def test_rhel(rhel: tuple[Cell, Path], tmp_path: Path) -> None:
    cell, package = rhel
    get, write = commands(RHEL)
    dnf, install, files = get.split()
    assert (dnf, install, fnmatch(f"./{package.name}", files)) == ("dnf", "install", True)
    with rpm_root(cell, stub_for(tmp_path, cell.python)) as root:
        root.sh("useradd --create-home alice")
        for name, text in (
            ("sshd", stock.rhel()),
            ("password-auth", stock.PASSWORD_AUTH),
            ("postlogin", stock.POSTLOGIN),
        ):
            root.write(f"etc/pam.d/{name}", stock.fitted(root, text))
        root.sh("find / -xdev -name pam_python.so -delete")  # RHEL has none
        before = files_of_pam(root)
        assert "slurm-adopt is installed, and no login has changed" in root.install(package)
        assert files_of_pam(root) == before
        assert_shown(root.sh(write), SHOWN_ON_RHEL)
        lines = [line for line in root.read("etc/pam.d/sshd").splitlines() if LIB in line]
        assert lines == [line for line in FRONTS["pam_exec"] if LIB in line]
        assert_decides(root)
        root.sh(UNINSTALL)
        assert files_of_pam(root) == before
        assert login(root, "alice")[0]
