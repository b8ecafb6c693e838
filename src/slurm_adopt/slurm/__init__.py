"""Slurm's side: configuration, stepd sockets, cgroups. Knows nothing of PAM."""
