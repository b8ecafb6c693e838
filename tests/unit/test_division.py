"""How `./dev test` divides the tests, and what it shows of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.dev import division

CHECKOUT = Path(__file__).resolve().parents[2]
BESIDE = division.beside_each_other(())

GOOD = """
from pathlib import Path
import time

def test_one(record_property):
    assert Path.cwd().name

def test_two():
    while not Path("met").exists():  # by a process beside this one
        time.sleep(0.01)
"""
BAD = """
from pathlib import Path

def test_bad():
    Path("met").touch()
    assert Path("nothing").exists(), "why"
"""


def test_its_files_exist() -> None:
    for name in (*division.ALL, *division.QUICK, *division.SECONDS):
        assert (CHECKOUT / name).exists(), name


def test_the_order() -> None:
    """By their time where it is known, else by their number of tests; those on clusters later."""
    tests = {
        "tests/unit/test_x.py": 500,
        "tests/unit/test_y.py": 50,
        "tests/cluster/test_storm.py": 1,
        "tests/cluster/test_x.py": 50,
        "tests/cluster/test_y.py": 49,
    }
    assert sorted(tests, key=lambda file: division.rank(file, tests[file])) == [*tests]


def test_what_is_shown(tmp_path: Path) -> None:
    """A line for each file and each failure, what failed in full, and the sum."""
    for name, text in (("test_good", GOOD), ("test_bad", BAD)):
        (tmp_path / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *BESIDE, "-c", os.devnull, "--rootdir=.", "-rf", "."],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert "FAILED test_bad.py::test_bad" in lines
    files = [line.partition("] ")[2] for line in lines if "%]" in line]
    assert sorted(re.sub(r"\d+ s", "N s", file) for file in files) == [
        "test_bad.py: N s, 1 failed",
        "test_good.py: N s",
    ]
    assert "E       AssertionError: why" in lines
    assert "FAILED test_bad.py::test_bad - AssertionError: why" in lines
    assert " 1 failed, 2 passed in " in lines[-1]
    assert done.returncode == 1
