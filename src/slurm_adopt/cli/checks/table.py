"""All checks, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    auth,
    callerid,
    cgroup_conf,
    cgroups,
    epilog,
    host_state,
    log_path,
    outside,
    packages,
    slurm_conf,
    slurmd,
    sshd_process,
    stepds,
    ways_out,
)

if TYPE_CHECKING:
    from .finding import Check

# In this order: a later check may say what an earlier one explains.
CHECKS: tuple[Check, ...] = (
    *slurm_conf.CHECKS,
    *cgroup_conf.CHECKS,
    *slurmd.CHECKS,
    *stepds.CHECKS,
    *cgroups.CHECKS,
    *auth.CHECKS,
    *callerid.CHECKS,
    *host_state.CHECKS,
    *log_path.CHECKS,
    *sshd_process.CHECKS,
    *packages.CHECKS,
    *ways_out.CHECKS,
    *outside.CHECKS,
    *epilog.CHECKS,
)

BY_CODE = {check.code: check for check in CHECKS}
