"""A trial of the script that pam_exec runs: by the interpreter that its first line names.

First bridge_probe.py tells of that interpreter and of the package. Then the script itself is run as
pam_exec runs it, for the closing of a session, where it has nothing to do.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.deadlines import BRIDGE

from .bridge_trial import PROBE, FailedError, NoTrialError

if TYPE_CHECKING:
    from collections.abc import Sequence

# An old interpreter cannot even read what bridge_probe.py says.
DRIVER = """\
import sys
sys.dont_write_bytecode = True
if sys.version_info < (3, 9):
    sys.stdout.write('{{"version": [%d, %d, %d]}}' % sys.version_info[:3])
    sys.exit()
exec({text!r})
tell_of_program(sys.argv[1])
"""
FIRST_LINE = 256  # bytes that the kernel reads of it (BINPRM_BUF_SIZE)
ITEMS = {"PAM_TYPE": "close_session", "PAM_SERVICE": "slurm-adopt", "PAM_USER": ""}


def trial(script: str) -> dict[str, Any]:
    """Return what bridge_probe.py tells; FailedError where the script cannot be run."""
    interpreter = first_line(script)
    end = time.monotonic() + BRIDGE
    with open(PROBE, encoding="utf-8") as file:
        driver = DRIVER.format(text=file.read())
    status, out, said = _run([*interpreter, "-", script], driver, end)
    try:
        told: dict[str, Any] = json.loads(out)
    except ValueError:
        why = _ended(status) if status else "it does not answer as Python does"
        raise FailedError(said or f"{' '.join(interpreter)}: {why}") from None
    told["interpreter"] = interpreter[0]
    if "package" in told:  # else it would log that it cannot run
        status, _, said = _run([script], "", end)
        if status:
            raise FailedError(said or _ended(status))
    return told


def first_line(script: str) -> list[str]:
    """Return interpreter and argument of a script's first line, as execve(2) reads them."""
    try:
        with open(script, "rb") as file:
            line = file.readline(FIRST_LINE).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise FailedError(f"{script}: {error.strerror}") from None
    words = re.split(r"[ \t]+", line[2:].strip(" \t\n"), maxsplit=1)
    if not line.startswith("#!") or not words[0]:
        raise FailedError(f"the first line of {script} names no interpreter")
    if not os.path.exists(words[0]):
        raise FailedError(f"there is no {words[0]!r}, which the first line of {script} names")
    return words


def _run(argv: Sequence[str], text: str, end: float) -> tuple[int, str, str]:
    """Return status, output and last error of a program that is run as pam_exec runs one."""
    try:
        process = subprocess.Popen(  # noqa: S603 - what a PAM line of root's names
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ITEMS,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise FailedError(f"{argv[0]}: {error.strerror}") from None
    except ValueError as error:  # a NUL in its name
        raise NoTrialError(str(error)) from None
    try:
        out, err = process.communicate(text.encode(), max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise FailedError(f"it has not answered within {BRIDGE:g} s") from None
    lines = err.decode("utf-8", "replace").splitlines()
    return process.returncode, out.decode("utf-8", "replace"), lines[-1].strip() if lines else ""


def _ended(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
