"""Slurm's configuration: slurm.conf, host lists, which slurmd runs here, its ports."""
