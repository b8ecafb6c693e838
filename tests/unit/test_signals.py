"""A pytest that is ended by a signal takes down what its fixtures have brought up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.harness.wait import PATIENCE, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]

INNER = """
import time
from pathlib import Path

import pytest

@pytest.fixture(scope="session")
def something():
    yield
    Path("down").touch()

def test(something):
    Path("up").touch()
    time.sleep(60)
"""

IN_THE_BACKGROUND = ("env", "--ignore-signal=INT", "--default-signal=HUP,TERM")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("signum", SIGNALS)
def test_fixtures_are_torn_down(tmp_path: Path, signum: signal.Signals) -> None:
    """As after Ctrl-C, also where a shell has started it in the background."""
    (tmp_path / "test_inner.py").write_text(INNER)
    argv = [*IN_THE_BACKGROUND, sys.executable, "-m", "pytest", "-p", "tests.conftest", "-q"]
    path = f"{CHECKOUT}:{CHECKOUT / 'src'}"
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [*argv, "-c", os.devnull, "--rootdir=.", "."], cwd=tmp_path, env=env, stdout=subprocess.PIPE
    ) as inner:
        try:
            wait_for("the test", (tmp_path / "up").exists, 30)
            inner.send_signal(signum)
            inner.wait(30 * PATIENCE)
        finally:
            inner.kill()
    assert (tmp_path / "down").exists()
