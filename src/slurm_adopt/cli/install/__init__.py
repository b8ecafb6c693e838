"""`slurm-adopt install` and `uninstall`: this module's lines in a service's PAM file."""
