"""What slurm.conf wants for the Epilog: it is printed, and no file of Slurm's is edited."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.host import Host, LateError
from slurm_adopt.cli.checks.slurm import epilog
from slurm_adopt.slurm.errors import SetupError

from . import place

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = "epilog.slurm_adopt"
PAGE = "docs/how-to/epilog.md"
SHARED = "/usr/share/slurm-adopt"  # the packages' files that are for sites to use
TEXT = """\
#!/bin/sh
cd {folder} && /usr/bin/python3 -sBEm slurm_adopt.epilog
exit 0
"""


def lines() -> Iterator[str]:
    """Yield the line of slurm.conf; what is to be done before and after it as comments."""
    conf, there = _of_slurm_conf()
    script = f"{os.path.dirname(conf)}/{SCRIPT}"
    yield f"# 1. On each node and in the image, before slurm.conf names it: {script}, mode 755."
    if ready := _ready():
        yield f"#    install -m 755 {ready} {script}"
    else:
        yield from (f"#    {line}" for line in TEXT.format(folder=place.folder()).splitlines())
    if there:
        given = there[-1]
        yield f"# 2. {given.file}:{given.line} has Epilog={given.value}, which has to stay."
        yield f"#    How both run: {PAGE}. With Slurm 24.11 or later, as one more line:"
    else:
        yield f"# 2. In {conf}:"
    yield f"Epilog={script}"
    yield "# 3. Then, once: scontrol reconfigure"


def _of_slurm_conf() -> tuple[str, list[epilog.Given]]:
    """Return the path of slurm.conf, and where it sets Epilog."""
    try:
        path = Host().site.conf.path
        return path, epilog.given(path, "Epilog")
    except (SetupError, LateError, OSError):
        return "/etc/slurm/slurm.conf", []


def _ready() -> str:
    """Return the path of the script that comes with this module; "" if it does not."""
    folders = (f"{place.top()}/contrib/epilog", SHARED, f"{SHARED}/epilog")
    paths = (f"{folder}/{SCRIPT}" for folder in folders)
    return next(filter(os.path.isfile, paths), "")
