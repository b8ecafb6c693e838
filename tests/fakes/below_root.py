"""A directory that only root may write, with all above it: /tmp is everybody's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def below_root() -> Iterator[Path]:
    """Yield the directory, for a fixture; remove it then."""
    folder = Path(tempfile.mkdtemp(dir="/run"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
