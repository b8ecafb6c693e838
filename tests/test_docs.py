"""What the README says is what the code does and what the tests run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slurm_adopt.options import LOG_LEVELS, OPTIONS, Option
from slurm_adopt.slurm import versions
from slurm_adopt.slurm.auth import PLUGINS
from slurm_adopt.slurm.versions import RELEASES, Release
from tests.cluster import pam

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
ROWS = {row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE)}


def our_lines(lines: list[str]) -> set[str]:
    return {line for line in lines if "pam_succeed_if" in line or "pam_python" in line}


def test_pam_lines_are_those_that_are_tested() -> None:
    documented = {
        line.strip()
        for line in README.splitlines()
        if line.startswith(("    account ", "    session "))
    }
    assert documented == {line for stack in pam.DOCUMENTED.values() for line in our_lines(stack())}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_option_row(option: Option) -> None:
    """Each option is there, its default first, with all its values."""
    row = re.findall(r"`([^`]+)`", ROWS[option.name])
    assert not option.default or row[0] == option.default
    if isinstance(option.values, tuple):
        assert set(row) == set(option.values)
    if option.name == "log_level":
        assert set(row) <= {*LOG_LEVELS, *map(str, range(10))}


def test_no_option_is_made_up() -> None:
    assert set(ROWS) == {option.name for option in OPTIONS}


def test_every_room_is_in_the_architecture() -> None:
    text = (TOP / "docs" / "architecture.md").read_text()
    rooms = [path.name for path in (TOP / "src").rglob("*.py") if path.name != "__init__.py"]
    assert [name for name in rooms if f"{name}" not in text] == []


# docs/compatibility.md

COMPATIBILITY = (TOP / "docs" / "compatibility.md").read_text()
BOUND = {versions.LOOSE: "nothing or type", versions.BOUND: "type and body"}
PAYLOADS = {versions.TYPE: "type", versions.K12: "K12"}


def release_row(release: Release) -> str:
    """Return the row of the table of releases, from versions.py and tests/vectors."""
    captured = (TOP / "tests" / "vectors" / f"callerid-{release.name}.json").exists()
    cells = [
        release.name,
        f"{release.protocol >> 8}",
        f"{release.extern_step}",
        release.greeting,
        " and ".join(name for name, _ in release.x11),
        release.het_cgroup,
        release.namespaces,
        f"{sum(size for _, size in release.header)}",
        release.plugin,
        ", then ".join(PAYLOADS[payload] for payload in release.request_payloads),
        BOUND[release.reply_payloads],
        "job" if len(release.answer) == 2 else "job and step",
        "yes" if release.tls else "no",
        "captured" if captured else "tables",
    ]
    return f"| {' | '.join(cells)} |"


def test_table_of_releases() -> None:
    """What the table says of each release is what the code does, and there are no other rows."""
    table = re.compile(r"\| \d\d\.\d\d \| \d+ \|")
    rows = [line for line in COMPATIBILITY.splitlines() if table.match(line)]
    assert rows == [release_row(release) for release in RELEASES]


def test_auth_plugins_are_documented() -> None:
    assert all(f"`AuthType={name}`" in COMPATIBILITY for name in PLUGINS)


def test_no_release_is_told_apart_in_the_code() -> None:
    """Releases are rows: nothing but versions.py compares a protocol number with a fixed one."""
    compares = re.compile(r"protocol\s*[<>!=]=?\s*[1-9(]|\d\s*<<\s*8\b")
    for path in (TOP / "src").rglob("*.py"):
        found = compares.findall(path.read_text())
        assert not found or path.name == "versions.py", (path, found)


def test_the_guide_s_pam_lines_are_those_that_are_tested() -> None:
    guide = (TOP / "docs" / "administrators.md").read_text().splitlines()
    shown = {line.strip() for line in guide if re.match("    -?(account|session) ", line)}
    tested = {line for stack in pam.GUIDE.values() for line in stack()}
    migrating = {f"{line} action_adopt_failure=deny" for line in (pam.C_MODULE, pam.OURS)}
    assert shown <= tested | migrating
    beside = ("pam_access", "pam_listfile", "ingroup", "-account [", "-session [")
    assert {line for line in tested if any(word in line for word in beside)} <= shown
