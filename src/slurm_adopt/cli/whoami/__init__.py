"""`slurm-adopt whoami`: which job holds a shell."""
