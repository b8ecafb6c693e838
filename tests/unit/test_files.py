"""Files that are read whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from slurm_adopt.slurm import files
from slurm_adopt.slurm.errors import SetupError

PART = files._PART


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7])
def test_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert files.read(str(path), size) == b"x" * size
    assert files.read(str(path), 64 << 20) == b"x" * size
    if size:
        with pytest.raises(SetupError, match=f"^cannot read {path}: it is larger than {size - 1}"):
            files.read(str(path), size - 1)


def test_the_limit_is_not_what_memory_is_taken_for(tmp_path: Path) -> None:
    path = tmp_path / "slurm.conf"
    path.write_text("NodeName=n1\n")
    tracemalloc.start()
    try:
        files.read(str(path), 64 << 20)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 20
