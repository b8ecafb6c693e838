"""One login, as the service tells of it."""

from __future__ import annotations


class Login:
    """Who logs in, by which service, and in which process."""

    __slots__ = ("hint", "pid", "rhost", "service", "ssh_connection", "uid", "user")

    def __init__(
        self,
        user: str,
        uid: int | None,
        service: str,
        pid: int,
        ssh_connection: str | None = None,
        rhost: str | None = None,
        hint: str | None = None,
    ) -> None:
        """`uid` is None for a user whom this host does not know; `user` is "" without PAM_USER.

        `ssh_connection` and `rhost` are what the service says of the other end; they only confirm.
        `hint`: in the session phase SLURM_JOB_ID of the PAM environment, which the account phase
        may have set in another process, or the user: it selects among the user's jobs, no more.
        """
        self.user = user
        self.uid = uid
        self.service = service
        self.pid = pid
        self.ssh_connection = ssh_connection
        self.rhost = rhost
        self.hint = hint
