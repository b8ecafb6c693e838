"""The Epilog that a site is told to install."""

from __future__ import annotations

from tests.cluster.harness.host import CHECKOUT

NAME = "90-slurm_adopt"  # in contrib/epilog.d, and in the directory that Epilog= names
OF_CONTRIB = (CHECKOUT / "contrib/epilog.d" / NAME).read_text()

# As earlier versions of docs/how-to/epilog.md had it.
EPILOG = """\
#!/bin/sh
cd /opt/slurm_adopt/src && /usr/bin/python3 -sBEm slurm_adopt.epilog
exit 0
"""
