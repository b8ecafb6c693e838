"""Faults of the node: cgroups, limits, disks, /proc, users, syslog, sshd and its clients."""

from __future__ import annotations

from tests.cluster.faults import node_limits, node_mounts, node_sshd, node_users

FAULTS = (
    *node_mounts.FAULTS,
    *node_limits.FAULTS,
    *node_users.FAULTS,
    *node_sshd.FAULTS,
)
