"""Which front works on this host for a service: pam_python, else pam_exec where that is safe."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from slurm_adopt.cli.checks.bridge.bridge import OLDEST, PAM_PYTHON
from slurm_adopt.cli.checks.bridge.bridge_trial import FailedError, NoTrialError, trial
from slurm_adopt.cli.checks.pam import pam_modules
from slurm_adopt.cli.deadlines import BRIDGE
from slurm_adopt.cli.errors import ERROR, CliError
from slurm_adopt.cli.verdict.pam_line import PHASES, where
from slurm_adopt.node import pam_files

from . import place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .our_lines import Front

_NO_SERVICE = "no-service-of-this-name"
_IMPORT = "import sys; sys.path.insert(0, sys.argv[1]); import slurm_adopt.front.pam_exec"
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
        if why and not front:
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
    """Return why the script that pam_exec runs does not work here; "" if it does.

    It is run as for a service that is not its own, which it lets go on. Then its interpreter
    imports the package.
    """
    try:
        with open(script, "rb") as file:
            first = file.readline(256).decode("ascii", "replace")
    except OSError as error:
        return f"{script} cannot be read: {error.strerror}"
    interpreter = first.removeprefix("#!").split()
    return _why_failed(script, [script, f"service={_NO_SERVICE}"]) or _why_failed(
        script, [*interpreter, "-c", _IMPORT, place.folder()]
    )


def _why_failed(script: str, argv: Sequence[str]) -> str:
    env = {"PAM_TYPE": "account", "PAM_SERVICE": "sshd", "PAM_USER": "nobody"}
    try:
        done = subprocess.run(  # noqa: S603 - the script beside this command, and Python
            argv,
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BRIDGE,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"{script} has not ended within {BRIDGE:g} s"
    except OSError as error:
        return f"{script} cannot be run: {error.strerror}"
    said = done.stdout.strip().rpartition("\n")[2] or f"status {done.returncode}"
    return f"{script} does not work: {said}" if done.returncode else ""


def _check_environment(service: str) -> None:
    """Refuse where users write the environment that pam_exec gives to a program of root's.

    LD_PRELOAD would be among it. The close of a session has what any line has set.
    """
    for phase in pam_files.TYPES:
        for line in pam_files.read(phase, service, pam_files.PLACES).lines:
            if os.path.basename(line.module) == "pam_env.so" and "user_readenv=1" in line.arguments:
                raise CliError(
                    f"{where(line)} has pam_env with user_readenv=1: with pam_exec, users could "
                    f"run programs as root. Take user_readenv=1 out of that line first ({PAGE})",
                    ERROR,
                )
