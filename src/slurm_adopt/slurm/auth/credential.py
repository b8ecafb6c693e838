"""Credentials, and what an auth plugin does with them."""

from __future__ import annotations

from slurm_adopt.slurm.errors import PeerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from slurm_adopt.slurm.waiting import Deadline

    class Auth(Protocol):
        """An auth plugin: auth/munge, auth/slurm."""

        @property
        def plugin_id(self) -> int:
            """Number in slurm/slurm.h."""

        @property
        def plugin_name(self) -> str:
            """Name as in slurm.conf."""

        @property
        def key_name(self) -> str:
            """The key that all hosts must share, in messages."""

        @property
        def oldest(self) -> int:
            """Protocol number of the first release that has this plugin; 0 for all."""

        def encode(self, payload: bytes, deadline: Deadline) -> str:
            """Make a credential that anyone may decode."""

        def decode(self, credential: str, deadline: Deadline) -> Credential:
            """Check a credential; PeerError if it is not good."""


ANY = 0xFFFFFFFF  # as uid or gid: whoever (SLURM_AUTH_UID_ANY, MUNGE_UID_ANY)


class CredentialError(PeerError):
    """What the plugin refuses; `name` is its word for the reason, such as CRED_REPLAYED."""

    def __init__(self, message: str, name: str) -> None:
        """`message`: one line for the log."""
        super().__init__(message)
        self.name = name


class Credential:
    """What a credential says, as vouched for by the plugin."""

    __slots__ = ("payload", "uid", "uid_restriction")

    def __init__(self, uid: int, payload: bytes, uid_restriction: int) -> None:
        """Uid of the process that made it; the one uid that may decode it, or ANY."""
        self.uid = uid
        self.payload = payload
        self.uid_restriction = uid_restriction
