"""A machine's second disk: a tar archive, made for each run, that is unpacked over its root."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.harness.host import CHECKOUT

SETUP = "payload/setup.sh"  # run by the machine when the archive is unpacked
PLACES = ("src", "pam", "tests")  # of the checkout: what a node gets


@dataclass
class Payload:
    """What is in the archive."""

    texts: dict[str, str] = field(default_factory=dict)  # path below / -> content
    folders: dict[str, Path] = field(default_factory=dict)  # path below / -> what is copied there

    def write(self, file: Path) -> None:
        """Write the archive; everything in it belongs to root."""
        with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as archive:
            for name, folder in self.folders.items():
                archive.add(folder, name, filter=_plain)
            for name, text in self.texts.items():
                _add_text(archive, name, text)


def checkout(*places: str) -> dict[str, Path]:
    """Return the folders that make a copy of the checkout, or of these places in it."""
    return {f"checkout/{place}": CHECKOUT / place for place in places or PLACES}


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what running it has made; all belongs to root."""
    if Path(member.name).name in ("__pycache__", ".git", ".mypy_cache", ".ruff_cache"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(data))
