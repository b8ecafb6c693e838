"""Faults of the node: cgroups, limits, disks, /proc, users, syslog, sshd and its clients."""

from __future__ import annotations

from tests.cluster.faults.fault import Fault, shell

FAULTS = (Fault("/run/slurm_adopt missing", shell("rm -rf /run/slurm_adopt", "true")),)
