"""What `slurm-adopt check` looks at: one module for each category."""
