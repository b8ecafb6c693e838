"""The wheel and the sdist: what is in them; the wheel in a venv, by pam_python and pam_exec."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness import guide
from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.suites import BOOKWORM
from tests.cluster.scenarios import login_image
from tests.dev import packages, wheel
from tests.packages.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator

VENV = "/opt/venv"
PYTHON = f"python{BOOKWORM.python}"
PIP = Path("/usr/share/python-wheels")  # of python3-venv
PAGE = (CHECKOUT / "docs/how-to/wheel.md").read_text()
IN_PAGE = f"{VENV}/lib/python3.11/site-packages/slurm_adopt"
# front -> its PAM line, with the script that the page names
PAM = {
    f"pam_{front}": f"account required pam_{front}.so {words}{script}"
    for front, words in (("python", ""), ("exec", "quiet stdout "))
    for script in re.findall(rf"pam_{front}.*\| `({IN_PAGE}/pam/\S+)` \|$", PAGE, re.MULTILINE)
}
IN_SDIST = ("src/", "pam/", "bin/", "contrib/", "docs/", "packaging/")
FILES_IN_SDIST = {
    "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "pyproject.toml", ".gitignore",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return wheel.build(tmp_path_factory.mktemp("wheel"))


def test_what_is_in_the_wheel(built: tuple[Path, Path]) -> None:
    info = f"slurm_adopt-{packages.version()}.dist-info"
    wanted = {f"{info}/{name}": False for name in
              ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}  # fmt: skip
    for name, executable in packages.sources().items():
        if name.startswith("src/"):
            wanted[name.removeprefix("src/")] = executable
        elif name.startswith("pam/"):
            wanted[f"slurm_adopt/{name}"] = executable
    with zipfile.ZipFile(built[1]) as file:
        found = {
            entry.filename: bool(entry.external_attr >> 16 & 0o111) for entry in file.infolist()
        }
        metadata = file.read(f"{info}/METADATA").decode().splitlines()
    assert found == wanted
    assert {line for line in metadata if line.startswith(("Requires-Dist", "Requires-Python"))} == {
        "Requires-Python: >=3.9",
        "Requires-Dist: click>=8.0; extra == 'command'",
        "Requires-Dist: pyroute2>=0.5.14; extra == 'command'",
        "Requires-Dist: rich>=12.6; extra == 'command'",
    }


def test_what_is_in_the_sdist(built: tuple[Path, Path]) -> None:
    wanted = {name: executable for name, executable in packages.sources().items()
              if name.startswith(IN_SDIST) or name in FILES_IN_SDIST}  # fmt: skip
    with tarfile.open(built[0]) as file:
        found = {member.name.partition("/")[2]: member for member in file if member.isfile()}
    assert {name: bool(found[name].mode & stat.S_IXUSR) for name in found} == {
        **wanted,
        "PKG-INFO": False,
    }
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_two_builds_are_equal(built: tuple[Path, Path], tmp_path: Path) -> None:
    for file, other in zip(built, wheel.build(tmp_path)):
        assert file.read_bytes() == other.read_bytes()


def test_the_wheel_is_that_of_the_sdist(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[0]) as file:
        file.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    assert wheel.build_wheel(source, tmp_path).read_bytes() == built[1].read_bytes()


@pytest.fixture(scope="module")
def root(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """Make a root folder with a venv, and in it the wheel and what its command needs, by pip."""
    wheels = tmp_path_factory.mktemp("wheels")
    wanted = f"{built[1]}[command]"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--dest", wheels, wanted], check=True, timeout=300)
    shutil.copy(next(PIP.glob("pip-*.whl")), wheels)
    with Root(BOOKWORM) as fresh:
        shutil.copytree(wheels, fresh.path / "tmp/wheels")
        fresh.sh(f"python3 -m venv --without-pip {VENV}")
        fresh.sh(
            f"PYTHONPATH=$(echo /tmp/wheels/pip-*.whl) {VENV}/bin/python -m pip install -q"
            f" --no-index --find-links /tmp/wheels 'slurm_adopt[command]'"
        )
        yield fresh


def test_the_command_runs_in_a_venv(root: Root) -> None:
    command = f"{VENV}/bin/slurm-adopt"
    assert root.sh(f"{command} check --help").startswith("Usage: slurm-adopt check ")
    assert root.run([command, "whoami"], check=False).stdout == "This shell is in no job.\n"
    assert root.run([command, "whoami"], check=False).returncode == 1


TEXT = "No Slurm jobs found on node."  # the package's: no script has it


@pytest.mark.parametrize("front", PAM)
def test_pam_lines_name_the_scripts_in_the_venv(root: Root, front: str) -> None:
    assert _logs_in(root, front, "root") == (True, False)
    assert _logs_in(root, front, "alice") == (False, True)


@pytest.mark.parametrize("front", PAM)
def test_without_its_package_a_script_refuses_users_and_not_root(root: Root, front: str) -> None:
    package = "cd /opt/venv/lib/python3*/site-packages/slurm_adopt"
    root.sh(f"{package}; mv front gone")
    try:
        assert _logs_in(root, front, "root") == (True, False)
        assert _logs_in(root, front, "alice") == (False, False)
    finally:
        root.sh(f"{package}; mv gone front")


def _logs_in(root: Root, front: str, user: str) -> tuple[bool, bool]:
    """Return whether a user passes the account phase with our line, and is shown our text."""
    package = root.sh(f"echo {VENV}/lib/python3*/site-packages/slurm_adopt").strip()
    root.sh("id -u alice >/dev/null 2>&1 || useradd alice")
    line = f"{PAM[front].replace(IN_PAGE, package)} service=venv action_generic_failure=deny"
    root.write("/etc/pam.d/venv", f"{line}\naccount required pam_permit.so\n")
    done = root.run(["pamtester", "venv", user, "acct_mgmt"], check=False)
    return done.returncode == 0, TEXT in done.stdout


@pytest.mark.parametrize("front", PAM)
def test_install_writes_the_lines_of_the_page(root: Root, front: str) -> None:
    package = root.sh(f"echo {VENV}/lib/python3*/site-packages/slurm_adopt").strip()
    root.sh("sed -i 's/ user_readenv=1//' /etc/pam.d/sshd")
    before = root.read("/etc/pam.d/sshd")
    scripts = [line.split()[-1].replace(IN_PAGE, package) for line in PAM.values()]
    install, uninstall = (f"{VENV}/bin/{guide.command('wheel', f'adopt {word}')}"
                          for word in ("install", "uninstall"))  # fmt: skip
    root.sh("rm -f /etc/pam.d/venv")
    assert login_image.entries(root, package) == set()
    root.sh(f"{install} --front={front} --dry-run")
    assert login_image.entries(root, package) == set()
    said = root.sh(f"{install} --front={front}")
    line = PAM[front].replace(IN_PAGE, package)
    assert root.read("/etc/pam.d/sshd").count(f"\n{line} action_adopt_failure=deny ") == 1
    image = login_image.path(package, PYTHON)
    assert f"written: {image}\n" in said
    login_image.assert_read(root, package, scripts, PYTHON)
    assert "written: " not in root.sh(install)

    # After an upgrade by pip the same command makes it of the new files; a user's is not read.
    root.sh(f"echo '#' >>{package}/front/answer.py")
    assert login_image.opened(root, PYTHON, scripts[0]) != [image]
    assert f"written: {image}\n" in root.sh(install)
    login_image.assert_read(root, package, scripts, PYTHON)
    root.sh(f"chown nobody {image}")
    assert login_image.opened(root, PYTHON, scripts[0]) != [image]
    assert f"written: {image}\n" in root.sh(install)
    login_image.assert_read(root, package, scripts, PYTHON)

    root.write("/etc/pam.d/other service", f"{line}\n")
    root.sh(uninstall)
    assert login_image.entries(root, package) == {f"{image} 644 0:0"}
    root.sh("rm '/etc/pam.d/other service'")
    assert f"removed: {image}\n" in root.sh(uninstall)
    assert login_image.entries(root, package) == set()
    assert root.read("/etc/pam.d/sshd") == before


@pytest.mark.parametrize("front", PAM)
def test_check_knows_the_copy_that_a_line_runs(root: Root, front: str) -> None:
    package = root.sh(f"echo {VENV}/lib/python3*/site-packages/slurm_adopt").strip()
    line = PAM[front].replace(IN_PAGE, package)
    before = root.read("/etc/pam.d/sshd")
    root.write("/etc/pam.d/sshd", f"{line}\n{before}")
    report = root.run([f"{VENV}/bin/slurm-adopt", "check", "--json"], check=False).stdout
    root.write("/etc/pam.d/sshd", before)
    (found,) = (each for each in json.loads(report)["findings"] if each["code"] == "SA832")
    assert found["result"] == "ok", found


def test_pip_takes_all_of_it_away(root: Root) -> None:
    package = root.sh(f"echo {VENV}/lib/python3*/site-packages/slurm_adopt").strip()
    root.sh("rm -f /etc/pam.d/venv")
    root.sh(f"{VENV}/bin/slurm-adopt install --front=pam_exec; {VENV}/bin/slurm-adopt uninstall")
    pip = f"PYTHONPATH=$(echo /tmp/wheels/pip-*.whl) {VENV}/bin/python -m pip"
    root.sh(f"{pip} uninstall -qy slurm_adopt")
    assert not root.path.joinpath(package.lstrip("/")).exists()
