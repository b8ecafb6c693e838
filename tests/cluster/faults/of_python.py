"""Faults of what runs the module: Python, its library, pam_python, the package; odd processes."""

from __future__ import annotations

from tests.cluster.faults.fault import Fault, shell

FAULTS = (
    Fault(
        "nothing, once more",
        shell("true", "true"),
    ),
)
