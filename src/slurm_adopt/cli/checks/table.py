"""All checks, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    auth,
    bridge,
    callerid,
    cgroup_conf,
    cgroups,
    epilog,
    host_state,
    log_path,
    options,
    outside,
    packages,
    pam_stack,
    slurm_conf,
    slurmd,
    sshd,
    sshd_process,
    stepds,
    ways_out,
)

if TYPE_CHECKING:
    from .finding import Check

# In this order: a later check may say what an earlier one explains.
CHECKS: tuple[Check, ...] = (
    *pam_stack.CHECKS,
    *options.CHECKS,
    *bridge.CHECKS,
    *slurm_conf.CHECKS,
    *cgroup_conf.CHECKS,
    *slurmd.CHECKS,
    *stepds.CHECKS,
    *cgroups.CHECKS,
    *auth.CHECKS,
    *callerid.CHECKS,
    *sshd.CHECKS,
    *host_state.CHECKS,
    *log_path.CHECKS,
    *sshd_process.CHECKS,
    *packages.CHECKS,
    *ways_out.CHECKS,
    *outside.CHECKS,
    *epilog.CHECKS,
)

BY_CODE = {check.code: check for check in CHECKS}
