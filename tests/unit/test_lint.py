"""The code is clean by the rules that pyproject.toml sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PLACES = ("src", "pam", "tests")


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", *PLACES), ("ruff", "format", "--check", *PLACES), ("mypy",)],
    ids=["rules", "format", "types"],
)
def test_clean(command: tuple[str, ...]) -> None:
    """Each linter finds nothing."""
    argv = [sys.executable, "-m", *command]
    done = subprocess.run(argv, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
