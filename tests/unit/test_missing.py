"""Why a package cannot be imported: the places that were looked into, and the one that has it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from slurm_adopt.cli.checks.machine.missing import why

NAME = "of_another_python"
VERSION = ".".join(map(str, sys.version_info[:2]))

# (directory that has the package, what is in it, whether Python looks there, what is said)
CASES = [
    ("", "", False, "looks in {top}/searched$"),
    ("lib/python3.9/site-packages", "", False, "and not in {top}/lib/python3.9/site-packages$"),
    ("lib/python3/dist-packages", "", False, "and not in {top}/lib/python3/dist-packages$"),
    ("lib/perl/dist-packages", "", False, "looks in {top}/searched$"),
    ("searched", "import _of_c", True, "'_of_c', in {top}/searched: is that for Python"),
]


@pytest.mark.parametrize(("place", "text", "searched", "said"), CASES)
def test_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    text: str,
    searched: bool,
    said: str,
) -> None:
    if place:
        package = tmp_path / place / NAME
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
    monkeypatch.setattr(sys, "path", [f"{tmp_path}/searched"])
    importlib.invalidate_caches()
    with pytest.raises(ImportError) as raised:
        importlib.import_module(NAME)
    found = why(NAME, raised.value, (f"{tmp_path}/lib", f"{tmp_path}/nowhere"))
    pattern = said.format(top=tmp_path).rstrip("$")
    assert found.endswith(pattern) if said.endswith("$") else pattern in found
    assert found.startswith("No module named")
    assert f"Python {VERSION}" in found
    assert searched == ("is that for" in found)
