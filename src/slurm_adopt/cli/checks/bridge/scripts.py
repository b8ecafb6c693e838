"""The entry scripts that this module's lines name, and what a trial of each has told."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from slurm_adopt.cli.checks.finding import error, skipped
from slurm_adopt.cli.checks.pam import pam_modules
from slurm_adopt.cli.checks.places import pam_line
from slurm_adopt.cli.deadlines import BRIDGE
from slurm_adopt.cli.verdict.fronts import PAM_PYTHON, front_of
from slurm_adopt.cli.verdict.pam_line import script_of

from . import exec_trial
from .bridge_trial import FailedError, NoTrialError, trial

if TYPE_CHECKING:
    from collections.abc import Generator

    from slurm_adopt.cli.checks.finding import Seen
    from slurm_adopt.cli.checks.host import Host
    from slurm_adopt.cli.verdict.fronts import Front
    from slurm_adopt.node.pam_files import Line


class Script(NamedTuple):
    """An entry script, and the line that names it."""

    path: str
    line: Line

    @property
    def front(self) -> Front:
        """What runs it."""
        return front_of(self.line)


class Tried(NamedTuple):
    """A script, and what its trial has told (bridge_probe.py)."""

    script: Script
    told: dict[str, Any]

    @property
    def runner(self) -> str:
        """What runs it, as titles have it."""
        return self.script.front.runner


def scripts(host: Host) -> list[Script]:
    """Return the entry scripts of our lines, each once for each module that runs it."""
    found: dict[tuple[str, str], Script] = {}
    for line in host.all_our_lines():
        script = Script(script_of(line), line)
        found.setdefault((script.path, script.front.name), script)
    return list(found.values())


def tried(host: Host, *, explain: Front | None = None) -> Generator[Seen, None, list[Tried]]:
    """Return what the trials have told, of one script of each front; say so where one told nothing.

    `explain`: the front that is all that matters, and whose failure is told as such.
    """
    of_front: dict[str, Script] = {}
    for script in scripts(host):
        of_front.setdefault(script.front.name, script)
    if not of_front:
        yield skipped(f"this module has no line in {host.service}")
        return []
    chosen = [script for script in of_front.values() if explain in (None, script.front)]
    if chosen and not host.is_root:
        yield skipped(f"only root can try {chosen[0].front.runner}")
        return []
    found = []
    for script in chosen:
        told = yield from _told(host, script, explain=explain is not None)
        found += [Tried(script, told)] if told else []
    return found


def _told(host: Host, script: Script, *, explain: bool) -> Generator[Seen, None, dict[str, Any]]:
    module, name = script.line.module, script.front.runner
    of_python = script.front is PAM_PYTHON
    look = (
        (lambda: trial(module, script.path)) if of_python else lambda: exec_trial.trial(script.path)
    )
    try:
        return host.once(f"trial of {script.front.name}", look, BRIDGE + 1)
    except NoTrialError as wrong:
        yield skipped(f"{name} cannot be tried here", str(wrong))
    except FailedError as wrong:
        if explain:
            found = f"{wrong}{_built_for(module) if of_python else ''}"
            yield error(f"{name} does not run", found, *pam_line(script.line))
        else:
            yield skipped(f"not known, since {name} does not run")
    return {}


def _built_for(module: str) -> str:
    """Say where pam_python is, and which library it wants."""
    paths = [module, *pam_modules.paths(module)]
    path = next((path for path in paths if os.path.isabs(path) and os.path.exists(path)), "")
    if not path:
        return f"; there is no {module}"
    with open(path, "rb") as file:
        library = re.search(rb"libpython[0-9.]+\.so[0-9.]*", file.read())
    return f"; {path} is built for {library[0].decode()}" if library else f"; {path} is there"
