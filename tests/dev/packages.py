"""`./dev packages`: the tests of the packages, kind by kind; and what the builds of them share."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from tests.cluster.harness.host import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FOLDER = CHECKOUT / "tests/packages"
DIST = CHECKOUT / "dist"  # where a build leaves its packages
KINDS = tuple(sorted(file.stem.removeprefix("test_") for file in FOLDER.glob("test_*.py")))


def run(kinds: Sequence[str]) -> int:
    """Run the tests of these kinds of packages, of all if none is given; return the exit status."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise click.ClickException(
            f"no such package: {', '.join(unknown)}; there are {', '.join(KINDS)}"
        )
    files = [str(FOLDER / f"test_{kind}.py") for kind in KINDS if kind in (kinds or KINDS)]
    return int(pytest.main([*files, "-v", "--tb=short"]))


def output(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Run a command; return what it prints. Raise RuntimeError with all of it where it fails."""
    done = subprocess.run(
        argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed:\n{done.stdout}")
    return done.stdout


def version() -> str:
    """Return the version of the checkout."""
    text = (CHECKOUT / "src/slurm_adopt/__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert found, "src/slurm_adopt/__init__.py has no version"
    return found[1]


def sources() -> dict[str, bool]:
    """Return the files that git knows, as they are now, and which of them are executable."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={CHECKOUT}", "-C", CHECKOUT, "ls-files", "-z", "--cached",
         "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )  # fmt: skip
    names = [
        name for name in listed.stdout.split("\0") if name and os.path.lexists(CHECKOUT / name)
    ]
    return {name: bool((CHECKOUT / name).lstat().st_mode & 0o100) for name in names}


def copy_sources(target: Path) -> None:
    """Copy these files: no byte code, no rest of another build.

    Modes are 644, or 755 for what git has as executable, whatever the umask of the checkout was.
    """
    for name, executable in sources().items():
        source, copy = CHECKOUT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            copy.symlink_to(source.readlink())
        else:
            copy.write_bytes(source.read_bytes())
            copy.chmod(0o755 if executable else 0o644)
