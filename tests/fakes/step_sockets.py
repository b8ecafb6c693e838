"""Sockets of a spool directory, as the tests of stepds ask them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_adopt.slurm.stepd.step_sockets import StepSocket

if TYPE_CHECKING:
    from pathlib import Path

ROOT = frozenset({0})  # whose stepds are Slurm's


def step(path: Path, job_id: int = 7) -> StepSocket:
    """Return a socket of the spool directory."""
    return StepSocket(str(path), job_id)
