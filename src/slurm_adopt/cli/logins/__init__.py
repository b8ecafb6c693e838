"""`slurm-adopt logins`: the decisions in this host's log."""
