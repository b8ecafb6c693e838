"""The front that pam_python loads: the only module that knows its handle.

It shows the handle as a Service, and makes of an Outcome a PAM code and variables.
"""

from __future__ import annotations

import os
import time

from .answer import answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from slurm_adopt.decision.outcome import Outcome
    from slurm_adopt.node.asking import Converse

    from .answer import Memory, Phase


def account(pamh: Any, flags: int, arguments: list[str], memory: Memory) -> int:
    """Answer pam_sm_acct_mgmt: return a PAM code; `arguments` are those after the script's path."""
    return _answer("account", pamh, flags, arguments, memory)


def session(pamh: Any, flags: int, arguments: list[str], memory: Memory) -> int:
    """Answer pam_sm_open_session: return a PAM code."""
    return _answer("session", pamh, flags, arguments, memory)


def _answer(phase: Phase, pamh: Any, flags: int, arguments: list[str], memory: Memory) -> int:
    with Handle(pamh, flags) as handle:
        return int(getattr(pamh, answer(phase, handle, arguments, memory).code))


def _text(read: Callable[[], str | None]) -> str | None:
    """Return an item of PAM's; bytes that are no UTF-8 as os.fsdecode() has them."""
    try:
        return read()
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "surrogateescape")


class Handle:
    """pam_python's handle as a Service; it lets go of it at its end, whatever refers to it then."""

    __slots__ = ("_pamh", "asked", "converse", "name", "pid", "rhost", "silent", "user")

    def __init__(self, pamh: Any, flags: int) -> None:
        """Read the items that every login needs."""
        self._pamh: Any = pamh
        self.pid = os.getpid()
        self.user = _text(lambda: pamh.user) or ""
        self.name = str(pamh.service or "")
        self.rhost = _text(lambda: pamh.rhost)
        self.silent = bool(flags & pamh.PAM_SILENT)
        self.converse: Converse | None = self._converse
        self.asked = 0.0

    def __enter__(self) -> Handle:
        """Return the handle itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self._pamh = self.converse = None

    @property
    def tty(self) -> str | None:
        """PAM_TTY."""
        pamh = self._pamh
        return _text(lambda: pamh.tty)

    def variable(self, name: str) -> str | None:
        """Return a variable of the PAM environment; None if it is not set."""
        pamh = self._pamh  # whose env has no get()
        return _text(lambda: pamh.env[name] if name in pamh.env else None)  # noqa: SIM401

    def set_variables(self, outcome: Outcome) -> None:
        """Set the session's variables, and take away those of another job."""
        pamh = self._pamh
        for name in outcome.withdrawn:
            if name in pamh.env:
                del pamh.env[name]
        for name, value in outcome.environment.items():
            pamh.env[name] = value

    def tell(self, text: str) -> None:
        """Show the user a line."""
        pamh = self._pamh
        pamh.conversation(pamh.Message(pamh.PAM_TEXT_INFO, text))

    def refuse(self, text: str) -> None:
        """Show the user why the login is refused."""
        pamh = self._pamh
        pamh.conversation(pamh.Message(pamh.PAM_ERROR_MSG, text))

    def reference(self) -> None:
        """Leave it to the memory: the handle keeps it from phase to phase."""

    def _converse(self, text: str) -> str | None:
        """Show a text and return what was typed; None where the service cannot ask.

        With echo: sshd answers a prompt without one with the password, if that was the method.
        Without a terminal (PAM_TTY, `ssh` for all of sshd's) su would take the answer from a
        script's standard input.
        """
        pamh = self._pamh
        if self.silent or not self.tty:
            return None
        asked = time.monotonic()
        try:
            answer = pamh.conversation(pamh.Message(pamh.PAM_PROMPT_ECHO_ON, text)).resp
        except UnicodeDecodeError:
            return "?"
        except Exception:  # noqa: BLE001 - PamException, whose class is the handle's own
            return None
        finally:
            self.asked += time.monotonic() - asked
        return str(answer) if answer is not None else None
