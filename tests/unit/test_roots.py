"""Root folders are built for the clusters that are chosen, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

# (what is chosen, the suites that would be built)
CHOSEN = [
    (["tests/unit/test_options.py"], ""),
    (["tests", "--collect-only"], ""),
    (["tests/cluster", "-k", "test_every_kind_of_use"], "Debian bookworm"),
    (["tests/cluster/test_matrix.py"], "Debian trixie"),
    (["tests/cluster/test_programs.py"], "Debian bookworm"),
    (
        ["tests/cluster/test_matrix.py", "--cells=20.11,26.05", "-k", "one_job"],
        "Debian bullseye and Debian bookworm and Debian sid",
    ),
]


@pytest.mark.parametrize(("arguments", "needs"), CHOSEN)
def test_without_a_mirror(tmp_path: Path, arguments: list[str], needs: str) -> None:
    """On a machine that can build none, the cache of which is empty."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**os.environ, "SLURM_ADOPT_CACHE": str(tmp_path), "PATH": str(tmp_path)},
    )
    said = f"ERROR: the chosen tests need the packages of {needs}\n" if needs else ""
    assert bool(done.returncode) is bool(needs), done
    assert said in done.stderr, done
