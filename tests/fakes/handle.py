"""A stand-in for pam_python's handle, for the two modules that see it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Message(NamedTuple):
    style: int
    text: str


class Handle:
    """PAM items as attributes, the PAM environment as a mapping, constants, a conversation."""

    PAM_SUCCESS, PAM_PERM_DENIED, PAM_IGNORE = 0, 6, 25
    PAM_USER_UNKNOWN, PAM_SESSION_ERR = 10, 14
    PAM_ERROR_MSG, PAM_PROMPT_ECHO_ON, PAM_SILENT = 3, 2, 0x8000
    Message: Any = Message
    PAM_TEXT_INFO = 4

    def __init__(self, user: str | None = "alice", service: str | None = "sshd") -> None:
        self.user = user
        self.service = service
        self.rhost = "10.78.0.4"
        self.tty: str | None = "ssh"
        self.env: Any = {}
        self.said: list[Any] = []

    def conversation(self, message: Any) -> None:
        self.said.append(message)


CODES = {
    value: name
    for name, value in vars(Handle).items()
    if name
    in {"PAM_SUCCESS", "PAM_PERM_DENIED", "PAM_IGNORE", "PAM_USER_UNKNOWN", "PAM_SESSION_ERR"}
}
