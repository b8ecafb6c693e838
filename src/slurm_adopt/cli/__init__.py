"""The command `slurm-adopt`. It looks and changes nothing on the node; no login imports it."""
