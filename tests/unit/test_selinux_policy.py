"""The policy module for SELinux compiles, by Debian's checkmodule and semodule_package.

vm/test_selinux.py has what it does. The tools are what `./dev test` installs.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "packaging/selinux"
NAME = "slurm_adopt"
RULES = (SOURCE / f"{NAME}.te").read_text()
CONTEXT = re.compile(r"(\S+)\t(?:(--)\t)?system_u:object_r:(\w+):s0")
ONE = r"(\{[^}]*\}|\w+)"  # or several
ALLOW = re.compile(rf"^\s*allow (\w+) {ONE}:{ONE} {ONE};", re.MULTILINE)
WRITES = {"add_name", "append", "create", "link", "rename", "setattr", "unlink", "write"}
WRITTEN = {"cgroup_t", "slurm_adopt_runtime_t", "slurm_adopt_run_file", "var_run_t", "var_spool_t"}


def compiled(te: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Compile a module with our file contexts, by the commands of the page."""
    (folder / f"{NAME}.te").write_text(te)
    script = (
        f"checkmodule -M -m -c 19 -o {NAME}.mod {NAME}.te && "
        f"semodule_package -o {NAME}.pp --module {NAME}.mod --fc {SOURCE / NAME}.fc"
    )
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, check=False, capture_output=True, text=True
    )


def test_it_compiles(tmp_path: Path) -> None:
    done = compiled(RULES, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    package = (tmp_path / f"{NAME}.pp").read_bytes()
    assert NAME.encode() in package
    assert b"/run/slurm_adopt(/.*)?" in package


def test_a_type_that_is_not_required_is_an_error(tmp_path: Path) -> None:
    """The module names all that it takes from the policy, so another policy says what it lacks."""
    done = compiled(RULES + "allow sshd_t shadow_t:file read;\n", tmp_path)
    assert done.returncode
    assert "shadow_t" in done.stderr


def test_contexts() -> None:
    """Each has a type that the module has or requires."""
    lines = (SOURCE / f"{NAME}.fc").read_text().splitlines()
    types = [CONTEXT.fullmatch(line) for line in lines if not line.startswith("#")]
    assert [match[3] for match in types if match] == ["slurm_adopt_runtime_t", "bin_t"]
    assert all(types)


@pytest.mark.parametrize("rule", ALLOW.findall(RULES), ids=" ".join)
def test_rights_are_those_of_sshd_alone(rule: tuple[str, str, str, str]) -> None:
    """Nothing is allowed to another domain; nothing is written but what the page lists."""
    source, targets, _, permissions = rule
    assert source == "slurm_adopt_domain"
    if {*permissions.strip("{}").split()} & WRITES and targets != "self":
        assert {*targets.strip("{}").split()} <= WRITTEN


@pytest.mark.parametrize("attribute", ["slurm_adopt_domain", "slurm_adopt_daemon"])
def test_interfaces_add_to_its_attributes(attribute: str) -> None:
    interfaces = (SOURCE / f"{NAME}.if").read_text()
    assert f"attribute {attribute};" in RULES
    assert f"typeattribute $1 {attribute};" in interfaces
