"""A pytest that is ended by a signal takes down what its fixtures have brought up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.harness.wait import PATIENCE, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

CHECKOUT = Path(__file__).resolve().parents[2]

INNER = """
import time
from pathlib import Path

import pytest

here = Path(__file__).stem

@pytest.fixture(scope="session")
def something():
    yield
    time.sleep(0.5)
    Path(f"down-{here}").touch()

def test(something):
    Path(f"up-{here}").touch()
    time.sleep(60)
"""

IN_THE_BACKGROUND = ("env", "--ignore-signal=INT", "--default-signal=HUP,TERM")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def ended(top: Path, signum: signal.Signals, names: Sequence[str], *options: str) -> list[str]:
    """Start a pytest, end it when each file's test has begun; return what has been torn down."""
    for name in names:
        (top / f"{name}.py").write_text(INNER)
    argv = [*IN_THE_BACKGROUND, sys.executable, "-m", "pytest", "-p", "tests.conftest", "-q"]
    path = f"{CHECKOUT}:{CHECKOUT / 'src'}"
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    argv += [*options, "-c", os.devnull, "--rootdir=.", "."]
    with subprocess.Popen(argv, cwd=top, env=env, stdout=subprocess.PIPE) as inner:
        try:
            for name in names:
                wait_for("the test", (top / f"up-{name}").exists, 60)
            inner.send_signal(signum)
            inner.wait(60 * PATIENCE)
        finally:
            inner.kill()
    return sorted(path.name for path in top.glob("down-*"))


@pytest.mark.parametrize("signum", SIGNALS)
def test_fixtures_are_torn_down(tmp_path: Path, signum: signal.Signals) -> None:
    """As after Ctrl-C, also where a shell has started it in the background."""
    assert ended(tmp_path, signum, ["test_one"]) == ["down-test_one"]


@pytest.mark.parametrize("signum", SIGNALS)
def test_those_of_all_processes(tmp_path: Path, signum: signal.Signals) -> None:
    """Only the first process gets the signal: it tells the others, and waits for them."""
    found = ended(tmp_path, signum, ["test_one", "test_two"], "-n2", "--dist=loadfile")
    assert found == ["down-test_one", "down-test_two"]
