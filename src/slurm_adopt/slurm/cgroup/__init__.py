"""Slurm's cgroups: of an extern step, of a whole job, what an orphaned step left."""
