"""`python3 -m slurm_adopt`: the command `slurm-adopt`."""

from __future__ import annotations

from slurm_adopt.cli.main import main

if __name__ == "__main__":
    main()
