"""The front that pam_exec runs: PAM's items come as the environment, the answer is the exit status.

The process that called PAM is the parent. It waits, and is the one that is adopted or that has
started the login. Source: modules/pam_exec/pam_exec.c of Linux-PAM 1.1.8 to 1.7.2.

What this bridge cannot do: set variables of the session, ask the user, enter namespaces for its
parent, and answer PAM_IGNORE.
"""

from __future__ import annotations

import os

from slurm_adopt.decision.options import parse
from slurm_adopt.decision.outcome import REFUSALS
from slurm_adopt.node.session_process import check_called, known_by
from slurm_adopt.slurm.errors import SetupError

from .answer import LETTERS, REFERENCE, answer, uid_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slurm_adopt.decision.outcome import Outcome

    from .answer import Phase

# PAM_TYPE -> the phase; the others are not answered here.
PHASES: dict[str, Phase] = {"account": "account", "open_session": "session"}
CLOSING = "close_session"
MODULE = b"/pam_exec.so"
PASS, FAIL = 0, 1  # exit status: PAM_SUCCESS, and PAM_SYSTEM_ERR


def status(arguments: list[str], items: dict[str, str], pid: int) -> int:
    """Return the exit status; `items`: what pam_exec has put into the environment.

    `pid`: the process that called PAM. SetupError for a PAM_TYPE that is none of ours.
    """
    kind = items.get("PAM_TYPE", "")
    if kind == CLOSING:
        return PASS
    if kind not in PHASES:
        raise SetupError(f"PAM_TYPE={kind[:32]}: this module has account and session lines only")
    check_called(pid, MODULE)
    service = Items(items, pid)
    outcome = answer(PHASES[kind], service, arguments, {})
    if outcome.code == "PAM_IGNORE":
        root = uid_of(service.user) == 0
        return PASS if root or parse(arguments)[0].on("ignore_passes") else FAIL
    return FAIL if outcome.code in REFUSALS else PASS


class Items:
    """What pam_exec says of one call, as a Service."""

    __slots__ = ("_items", "asked", "converse", "name", "pid", "rhost", "silent", "tty", "user")

    def __init__(self, items: dict[str, str], pid: int) -> None:
        """`pid`: the process that called PAM."""
        self._items = items
        self.pid = pid
        self.user = items.get("PAM_USER", "")
        self.name = items.get("PAM_SERVICE", "")
        self.rhost = items.get("PAM_RHOST")
        self.tty = items.get("PAM_TTY")
        self.silent = False  # pam_exec does not say it
        self.converse = None
        self.asked = 0.0

    def variable(self, name: str) -> str | None:
        """Return a variable of the PAM environment; None if it is not set."""
        return self._items.get(name)

    def set_variables(self, outcome: Outcome) -> None:
        """Do nothing: they are out of reach."""

    def tell(self, text: str) -> None:
        """Show the user a line: pam_exec passes on its standard output, with the option stdout."""
        line = text.rstrip("\n") + "\n"
        os.write(1, line.encode("utf-8", "surrogateescape"))

    refuse = tell

    def reference(self) -> str:
        """Return it by the process that opens the session, which both phases see."""
        value = hash(known_by(self.pid))  # of numbers, so the same in each process
        return "".join(LETTERS[value >> 5 * place & 31] for place in range(REFERENCE))
