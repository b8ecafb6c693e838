"""The greeting that stepds of 17.11 and 18.08 want: a credential of the cluster's auth plugin.

Sources: src/common/stepd_api.c (stepd_connect), src/slurmd/slurmstepd/req.c (_handle_accept) of
these releases: int32 0, int32 length, then an auth section as in a network message, all in one
connection. Later ones know the client by SO_PEERCRED. Imported only where a stepd has refused the
usual greeting.
"""

from __future__ import annotations

from slurm_adopt.slurm.wire import NATIVE
from slurm_adopt.slurm.writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.slurm.auth.credential import Auth
    from slurm_adopt.slurm.waiting import Deadline

REQUEST_CONNECT = 0


def make(auth: Auth, deadline: Deadline) -> bytes:
    """Return a greeting with a new credential, which a stepd takes once; PeerError."""
    section = Writer().string(auth.plugin_name).u32(0).string(auth.encode(b"", deadline)).data()
    return Writer(NATIVE).int32(REQUEST_CONNECT).mem(section).data()
