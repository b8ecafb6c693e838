"""Tests of slurm_adopt."""
