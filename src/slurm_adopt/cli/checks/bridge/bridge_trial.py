"""A trial of pam_python: a real program opens a session by a stack of its own.

runuser(1) is started in a mount namespace of its own, in which /etc/pam.d is a tmpfs. So libpam
and pam_python do what they do inside sshd. The host shows nothing of it, and nothing is left:
timeout(1) ends it where this program has been ended first. runuser asks for no password, and logs
nothing. A process of Python's cannot ask pam_python: pam_python would use the interpreter that is
there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from slurm_adopt.cli.deadlines import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE = os.path.join(os.path.dirname(__file__), "bridge_probe.py")
READY = "ready"
# $1: the module, $2: the entry script, others: files that are to be empty
SCRIPT = f"""
mount -n -t tmpfs -o mode=0700,size=1m slurm_adopt /etc/pam.d
cat >/etc/pam.d/probe.py
printf '%s\\n' 'auth required pam_permit.so' 'account required pam_permit.so' \
    "session required $1 /etc/pam.d/probe.py $2" >/etc/pam.d/runuser
printf '%s required pam_deny.so\\n' auth account password session >/etc/pam.d/other
shift 2
for file; do mount -n --bind /dev/null "$file"; done
echo {READY}
exec timeout --foreground --signal=KILL {2 * BRIDGE:g} runuser -s /bin/true root
"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoTrialError(Exception):
    """There can be no trial here; the text says why."""


class FailedError(Exception):
    """pam_python does not run a script; the text says what came of it."""


def trial(module: str, script: str, empty: Sequence[str] = ()) -> dict[str, Any]:
    """Return what bridge_probe.py tells; NoTrialError or FailedError where it tells nothing.

    `empty`: files that the interpreter is to find empty.
    """
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", SCRIPT, "sh"]
    argv += [module, script, *empty]
    with open(PROBE, "rb") as file:
        probe = file.read()
    try:
        process = subprocess.Popen(  # noqa: S603 - the command above
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": PATH},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise NoTrialError(f"{argv[0]}: {error.strerror}") from None
    try:
        out, err = process.communicate(probe, BRIDGE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise FailedError(f"pam_python has not answered within {BRIDGE:g} s") from None
    return _read(out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), process.returncode)


def _read(out: str, err: str, status: int) -> dict[str, Any]:
    lines = out.splitlines()
    said = " ".join(err.split())
    if READY not in lines:
        raise NoTrialError(said or f"status {status}")
    for line in lines:
        if line.startswith("{"):
            told: dict[str, Any] = json.loads(line)
            return told
    ended = f"signal {-status}" if status < 0 else f"status {status}"
    raise FailedError(said.removeprefix("runuser: ") or ended)
