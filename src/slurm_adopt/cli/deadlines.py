"""What commands wait for, in seconds at most; the only module of the commands with such numbers.

These are apart from what a login waits for (slurm_adopt/time_limits.py).
"""

from __future__ import annotations

# fmt: off
QUICK  = 1.0   # a check that reads a few files
SLOW   = 10.0  # a check that asks other processes or hosts
SHARED = 3.0   # what several checks need
# fmt: on
