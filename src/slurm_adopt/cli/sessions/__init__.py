"""`slurm-adopt sessions`: the ssh sessions on this node, and their jobs."""
