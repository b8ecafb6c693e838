"""PAM module that adopts ssh logins on Slurm compute nodes into the user's job."""

__version__ = "1.0.0"
