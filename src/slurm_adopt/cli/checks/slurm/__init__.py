"""Checks of Slurm: its files, daemons, steps and cgroups."""
