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
    "test_session_dies_with_its_job.py",
    "test_matrix.py",
    "test_uses.py",
    "test_source.py",
    "test_source_faults.py",
    "test_keyboard_interactive.py",
    "test_failures.py",
    "test_root.py",
    "test_own_job.py",
    "test_own_node.py",
    "test_how_sshd_runs.py",
    "test_wait_for_job.py",
    "test_expired.py",
    "test_lockout.py",
)

# Tests that are not played, and why.
VARIABLES = "it sets no variable of the session"
NAMESPACES = "it enters no namespaces"
NO_NOTE = "it leaves no note where there is no session line"
EXCEPT = {
    "test_matrix.py::test_cell[trixie-releases]": "no interpreter is in sshd",
    "test_matrix.py::test_cell[trixie-job_variables]": VARIABLES,
    "test_matrix.py::test_cell[trixie-private_namespaces]": NAMESPACES,
    "test_source.py::test_x11": VARIABLES,
    "test_source.py::test_disable_x11": VARIABLES,
    "test_source.py::test_job_without_x11": VARIABLES,
    "test_keyboard_interactive.py::test_the_next_login_sweeps": NO_NOTE,
    "test_keyboard_interactive.py::test_the_note_is_root_s": NO_NOTE,
    "test_keyboard_interactive.py::test_no_place_for_the_note[account-": NO_NOTE,
    "test_failures.py::test_node_name_unknown": VARIABLES,
    "test_failures.py::test_another_user_s_stepds_are_stopped": VARIABLES,
    "test_failures.py::test_linuxproc": VARIABLES,
    "test_own_job.py::test_private_tmp": NAMESPACES,
    "test_wait_for_job.py::test_while_the_stepd_makes_its_step_ready": NAMESPACES,
}


def arguments() -> list[str]:
    """Return pytest's arguments."""
    left_out = [f"--deselect={FOLDER}/{name}" for name in EXCEPT]
    return [FRONT, *(f"{FOLDER}/{name}" for name in FILES), *left_out]
