"""All checks, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bridge import bridge, exec_line
from .machine import host_state, log_path, outside, packages, run_dir, ways_out
from .pam import by_exec, options, pam_lines, ways_in
from .slurm import (
    auth,
    callerid,
    cgroup_conf,
    cgroups,
    epilog,
    slurm_conf,
    slurm_conf_keys,
    slurmd,
    stepds,
)
from .sshd import configured as sshd
from .sshd import sshd_process

if TYPE_CHECKING:
    from .finding import Check

_ALL: tuple[Check, ...] = (
    *pam_lines.CHECKS,
    *ways_in.CHECKS,
    *options.CHECKS,
    *by_exec.CHECKS,
    *bridge.CHECKS,
    *exec_line.CHECKS,
    *slurm_conf.CHECKS,
    *slurm_conf_keys.CHECKS,
    *cgroup_conf.CHECKS,
    *slurmd.CHECKS,
    *stepds.CHECKS,
    *cgroups.CHECKS,
    *auth.CHECKS,
    *callerid.CHECKS,
    *sshd.CHECKS,
    *host_state.CHECKS,
    *run_dir.CHECKS,
    *log_path.CHECKS,
    *sshd_process.CHECKS,
    *packages.CHECKS,
    *ways_out.CHECKS,
    *outside.CHECKS,
    *epilog.CHECKS,
)

# A later check may say what an earlier one explains.
CHECKS = tuple(sorted(_ALL, key=lambda check: check.code))

BY_CODE = {check.code: check for check in CHECKS}
