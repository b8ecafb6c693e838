"""One login, as the service tells of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


class Claims:
    """What is said of a login, by whoever may say it: it confirms or selects, no more."""

    __slots__ = ("hint", "rhost", "ssh_connection")

    def __init__(
        self,
        ssh_connection: str | None = None,
        rhost: str | None = None,
        hint: str | None = None,
    ) -> None:
        """`ssh_connection` and `rhost` are what the service says of the other end.

        `hint`: in the session phase SLURM_JOB_ID of the PAM environment, which the account phase
        may have set in another process, or the user: it selects among the user's jobs.
        """
        self.ssh_connection: Final = ssh_connection
        self.rhost: Final = rhost
        self.hint: Final = hint


NONE = Claims()


class Login:
    """Who logs in, by which service, and in which process. It does not change."""

    __slots__ = ("hint", "pid", "rhost", "service", "ssh_connection", "uid", "user")

    def __init__(
        self,
        user: str,
        uid: int | None,
        service: str,
        pid: int,
        claims: Claims = NONE,
    ) -> None:
        """`uid` is None for a user whom this host does not know; `user` is "" without PAM_USER."""
        self.user: Final = user
        self.uid: Final = uid
        self.service: Final = service
        self.pid: Final = pid
        self.ssh_connection: Final = claims.ssh_connection
        self.rhost: Final = claims.rhost
        self.hint: Final = claims.hint

    def __setattr__(self, name: str, value: object) -> None:
        """Set what __init__ sets, once."""
        if hasattr(self, name):
            raise AttributeError(f"{name} of a login does not change")
        object.__setattr__(self, name, value)
