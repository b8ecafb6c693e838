"""`./dev wheel`: the sdist, and the wheel that is made of it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.dev import packages
from tests.dev.packages import DIST


def build(target: Path = DIST) -> tuple[Path, Path]:
    """Build both from the files as they are now; return where the sdist and the wheel are.

    All times in them are one and the same (hatchling), so two builds of the same files are equal.
    """
    with tempfile.TemporaryDirectory(prefix="slurm_adopt-wheel-") as scratch:
        source, made = Path(scratch, "source"), Path(scratch, "made")
        packages.copy_sources(source)
        packages.output(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(source)]
        )
        target.mkdir(parents=True, exist_ok=True)
        (sdist,), (wheel,) = (
            [Path(shutil.move(file, target / file.name)) for file in made.glob(kind)]
            for kind in ("*.tar.gz", "*.whl")
        )
    return sdist, wheel


def build_wheel(source: Path, target: Path) -> Path:
    """Build the wheel alone, from an unpacked sdist; return where it is."""
    argv = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(target)]
    packages.output([*argv, str(source)])
    (made,) = target.glob("*.whl")
    return made
