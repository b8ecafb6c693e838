"""The phase of PAM's that is running: its options and log, and where this host's Slurm is."""

from __future__ import annotations

import os

from .slurm_site import SlurmSite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.options import Options
    from slurm_adopt.system.log import Log


class Phase:
    """One phase of one login on this node."""

    __slots__ = ("account_of", "log", "options", "pid", "site")

    def __init__(
        self, options: Options, log: Log, hostname: str, account_of: str, pid: int = 0
    ) -> None:
        """`hostname`: this host's own if it is empty.

        `account_of`: the service whose account phase this is; "" in the session phase. `pid`: the
        process that called PAM, if it is not this one.
        """
        self.pid = pid or os.getpid()
        self.options = options
        self.log = log
        self.account_of = account_of
        self.site = SlurmSite(
            options["slurm_conf"], options["nodename"], hostname or os.uname().nodename, log
        )

    @property
    def apart(self) -> bool:
        """Whether the process that called PAM is another one: pam_exec has started this one."""
        return self.pid != os.getpid()
