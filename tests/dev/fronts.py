"""`./dev fronts`: the cluster's tests with the module run by pam_exec, where `./dev test` has some.

Every stack that a test writes has pam_exec's lines then (tests/cluster/harness/pam.py). What is
left out is what that front does otherwise: docs/how-to/pam-exec.md has it, and
tests/cluster/test_pam_exec.py shows it.
"""

from __future__ import annotations

FRONT = "--front=pam_exec"
FOLDER = "tests/cluster"

FILES = (
    "test_pam_exec.py",
    "test_decisions_by_pam_exec.py",
    "test_adoption.py",
    "test_session_dies_with_its_job.py",
    "test_matrix.py",
    "test_uses.py",
    "test_source.py",
    "test_source_faults.py",
    "test_lockout.py",
    "test_how_sshd_runs.py",
    "test_expired.py",
)

# Tests that are not played, or all of a file's that begin so, and why.
EXCEPT: dict[str, str] = {}


def arguments() -> list[str]:
    """Return pytest's arguments."""
    left_out = [f"--deselect={FOLDER}/{name}" for name in EXCEPT]
    return [FRONT, *(f"{FOLDER}/{name}" for name in FILES), *left_out]
