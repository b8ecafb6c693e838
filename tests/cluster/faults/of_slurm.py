"""Faults of Slurm: its files, its sockets, its daemons, its jobs."""

from __future__ import annotations

from tests.cluster.faults import of_conf, of_daemons, of_jobs, of_spool, of_stepds

FAULTS = (
    *of_conf.FAULTS,
    *of_spool.FAULTS,
    *of_stepds.FAULTS,
    *of_daemons.FAULTS,
    *of_jobs.FAULTS,
)
