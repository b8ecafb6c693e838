"""The Epilog that a site is told to install."""

from __future__ import annotations

# As in docs/how-to/epilog.md.
EPILOG = """\
#!/bin/sh
cd /opt/slurm_adopt/src && /usr/bin/python3 -sBEm slurm_adopt.epilog
exit 0
"""
