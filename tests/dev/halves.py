"""All tests, in two processes beside each other: both wait most of the time, and share nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile

PYTEST = (sys.executable, "-m", "pytest")
UNIT = (*PYTEST, "-p", "no:cacheprovider", "--ignore=tests/cluster")
CLUSTER = (*PYTEST, "tests/cluster")


def run() -> int:
    """Run the unit tests beside those on clusters, whose progress is shown; return the status.

    What the unit tests say comes at the end.
    """
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(UNIT, stdout=said, stderr=subprocess.STDOUT) as unit:
            try:
                cluster = _status(CLUSTER)
                unit.wait()
            finally:
                unit.terminate()  # nothing where it has ended
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    return cluster or unit.returncode


def _status(argv: tuple[str, ...]) -> int:
    """Run a command to its end, also where this process is told to end: it has to clean up."""
    with subprocess.Popen(argv) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise
