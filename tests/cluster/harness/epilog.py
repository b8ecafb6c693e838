"""The Epilog that a site is told to install: docs/how-to/epilog.md."""

from __future__ import annotations

from tests.cluster.harness.host import CHECKOUT

NAME = "90-slurm_adopt"  # in contrib/epilog.d, and in the directory that Epilog= names
EPILOG = (CHECKOUT / "contrib/epilog.d" / NAME).read_text()
