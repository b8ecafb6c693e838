"""The program for Slurm's Epilog by its first name, which is in sites' files: see epilog.py."""

from __future__ import annotations

from .epilog import main

if __name__ == "__main__":
    raise SystemExit(main())
