"""Root folders are built for the clusters that are chosen, and for nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.dev import division

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def without_a_mirror(top: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run pytest on a machine that can build none, the cache of which is empty."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**os.environ, "SLURM_ADOPT_CACHE": str(top), "PATH": str(top)},
    )


@pytest.mark.parametrize(("arguments", "needs"), CHOSEN)
def test_without_a_mirror(tmp_path: Path, arguments: list[str], needs: str) -> None:
    done = without_a_mirror(tmp_path, arguments)
    said = f"ERROR: the chosen tests need the packages of {needs}\n" if needs else ""
    assert bool(done.returncode) is bool(needs), done
    assert said in done.stderr, done


@pytest.mark.parametrize("chosen", [division.ALL, division.QUICK], ids=["all", "quick"])
def test_before_several_processes_start(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    """`./dev test` builds all that these tests need, in one process whose progress is seen."""
    done = without_a_mirror(tmp_path, chosen)
    needs = done.stderr.partition("need the packages of ")[2].strip().split(" and ")
    assert sorted(needs) == sorted(f"Debian {suite.name}" for suite in division.suites(chosen))
