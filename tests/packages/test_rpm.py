"""The packages for RHEL: what is in them, and that they install, run, upgrade and go.

Debian's rpm installs them into Debian's root folders with the Python that they are for. A stub
stands for RHEL's own packages in rpm's database. No Debian has 3.12, which RHEL 10 has: that
package is looked into, and one for another Python is installed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.host import CHECKOUT
from tests.cluster.harness.root import DEFAULT_MIRROR
from tests.cluster.scenarios import login_image
from tests.dev import packages, rpm
from tests.packages.root import Root
from tests.packages.rpm_root import CELLS, HOST, NEEDED, Cell, package_of, rpm_root, stub_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


TOP = "/usr/libexec/slurm-adopt"
PACKAGE = f"{TOP}/src/slurm_adopt"
SCRIPT = f"{TOP}/pam/pam_slurm_adopt_exec"
SHARE = "/usr/share/slurm-adopt"
DOC = "/usr/share/doc/slurm-adopt"
LICENSES = "/usr/share/licenses/slurm-adopt"
TEXT = "No Slurm jobs found on node."  # the package's: no script has it
SELINUX = ("selinux-policy-targeted", "policycoreutils", "libselinux-utils")
INSTALLED = "slurm-adopt is installed, and no login has changed."
STAYS = "slurm-adopt stays: with these lines nobody but root could log in without it:"
EPILOG = "slurm-adopt: take it out of Slurm's Epilog too, or nodes may drain:"

# The releases with the Python that they have: what is in the package, and what it needs.
# fmt: off
RELEASES = {
    8:  ("3.12", set()),
    9:  ("3.9",  {"python3-pyroute2", "python3-rich"}),
    10: ("3.12", {"python3-pyroute2", "python3-rich"}),
}
# fmt: on


@dataclass(frozen=True)
class Built:
    """The packages for a cell, and the one that follows."""

    cell: Cell
    package: Path
    selinux: Path
    source: Path
    next: Path
    next_selinux: Path


@pytest.fixture(scope="module", params=CELLS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    cell = CELLS[request.param]
    folder = tmp_path_factory.mktemp("rpm")
    made = rpm.build(cell.release, folder, cell.python)
    later = rpm.build(cell.release, folder / "next", cell.python, more=".1")
    return Built(cell, *made, later.package, later.selinux)


@pytest.fixture(scope="module", params=RELEASES, ids="el{}".format)
def release(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Path]:
    return request.param, rpm.build(request.param, tmp_path_factory.mktemp("rpm")).package


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stand for what RHEL has, one package for each Python: Debian's files are in no rpm."""
    top = tmp_path_factory.mktemp("stubs")
    return {cell.python: stub_for(top, cell.python) for cell in CELLS.values()}


def _query(package: Path, what: str) -> set[str]:
    return set(rpm.run(["rpm", "-qp", *what.split(" "), str(package)]).splitlines())


def test_the_spec_has_the_version_of_the_package() -> None:
    said = rpm.run(
        ["rpmspec", "-q", "--qf", "%{VERSION} %{NAME}\n", *rpm.defines(9), str(rpm.SPEC)]
    )
    assert f"{packages.version()} slurm-adopt" in said.splitlines()


@pytest.mark.parametrize("number", RELEASES)
@pytest.mark.parametrize("option", ["--with", "--without"])
@pytest.mark.parametrize("condition", ["selinux", "bundled_click"])
def test_the_spec_can_be_read_for(number: int, option: str, condition: str) -> None:
    read = rpm.run(["rpmspec", "-P", option, condition, *rpm.defines(number), str(rpm.SPEC)])
    wanted = {"selinux": "%package selinux", "bundled_click": "Provides:       bundled("}
    assert (wanted[condition] in read) == (option == "--with")
    assert "%{" not in read  # a macro that nobody defines


def test_what_each_release_needs(release: tuple[int, Path]) -> None:
    number, package = release
    python, recommended = RELEASES[number]
    needed = {name for name in _query(package, "--requires") if not name.startswith("rpmlib(")}
    version = f"{packages.version()}-1.el{number}"
    assert needed == {
        *NEEDED, "/bin/sh", f"/usr/bin/python{python}", f"python(abi) = {python}",
        f"(slurm-adopt-selinux = {version} if selinux-policy-targeted)",
    }  # fmt: skip
    assert _query(package, "--recommends") == recommended
    assert "noarch" in package.name
    assert f".el{number}." in package.name


def test_files_owners_and_modes(built: Built) -> None:
    form = r"--qf [%{FILEMODES:perms}\t%{FILEUSERNAME}:%{FILEGROUPNAME}\t%{FILENAMES}\n]"
    rows = [row.split("\t") for row in rpm.run(["rpm", "-qp", *form.split(" "), str(built.package)])
            .splitlines()]  # fmt: skip
    assert {owner for _, owner, _ in rows} == {"root:root"}
    found = {path: mode for mode, _, path in rows if not mode.startswith("d")}
    assert found == _files(built.cell)
    assert {mode for mode, *_ in rows if mode.startswith("d")} == {"drwxr-xr-x"}
    # Each directory below those that every system has is the package's: else it would be left.
    above = {parent for path in found for parent in _parents(path)}
    assert {path for mode, _, path in rows if mode.startswith("d")} == above - COMMON


COMMON = {
    "/", "/usr", "/usr/bin", "/usr/libexec", "/usr/share", "/usr/share/doc", "/usr/share/licenses",
    "/usr/share/man", "/usr/share/man/man1", "/usr/share/man/man8",
}  # fmt: skip


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def _files(cell: Cell) -> dict[str, str]:
    """Return what belongs into the package: path and mode."""
    plain, program = "-rw-r--r--", "-rwxr-xr-x"
    files = {
        "/usr/bin/slurm-adopt": "lrwxrwxrwx",
        f"{LICENSES}/LICENSE": plain,
        f"{LICENSES}/LICENSE.click": plain,
        "/usr/share/man/man1/slurm-adopt.1.gz": plain,
        "/usr/share/man/man8/slurm_adopt.8.gz": plain,
        "/usr/share/bash-completion/completions/slurm-adopt": plain,
        "/usr/share/fish/vendor_completions.d/slurm-adopt.fish": plain,
        "/usr/share/zsh/site-functions/_slurm-adopt": plain,
    }
    modules = [f"vendor/click/{name}" for name in CLICK]
    for name, executable in packages.sources().items():
        mode = program if executable else plain
        if name.startswith(("bin/", "pam/", "src/")):
            files[f"{TOP}/{name}"] = mode
            modules += [name] if name.startswith("src/") else []
        elif name.startswith("contrib/") and not name.startswith("contrib/completion/"):
            files[SHARE + name.removeprefix("contrib")] = mode
        elif name.startswith("docs/") or name in ("README.md", "CHANGELOG.md", "SECURITY.md"):
            files[f"{DOC}/{name}"] = mode
    for module in modules:
        folder, _, name = module.rpartition("/")
        files[f"{TOP}/{module}"] = plain
        if name.endswith(".py"):
            cached = f"{folder}/__pycache__/{name[:-3]}.{cell.tag}.pyc"
            files[f"{TOP}/{cached}"] = plain
    files[login_image.path(PACKAGE, cell.python)] = plain
    return files


CLICK = (
    "__init__.py", "_compat.py", "_termui_impl.py", "_textwrap.py", "_winconsole.py", "core.py",
    "decorators.py", "exceptions.py", "formatting.py", "globals.py", "parser.py", "py.typed",
    "shell_completion.py", "termui.py", "testing.py", "types.py", "utils.py",
)  # fmt: skip


def test_byte_code_is_in_it_or_is_a_ghost(built: Built) -> None:
    form = r"--qf [%{FILEFLAGS:fflags}\t%{FILENAMES}\n]"
    rows = rpm.run(["rpm", "-qp", *form.split(" "), str(built.package)]).splitlines()
    flags = {row.split("\t")[0] for row in rows if row.endswith(".pyc")}
    assert flags == {"" if built.cell.compiled else "g"}
    image = login_image.path(PACKAGE, built.cell.python)
    assert [row for row in rows if ".image" in row] == [f"g\t{image}"]


def test_rpmlint_has_nothing_to_say(built: Built) -> None:
    assert rpm.lint(built.package, built.selinux, built.source) == []


def test_two_builds_are_equal(built: Built, tmp_path: Path) -> None:
    again = rpm.build(built.cell.release, tmp_path, built.cell.python)
    for file, other in zip((built.package, built.selinux, built.source), again):
        assert file.read_bytes() == other.read_bytes()


def test_without_what_it_needs_it_is_not_installed(built: Built) -> None:
    with rpm_root(built.cell) as root:
        status, said = root.rpm("-i", str(built.package))
        assert status == 1
        assert f"python(abi) = {built.cell.python} is needed" in said
        assert not root.files(TOP)


def test_it_is_installed_used_upgraded_and_removed(built: Built, stubs: dict[str, Path]) -> None:
    cell = built.cell
    with rpm_root(cell, stubs[cell.python]) as root:
        root.run(["mkdir", "-p", "/etc/systemd/system"])
        before = _all(root)
        pam = {path: root.read(path) for path in root.files("/etc/pam.d") if path != "/etc/pam.d"}

        status, said = root.rpm("-i", str(built.package))
        assert (status, said.splitlines()[0]) == (
            0,
            f"{INSTALLED} As root, on a node that runs Slurm's jobs:",
        )
        assert {path: root.read(path) for path in pam} == pam
        assert _all(root) - before == _query(built.package, "-l") - before
        assert root.rpm("-V", "slurm-adopt") == (0, "")
        _byte_code_is_fresh(root, cell)
        _command_runs(root)
        _scripts_are_for(root, cell.python)
        assert root.rpm("-V", "slurm-adopt") == (0, "")

        assert _passes(root) == {"root": True, "nobody": False}
        assert root.rpm("-V", "slurm-adopt") == (0, "")

        line = f"account required pam_exec.so quiet {TOP}/pam/pam_slurm_adopt_exec\n"
        root.write("/etc/pam.d/sshd", line)
        assert root.rpm("-U", str(built.next)) == (0, "")
        assert root.read("/etc/pam.d/sshd") == line
        assert root.rpm("-q", "slurm-adopt")[1] == built.next.name.removesuffix(".rpm")
        assert root.rpm("-V", "slurm-adopt") == (0, "")
        _byte_code_is_fresh(root, cell)
        _command_runs(root)

        status, said = root.rpm("-e", "slurm-adopt")
        assert status == 1
        assert said.splitlines()[:2] == [
            f"{STAYS} /etc/pam.d/sshd",
            "First take them out: slurm-adopt uninstall",
        ]
        assert root.rpm("-V", "slurm-adopt") == (0, "")

        root.write("/etc/pam.d/sshd", f"# {line}{pam['/etc/pam.d/sshd']}")
        root.write("/etc/pam.d/sshd.rpmsave", line)
        root.write("/run/slurm_adopt/job/1", "")  # as a login leaves it
        root.write("/var/lib/slurm_adopt/install/sshd", "")
        for kind in ("timer", "service"):  # of a trial whose lines were taken out by hand
            root.write(f"/etc/systemd/system/slurm-adopt-trial-sshd.{kind}", "")
        root.write(f"{PACKAGE}/__pycache__/epilog.cpython-310.pyc", "")
        root.write(login_image.path(PACKAGE, "3.10"), "")
        assert root.rpm("-e", "slurm-adopt") == (0, "")
        left = {"/etc/pam.d/sshd.rpmsave"}
        assert _all(root) - before == left


# What a line says of root's own PAM file: whether the package may go.
LINES = {
    "account required pam_exec.so quiet {top}/pam/pam_slurm_adopt_exec": False,
    "-session  optional\tpam_python.so {top}/pam/pam_slurm_adopt.py job_env=all  # ours": False,
    "account required pam_exec.so \\\n quiet {top}/pam/pam_slurm_adopt_exec": False,
    "# account required pam_exec.so {top}/pam/pam_slurm_adopt_exec": True,
    "account required pam_permit.so # {top}/pam/pam_slurm_adopt_exec": True,
    "account required pam_exec.so /opt/slurm_adopt/pam/pam_slurm_adopt_exec": True,
}


def test_it_stays_while_a_pam_file_names_it(built: Built, stubs: dict[str, Path]) -> None:
    with rpm_root(built.cell, stubs[built.cell.python]) as root:
        root.install(built.package)
        goes = {}
        for line in LINES:
            root.write("/etc/pam.d/other service", line.format(top=TOP) + "\n")
            goes[line] = root.rpm("-e", "slurm-adopt")[0] == 0
            if goes[line]:
                root.install(built.package)
        assert goes == LINES


# (what the lines name, options of the removal)
KEPT = [(TOP, ["--nopreun"]), ("/opt/slurm_adopt", [])]


@pytest.mark.parametrize(("top", "forced"), KEPT, ids=["forced", "another copy"])
def test_what_install_has_kept_stays_while_lines_name_a_copy(
    built: Built, stubs: dict[str, Path], top: str, forced: list[str]
) -> None:
    with rpm_root(built.cell, stubs[built.cell.python]) as root:
        root.install(built.package)
        root.write("/etc/pam.d/sshd", next(iter(LINES)).format(top=top) + "\n")
        root.write("/var/lib/slurm_adopt/install/sshd", "as it was")
        assert root.rpm("-e", *forced, "slurm-adopt") == (0, "")
        assert root.read("/var/lib/slurm_adopt/install/sshd") == "as it was"


def test_it_tells_of_an_epilog_that_names_it(built: Built, stubs: dict[str, Path]) -> None:
    with rpm_root(built.cell, stubs[built.cell.python]) as root:
        root.install(built.package)
        root.write("/etc/slurm/epilog.d/adopt", f"#!/bin/sh\nexec {TOP}/src/x\n")
        assert root.rpm("-e", "slurm-adopt") == (
            0,
            f"{EPILOG} /etc/slurm/epilog.d/adopt",
        )


# What the package of the policy module runs when it is installed, upgraded and removed.
IN = ["semodule -n -X 200 -s targeted -i /usr/share/selinux/packages/slurm_adopt.pp"]
OUT = ["semodule -n -X 200 -s targeted -r slurm_adopt"]
AFTER = ["load_policy", "restorecon -R /usr/libexec/slurm-adopt /run/slurm_adopt"]
POLICY = {"-i": IN + AFTER, "-U": IN + AFTER, "-e": OUT + AFTER}


def test_the_policy_module_comes_and_goes(
    built: Built, stubs: dict[str, Path], tmp_path: Path
) -> None:
    assert _query(built.selinux, "-l") == {"/usr/share/selinux/packages/slurm_adopt.pp"}
    with rpm_root(built.cell, stubs[built.cell.python]) as root:
        root.install(package_of(tmp_path, "rhel-selinux", *SELINUX))
        status, said = root.rpm("-i", str(built.package))
        assert (status, "slurm-adopt-selinux = " in said) == (1, True), said
        for program in ("semodule", "load_policy", "restorecon", "selinuxenabled"):
            log = '[ "${0##*/}" = selinuxenabled ] || echo "${0##*/}${*:+ $*}" >>/run/called'
            root.write(f"/usr/sbin/{program}", f"#!/bin/sh\n{log}\n", mode=0o755)
        called = {}
        for action, files in (
            ("-i", (str(built.package), str(built.selinux))),
            ("-U", (str(built.next), str(built.next_selinux))),
            ("-e", ("slurm-adopt", "slurm-adopt-selinux")),
        ):
            root.write("/run/called", "")
            assert root.rpm(action, *files)[0] == 0
            called[action] = root.read("/run/called").splitlines()
        assert called == POLICY


def _all(root: Root) -> set[str]:
    """Return all files and directories, without rpm's own and what programs' caches are."""
    found = root.run(
        ["find", "/", "-xdev", "-path", "/var/lib/rpm", "-prune", "-o", "-print0"]
    ).stdout.split("\0")
    return {*filter(None, found), *root.files("/run")}


# Prints the modules below $1 whose byte code is not that of their text, or has a time in it.
NOT_FRESH = """\
import importlib.util, os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for path in (os.path.join(folder, name) for name in names if name.endswith(".py")):
        with open(path, "rb") as text, open(importlib.util.cache_from_source(path), "rb") as code:
            head = code.read(16)
            assert head[:4] == importlib.util.MAGIC_NUMBER, path
            if head[4:] != bytes([3, 0, 0, 0]) + importlib.util.source_hash(text.read()):
                print(path)
"""


def _byte_code_is_fresh(root: Root, cell: Cell) -> None:
    """See that each module has byte code of its text, by hash and not by time (PEP 552).

    A login reads the image.
    """
    for below in ("src", "vendor"):
        python = [f"/usr/bin/python{cell.python}", "-IB", "-c", NOT_FRESH, f"{TOP}/{below}"]
        assert root.run(python).stdout == ""
    login_image.assert_read(root, PACKAGE, [SCRIPT], f"python{cell.python}")


def _command_runs(root: Root) -> None:
    assert root.sh("slurm-adopt --help").startswith("Usage: slurm-adopt ")
    assert root.run(["slurm-adopt", "whoami"], check=False).stdout == "This shell is in no job.\n"
    report = root.run(["slurm-adopt", "check", "--json"], check=False)
    assert report.returncode in (0, 1, 2), report.stdout
    assert '"SA832"' in report.stdout


def _passes(root: Root) -> dict[str, bool]:
    """Return who passes the account phase by pam_exec; no Slurm runs here, which is a failure."""
    line = f"pam_exec.so quiet stdout {TOP}/pam/pam_slurm_adopt_exec service=test"
    root.write(
        "/etc/pam.d/test",
        f"account required {line} action_generic_failure=deny\naccount required pam_permit.so\n",
    )
    said = {user: root.run(["pamtester", "test", user, "acct_mgmt"], check=False)
            for user in ("root", "nobody")}  # fmt: skip
    assert TEXT in said["nobody"].stdout
    (root.path / "etc/pam.d/test").unlink()
    return {user: done.returncode == 0 for user, done in said.items()}


def _scripts_are_for(root: Root, python: str) -> None:
    """See that nothing in it is run by a Python that the site may have changed, or by RHEL 8's."""
    named = root.sh(f"grep -rhoIE '/usr/bin/python[0-9.]*' {TOP} {SHARE} | sort -u").split()
    assert named == [f"/usr/bin/python{python}"]
    scripts = [name for name, executable in packages.sources().items()
               if executable and name.startswith(("bin/", "pam/"))]  # fmt: skip
    for name in scripts:
        first = root.read(f"{TOP}/{name}").partition("\n")[0]
        assert first.startswith(f"#!/usr/bin/python{python} -I"), name


PAGE = CHECKOUT / "docs/how-to/rpm-package.md"


def test_the_page_has_the_pythons_of_the_packages() -> None:
    rows = {f"| RHEL {number} | {python} |" for number, (python, _) in RELEASES.items()}
    assert {row for row in rows if row in PAGE.read_text()} == rows


def test_pam_python_is_built_as_the_page_says() -> None:
    """The page's own commands, with Debian's names of packages and the Python of the root."""
    begin, end = "    tar xf pam-python", "security pam_python.so\n"
    text = PAGE.read_text()
    commands = text[text.index(begin) : text.index(end) + len(end)]
    commands = commands.replace("PYTHON=3.9", f"PYTHON={HOST}")
    suite = CELLS[f"el8, Python {HOST}"].suite
    with Root(suite) as root:
        root.write(
            "/etc/apt/sources.list.d/source.list", f"deb-src {DEFAULT_MIRROR} {suite.name} main\n"
        )
        apt = "apt-get -qqy --no-install-recommends"
        wanted = f"gcc libc6-dev libpam0g-dev libpython{HOST}-dev python{HOST}-dev xz-utils"
        root.sh(f"apt-get -qq update; {apt} install {wanted} >/dev/null", check=True)
        root.sh(f"cd /tmp; {apt} source --download-only pam-python 2>/dev/null || true\n{commands}")
        for folder in ("pam", "src"):
            shutil.copytree(CHECKOUT / folder, root.path / "opt/slurm_adopt" / folder)
        line = "/usr/lib64/security/pam_python.so /opt/slurm_adopt/pam/pam_slurm_adopt.py"
        root.write(
            "/etc/pam.d/test",
            f"account required {line} service=test action_generic_failure=deny\n"
            "account required pam_permit.so\n",
        )
        said = {user: root.run(["pamtester", "test", user, "acct_mgmt"], check=False)
                for user in ("root", "nobody")}  # fmt: skip
        assert {user: done.returncode == 0 for user, done in said.items()} == {
            "root": True,
            "nobody": False,
        }
        assert TEXT in said["nobody"].stdout
