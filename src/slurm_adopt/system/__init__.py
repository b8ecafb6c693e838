"""Helpers for any host: log, a killable child, root's directories in /run. No PAM, no Slurm."""
