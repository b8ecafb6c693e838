"""All checks, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bridge import bridge
from .machine import host_state, log_path, outside, packages, ways_out
from .pam import options, pam_stack
from .slurm import auth, callerid, cgroup_conf, cgroups, epilog, slurm_conf, slurmd, stepds
from .sshd import configured as sshd
from .sshd import sshd_process

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
