"""Whether libpam takes the files of a service: it is asked, in a child.

Some mistakes have it refuse the whole service, in some of its releases (pam_handlers.c). Nobody is
authenticated then, root neither.
"""

from __future__ import annotations

import subprocess
import sys

from slurm_adopt.cli.deadlines import PAM_START

# pam_start(3) reads all files of the service and loads their modules; none of them is called.
_ASK = """
import ctypes, sys
pam, handle = ctypes.CDLL("libpam.so.0"), ctypes.c_void_p()
conversation = (ctypes.c_void_p * 2)()
sys.exit(pam.pam_start(sys.argv[1].encode(), b"root", conversation, ctypes.byref(handle)) != 0)
"""
_REFUSED = 1


def is_refused(service: str) -> bool:
    """Say whether libpam refuses a service as a whole; False where that cannot be told."""
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-I", "-c", _ASK, service],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PAM_START,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == _REFUSED and not done.stderr
