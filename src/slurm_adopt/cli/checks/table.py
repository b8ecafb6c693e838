"""All checks, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import slurm_conf

if TYPE_CHECKING:
    from .finding import Check

# In this order: a later check may say what an earlier one explains.
CHECKS: tuple[Check, ...] = (*slurm_conf.CHECKS,)

BY_CODE = {check.code: check for check in CHECKS}
