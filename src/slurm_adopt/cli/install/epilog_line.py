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

NAME = "90-slurm_adopt"  # in a directory of scripts
SCRIPT = "epilog.slurm_adopt"  # alone
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
    ready = _ready()
    folder = os.path.dirname(conf)
    pattern = next((one for one in there if set(one.value) & set("*?[")), None)
    script = f"{folder}/epilog.d/{NAME}" if ready else f"{folder}/{SCRIPT}"
    if pattern:
        script = f"{os.path.dirname(pattern.value)}/{NAME}"
    yield f"# On each node and in the image, before slurm.conf names it: {script}, mode 755."
    if ready:
        yield f"#   install -D -m 755 {ready} {script}"
    else:
        yield from (f"#   {line}" for line in TEXT.format(folder=place.folder()).splitlines())
    if pattern:
        yield f"# {pattern.file}:{pattern.line} runs it by then:"
        yield f"# Epilog={pattern.value}"
        return
    if there:
        last = there[-1]
        yield f"# {last.file}:{last.line} has Epilog={last.value}, which has to stay."
        yield f"# {PAGE} says how both run. With Slurm 24.11 or later, as one more line:"
    else:
        yield f"# In {conf}:"
    yield f"Epilog={os.path.dirname(script)}/*" if ready and not there else f"Epilog={script}"
    yield "# Then, once: scontrol reconfigure"


def _of_slurm_conf() -> tuple[str, list[epilog.Given]]:
    """Return the path of slurm.conf, and where it sets Epilog."""
    try:
        path = Host().site.conf.path
        return path, epilog.given(path, "Epilog")
    except (SetupError, LateError, OSError):
        return "/etc/slurm/slurm.conf", []


def _ready() -> str:
    """Return the path of the script that comes with this module; "" if it does not."""
    folders = (f"{place.top()}/contrib", SHARED)
    paths = (f"{folder}/epilog.d/{NAME}" for folder in folders)
    return next(filter(os.path.isfile, paths), "")
