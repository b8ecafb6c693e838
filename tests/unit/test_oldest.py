"""The command runs with the oldest releases of click and rich that it is for (tests/oldest.txt)."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_adopt.cli.commands import COMMANDS

TOP = Path(__file__).parents[2]
OLDEST = Path(sys.prefix) / "oldest"
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "LANG": "C.UTF-8",
    "TERM": "xterm",
    "PYTHONPATH": f"{OLDEST}:{TOP / 'src'}",
    "PYTHONDONTWRITEBYTECODE": "1",
}
RELEASES = """
import importlib.metadata as of, click, rich, sys
print([of.version(name) for name in ("click", "rich", "pyroute2")], click.__file__)
"""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv], check=False, capture_output=True, text=True, env=ENVIRONMENT
    )


def test_these_are_the_oldest() -> None:
    said = run("-c", RELEASES).stdout
    pins = [line for line in (TOP / "tests/oldest.txt").read_text().split() if "==" in line]
    assert all(repr(pin.partition("==")[2]) in said for pin in pins), said
    assert str(OLDEST) in said


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str) -> None:
    done = run("-m", "slurm_adopt", *command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: slurm-adopt" in done.stdout


def test_check_without_slurm() -> None:
    done = run("-m", "slurm_adopt", "check", "--quick", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["schema"] == 1


@pytest.mark.parametrize("command", ["check --quick", "sessions"])
def test_on_a_terminal(command: str) -> None:
    """Then rich is used."""
    screen, terminal = pty.openpty()
    argv = [sys.executable, "-m", "slurm_adopt", *command.split()]
    process = subprocess.Popen(argv, stdout=terminal, stderr=terminal, env=ENVIRONMENT)
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(screen, 1 << 16):
            shown += part
    except OSError:  # Linux says EIO where the other end is closed
        pass
    assert process.wait(60) in (0, 1, 2)
    os.close(screen)
    assert b"Traceback" not in shown
    assert shown


def test_an_older_click_is_named(tmp_path: Path) -> None:
    click = tmp_path / "click.py"
    click.write_text("class Parameter: ...\n")
    path = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}:{TOP / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-m", "slurm_adopt", "check"],
        check=False,
        capture_output=True,
        text=True,
        env=path,
    )
    said = f"slurm-adopt: it needs click 8.0 or later, and finds an older one: {click}\n"
    assert (done.returncode, done.stderr) == (3, said)
