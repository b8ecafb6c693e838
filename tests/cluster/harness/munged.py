"""A real munged with a key and a socket of its own, where one can be had."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_adopt.slurm.auth.munge import Munge
from tests.cluster.harness.root import suite_root

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 10.0  # seconds


def command() -> list[str]:
    """Return how to start munged: this machine's, else that of the clusters' root folder.

    That is built if it is not there; BuildError if that cannot be.
    """
    installed = shutil.which("munged")
    if installed:
        return [installed]
    root = suite_root()
    (loader,) = root.glob("usr/lib/*/ld-linux-*")  # the suite's own, without a chroot
    return [str(loader), "--library-path", str(loader.parent), str(root / "usr/sbin/munged")]


@contextlib.contextmanager
def running(ttl: int = 0) -> Iterator[Munge]:
    """Start munged and return a client of it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        key = Path(folder, "key")
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{name}-file={folder}/{name}" for name in ("key", "pid", "log", "seed")]
        options = ["--foreground", "--force", f"--socket={folder}/socket", *files]
        with subprocess.Popen([*command(), *options], stderr=subprocess.DEVNULL) as munged:
            try:
                until = time.monotonic() + START
                while not Path(folder, "socket").exists() and time.monotonic() < until:
                    time.sleep(0.01)
                yield Munge(f"{folder}/socket", ttl)
            finally:
                munged.terminate()
