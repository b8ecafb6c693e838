"""One login, as the service tells of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class Login:
    """Who logs in, by which service, and in which process. It does not change."""

    __slots__ = ("hint", "pid", "rhost", "service", "ssh_connection", "uid", "user")

    def __init__(
        self,
        user: str,
        uid: int | None,
        service: str,
        pid: int,
        *,
        ssh_connection: str | None = None,
        rhost: str | None = None,
        hint: str | None = None,
    ) -> None:
        """`uid` is None for a user whom this host does not know; `user` is "" without PAM_USER.

        The rest is said by whoever may say it: it confirms or selects, no more. `ssh_connection`
        and `rhost` are what the service says of the other end. `hint`: in the session phase
        SLURM_JOB_ID of the PAM environment, which the account phase may have set in another
        process, or the user: it selects among the user's jobs.
        """
        self.user: Final = user
        self.uid: Final = uid
        self.service: Final = service
        self.pid: Final = pid
        self.ssh_connection: Final = ssh_connection
        self.rhost: Final = rhost
        self.hint: Final = hint
