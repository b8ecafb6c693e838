"""The login image of this copy: made where logins would do without, and removed with a wheel's.

A package removes its own files. pip removes only what it has put there.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.checks.bridge import exec_trial, image
from slurm_adopt.cli.checks.bridge.bridge_trial import FailedError, NoTrialError, trial
from slurm_adopt.cli.deadlines import IMAGE
from slurm_adopt.cli.errors import CliError
from slurm_adopt.node import pam_files

from . import place
from .writing import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .our_lines import Front

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_WITHOUT = "there is no login image, so each login imports the module file by file"
_IN_PART = "the login image is stale, so some logins import parts of the module file by file"


def make(front: Front) -> str:
    """Make what the front's logins lack; return a line for the administrator, "" for nothing."""
    script = place.script_of(front)
    try:
        told = trial("pam_python.so", script) if front == "pam_python" else exec_trial.trial(script)
    except (NoTrialError, FailedError):
        return ""  # the checks tell
    package = place.package()
    imported = os.path.dirname(told.get("package", {}).get("file", ""))
    fresh = told.get("image") and not told.get("changed")
    if fresh or imported != package:  # by a link it would not be used
        return ""
    argv = [_interpreter(told), "-I", image.maker(package)]
    why = _run(argv)
    if why:
        lacks = _IN_PART if told.get("image") else _WITHOUT
        return f"{lacks}: {shlex.join(argv)}: {why}"
    return f"written: {image.path_of(package, told['tag'])}"


def remove() -> Iterator[str]:
    """Remove the images of a wheel that no PAM file names; yield a line for each."""
    package = place.package()
    scripts = f"{package}/pam"
    if not os.path.isdir(scripts) or _is_named(f"{scripts}/"):
        return
    for path in glob.glob(image.path_of(glob.escape(package), "*")):
        with contextlib.suppress(OSError):
            os.unlink(path)
            yield f"removed: {path}"


def _interpreter(told: dict[str, Any]) -> str:
    """Return a program for the Python of the login: this one, if it is of that release."""
    found = image.interpreter(told)
    same = sys.implementation.cache_tag == told["tag"]
    return sys.executable if same and not os.path.exists(found) else found


def _run(argv: list[str]) -> str:
    """Run a program; return why it has failed, "" if it has not."""
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter of a login, as root
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
            timeout=IMAGE,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"it has not ended within {IMAGE:g} s"
    except OSError as error:
        return error.strerror or str(error)
    said = done.stderr.strip().splitlines()
    return (said[-1] if said else f"status {done.returncode}") if done.returncode else ""


def _is_named(folder: str) -> bool:
    """Say whether a PAM file names something in a folder; True where one cannot be read."""
    files = [path for top in pam_files.PLACES for path in glob.glob(f"{top}/*")]
    try:
        texts = [read(path) or b"" for path in (*files, "/etc/pam.conf") if not os.path.isdir(path)]
    except (CliError, OSError):
        return True
    return any(os.fsencode(folder) in text for text in texts)
