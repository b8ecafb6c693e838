"""Why a package of Python's cannot be imported: where it was looked for, and where it is."""

from __future__ import annotations

import os
import sys

# Where distributions, pip and builds from source put packages: below pythonX.Y of these.
LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/root/.local/lib")
PACKAGES = ("dist-packages", "site-packages")
SHOWN = 8  # directories in a line


def why(name: str, error: ImportError, libraries: tuple[str, ...] = LIBRARIES) -> str:
    """Say why a package could not be imported."""
    version = ".".join(map(str, sys.version_info[:2]))
    path = [place for place in sys.path if place]
    found = [place for place in path if os.path.exists(f"{place}/{name}")]
    if found:
        return f"{error}, in {found[0]}: is that for Python {version}?"
    text = f"{error}; Python {version} looks in {', '.join(path[:SHOWN])}"
    elsewhere = [place for place in _places(libraries) if os.path.exists(f"{place}/{name}")]
    return f"{text}, and not in {', '.join(elsewhere[:SHOWN])}" if elsewhere else text


def _places(libraries: tuple[str, ...]) -> list[str]:
    """Return the directories of packages that this host may have."""
    return [
        f"{library}/{python}/{packages}"
        for library in libraries
        for python in sorted(_listing(library))
        if python.startswith("python3")
        for packages in PACKAGES
    ]


def _listing(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
