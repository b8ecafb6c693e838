"""Which front works on this host for a service: pam_python, else pam_exec where that is safe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.bridge import exec_trial
from slurm_adopt.cli.checks.bridge.bridge import OLDEST
from slurm_adopt.cli.checks.bridge.bridge_trial import FailedError, NoTrialError, trial
from slurm_adopt.cli.checks.pam import by_exec, pam_modules
from slurm_adopt.cli.errors import ERROR, CliError
from slurm_adopt.cli.verdict.pam_line import PHASES, where
from slurm_adopt.node import pam_files

from . import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from .our_lines import Front

PAM_PYTHON = "pam_python.so"
PAGE = "docs/how-to/pam-exec.md"


def chosen(given: Front | None, service: str, say: Callable[[str], None]) -> Front:
    """Return the front that is asked for, that of the lines that are there, or the one that works.

    CliError where it cannot run here, or must not.
    """
    front = given or _there(service)
    if front != "pam_exec":
        why = _why_no_pam_python()
        if why and given:
            raise CliError(f"--front pam_python: {why}; nothing is changed", ERROR)
        if why and front:
            raise CliError(
                f"{why}, and lines that are there name it: users are refused. Mend that, or change "
                f"the lines by --front pam_exec: {PAGE}",
                ERROR,
            )
        if why:
            say(f"the front is pam_exec, since {why}; what it cannot do: {PAGE}")
        front = front or ("pam_exec" if why else "pam_python")
    if front == "pam_exec":
        _check_environment(service)
        why = why_no_pam_exec(place.script_of(front))
        if why:
            raise CliError(f"--front pam_exec: {why}; nothing is changed", ERROR)
    return front


def _there(service: str) -> Front | None:
    """Return the front of the lines that are there; None if there are none."""
    for phase in PHASES:
        stack = pam_files.read(phase, service, pam_files.PLACES)
        for index in stack.ours:
            name = os.path.basename(stack.lines[index].module).partition(".")[0]
            if name in place.FRONTS:
                return name
    return None


def _why_no_pam_python() -> str:
    """Return why pam_python cannot run the module here; "" if it can, or cannot be tried."""
    if not any(map(os.path.exists, pam_modules.paths(PAM_PYTHON))):
        return f"{PAM_PYTHON} is not installed"
    script = place.script_of("pam_python")
    try:
        told = trial(PAM_PYTHON, script)
    except NoTrialError:
        return ""
    except FailedError as wrong:
        return f"{PAM_PYTHON} does not run: {wrong}"
    if tuple(told["version"]) < OLDEST:
        return f"{PAM_PYTHON} runs Python {'.'.join(map(str, told['version']))}"
    return f"{PAM_PYTHON} cannot import it: {told['wrong']}" if "wrong" in told else ""


def why_no_pam_exec(script: str) -> str:
    """Return why the script that pam_exec runs does not work here; "" if it does."""
    try:
        told = exec_trial.trial(script)
    except (NoTrialError, FailedError) as wrong:
        return f"{script} does not work: {wrong}"
    if tuple(told["version"]) < OLDEST:
        version = ".".join(map(str, told["version"]))
        return f"{script} does not work: {told['interpreter']} is Python {version}"
    return f"{script} does not work: {told['wrong']}" if "wrong" in told else ""


def _check_environment(service: str) -> None:
    """Refuse where users write the environment that pam_exec gives to a program of root's.

    LD_PRELOAD would be among it. The close of a session has what any line has set.
    """
    for phase in pam_files.TYPES:
        for line in pam_files.read(phase, service, pam_files.PLACES).lines:
            if by_exec.reads_users_file(line):
                raise CliError(
                    f"{where(line)} has pam_env with user_readenv=1: with pam_exec, users could "
                    f"run programs as root. Take user_readenv=1 out of that line first ({PAGE})",
                    ERROR,
                )
