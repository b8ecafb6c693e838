"""How long the slurmd at the other end of a connection takes to name the job there (timing.py)."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[3] / "src"))  # no commands that are timed inherit it

from slurm_adopt.node.ssh_connection import Connection
from slurm_adopt.slurm.auth.munge import Munge
from slurm_adopt.slurm.slurmd import callerid
from slurm_adopt.slurm.versions import RELEASES
from slurm_adopt.slurm.waiting import Deadline

if TYPE_CHECKING:
    from slurm_adopt.slurm.auth.credential import Credential

PORT = 6818
LIMIT = 10.0  # seconds


class Timed(Munge):
    """Munge that takes the time between its two calls: the request is ready; the answer is here."""

    made = ended = 0.0

    def encode(self, *args: object) -> str:
        """Make the credential of the request."""
        credential = super().encode(*args)  # type: ignore[arg-type]
        self.made = time.perf_counter()
        return credential

    def decode(self, credential: str, deadline: Deadline) -> Credential:
        """Check that of the answer."""
        self.ended = time.perf_counter()
        return super().decode(credential, deadline)


def ask(descriptor: int) -> float:
    """Return the milliseconds from a request to its answer; RuntimeError where it names no job."""
    munge = Timed()
    with socket.socket(fileno=descriptor) as kept:
        here, there = kept.getsockname(), kept.getpeername()
        kept.detach()
    said = subprocess.check_output(["slurmd", "-V"], text=True)  # slurm-wlm 22.05.8
    (release,) = (one for one in RELEASES if said.split()[1].startswith(f"{one.name}."))
    cluster = callerid.Cluster(release.protocol, munge)
    connection = Connection(*there, *here)
    if callerid.ask(connection, (there[0], PORT), cluster, Deadline(LIMIT)) is None:
        raise RuntimeError(f"{there[0]} names no job of {connection}")
    return (munge.ended - munge.made) * 1000
