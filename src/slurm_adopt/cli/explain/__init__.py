"""`slurm-adopt explain`: what a login would come to, and where a session is."""
