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


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    "text",
    ["", "\n", "a", "a\n", "a\nb\n", "a\nb", "\na\\\nb\n\nc\n", "\\\n" * 9, "abcdefgh\nb\n" * 3],
)
def test_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, text: str) -> None:
    """A line that may go on in the next one is not parted from it."""
    monkeypatch.setattr(files, "_TEXT", size)
    path = tmp_path / "file"
    path.write_text(text)
    pieces = [piece.decode() for piece in files.texts(str(path), 100)]
    assert "".join(pieces) == text
    for piece in pieces[:-1]:
        assert piece.endswith("\n")
        assert "\\" not in piece.split("\n")[-2]


def test_pieces_of_what_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a\n" * 50)
    assert len(b"".join(files.texts(str(path), 100))) == 100
    with pytest.raises(SetupError, match="larger than 99 bytes"):
        list(files.texts(str(path), 99))
